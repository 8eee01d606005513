"""The project of a window: what is painted is kept on disk while it is painted, and offered again with its image.

The first stroke on an image makes a project. A few seconds after each stroke the chunks that have changed are written
in a thread. The project says where it is, when it was last written, and what went wrong.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_unet3d.errors import ProjectError, Unet3dError
from napari_unet3d.tasks.projects.annotation import KeptAnnotation
from napari_unet3d.tasks.projects.folder import Project, begin_project, find_projects
from napari_unet3d.tasks.projects.recent import recent_projects, remember_project
from napari_unet3d.tasks.projects.record import AnnotationRecord, ImageRecord
from napari_unet3d.widgets.host.notices import notify, notify_error
from napari_unet3d.widgets.layers.meanings import written_meanings
from napari_unet3d.widgets.layers.painting import voxels_of
from napari_unet3d.widgets.layers.placing import has_one_position, is_time, position_at
from napari_unet3d.widgets.layers.volumes import extra_axis, is_illustration, layer_volume, lies_on, unwrap
from napari_unet3d.widgets.runs.kept_layer import KeptLayer, Painting, is_large, save_annotation
from napari_unet3d.widgets.runs.last_writing import LastWords, start_writing
from napari_unet3d.widgets.runs.project_opening import (
    GoneOn,
    Loaded,
    add_annotation,
    find_project,
    load_annotations,
    record_of,
    write_settings,
)
from napari_unet3d.words import duration

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_unet3d.widgets.runs.annotation import Annotations


class ProjectKeeper:
    """Keeps what is painted in one window, and finds it again.

    Parameters
    ----------
    viewer
        The viewer.
    annotations
        What is known of the labels layers.
    home
        The folder of the user's own projects, for images that lie in no folder that can be written to.
    chosen
        The folder where the user wants all projects; None keeps them beside their images.

    Attributes
    ----------
    settings
        What the tabs are set to, by the name of the tab; kept with the project.
    wanted
        The folder of a project that is gone on with as soon as its image is open; or None.
    offered
        The project that was found for the chosen image, which was not gone on with yet; or None.
    """

    changed = Signal()
    flushing = Signal()
    gone_on = Signal(object)

    def __init__(self, viewer: ViewerModel, annotations: Annotations, home: Path, chosen: Path | None = None) -> None:
        self.viewer = viewer
        self.settings: dict[str, Any] = {}
        self.offered: Project | None = None
        self.wanted: Path | None = None
        self._annotations, self._home, self._chosen = annotations, home, chosen
        self._kept: WeakKeyDictionary[Any, KeptLayer] = WeakKeyDictionary()
        self._images: WeakKeyDictionary[Any, ImageRecord] = WeakKeyDictionary()
        self._projects: WeakKeyDictionary[Any, Project] = WeakKeyDictionary()
        # Those that this window holds, also where the image was closed.
        self._held: dict[Path, Project] = {}
        self._begin_lock = RLock()
        self._image: Image | None = None
        self._finding: Any = None
        # By what loads it: another image may be gone on with meanwhile.
        self._opening: dict[Any, Project] = {}
        self._settings_asked: dict[str, Any] | None = None
        self._settings_aside: Any = None
        # Of the image that was looked at last, also when that is closed.
        self._present: Project | None = None
        viewer.layers.events.removing.connect(self._on_removing)
        annotations.changed.connect(self._on_known)

    # What is kept

    def watch(self, layer: Labels | None, image: Image | None) -> None:
        """Keep from now on what is painted in a layer on an image; what is on disk already is left there."""
        if layer is None or image is None or is_illustration(layer):
            return
        if (kept := self._kept.get(layer)) is not None:
            if kept.project is None and kept.image() is not image and lies_on(layer, image):
                # Its image was closed and opened again.
                kept.image = ref(image)
                if kept.is_changed:
                    kept.later.soon()
            return
        if isinstance(layer.data, np.ndarray):
            self._kept[layer] = KeptLayer(layer, image, self._save)

    def project_of(self, image: Image | None) -> Project | None:
        """Return the project of an image that this window writes to, or None."""
        return None if image is None else self._projects.get(image)

    def saved_line(self, layer: Labels | None) -> tuple[str, bool]:
        """Return what is said beside the labels, and whether something is wrong."""
        kept = None if layer is None else self._kept.get(layer)
        if kept is None:
            return "", False
        if kept.problem:
            return f"Not saved: {kept.problem}", True
        if kept.saved is None or kept.project is None:
            return ("Saving .." if kept.is_changed else ""), False
        ago = time.monotonic() - kept.saved
        when = "just now" if ago < 5 else f"{duration(ago)} ago"
        return f"Saved {when} in {kept.project.path.name}", False

    def flush(self, *, waits: bool = True) -> None:
        """Save at once all that was painted or set and is not saved.

        Parameters
        ----------
        waits
            Also for what is large, and takes long to write; otherwise that is written in a thread.
        """
        for layer, kept in list(self._kept.items()):
            # A thread that is at it may end with the program.
            if kept.is_changed or kept.is_saving:
                if waits or not is_large(layer):
                    self._write_now(layer, kept)
                else:
                    self._save(kept)
        self.flushing.emit()
        self.keep_settings(waits=waits)

    def begin(self, image: Image) -> None:
        """Make the project of an image now, if something was painted on it; what was painted is saved in a thread.

        Raises
        ------
        Unet3dError
            If no folder can be written to.
        """
        for kept in self._kept.values():
            if kept.image() is image and (kept.is_changed or kept.is_saving):
                self._project_for(kept)
                self._save(kept)

    def close(self) -> None:
        """End with the window: save everything, and let others have the projects. What is large goes on in a thread."""
        large = self._last_words([layer for layer in self._kept if self._is_unsaved_large(layer)])
        for layer, kept in list(self._kept.items()):
            if not self._is_unsaved_large(layer) and (kept.is_changed or kept.is_saving):
                self._write_now(layer, kept)
        self.flushing.emit()
        self.keep_settings(waits=True)
        for layer, kept in list(self._kept.items()):
            if not self._is_unsaved_large(layer):
                self._rescue(layer, kept)
            kept.end()
        self._kept.clear()
        held = list(self._held.values())
        self._held.clear()
        self._projects.clear()
        if large:
            start_writing(large, self._write, self._home, held)
        else:
            for project in held:
                project.release()

    def _is_unsaved_large(self, layer: Labels) -> bool:
        kept = self._kept.get(layer)
        return kept is not None and (kept.is_changed or kept.is_saving) and is_large(layer)

    def _last_words(self, layers: Sequence[Labels]) -> list[LastWords]:
        """Return what a thread needs to write layers that are going; those that cannot be written are left out."""
        found = []
        for layer in layers:
            with suppress(Unet3dError):
                kept = self._kept[layer]
                found.append(LastWords(kept, self._told(layer, kept), kept.image()))
        return found

    def keep_settings(self, *, waits: bool = False) -> None:
        """Write what the tabs are set to, where there is a project; in a thread, unless it is waited for."""
        settings = dict(self.settings)
        project = self._present
        # What it was set to is about to be set again, where it is being opened.
        if project is None or project in self._opening.values() or project.record.settings == settings:
            return
        if waits:
            write_settings(project, settings)
        elif self._settings_asked != settings:
            from napari_unet3d.widgets.host.aside import Aside

            self._settings_asked = settings
            self._settings_aside = self._settings_aside or Aside(is_kept=True)
            self._settings_aside(write_settings, project, settings, take=self._on_settings)

    def _on_settings(self, is_written: bool) -> None:
        if not is_written:
            # Said with the annotation, which matters more; tried again.
            self._settings_asked = None

    def _on_removing(self, event: Any) -> None:
        layer = unwrap(self.viewer.layers[event.index])
        for other, kept in list(self._kept.items()):
            # Without its image nobody knows any more what it is annotation of.
            is_of_it = kept.project is None and kept.image() is layer
            if (other is layer or is_of_it) and self._is_unsaved_large(other):
                start_writing(self._last_words([other]), self._write, self._home, None)
                kept.is_changed = False
            elif (other is layer or is_of_it) and (kept.is_changed or kept.is_saving):
                self._write_now(other, kept)
        if (gone := self._kept.get(layer)) is not None:
            del self._kept[layer]
            self._rescue(layer, gone)
            gone.end()

    def _rescue(self, layer: Labels, kept: KeptLayer) -> None:
        """Write what could not be saved to the user's own folder, as the last thing that can be done for it."""
        if not kept.problem or kept.project is None:
            return
        problem = kept.problem
        try:
            project = begin_project(kept.project.record.image, [self._home], is_beside=False)
        except Unet3dError:
            return
        self._held[project.path] = kept.project = project
        kept.store = None
        self._write_now(layer, kept)
        if not kept.problem:
            notify(f"'{layer.name}' was saved in {project.path}, because it could not be saved where it was. {problem}")

    def _on_known(self, layer: Any) -> None:
        """Save names and meanings that were changed since the last stroke."""
        kept = None if layer is None else self._kept.get(layer)
        if kept is not None and kept.called is not None and not kept.is_changed:
            with suppress(Unet3dError):
                if self._told(layer, kept).called != kept.called:
                    kept.on_change()

    def _save(self, kept: KeptLayer) -> None:
        layer = kept.layer()
        if layer is None or not kept.is_changed or kept.is_ended:
            return
        if kept.is_saving:
            kept.later()
            return
        try:
            told = self._told(layer, kept)
        except Unet3dError as error:
            self._saved(kept, str(error))
            return
        kept.is_saving, kept.is_changed = True, False
        kept.aside(self._write, kept, told, take=lambda problem: self._saved(kept, problem))

    def _write_now(self, layer: Labels, kept: KeptLayer) -> None:
        kept.is_changed = False
        try:
            self._saved(kept, self._write(kept, self._told(layer, kept)))
        except Unet3dError as error:
            self._saved(kept, str(error))

    def _saved(self, kept: KeptLayer, problem: str) -> None:
        kept.is_saving = False
        kept.problem = problem
        if problem:
            kept.is_changed = True
            if not kept.is_ended:
                kept.again()
        else:
            kept.saved = time.monotonic()
        self.changed.emit()

    def _told(self, layer: Labels, kept: KeptLayer) -> Painting:
        image, found = kept.image(), layer_volume(layer)
        known = self._annotations.of(layer)
        z, y, x = (float(abs(n)) for n in found.space.scale)
        tz, ty, tx = (float(n) for n in found.space.translate)
        meanings = known.meanings if known.is_said else written_meanings(layer)
        # Of one time point the voxels alone are kept, and which one it is.
        is_of_one = has_one_position(layer)
        time_axis = time_point = None
        if is_of_one and image is not None and is_time(image):
            time_axis, time_point = extra_axis(image), position_at(image, layer.data_to_world((0,) * layer.ndim))
        return Painting(
            voxels_of(found) if is_of_one else np.asarray(layer.data),
            str(layer.name),
            meanings,
            known.class_names or (),
            image is None or lies_on(layer, image),
            (z, y, x),
            (tz, ty, tx),
            found.volume.unit,
            time_axis,
            time_point,
        )

    def _write(self, kept: KeptLayer, told: Painting) -> str:
        """Write what has changed, and return why that failed, or nothing; in any thread."""
        try:
            with kept.writing:
                save_annotation(self._project_for(kept), kept, told)
                kept.called = told.called
        except Unet3dError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - whatever an array or a disk raises, it is said, and tried again
            return f"{type(error).__name__}: {error}"
        return ""

    def _project_for(self, kept: KeptLayer) -> Project:
        """Return the project of the image that is painted on; the first stroke makes it."""
        with self._begin_lock:
            if kept.project is None:
                image = kept.image()
                if image is None:
                    raise ProjectError("The image that was painted on was closed.")
                kept.project = self._projects.get(image) or self._begin(image)
            return kept.project

    def _begin(self, image: Image) -> Project:
        record = self._images.get(image) or record_of(image)
        project = self._take_found(record) or begin_project(record, self._homes, is_beside=self._chosen is None)
        self._projects[image] = self._held[project.path] = project
        if self._image in (None, image):
            self._present = project
        remember_project(self._recent_file, project)
        return project

    def _take_found(self, record: ImageRecord) -> Project | None:
        """Return a project of the image that nobody else has: what is painted anew lies beside what was painted."""
        for found in find_projects(record, self._homes):
            if found.path in self._held:
                return self._held[found.path]
            if found.take():
                return found
        return None

    # What is found again

    @property
    def _recent_file(self) -> Path:
        return self._home / "recent.json"

    @property
    def _homes(self) -> list[Path]:
        return [self._home] if self._chosen is None else [self._chosen, self._home]

    def recent(self) -> list[Project]:
        """Return the projects that were worked on last and are still there, newest first."""
        return recent_projects(self._recent_file)

    def look_at(self, image: Image | None) -> None:
        """Look in a thread whether there is a project of an image."""
        if image is self._image:
            return
        self._image = image
        if image is not None:
            self._present = self._projects.get(image)
        self._offer(None)
        if image is None or image in self._projects or is_illustration(image):
            return
        from napari_unet3d.widgets.host.aside import Aside

        self._finding = self._finding or Aside()
        self._finding(find_project, image, self._homes, self.wanted, take=lambda found: self._found(image, found))

    def _found(self, image: Image, found: tuple[ImageRecord | None, Project | None]) -> None:
        record, project = found
        if record is not None:
            self._images[image] = record
        if project is not None:
            project = self._held.get(project.path, project)
        if image is self._image and image not in self._projects:
            self._offer(project if project is not None and project.record.latest is not None else None)
            if self.offered is not None and self.offered.path == self.wanted:
                self.wanted = None
                self.go_on()

    def _offer(self, project: Project | None) -> None:
        if project is not self.offered:
            self.offered = project
            self.changed.emit()

    def go_on(self) -> None:
        """Open what was painted on the chosen image, in a thread; `gone_on` tells the project when it is there."""
        project, image = self.offered, self._image
        if project is None or image is None:
            return
        from napari_unet3d.widgets.host.aside import Aside

        project = self._held.get(project.path, project)
        open_already = {kept.store.path for kept in self._kept.values() if kept.store is not None}
        self._offer(None)
        loading = Aside()
        self._opening[loading] = project

        def take(opened: tuple[str, Sequence[Loaded]]) -> None:
            del self._opening[loading]
            self._opened(project, image, opened)

        loading(self._open, project, image, open_already, take=take)

    def _open(self, project: Project, image: Image, open_already: set[Path]) -> tuple[str, Sequence[Loaded]]:
        """Take a project and read what was painted, or say why it cannot be gone on with; in any thread."""
        with self._begin_lock:
            if project.path in self._held or project.take():
                self._projects[image] = self._held[project.path] = project
            elif not project.is_read_only:
                return f"{project.path.name} is open in another window. Close it there first.", ()
        if project.path in self._held:
            remember_project(self._recent_file, project)
            if (record := self._images.get(image)) is not None and record.path:
                with suppress(Unet3dError):
                    # It may have been renamed, or moved.
                    project.update(lambda known: known.model_copy(update={"image": record}))
        return "", load_annotations(project, open_already)

    def _opened(self, project: Project, image: Image, opened: tuple[str, Sequence[Loaded]]) -> None:
        refused, loaded = opened
        if refused:
            if image is self._image and image not in self._projects:
                self._offer(project)
            notify_error(ProjectError(refused))
            return
        problems = [found for found in loaded if isinstance(found, str)]
        is_ours = project.path in self._held
        if is_ours:
            self._present = project
        else:
            problems.append(
                f"{project.path.name} lies where nothing can be written. It is opened as it is; what you paint from "
                f"now on is saved in {self._home}."
            )
        layers = [self._add(image, *found, is_kept=is_ours) for found in loaded if not isinstance(found, str)]
        self.settings = dict(project.record.settings)
        self.changed.emit()
        self.gone_on.emit(GoneOn(project, tuple(layers), tuple(problems), self.settings))

    def _add(
        self,
        image: Image,
        record: AnnotationRecord,
        store: KeptAnnotation,
        labels: npt.NDArray[Any],
        *,
        is_kept: bool,
    ) -> Labels:
        layer = add_annotation(self.viewer, image, record, labels)
        # Where it is chosen by itself, it is kept already.
        self.watch(layer, image)
        if is_kept:
            kept = self._kept[layer]
            kept.project, kept.store, kept.saved = self._projects[image], store, time.monotonic()
            kept.called = self._told(layer, kept).called
        if record.meanings is None and record.class_names:
            self._annotations.rename(layer, record.class_names)
        return layer

"""The tab Data: what was loaded, how large its voxels are, what looks wrong, and what its labels mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import ComboBox, Container, FloatSpinBox, LineEdit, PushButton
from qtpy.QtWidgets import QAbstractSpinBox

from napari_unet3d.core.annotation.meanings import COMPLETE
from napari_unet3d.errors import Unet3dError, VolumeError
from napari_unet3d.sample_data import neuron_layers
from napari_unet3d.tasks.projects.folder import Project
from napari_unet3d.volumes import is_sample, read_sample, read_volume
from napari_unet3d.volumes.paths import image_file
from napari_unet3d.volumes.space.places import in_one_place
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.bricks.unfinished import UnfinishedRuns
from napari_unet3d.widgets.host.notices import notify, notify_error
from napari_unet3d.widgets.layers.placing import is_time
from napari_unet3d.widgets.layers.resizing import resize_voxels
from napari_unet3d.widgets.layers.volumes import (
    LayerData,
    LayerVolume,
    add_layer,
    describe_levels,
    is_illustration,
    layer_data,
    load_if_small,
)
from napari_unet3d.widgets.panels.data.fourth_axis import FourthAxis
from napari_unet3d.widgets.panels.data.helping import HelpRows
from napari_unet3d.widgets.panels.data.meanings import LabelMeanings
from napari_unet3d.widgets.panels.data.recent import RecentProjects, describe_annotation
from napari_unet3d.widgets.panels.data.saving import SaveAnnotation
from napari_unet3d.widgets.runs.annotating import new_annotation, take_brush
from napari_unet3d.widgets.runs.project_opening import GoneOn
from napari_unet3d.widgets.runs.session import Session
from napari_unet3d.widgets.runs.survey import Findings, survey_image
from napari_unet3d.words import amount, times

_UNITS = ("um", "nm", "mm", "pixel")
_DECIMALS = 5
_SAVED_MS = 2000


class DataPanel(Container):
    """Shows the chosen image, and edits its voxel size and what the labels mean.

    Parameters
    ----------
    session
        What the panels of this window share.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._build()
        super().__init__(widgets=self._rows, labels=True)
        self.margins = (6, 6, 6, 6)
        self.native.layout().addStretch()
        self._survey, self._reading = panel.Aside(self.native), panel.Aside(self.native)
        self._later = panel.Later(self._measure, 200, self.native)
        self._clock = panel.Every(self._show_saved, _SAVED_MS, self.native)
        self._connect()

    def _build(self) -> None:
        session = self._session
        self.image = panel.LayerChoice(
            session.viewer,
            lambda layer: layer._type_string == "image" and not is_illustration(layer),
            tooltip="The image layer to work on. It may come from any plugin.",
        )
        self.open = PushButton(text="Open file...", tooltip="Open a TIFF or an HDF5 file, with its voxel size.")
        self.open_folder = PushButton(
            text="Open folder...", tooltip="Open a folder of slices, a sample with image/ and mask/, or a Zarr."
        )
        self._facts = panel.text()
        self.voxel_size = [
            FloatSpinBox(value=1, min=10**-_DECIMALS, max=1e9, step=0.01, tooltip=f"Size of a voxel along {axis}.")
            for axis in "zyx"
        ]
        for box in self.voxel_size:
            box.native.setDecimals(_DECIMALS)
            # Steps make no sense here, and their buttons would make the panel too wide.
            box.native.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
            box.native.setStyleSheet("min-width: 50px;")
        self.unit = ComboBox(choices=_UNITS, value="pixel", tooltip="The unit of the voxel size.")
        self.fourth_axis = FourthAxis(session)
        self._range = panel.text(tone="quiet")
        self._notes = panel.text(tone="warning")
        self.labels_layer = panel.LayerChoice(
            session.viewer,
            lambda layer: layer._type_string == "labels" and not is_illustration(layer),
            takes=session.takes_as_annotation,
            replaces=False,
            tooltip="The annotation or the mask that belongs to the image.",
        )
        self.class_names = LineEdit(
            value=", ".join(session.annotation.names_of(session.labels)),
            tooltip="Names of the classes, separated by commas, background first. Paint 1 for it, 2, 3, .. for others.",
        )
        self.resume = PushButton(
            visible=False, tooltip="Open what was painted on this image before, with its class names and your choices."
        )
        self.sample = PushButton(
            text="Try the sample", tooltip="Open a small image of neurons with its true mask, made by a program."
        )
        self.recent = RecentProjects(session, self.open_image, self._on_recent)
        self.unfinished = UnfinishedRuns(session.going_on.emit)
        self._elsewhere, self._saved = panel.text(tone="warning"), panel.text(tone="quiet")
        self.annotate = PushButton(
            text="New annotation",
            tooltip="Make a layer to paint in, with the place and size of the image and the brush ready.",
        )
        self.help, self.saving = HelpRows(session), SaveAnnotation(session)
        self.meanings = LabelMeanings(session, self._names)
        self._rows = [
            panel.row(self.image, label="Image"),
            panel.row(self.open, self.open_folder, label=""),
            panel.row(self.sample, label=""),
            self.recent,
            self.unfinished,
            self._facts,
            self.fourth_axis,
            panel.row(*self.voxel_size, self.unit, label="voxel size"),
            self._range,
            self._notes,
            panel.row(self.resume, label=""),
            panel.row(self.labels_layer, self.annotate, label="Labels"),
            self._elsewhere,
            self._saved,
            self.saving,
            panel.row(self.class_names, label="classes"),
            self.help,
            self.meanings,
        ]

    def _connect(self) -> None:
        session = self._session
        self.image.changed.connect(lambda layer: setattr(session, "image", layer))
        self.labels_layer.changed.connect(lambda layer: setattr(session, "labels", layer))
        panel.listen(self, session.image_changed, self._on_image)
        panel.listen(self, session.labels_changed, self._on_labels)
        panel.listen(self, session.annotation.changed, self._on_known)
        panel.listen(self, session.viewer.dims.events.current_step, self._on_step)
        panel.listen(self, session.project.changed, self._on_project)
        panel.listen(self, session.project.gone_on, self._on_gone_on)
        panel.listen(self, session.unfinished_changed, self._on_unfinished)
        self.resume.changed.connect(lambda: self.go_on())
        self.open.changed.connect(lambda: self._on_open(folder=False))
        self.open_folder.changed.connect(lambda: self._on_open(folder=True))
        self.sample.changed.connect(lambda: self.open_sample())
        for widget in (*self.voxel_size, self.unit):
            widget.changed.connect(lambda: self._write_voxel_size())
        # When it is finished: half a name is no class.
        self.class_names.native.editingFinished.connect(
            lambda: session.annotation.rename(session.labels, self._names())
        )
        self.annotate.changed.connect(lambda: self.new_annotation())
        # What was chosen in an earlier widget of this window stays chosen.
        if session.image not in session.viewer.layers:
            session.image = self.image.value
        if session.labels not in session.viewer.layers:
            session.labels = self.labels_layer.value
        self._on_image()
        self._on_labels()
        self._show_saved()

    def _names(self) -> tuple[str, ...]:
        names = [name.strip() for name in self.class_names.value.split(",") if name.strip()]
        return tuple([*names, "background", "object"][: max(2, len(names))])

    def _chosen(self) -> LayerVolume:
        return self._session.volume()

    def _on_image(self) -> None:
        self.image.show_layer(self._session.image)
        try:
            chosen = self._chosen()
        except VolumeError as error:
            self._show_nothing(str(error))
            return
        volume = chosen.volume
        panel.say(self._facts, _facts(chosen))
        with self._quiet():
            for widget, size in zip(self.voxel_size, volume.voxel_size, strict=True):
                widget.value = size
            self.unit.value = volume.unit
        for field in (*self.voxel_size, self.unit, self.annotate):
            field.enabled = True
        self._show_next_step(has_image=True)
        panel.say(self._notes, "\n".join(volume.notes))
        panel.say(self._range, "looking at the values ..")
        self._later()

    def _on_step(self, *_: Any) -> None:
        session = self._session
        if session.image is not None and session.image.ndim > 3:
            self._on_image()
        labels = session.labels
        if labels is not None and labels.ndim > 3:
            session.annotation.watch(labels, session.labels_volume().position or 0)
        self._show_elsewhere()

    def _show_elsewhere(self) -> None:
        """Say that the annotation belongs to another time point than the one that is shown."""
        labels, is_elsewhere = self._session.labels, self._session.time_points.is_elsewhere(self._session.labels)
        name = "" if labels is None else f"'{labels.name}' belongs to another time point. "
        panel.say(self._elsewhere, f"{name}New annotation begins one for this." if is_elsewhere else "")
        panel.highlight(self.annotate, self._is_annotate_next())

    def _show_nothing(self, reason: str) -> None:
        panel.say(self._facts, reason)
        for label in (self._range, self._notes):
            panel.say(label, "")
        for widget in (*self.voxel_size, self.unit, self.annotate):
            widget.enabled = False
        self._show_next_step(has_image=False)

    def _show_next_step(self, *, has_image: bool) -> None:
        offered = self._session.project.offered
        panel.highlight(self.open, not has_image)
        panel.highlight(self.resume, offered is not None)
        panel.highlight(self.annotate, has_image and self._is_annotate_next())
        self.sample.visible = not has_image
        self.recent.visible = not has_image and self.recent.has_any
        self.unfinished.visible = not has_image and self.unfinished.has_any
        self.resume.visible = offered is not None
        if offered is not None:
            self.resume.text = f"Go on with {describe_annotation(offered)}"

    def _is_annotate_next(self) -> bool:
        session = self._session
        is_missing = session.labels is None or session.time_points.is_elsewhere(session.labels)
        return session.image is not None and is_missing and session.project.offered is None

    def _on_unfinished(self) -> None:
        self.unfinished.show_runs(self._session.unfinished)
        self._show_next_step(has_image=self.annotate.enabled)

    def _on_recent(self) -> None:
        self._show_next_step(has_image=self.annotate.enabled)

    def _on_project(self) -> None:
        self._show_next_step(has_image=self.annotate.enabled)
        self._show_saved()

    def _show_saved(self) -> None:
        line, is_problem = self._session.project.saved_line(self._session.labels)
        panel.say(self._saved, line, tone="warning" if is_problem else "quiet")

    def go_on(self) -> None:
        """Open what was painted on this image before."""
        self._session.project.go_on()

    def _on_gone_on(self, found: GoneOn) -> None:
        for problem in found.problems:
            notify(problem)
        for layer in found.layers:
            self._session.labels = layer
        if found.layers:
            take_brush(self._session, found.layers[-1])

    def open_image(self, project: Project) -> None:
        """Open the image of a project, and what was painted on it."""
        self._session.project.wanted = project.path
        file = image_file(project.record.image.path)
        beside = project.path.parent / Path(project.record.image.path).name
        self.open_path(project.record.image.path if file is not None else str(beside))

    def _quiet(self) -> Any:
        from contextlib import ExitStack

        stack = ExitStack()
        for widget in (*self.voxel_size, self.unit):
            stack.enter_context(widget.changed.blocked())
        return stack

    def _measure(self) -> None:
        """Look at the intensities in a thread."""
        try:
            volume = self._chosen().volume
        except VolumeError:
            return

        def show(findings: Findings) -> None:
            panel.say(self._range, findings.line)
            panel.say(self._notes, "\n".join((*volume.notes, *findings.warnings)))

        self._survey(survey_image, volume, take=show)

    def _write_voxel_size(self) -> None:
        """Give the layer the voxel size that was typed: its scale and its units."""
        image = self._session.image
        try:
            chosen = self._chosen()
        except VolumeError:
            return
        if image is None:
            return
        scale, units = list(image.scale), list(image.units)
        sizes = chosen.volume.voxel_size
        for axis, widget, size, factor in zip(chosen.spatial_axes, self.voxel_size, sizes, chosen.factors, strict=True):
            # What is shown is rounded; only what was typed is written.
            if widget.value != round(size, _DECIMALS):
                scale[axis] = widget.value / factor
            units[axis] = self.unit.value
        resize_voxels(self._session.viewer, image, scale, units)

    def _on_open(self, *, folder: bool) -> None:
        from qtpy.QtWidgets import QFileDialog

        if folder:
            path = QFileDialog.getExistingDirectory(self.native, "A folder of slices, a sample, or a Zarr")
        else:
            kinds = "Volumes (*.tif *.tiff *.h5 *.hdf5 *.ims);;All files (*)"
            path, _ = QFileDialog.getOpenFileName(self.native, "A volume", "", kinds)
        if path:
            self.open_path(path)

    def open_sample(self) -> None:
        """Open the sample that comes with the package."""
        panel.say(self._facts, "Making the sample ..")
        self._reading(neuron_layers, take=self._on_sample)

    def _on_sample(self, layers: list[LayerData]) -> None:
        for made in layers:
            layer = add_layer(self._session.viewer, made)
            if made[-1] == "image":
                self._session.image = layer

    def open_path(self, path: str) -> None:
        """Open a volume, or a sample with its mask, as layers; read in a thread."""
        if Path(path).suffix.lower() in (".h5", ".hdf5"):
            # It may hold several arrays: the reader asks which.
            self._session.viewer.open(path, plugin="napari-unet3d")
            return
        panel.say(self._facts, f"Reading {Path(path).name} ..")
        self._reading(_read, path, take=self._on_read)

    def _on_read(self, read: tuple[list[tuple[LayerData, tuple[str, ...]]], Unet3dError | None]) -> None:
        found, failure = read
        if failure is not None:
            notify_error(failure)
            self._on_image()
        for made, notes in found:
            layer = add_layer(self._session.viewer, made)
            for note in notes:
                notify(note)
            if made[-1] == "labels":
                layer.metadata = {**layer.metadata, **COMPLETE}
                self._session.labels = layer
            else:
                self._session.image = layer

    def _on_labels(self) -> None:
        self.labels_layer.show_layer(self._session.labels)
        self._show_next_step(has_image=self.annotate.enabled)
        self._on_known(self._session.labels)
        self._show_elsewhere()
        self.meanings.show_known()

    def _on_known(self, layer: Any) -> None:
        names = self._session.annotation.of(layer).class_names
        if names is not None and layer is self._session.labels and names != self._names():
            self.class_names.value = ", ".join(names)

    def new_annotation(self) -> None:
        """Add a layer to paint in."""
        try:
            new_annotation(self._session, self._names())
        except VolumeError as error:
            notify_error(error)


def _read(path: str) -> tuple[list[tuple[LayerData, tuple[str, ...]]], Unet3dError | None]:
    """Return layers and notes, or why a path cannot be read: an error that a thread raises is shown with its trace."""
    try:
        if is_sample(path):
            image, mask = in_one_place(*read_sample(path))
            volumes = [(image, "image"), (mask, "labels")]
        else:
            volumes = [(read_volume(path), "image")]
        return [(layer_data(load_if_small(volume), kind=kind), volume.notes) for volume, kind in volumes], None
    except Unet3dError as error:
        return [], error


def _facts(chosen: LayerVolume) -> str:
    volume, layer = chosen.volume, chosen.layer
    data = layer.data[chosen.level] if getattr(layer, "multiscale", False) else layer.data
    where = "in memory" if isinstance(data, np.ndarray) else "read when needed"
    channels = "" if volume.n_channels == 1 else f", {volume.n_channels} channels"
    lines = [
        f"{times(volume.shape)} voxels (z, y, x){channels}",
        f"{volume.dtype}, {amount(volume.nbytes)}, {where}",
    ]
    if chosen.position is not None and chosen.extra_axis is not None:
        n = data.shape[chosen.extra_axis]
        what = "time point" if is_time(layer) else "channel"
        lines.append(f"{what} {chosen.position} of 0 .. {n - 1}, as shown")
    if getattr(layer, "multiscale", False):
        words = describe_levels(layer)[chosen.level]
        lines.append(f"{len(layer.data)} resolutions, here {words}; choose one in Segment, under Detail")
    return "\n".join(lines)

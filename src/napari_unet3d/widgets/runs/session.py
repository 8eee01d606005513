"""What the panels of one window share: the chosen image and model, the devices, the engine, the run.

It outlives the dock widget, which may be closed and opened again while a run goes on; it ends with the window. What
threads find out is told by `poll`, which the window calls: signals are emitted in its thread alone.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - what is registered last is called first
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from platformdirs import user_log_path
from psygnal import Signal

from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.engine import LocalEngine
from napari_unet3d.errors import VolumeError
from napari_unet3d.network.store import read_card
from napari_unet3d.tasks.jobs.unfinished import UnfinishedRun, unfinished_runs
from napari_unet3d.widgets.host.aside import Aside
from napari_unet3d.widgets.host.preferences import Preferences, read_preferences
from napari_unet3d.widgets.layers.placing import has_one_position, is_time, position_at
from napari_unet3d.widgets.layers.volumes import (
    LayerVolume,
    describe_levels,
    is_illustration,
    is_result,
    layer_volume,
    lies_on,
    n_levels,
    unwrap,
    why_no_volume,
)
from napari_unet3d.widgets.runs.annotation import Annotations
from napari_unet3d.widgets.runs.device_watch import DeviceWatch, Memory
from napari_unet3d.widgets.runs.last_writing import wait_for_writing
from napari_unet3d.widgets.runs.models import ListedModel, own_models
from napari_unet3d.widgets.runs.project import ProjectKeeper
from napari_unet3d.widgets.runs.saving import LayerSaving
from napari_unet3d.widgets.runs.time_points import TimePoints
from napari_unet3d.words import times

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

    from napari_unet3d.core.augment.choices import AugmentSpec
    from napari_unet3d.network.model import ModelCard
    from napari_unet3d.widgets.runs.emphasis import EmphasisPreview
    from napari_unet3d.widgets.runs.pairs import Pair
    from napari_unet3d.widgets.runs.preview import Preview
    from napari_unet3d.widgets.runs.segmentation import Segmentation
    from napari_unet3d.widgets.runs.training import Training


class Session(DeviceWatch):
    """What is chosen and what goes on in one window.

    Parameters
    ----------
    viewer
        The viewer, without napari's proxy.
    engine
        Where jobs run; one for all windows of the program.
    preferences
        What the user has set.
    previewer
        Where previews are made; None takes that of the program, when one is wanted.

    Attributes
    ----------
    annotation
        What is known of the labels layers: names of classes, meanings, counts.
    project
        What keeps what is painted on disk, and finds it again.
    saving
        What saves layers to files.
    time_points
        What looks after labels of one time point while others are shown.
    segmentation, training
        The last runs of this window, or None.
    unfinished
        Segmentations of earlier windows that can go on, once somebody has looked for them.
    training_pairs
        The images with their annotation that were put on the list of the tab Train.
    """

    image_changed = Signal()
    labels_changed = Signal()
    model_changed = Signal()
    segmentation_changed = Signal()
    preview_changed = Signal()
    training_changed = Signal()
    augment_changed = Signal()
    unfinished_changed = Signal()
    going_on = Signal(object)

    def __init__(
        self, viewer: ViewerModel, engine: LocalEngine, preferences: Preferences, previewer: LocalEngine | None = None
    ) -> None:
        super().__init__(engine)
        self.previewer = previewer
        self.viewer = viewer
        self.preferences = preferences
        self.annotation = Annotations(lambda: self.runs_folder)
        home = preferences.own_folder / "projects"
        self.project = ProjectKeeper(viewer, self.annotation, home, preferences.projects_folder)
        viewer.layers.events.inserted.connect(self._on_inserted)
        self.segmentation: Segmentation | None = None
        self.training: Training | None = None
        self.training_pairs: list[Pair] = []
        self.saving = LayerSaving()
        self._augment: AugmentSpec | None = None
        self._preview: Preview | None = None
        self._emphasis: EmphasisPreview | None = None
        self._image: Image | None = None
        self._labels: Labels | None = None
        self._level = 0
        self._model: Path | None = None
        self._card: ModelCard | None = None
        self._weights = ""
        self._unfinished: list[Segmentation] = []
        self.unfinished: list[UnfinishedRun] = []
        self._looking = Aside()
        self.time_points = TimePoints(self)

    @property
    def image(self) -> Image | None:
        """Return the chosen image layer."""
        return self._image

    @image.setter
    def image(self, layer: Image | None) -> None:
        layer = unwrap(layer)
        if layer is not self._image:
            for event in _events(self._image):
                event.disconnect(self._on_image_event)
            for event in _events(layer):
                event.connect(self._on_image_event)
            self._image = layer
            # The full resolution, unless it is chosen otherwise.
            self._level = 0
            self.project.look_at(layer)
            self.image_changed.emit()
            if layer is not None and (self._labels is None or not lies_on(self._labels, layer)):
                # What was painted on another image is not the annotation of this one.
                on_it = [other for other in map(unwrap, self.viewer.layers) if self.takes_as_annotation(other)]
                self.labels = on_it[-1] if on_it else None
            for other in map(unwrap, self.viewer.layers):
                self._keep(other)

    def _on_inserted(self, event: Any) -> None:
        self._keep(unwrap(event.value))

    def _keep(self, layer: Layer) -> None:
        """Keep what is painted in a layer, chosen or not, if it is annotation of the image."""
        if self._image is not None and self.takes_as_annotation(layer):
            self.project.watch(cast("Labels", layer), self._image)

    def takes_as_annotation(self, layer: Layer) -> bool:
        """Return whether a labels layer is taken for the annotation without being asked: on the image, by a person."""
        is_annotation = layer._type_string == "labels" and not is_illustration(layer) and not is_result(layer)
        return is_annotation and (self._image is None or lies_on(layer, self._image))

    def _on_image_event(self, event: Any = None) -> None:
        self._level = min(self._level, self.n_levels - 1)
        self.image_changed.emit()

    @property
    def level(self) -> int:
        """Return the chosen level of a multiscale image."""
        return self._level

    @level.setter
    def level(self, level: int) -> None:
        top = 0 if self._image is None else n_levels(self._image) - 1
        if (level := min(level, top)) != self._level:
            self._level = level
            self.image_changed.emit()

    @property
    def n_levels(self) -> int:
        """Return how many levels of resolution the chosen image has."""
        return 1 if self._image is None else n_levels(self._image)

    @property
    def level_lines(self) -> list[str]:
        """Return what each level of the chosen image is, in words; none where it is no volume."""
        return [] if why_no_volume(self._image) or self._image is None else describe_levels(self._image)

    @property
    def image_line(self) -> str:
        """Return the shape and the voxel size of the chosen image in one line, or why it is no volume."""
        try:
            volume = self.volume().volume
        except VolumeError as error:
            return str(error)
        channels = "" if volume.n_channels == 1 else f", {volume.n_channels} channels"
        return f"{times(volume.shape)} voxels{channels}, {times(volume.voxel_size)} {volume.unit} (z, y, x)"

    @property
    def labels(self) -> Labels | None:
        """Return the chosen labels layer: annotation."""
        return self._labels

    @labels.setter
    def labels(self, layer: Labels | None) -> None:
        layer = unwrap(layer)
        if layer is not self._labels:
            self._labels = layer
            if layer is not None:
                self.annotation.watch(layer)
                self.project.watch(layer, self._image)
            self.labels_changed.emit()

    @property
    def model(self) -> Path | None:
        """Return the folder of the chosen model."""
        return self._model

    @property
    def card(self) -> ModelCard | None:
        """Return what is known of the chosen model."""
        return self._card

    @property
    def weights_sha256(self) -> str:
        """Return the SHA-256 of the weights of the chosen model: which model it is, wherever it lies."""
        return self._weights

    def choose_model(self, path: Path | None) -> None:
        """Choose a model folder, or look again at the chosen one, which may have been written again.

        Raises
        ------
        ModelError
            If it is none. The choice stays as it was.
        """
        path = None if path is None else path.absolute()
        card, weights = (None, "") if path is None else read_card(path)
        if (path, card, weights) != (self._model, self._card, self._weights):
            self._model, self._card, self._weights = path, card, weights
            self.model_changed.emit()

    @property
    def network(self) -> NetworkSpec:
        """Return the network of the chosen model, or the usual one."""
        return NetworkSpec() if self._card is None else self._card.network

    @property
    def augment(self) -> AugmentSpec | None:
        """Return what was set in the tab Augment; None as long as nothing was."""
        return self._augment

    @augment.setter
    def augment(self, spec: AugmentSpec | None) -> None:
        if spec != self._augment:
            self._augment = spec
            self.augment_changed.emit()

    @property
    def last_preview(self) -> Preview | None:
        """Return the preview of this window if there has been one."""
        return self._preview

    @property
    def preview(self) -> Preview:
        """Return the preview of augmentation of this window; its worker starts when it is first used."""
        from napari_unet3d.widgets.runs.preview import Preview

        if self._preview is None:
            self._preview = Preview(self.viewer, self.previewer or shared_previewer())
            self._preview.changed.connect(self._on_preview)
        return self._preview

    @property
    def emphasis(self) -> EmphasisPreview:
        """Return what shows more or less of a class in this window."""
        from napari_unet3d.widgets.runs.emphasis import EmphasisPreview

        if self._emphasis is None:
            self._emphasis = EmphasisPreview(self.viewer, self.engine)
        return self._emphasis

    @property
    def last_emphasis(self) -> EmphasisPreview | None:
        """Return the same if there has been one."""
        return self._emphasis

    @property
    def found_layers(self) -> list[Layer]:
        """Return the layers that show what a network has found: the result, and the previews."""
        shown = [run.layer for run in (self.segmentation, self.training, self._emphasis) if run is not None]
        return [layer for layer in shown if layer is not None and layer in self.viewer.layers]

    @property
    def is_busy(self) -> bool:
        """Return whether a run of this window is going on, or waits."""
        return any(run is not None and run.is_active for run in (self.segmentation, self.training))

    def _on_preview(self) -> None:
        self.preview_changed.emit()

    def volume(self, *, channels: int | None = None, beside: Labels | None = None) -> LayerVolume:
        """Return the volume of the chosen image, with the channels of the chosen model or as many as are asked for.

        Parameters
        ----------
        channels
            How many channels.
        beside
            Labels of one time point: that is taken, whichever is shown.

        Raises
        ------
        VolumeError
            If there is none; the message says why.
        """
        reason = why_no_volume(self._image)
        if self._image is None or reason is not None:
            raise VolumeError(reason or "")
        point: Sequence[float] = self.viewer.dims.point
        if beside is not None and has_one_position(beside) and is_time(self._image):
            point = tuple(map(float, beside.data_to_world((0,) * beside.ndim)))
        position = max(0, position_at(self._image, point))
        return layer_volume(
            self._image, level=self._level, channels=channels or self.network.channels, position=position
        )

    def labels_volume(self) -> LayerVolume:
        """Return the volume of the chosen labels, at the position that is shown where they have a fourth axis.

        Raises
        ------
        VolumeError
            If there is none; the message says why.
        """
        if self._labels is None:
            raise VolumeError("Make a new annotation first.")
        return layer_volume(self._labels, position=max(0, position_at(self._labels, self.viewer.dims.point)))

    @property
    def runs_folder(self) -> Path:
        """Return the folder that holds the run folders of training: that of the project, where there is one."""
        project = self.project.project_of(self._image)
        return self.preferences.own_folder / "runs" if project is None else project.runs

    @property
    def own_models(self) -> list[ListedModel]:
        """Return the user's models, newest first: those in the models folder, and those of training runs."""
        return own_models(self.preferences.models_folder, {self.runs_folder, self.preferences.own_folder / "runs"})

    def look_for_unfinished(self) -> None:
        """Find out, in a thread, which segmentations can go on."""
        self._looking(unfinished_runs, self.preferences.unfinished_folder, take=self._on_unfinished)

    def _on_unfinished(self, found: list[UnfinishedRun]) -> None:
        if found != self.unfinished:
            self.unfinished = found
            self.unfinished_changed.emit()

    def begin(self, run: Segmentation) -> None:
        """Make a run that of this window."""
        self.segmentation = run
        self._unfinished = [*(old for old in self._unfinished if old.is_unfinished_file), run]
        self.segmentation_changed.emit()

    def begin_training(self, run: Training) -> None:
        """Make a training run that of this window, and start it."""
        self.show_training(run)
        run.begin()

    def show_training(self, run: Training) -> None:
        """Make a training run that of this window; it may have been begun earlier."""
        if self.training is not None:
            self.training.hide_live()
        self.training = run
        self.training_changed.emit()

    def release(self, path: Path | None) -> None:
        """Give up the stopped runs that were writing a file, so that another may write it."""
        for run in self._unfinished:
            if path is not None and run.choices.path == path and not run.is_active:
                run.release()

    def close(self) -> None:
        """End with the window: what is painted is saved; the run stops, what it has done stays in its layer."""
        self.project.close()
        self.image = None
        self.annotation.close()
        for preview in (self._preview, self._emphasis):
            if preview is not None:
                preview.close()
        if self.training is not None:
            self.training.close()
        for run in {*self._unfinished, *([] if self.segmentation is None else [self.segmentation])}:
            run.close()


def _events(layer: Image | None) -> list[Any]:
    """Return the events that tell that the volume of a layer is another."""
    if layer is None:
        return []
    events = layer.events
    return [
        events.data,
        events.scale,
        events.translate,
        events.rotate,
        events.shear,
        events.affine,
        events.units,
        events.axis_labels,
    ]


# How long a worker may take to keep what was learnt, after the window has closed.
_SECONDS_TO_KEEP = 20.0

_engine: LocalEngine | None = None
_previewer: LocalEngine | None = None
_sessions: WeakKeyDictionary[Any, Session] = WeakKeyDictionary()


def shared_engine(preferences: Preferences) -> LocalEngine:
    """Return the engine of this program."""
    global _engine
    if _engine is None:
        _engine = LocalEngine(idle_seconds=preferences.idle_seconds)
    _engine.idle_seconds = preferences.idle_seconds
    return _engine


def shared_previewer() -> LocalEngine:
    """Return the engine for what must answer at once, also while the other one trains; it never loads TensorFlow."""
    global _previewer
    if _previewer is None:
        log = user_log_path("napari-unet3d", appauthor=False) / f"preview-{os.getpid()}.log"
        _previewer = LocalEngine(log=log, gives_way=False)
    return _previewer


def session_of(viewer: Any) -> Session:
    """Return the session of a viewer, made when it is first asked for.

    By the viewer itself: the proxies that napari gives to widgets are short-lived.
    """
    viewer = unwrap(viewer)
    if viewer not in _sessions:
        preferences = read_preferences()
        _sessions[viewer] = Session(viewer, shared_engine(preferences), preferences)
    return _sessions[viewer]


def _save_all() -> None:
    for session in list(_sessions.values()):
        session.project.flush()
    wait_for_writing()


# Where the program ends without closing its windows: before the pools of threads end, which write the chunks.
getattr(threading, "_register_atexit", atexit.register)(_save_all)


def end_session(viewer: Any) -> None:
    """End the session of a window that was closed; with the last one the worker ends."""
    session = _sessions.pop(unwrap(viewer), None)
    if session is not None:
        session.close()
    if not _sessions:
        if _previewer is not None:
            _previewer.end()
        if _engine is not None:
            # Training keeps its last step before the worker goes; its window may have been closed a moment ago.
            run = _engine.running
            is_kept = run is not None and run.job.keeps_when_stopped
            _engine.end_softly(_SECONDS_TO_KEEP) if is_kept else _engine.end()


__all__ = [
    "Memory",
    "Session",
    "end_session",
    "session_of",
    "shared_engine",
    "shared_previewer",
]

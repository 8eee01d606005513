"""A run of the window: a layer that fills while the worker computes, which can be stopped and go on.

It belongs to the window and not to a panel: the dock widget may be closed meanwhile. The layer is held itself, so that
renaming, selecting or moving it changes nothing.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.coverage import DoneTiles
from napari_unet3d.errors import Unet3dError
from napari_unet3d.tasks.events import Event, Note, Progress, Started, TileDone
from napari_unet3d.tasks.jobs import IMAGE, RESULT, SCRATCH, SegmentJob
from napari_unet3d.widgets.activity import Activity
from napari_unet3d.widgets.colours import class_colormap, class_features
from napari_unet3d.widgets.layers import LayerVolume
from napari_unet3d.widgets.results import Choices, Commit, make_result
from napari_unet3d.widgets.view import refresh_boxes

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_unet3d.engine import LocalEngine, Run

# At most ten redraws a second, however many tiles are done.
_POLL_MS = 100

State = Literal["queued", "running", "stopping", "stopped", "done", "failed"]


class Segmentation:
    """A segmentation of one volume, shown in a layer of its own.

    Parameters
    ----------
    viewer
        Where the layer goes.
    engine
        Where it is computed.
    chosen
        The volume.
    choices
        How.

    Attributes
    ----------
    state
        How far it is.
    layer
        What fills.
    n_done, n_tiles
        Tiles of the present plan.
    seconds_left
        An estimate, or None.
    phase
        What is done at the moment, `segmenting` or `cleaning up`.
    error
        Why it failed.
    notes
        What the user should know.
    """

    changed = Signal()
    noted = Signal(str)

    def __init__(self, viewer: ViewerModel, engine: LocalEngine, chosen: LayerVolume, choices: Choices) -> None:
        self.viewer, self.engine, self.chosen, self.choices = viewer, engine, chosen, choices
        self.state: State = "queued"
        self.n_done = self.n_tiles = 0
        self.seconds_left: float | None = None
        self.phase = "segmenting"
        self.error: Unet3dError | None = None
        self.notes: list[str] = []
        self._focus: Box | None = None
        self._done: list[tuple[tuple[int, int, int], list[Box]]] = []
        self._run: Run | None = None
        self._committing: Commit | None = None
        self._activity = Activity(viewer, self.cancel)
        self._timer = QTimer()
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._poll)
        self._is_closed = False
        self.result = make_result(chosen, choices)
        self._scratch = np.zeros(self.region.shape, np.uint8) if choices.spec.cleanup is not None else None
        self.layer = self._add_layer()
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def region(self) -> Box:
        """Return what is segmented, in voxels of the volume."""
        return self.choices.region(self.chosen.shape)

    @property
    def share(self) -> float:
        """Return which share of the region is written, in [0, 1]."""
        written = sum(box.n_voxels for _, boxes in self._done for box in boxes)
        # Tiles of a later, smaller plan may have written some voxels once more.
        return min(1.0, written / self.region.n_voxels)

    @property
    def is_active(self) -> bool:
        """Return whether it computes or waits for its turn."""
        return self.state in ("queued", "running", "stopping")

    @property
    def n_before(self) -> int:
        """Return how many jobs the worker does before this one."""
        queue = list(self.engine.queue)
        return queue.index(self._run) + (self.engine.running is not None) if self._run in queue else 0

    @property
    def holds_file(self) -> bool:
        """Return whether it has begun a file that is not finished."""
        return self.result.output is not None and self.state != "done"

    def is_of(self, chosen: LayerVolume) -> bool:
        """Return whether it segments this volume: the same voxels in the same place."""
        ours = self.chosen
        same = ours.source is chosen.source and (ours.level, ours.position) == (chosen.level, chosen.position)
        return same and ours.layer is chosen.layer and ours.space.equals(chosen.space)

    def start(self, focus: Box | None = None, *, memory_bytes: int | None = None) -> None:
        """Begin, or go on after a stop or a failure; returns at once.

        Parameters
        ----------
        focus
            What is looked at now, in voxels of the volume; None keeps what was said before.
        memory_bytes
            What may be used from now on; None keeps it as it was.
        """
        if self.is_active and self._run is not None:
            return
        self._focus = focus or self._focus
        if memory_bytes is not None:
            spec = self.choices.spec.model_copy(update={"memory_bytes": memory_bytes})
            self.choices = replace(self.choices, spec=spec)
        self.state, self.error, self.seconds_left, self.phase = "queued", None, None, "segmenting"
        self.n_done = 0
        done = tuple(DoneTiles(shape, tuple(boxes)) for shape, boxes in self._done)
        job = SegmentJob(
            model=self.choices.model,
            weights_sha256=self.choices.weights_sha256 or None,
            spec=self.choices.spec,
            image=self.chosen.on_disk,
            focus=self._focus,
            done=done,
        )
        arrays: dict[str, Any] = {RESULT: self.result.sink}
        if job.image is None:
            arrays[IMAGE] = self.chosen.volume.data
        if self._scratch is not None:
            arrays[SCRATCH] = self._scratch
        self._run = self.engine.submit(job, arrays)
        self._committing = None
        self._activity.begin(f"{self.layer.name} is being filled")
        self._timer.start()
        self.changed.emit()

    def cancel(self) -> None:
        """Stop after the tile that is being computed; what is done stays."""
        if self.state in ("queued", "running") and self._run is not None:
            self.state = "stopping"
            self._run.cancel()
            self.changed.emit()

    def stop_now(self) -> None:
        """Stop at once by ending the worker; the tile that is being computed is lost."""
        if self.is_active and self._run is not None:
            self.state = "stopping"
            self.engine.stop_now(self._run)
            self.changed.emit()

    def release(self) -> None:
        """Give up the file that a stopped run has begun."""
        if not self.is_active:
            self.result.discard()
            self._done.clear()

    def close(self) -> None:
        """Stop for good, as the window is closed: nothing is shown any more."""
        if self._is_closed:
            return
        self._is_closed = True
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        if self._run is not None:
            self._run.cancel()
        self._timer.stop()
        self._activity.end()
        if self.result.output is not None:
            # Removing thousands of chunks takes a while, and the window is closed already.
            threading.Thread(target=self._discard, name="unet3d-discard").start()

    def _discard(self) -> None:
        if self._run is not None:
            self._run.has_ended.wait()
        self.result.discard()

    def _add_layer(self) -> Image | Labels:
        card, spec = self.choices.card, self.choices.spec
        z, y, x = (start for start, _ in self.region)
        keywords = self.chosen.space.moved((z, y, x)).keywords
        keywords["metadata"] = {"napari-unet3d": {"model": str(self.choices.model), "spec": spec.model_dump()}}
        data = self.result.shown
        name = self.chosen.volume.name
        if spec.output == "probabilities":
            shown = card.class_names[self.choices.shown_class]
            return self.viewer.add_image(
                data,
                # Otherwise a region 3 voxels wide is taken for a colour image.
                rgb=False,
                name=f"{name}, probability of {shown}",
                contrast_limits=(0.0, 1.0),
                colormap="inferno",
                blending="additive",
                **keywords,
            )
        if not self.choices.has_instances:
            keywords["features"] = class_features(card.class_names)
            keywords["colormap"] = class_colormap(card.class_names)
        labels = self.viewer.add_labels(data, name=f"{name}, segmented", opacity=0.6, **keywords)
        # A file cannot be painted in.
        labels.editable = self.result.output is None
        return labels

    def _poll(self) -> None:
        """Show what has happened; at most ten times a second, however many tiles are done."""
        run = self._run
        if run is None or self._is_closed:
            self._timer.stop()
            return
        try:
            events = run.take(0)
        except Unet3dError as error:
            self._end("failed", error)
            self.changed.emit()
            return
        if events == []:
            return
        try:
            if events is None:
                self._finish(run)
            else:
                self._take(events)
        finally:
            # Whatever a layer raises, the buttons come back.
            self.changed.emit()

    def _finish(self, run: Run) -> None:
        if run.state != "done":
            self._end("stopped", None)
        elif self.result.output is None:
            self._end("done", None)
        elif self._committing is None:
            # Bringing a large file onto the disk takes a while.
            self._committing = Commit(self.result)
        elif self._committing.has_ended:
            self._end("failed" if self._committing.error is not None else "done", self._committing.error)

    def _take(self, events: list[Event]) -> None:
        boxes = []
        for event in events:
            match event:
                case Started():
                    self.state = "running" if self.state == "queued" else self.state
                    self.n_done, self.n_tiles = 0, event.total
                    self._done.append((event.input_shape, []))
                case TileDone():
                    self.n_done, self.seconds_left = event.done, event.seconds_left
                    self._done[-1][1].append(event.box)
                    boxes.append(event.box)
                case Progress():
                    self.phase, self.n_done, self.n_tiles = event.what, event.done, event.total
                    self.seconds_left = None
                case Note():
                    self._note(event.text)
        if boxes and self.layer.data is self.result.shown:
            refresh_boxes(self.layer, boxes)
        self._activity.show(self.n_done, self.n_tiles)

    def _end(self, state: State, error: Unet3dError | None) -> None:
        self.state, self.error, self.seconds_left = state, error, None
        self._timer.stop()
        self._activity.end()
        if state != "done":
            return
        self._scratch = None
        if self.layer.data is self.result.shown:
            # Clean-up has written everywhere, and thumbnails were left out until now.
            self.layer.refresh()
        elif self.layer in self.viewer.layers:
            # What somebody put in its place meanwhile stays.
            self._note(f"The data of '{self.layer.name}' were replaced meanwhile; the result is in a layer of its own.")
            self.layer = self._add_layer()

    def _note(self, sentence: str) -> None:
        self.notes.append(sentence)
        self.noted.emit(sentence)

    def _on_removed(self, event: Any) -> None:
        if event.value is self.layer and self.is_active:
            self._note("The layer that was being filled is gone, so the run was stopped.")
            self.cancel()
        elif event.value is self.layer:
            self.release()
        elif event.value is self.chosen.layer and self.is_active:
            self._note(f"'{event.value.name}' is gone; the run goes on with what it had.")

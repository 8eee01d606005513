"""A run of the window: a layer that fills while the worker computes, which can be stopped and go on.

It belongs to the window and not to a panel: the dock widget may be closed meanwhile. The layer is held itself, so that
renaming, selecting or moving it changes nothing.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.tiles.coverage import DoneTiles
from napari_unet3d.tasks.events import Event, Progress, Started, TileDone
from napari_unet3d.tasks.jobs.places import IMAGE
from napari_unet3d.tasks.jobs.segment import SegmentJob
from napari_unet3d.widgets.layers.colours import class_colormap, class_features
from napari_unet3d.widgets.layers.placing import place_of, time_text
from napari_unet3d.widgets.layers.view import refresh_boxes
from napari_unet3d.widgets.layers.volumes import LayerVolume
from napari_unet3d.widgets.runs.follow import FollowedRun
from napari_unet3d.widgets.runs.results import Choices, make_result
from napari_unet3d.widgets.runs.tile_clock import TileClock

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_unet3d.engine import Engine


# How often the time that is left is told anew.
_SECONDS_TO_TELL = 1.0


class Segmentation(FollowedRun):
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
    overwrite
        Whether the file of the result may be replaced if it exists.

    Attributes
    ----------
    layer
        What fills.
    n_done, n_tiles
        Tiles of the present plan.
    phase
        What is done at the moment, `a first look`, `segmenting` or `cleaning up`.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        engine: Engine,
        chosen: LayerVolume,
        choices: Choices,
        *,
        overwrite: bool = False,
    ) -> None:
        super().__init__(viewer, engine)
        self.chosen, self.choices = chosen, choices
        self.n_done = self.n_tiles = 0
        self.phase = "segmenting"
        self._clock = TileClock()
        self._told_at = 0.0
        self._focus: Box | None = None
        self._done: list[tuple[tuple[int, int, int], list[Box]]] = []
        # Counted as they come: to add up 100,000 tiles ten times a second would stop the window.
        self._n_written = 0
        self._changed_boxes: list[Box] = []
        self.result = make_result(chosen, choices, overwrite=overwrite)
        self._place = place_of(chosen, [start for start, _ in self.region])
        self._shown = self._place.spread(self.result.shown)
        self.layer = self._add_layer()
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def region(self) -> Box:
        """Return what is segmented, in voxels of the volume."""
        return self.choices.region(self.chosen.shape)

    @property
    def share(self) -> float:
        """Return which share of the region is written, in [0, 1]."""
        # Tiles of a later, smaller plan may have written some voxels once more.
        return min(1.0, self._n_written / self.region.n_voxels)

    @property
    def seconds_left(self) -> float | None:
        """Return an estimate that moves on while a tile is computed, or None."""
        return self._clock.seconds_left

    @property
    def fraction(self) -> float:
        """Return how much of the present plan is done, in [0, 1]; an estimate within a tile."""
        return min(1.0, (self.n_done + self._clock.within) / max(1, self.n_tiles))

    @property
    def holds_file(self) -> bool:
        """Return whether it has begun a file that is not finished."""
        return self.result.place is not None and self.state != "done"

    def is_of(self, chosen: LayerVolume) -> bool:
        """Return whether it segments this volume: the same voxels in the same place."""
        return self.chosen.is_same(chosen)

    def start(self, focus: Box | None = None, *, memory_bytes: int | None = None) -> None:
        """Begin, or go on after a stop or a failure; returns at once.

        Parameters
        ----------
        focus
            What is looked at now, in voxels of the volume; None keeps what was said before.
        memory_bytes
            What may be used from now on; None keeps it as it was.
        """
        if self.is_active:
            return
        self._focus = focus or self._focus
        if memory_bytes is not None:
            spec = self.choices.spec.model_copy(update={"memory_bytes": memory_bytes})
            self.choices = replace(self.choices, spec=spec)
        self.n_done, self.phase, self._clock = 0, "segmenting", TileClock()
        done = tuple(DoneTiles(shape, tuple(boxes)) for shape, boxes in self._done)
        job = SegmentJob(
            model=self.choices.model,
            weights_sha256=self.choices.weights_sha256 or None,
            spec=self.choices.spec,
            image=self.chosen.on_disk,
            focus=self._focus,
            done=done,
            output=self.result.place,
            only_class=self.choices.only_class,
        )
        arrays: dict[str, Any] = dict(self.result.arrays)
        if job.image is None:
            arrays[IMAGE] = self.chosen.volume.data
        self._submit(job, arrays, f"{self.layer.name} is being filled")

    def release(self) -> None:
        """Give up the file that a stopped run has begun."""
        if not self.is_active:
            self.result.discard()
            self._done.clear()
            self._n_written = 0

    def close(self) -> None:
        """Stop for good, as the window is closed: nothing is shown any more, and a file that is not finished goes."""
        if self._is_closed:
            return
        super().close()
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        if self.result.place is not None:
            # Removing thousands of chunks takes a while, and the window is closed already.
            threading.Thread(target=self._discard, name="unet3d-discard").start()

    def _discard(self) -> None:
        if self._run is not None:
            self._run.has_ended.wait()
        self.result.discard()

    def _add_layer(self) -> Image | Labels:
        card, spec = self.choices.card, self.choices.spec
        keywords = dict(self._place.keywords)
        keywords["metadata"] = {"napari-unet3d": {"model": str(self.choices.model), "spec": spec.model_dump()}}
        data, when = self._shown, time_text(self.chosen)
        name = self.chosen.volume.name
        if spec.output == "probabilities":
            shown = card.class_names[self.choices.shown_class]
            return self.viewer.add_image(
                data,
                # Otherwise a region 3 voxels wide is taken for a colour image.
                rgb=False,
                name=f"{name}, probability of {shown}{when}",
                contrast_limits=(0.0, 1.0),
                colormap="inferno",
                blending="additive",
                **keywords,
            )
        if not self.choices.has_instances:
            keywords["features"] = class_features(card.class_names)
            keywords["colormap"] = class_colormap(card.class_names)
        labels = self.viewer.add_labels(data, name=f"{name}, segmented{when}", opacity=0.6, **keywords)
        # A file cannot be painted in.
        labels.editable = self.result.place is None
        return labels

    def _on_event(self, event: Event) -> None:
        match event:
            case Started():
                self.n_done, self.n_tiles = 0, event.total
                self.phase = "a first look" if event.is_glance else "segmenting"
                self._clock.begin(event)
                self._done.append((event.input_shape, []))
            case TileDone():
                self.n_done = event.done
                self._clock.tile_done(event)
                self._told_at = time.monotonic()
                self._done[-1][1].append(event.box)
                self._n_written += event.box.n_voxels
                self._changed_boxes.append(event.box)
            case Progress():
                self.phase, self.n_done, self.n_tiles = event.what, event.done, event.total
                self._clock = TileClock()

    def _look(self) -> None:
        now = time.monotonic()
        if self._clock.is_running and now - self._told_at >= _SECONDS_TO_TELL:
            self._told_at = now
            self.changed.emit()

    def _progress(self) -> tuple[int, int]:
        return self.n_done, self.n_tiles

    def _show(self) -> None:
        boxes, self._changed_boxes = self._changed_boxes, []
        if boxes and self.layer.data is self._shown:
            refresh_boxes(self.layer, boxes, self._place.axis)

    def _on_end(self) -> None:
        self._clock = TileClock()
        if self.state != "done":
            return
        self.result.finish()
        if self.layer.data is self._shown:
            # Clean-up has written everywhere, and thumbnails were left out until now.
            self.layer.refresh()
        elif self.layer in self.viewer.layers:
            # What somebody put in its place meanwhile stays.
            self._note(f"The data of '{self.layer.name}' were replaced meanwhile; the result is in a layer of its own.")
            self.layer = self._add_layer()

    def _on_removed(self, event: Any) -> None:
        if event.value is self.layer and self.is_active:
            self._note("The layer that was being filled is gone, so the run was stopped.")
            self.cancel()
        elif event.value is self.layer:
            self.release()
        elif event.value is self.chosen.layer and self.is_active:
            self._note(f"'{event.value.name}' is gone; the run goes on with what it had.")

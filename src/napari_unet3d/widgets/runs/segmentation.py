"""A run of the window: a layer that fills while the worker computes, which can be stopped and go on.

It belongs to the window and not to a panel: the dock widget may be closed meanwhile. The layer is held itself, so that
renaming, selecting or moving it changes nothing.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.tiles.coverage import DoneTiles
from napari_unet3d.errors import shown
from napari_unet3d.tasks.events import Event, Progress, Started, TileDone
from napari_unet3d.tasks.jobs.places import IMAGE
from napari_unet3d.tasks.jobs.segment import SegmentJob
from napari_unet3d.tasks.jobs.unfinished import forget_unfinished, remember_unfinished
from napari_unet3d.widgets.layers.colours import class_colormap, class_features
from napari_unet3d.widgets.layers.placing import place_of, time_text
from napari_unet3d.widgets.layers.view import refresh_boxes
from napari_unet3d.widgets.layers.volumes import LayerVolume
from napari_unet3d.widgets.runs.follow import FollowedRun
from napari_unet3d.widgets.runs.objects import FoundObjects, read_objects
from napari_unet3d.widgets.runs.results import Choices, calibration_of, make_result
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
    goes_on
        Go on with what a run that was stopped or killed has left beside the file of the result.
    notes_in
        The folder where a run into a file is noted until it is complete; see `remember_unfinished`. None notes nothing.

    Attributes
    ----------
    layer
        What fills.
    n_done, n_tiles
        Tiles of the present plan.
    phase
        What is done at the moment, `a first look`, `segmenting` or `cleaning up`.
    table
        The CSV file with the numbered objects of the result, in a folder that goes with the run; None has none.
    objects
        What it says, once the run is done.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        engine: Engine,
        chosen: LayerVolume,
        choices: Choices,
        *,
        goes_on: bool = False,
        notes_in: Path | None = None,
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
        self._goes_on, self._notes_in = goes_on, notes_in
        self._to_note: SegmentJob | None = None
        self.objects: FoundObjects | None = None
        self._folder = TemporaryDirectory(prefix="unet3d-table-") if choices.has_instances else None
        self.table = None if self._folder is None else Path(self._folder.name) / "objects.csv"
        self.result = make_result(chosen, choices)
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
    def is_unfinished_file(self) -> bool:
        """Return whether it has begun a file that is not finished."""
        return self.result.path is not None and self.state != "done"

    def is_of(self, chosen: LayerVolume) -> bool:
        """Return whether it segments this volume: the same voxels in the same place."""
        return self.chosen.is_same(chosen)

    def world_of(self, voxel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return where a voxel (z, y, x) of the result lies in the window, along all axes of its layer."""
        at = voxel if self._place.axis is None else np.insert(voxel, self._place.axis, 0.0)
        return np.asarray(self.layer.data_to_world(at), float)

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
        self._to_note = job = self._job()
        arrays: dict[str, Any] = dict(self.result.arrays)
        if job.image is None:
            arrays[IMAGE] = self.chosen.volume.data
        self._submit(job, arrays, f"{self.layer.name} is being filled")

    def _job(self) -> SegmentJob:
        choices, path = self.choices, self.result.path
        fields: dict[str, Any] = {"calibration": calibration_of(self.chosen), "table": self.table}
        if path is None:
            fields["done"] = tuple(DoneTiles(shape, tuple(boxes)) for shape, boxes in self._done)
        else:
            fields |= {"output": path, "overwrite": True, "resume": self._goes_on}
            self._n_written = self.result.n_voxels_done if self._goes_on else 0
        return SegmentJob(
            model=choices.model,
            weights_sha256=choices.weights_sha256 or None,
            spec=choices.spec,
            image=self.chosen.on_disk if choices.cluster is None else self.chosen.file,
            focus=self._focus,
            only_class=choices.only_class,
            cluster=choices.cluster,
            **fields,
        )

    def _has_begun(self) -> None:
        """From now on there is something to go on with; before, what an earlier run has left is untouched."""
        self._goes_on = True
        if self._notes_in is not None and self._to_note is not None:
            # The table lies where it is lost with the program.
            note = self._to_note.model_copy(update={"table": None, "image": self.chosen.file})
            remember_unfinished(self._notes_in, note)
            self._to_note = None

    def release(self) -> None:
        """Give up the file that a stopped run has begun, so that another may begin it."""
        if not self.is_active:
            self.result.give_up()
            self._goes_on, self._n_written = False, 0

    def close(self) -> None:
        """Stop for good, as the window is closed; what is done of a file stays, to be gone on with."""
        if not self._is_closed:
            super().close()
            self.viewer.layers.events.removed.disconnect(self._on_removed)
            if self._folder is not None:
                self._folder.cleanup()

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
        labels.editable = self.result.path is None
        return labels

    def _on_event(self, event: Event) -> None:
        match event:
            case Started():
                self._has_begun()
                self.n_done, self.n_tiles = 0, event.total
                self.phase = "a first look" if event.is_glance else "segmenting"
                self._clock.begin(event)
                if self.result.path is None:
                    self._done.append((event.input_shape, []))
            case TileDone():
                self.n_done = event.done
                self._clock.tile_done(event)
                self._told_at = time.monotonic()
                if self.result.path is None:
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
        if self._notes_in is not None and self.result.path is not None:
            forget_unfinished(self._notes_in, self.result.path)
        self._take_objects()
        if self.layer.data is self._shown:
            # Clean-up has written everywhere, and thumbnails were left out until now.
            self.layer.refresh()
        elif self.layer in self.viewer.layers:
            # What somebody put in its place meanwhile stays.
            self._note(f"The data of '{self.layer.name}' were replaced meanwhile; the result is in a layer of its own.")
            self.layer = self._add_layer()

    def _take_objects(self) -> None:
        if self.table is None:
            return
        placed = calibration_of(self.chosen).known.moved([start for start, _ in self.region])
        self.objects = read_objects(self.table, placed.voxel_size, placed.translate)
        if self.layer in self.viewer.layers:
            self.layer.features = self.objects.features

    def _on_removed(self, event: Any) -> None:
        if event.value is self.layer and self.is_active:
            self._note("The layer that was being filled is gone, so the run was stopped.")
            self.cancel()
        elif event.value is self.layer and self.result.path is not None and self.state != "done" and self.share:
            self._note(f"What is done of {shown(self.result.path)} is kept; Start goes on with it.", is_warning=False)
        elif event.value is self.chosen.layer and self.is_active:
            self._note(f"'{event.value.name}' is gone; the run goes on with what it had.")

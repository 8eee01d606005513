"""A training run of the window: what is learnt from, how far it is, its curves, and what it makes of what is looked at.

It belongs to the window and not to a panel: the dock widget may be closed meanwhile, and its history is still there.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Box
from napari_unet3d.errors import Unet3dError
from napari_unet3d.tasks.events import (
    Checkpointed,
    Event,
    HeldOut,
    Previewed,
    Progress,
    Started,
    StepDone,
    Validated,
)
from napari_unet3d.tasks.jobs.train import FOCUS, LIVE, TrainJob, image_of, labels_of
from napari_unet3d.tasks.train.kept.history import Curves
from napari_unet3d.tasks.train.kept.run_folder import BEST, CHECKPOINT_FILE, LAST, RunFolder, RunRecord
from napari_unet3d.tasks.train.live import preview_shape
from napari_unet3d.tasks.train.spec import TrainSpec
from napari_unet3d.widgets.layers.colours import class_colormap, class_features
from napari_unet3d.widgets.layers.placing import place_of
from napari_unet3d.widgets.layers.view import place_data
from napari_unet3d.widgets.layers.volumes import ILLUSTRATION, labels_like, unwrap
from napari_unet3d.widgets.runs.afterwards import Afterwards
from napari_unet3d.widgets.runs.follow import FollowedRun
from napari_unet3d.widgets.runs.pairs import Pair

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_unet3d.engine import Engine


class Training(FollowedRun):
    """A training run of a window.

    Parameters
    ----------
    viewer
        Where the live preview goes.
    engine
        Where it is computed.
    pairs
        What is learnt from.
    spec
        How.
    folder
        The run folder.
    start
        The model folder to start from.
    n_painted
        How many voxels are painted in all pairs.

    Attributes
    ----------
    curves
        The history.
    last
        The last step.
    is_watched
        Whether what is looked at is segmented meanwhile.
    held_out
        What is scored and not learnt from.
    previewed, preview
        Where the live preview was made last, in voxels of the first image, and the classes that were found there,
        (z, y, x) uint8.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        engine: Engine,
        pairs: Sequence[Pair],
        spec: TrainSpec,
        folder: Path,
        start: Path | None = None,
        n_painted: int = 0,
    ) -> None:
        super().__init__(viewer, engine)
        self.pairs, self.spec, self.folder, self.start_model = tuple(pairs), spec, folder, start
        self.n_painted = n_painted
        self._places = tuple(pair.place() for pair in self.pairs)
        self.curves = Curves(spec.head)
        self.last: StepDone | None = None
        self.started: Started | None = None
        self.phase = "waiting"
        self.has_checkpoint = False
        self.is_watched = True
        self.previewed: Box | None = None
        self.held_out: list[HeldOut] = []
        self.layer: Labels | None = None
        self._to_show: Box | None = None
        self._afterwards: Afterwards | None = None
        self._focus = np.zeros((1, 1, 4), np.int32)
        self._live = np.zeros(preview_shape(spec.network, self.pairs[0].image.shape), np.uint8)
        self.preview = self._live

    @classmethod
    def opened(cls, viewer: ViewerModel, engine: Engine, pairs: Sequence[Pair], folder: Path) -> Training:
        """Return a run that was begun earlier, as it was left: it can go on, or be gone on from.

        Raises
        ------
        TrainingError
            If the folder holds no run, or what is there is damaged.
        Unet3dError
            If the pairs do not suit.
        """
        kept = RunFolder(folder)
        record = kept.record()
        run = cls(viewer, engine, pairs, record.spec, folder, None if record.start is None else Path(record.start))
        rows = kept.history()
        run.curves = Curves.of_history(rows, record.spec.head)
        run.last = _last_step(rows, record.spec.steps)
        run.held_out = list(_held_out(record, run.pairs))
        run.has_checkpoint = os.path.isfile(folder / CHECKPOINT_FILE)
        run.state = "done" if run.step >= record.spec.steps else "stopped"
        return run

    @property
    def step(self) -> int:
        """Return how many steps are done."""
        return 0 if self.last is None else self.last.step

    @property
    def best(self) -> Path | None:
        """Return the model to use: the best, or the last where nothing was scored; None before there is one."""
        for name in (BEST, LAST):
            if os.path.isdir(self.folder / name):
                return self.folder / name
        return None

    def begin(self) -> None:
        """Start, or go on after a stop. Returns at once."""
        arrays: dict[str, Any] = {}
        for number, (pair, place) in enumerate(zip(self.pairs, self._places, strict=True)):
            if place.image is None:
                arrays[image_of(number)] = pair.image.volume.data
            if place.labels is None:
                arrays[labels_of(number)] = labels_like(pair.labels, pair.image).volume.data
        arrays |= {FOCUS: self._focus, LIVE: self._live}
        self._end_afterwards()
        job = TrainJob(
            spec=self.spec,
            pairs=self._places,
            folder=self.folder,
            start=self.start_model,
            resume=self.has_checkpoint,
        )
        self.phase = "waiting"
        if not self.has_checkpoint:
            self.held_out = []
        self._submit(job, arrays, f"{self.folder.name} is being trained")

    def close(self) -> None:
        """Stop for good, as the window is closed."""
        self._end_afterwards()
        super().close()

    def _end_afterwards(self) -> None:
        if self._afterwards is not None:
            self._afterwards.close()
            self._afterwards = None

    def hide_live(self) -> None:
        """Take the live preview away, as another run begins."""
        self._end_afterwards()
        if self.layer is not None and self.layer in self.viewer.layers:
            self.viewer.layers.remove(self.layer)

    def look_at(self, voxel: Sequence[float] | None) -> None:
        """Say which voxel of the first image is looked at, or that nothing shall be segmented meanwhile."""
        if voxel is None:
            self._focus[0, 0, 0] = 0
        else:
            inside = [min(max(0, round(at)), n - 1) for at, n in zip(voxel, self.pairs[0].image.shape, strict=True)]
            self._focus[0, 0] = [1, *inside]

    def _look(self) -> None:
        self.look_at(self.voxel_in_view() if self.is_watched else None)

    def voxel_in_view(self) -> list[float] | None:
        """Return the voxel under the cursor, or in the middle of the view."""
        chosen = self.pairs[0].image
        if chosen.layer not in self.viewer.layers:
            return None
        voxel = chosen.space.to_voxels(chosen.spatial(self.viewer.cursor.position))
        is_inside = all(0 <= at < n for at, n in zip(voxel, chosen.shape, strict=True))
        # Before the mouse has moved, the cursor is said to be at 0.
        has_moved = any(self.viewer.cursor.position[axis] for axis in self.viewer.dims.displayed)
        if self.viewer.mouse_over_canvas and has_moved and is_inside:
            return list(voxel)
        point = list(self.viewer.dims.point)
        shown = self.viewer.dims.displayed
        centre = self.viewer.scene.camera.center
        for axis, at in zip(shown, centre[-len(shown) :], strict=True):
            point[axis] = at
        return list(chosen.space.to_voxels(chosen.spatial(point)))

    def _on_event(self, event: Event) -> None:
        match event:
            case Progress():
                self.phase = event.what
            case Started():
                self.started, self.phase = event, "training"
            case StepDone():
                self.last = event
                if self.curves.steps and event.step <= self.curves.steps[-1]:
                    self.curves.forget_after(event.step - 1)
                self.curves.steps.append(event.step)
                self.curves.losses.append(event.loss if math.isfinite(event.loss) else math.nan)
            case Validated():
                self.curves.scored.append(event)
            case Previewed():
                self._to_show = event.box
            case Checkpointed():
                self.has_checkpoint = True
            case HeldOut():
                # A run that goes on says it again.
                self.held_out += [event] if event not in self.held_out else []

    def _show(self) -> None:
        # Of several that came at once the last is enough: each takes a few milliseconds.
        if self._to_show is not None:
            box, self._to_show = self._to_show, None
            # A copy: the next preview is written while this one is shown.
            self.show_preview(box, self._live[Box.whole(box.shape).slices].copy())

    def _progress(self) -> tuple[int, int]:
        return self.step, self.spec.steps

    def show_preview(self, box: Box, found: npt.NDArray[np.uint8]) -> None:
        """Show the classes (z, y, x) that were found in a box of the first image."""
        self.previewed, self.preview = box, found
        chosen, viewer = self.pairs[0].image, self.viewer
        place = place_of(chosen, [start for start, _ in box])
        shown = place.spread(found)
        if self.layer is None:
            selected, active = set(viewer.layers.selection), viewer.layers.selection.active
            self.layer = unwrap(
                viewer.add_labels(
                    shown,
                    name=f"{chosen.volume.name}, as learnt so far",
                    colormap=class_colormap(self.spec.class_names),
                    features=class_features(self.spec.class_names),
                    opacity=0.5,
                    metadata=ILLUSTRATION,
                    **place.keywords,
                )
            )
            self.layer.editable = False
            viewer.layers.selection = selected
            viewer.layers.selection.active = active
        elif self.layer in viewer.layers:
            place_data(self.layer, shown, {"translate": place.keywords["translate"]})
            # napari lets new data be painted in.
            self.layer.editable = False

    def _on_end(self) -> None:
        # A stopped run keeps its last step, whether or not anybody was told.
        self.has_checkpoint = self.has_checkpoint or os.path.isdir(self.folder / LAST)
        if self.best is not None:
            self._afterwards = Afterwards(self)


def _last_step(rows: Sequence[Mapping[str, str]], total: int) -> StepDone | None:
    """Return the last step of a history; how fast it was is not kept."""
    steps = [row for row in rows if row["kind"] == "step"]
    if not steps:
        return None
    return StepDone(int(steps[-1]["step"]), total, float(steps[-1]["loss"] or "nan"), 0.0, math.inf, 0.0, 0.0)


def _held_out(record: RunRecord, pairs: Sequence[Pair]) -> Iterator[HeldOut]:
    """Yield what a run held out, as far as its pairs are there."""
    for told in record.held_out:
        number, _, box = told.partition(": ")
        if number.isdecimal() and int(number) < len(pairs):
            with suppress(Unet3dError):
                yield HeldOut(int(number), Box.parse(box, pairs[int(number)].image.shape), 0)


def new_run_folder(runs: Path, name: str) -> Path:
    """Return a folder for a run on what is called `name`, that is not there yet."""
    safe = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"
    stamp = f"{safe} {datetime.now():%Y-%m-%d %H.%M.%S}"
    folder, number = runs / stamp, 2
    while folder.exists():
        folder, number = runs / f"{stamp} {number}", number + 1
    return folder

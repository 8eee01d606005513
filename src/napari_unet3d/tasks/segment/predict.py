"""Segmentation of a volume in tiles: the pipeline, whatever computes a tile.

Reading, computing and writing overlap: one thread reads ahead, the caller's thread computes, one thread writes. The
queues between them are bounded, so that memory depends on the tile and not on the volume.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.finite import NOT_FINITE, finite_voxels
from napari_unet3d.core.normalize import Scaling
from napari_unet3d.core.objects.clean_up import (
    BLOCK_VOXELS,
    BYTES_PER_BLOCK_VOXEL,
    Writable,
    clean_up,
    evidence,
    evident_classes,
)
from napari_unet3d.core.objects.table import ObjectTable
from napari_unet3d.core.tiles.coverage import Coverage, DoneTiles, nearest_first
from napari_unet3d.core.tiles.plan import Readable, Tile, TilePlan, plan_tiles, read_reflected
from napari_unet3d.core.tiles.sizes import TILES_READ_AHEAD
from napari_unet3d.core.tiles.where import Where
from napari_unet3d.errors import MemoryBudgetError, OutOfMemoryError, SpecError, VolumeError
from napari_unet3d.processes import return_free_memory
from napari_unet3d.tasks.events import Event, Note, Progress, Started, TileDone
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.words import times

MAX_SMALLER_PLANS = 3

What = Literal["labels", "probabilities"]
# From (z, y, x, channels) float32 and what is wanted to what is valid of it: uint8 labels, or float32 (.., classes).
Predictor = Callable[[npt.NDArray[np.float32], What], npt.NDArray[Any]]


@dataclass(frozen=True)
class Sinks:
    """What takes what is found.

    Attributes
    ----------
    result
        The shape of the region, (z, y, x), or (z, y, x, classes) for probabilities.
    evidence
        (z, y, x) uint8, where clean-up keeps its evidence; meanwhile the result shows the classes of finished tiles.
        None keeps it in the result, which then makes sense at the end only.
    cleaned
        Makes what takes the objects, from their number, once that is known; then `result` takes the evidence alone.
    table
        What takes note of each object that clean-up keeps.
    keep
        Called with the input shape of a tile and the box of the result that it wrote, by the thread that writes: before
        anybody is told.
    """

    result: Writable
    evidence: Writable | None = None
    cleaned: Callable[[int], Writable] | None = None
    table: ObjectTable | None = None
    keep: Callable[[Shape, Box], None] | None = None

    @property
    def writing_bytes(self) -> int:
        """Return the bytes that a write takes beyond the box."""
        return sum(int(getattr(sink, "writing_bytes", 0)) for sink in (self.result, self.evidence))


@dataclass(frozen=True)
class PredictResult:
    """What a segmentation took.

    Attributes
    ----------
    plan
        The plan that was carried out, the last one if memory ran out.
    seconds
        Time for all of it.
    flops_per_second
        Speed of the network on this device, without the compilation of the first tile where there are others.
    """

    plan: TilePlan
    seconds: float
    flops_per_second: float


def predict(
    volume: Readable,
    predictor: Predictor,
    spec: PredictSpec,
    sinks: Sinks,
    *,
    plan: TilePlan,
    scaling: Scaling,
    device: str = "The device",
    where: Where | None = None,
    focus: Box | None = None,
    done: Sequence[DoneTiles] = (),
    glance: TilePlan | None = None,
    expected: float | None = None,
) -> Generator[Event, None, PredictResult]:
    """Segment a volume; a generator of events, each a safe point to stop.

    Parameters
    ----------
    volume
        (z, y, x) or (z, y, x, c), any real type, in memory or not.
    predictor
        What computes a tile. It raises an OutOfMemoryError where there is no room; then the tiles become smaller.
    spec
        The choices for the run.
    sinks
        What takes the result.
    plan
        The tiles, over the region of `spec`.
    scaling
        From intensities to the network's units, measured once for the whole volume.
    device
        What a person calls the place where it is computed.
    where
        Where voxels are looked at; all others stay 0. None is everywhere.
    focus
        What is in view, in voxels of the volume: the tiles nearest to it come first. The result does not change.
    done
        What an earlier, stopped run over the same region has left in the sinks.
    glance
        Smaller tiles over the same region: the one nearest to the focus is computed first, where nothing is done yet.
    expected
        Operations per second that the device is known for; None where that is not known.

    Raises
    ------
    Unet3dError
        One of its children, if nothing fits the memory, or a voxel cannot be read or written.
    """
    begun = time.perf_counter()
    found = yield from predict_tiles(
        volume,
        predictor,
        spec,
        sinks,
        plan=plan,
        scaling=scaling,
        device=device,
        where=where,
        focus=focus,
        done=done,
        glance=glance,
        expected=expected,
    )
    if spec.cleanup is not None:
        evident = sinks.result if sinks.evidence is None else sinks.evidence
        out = sinks.cleaned or sinks.result
        # What the tiles took is free by now, but the process would hold it; so it is with what a block took.
        return_free_memory()
        block_voxels = min(BLOCK_VOXELS, found.plan.peak_bytes // BYTES_PER_BLOCK_VOXEL)
        for n, total in clean_up(evident, out, spec.cleanup, block_voxels=block_voxels, table=sinks.table):
            return_free_memory()
            yield Progress("cleaning up", n, total)
    return replace(found, seconds=time.perf_counter() - begun)


def predict_tiles(
    volume: Readable,
    predictor: Predictor,
    spec: PredictSpec,
    sinks: Sinks,
    *,
    plan: TilePlan,
    scaling: Scaling,
    device: str = "The device",
    where: Where | None = None,
    focus: Box | None = None,
    done: Sequence[DoneTiles] = (),
    glance: TilePlan | None = None,
    expected: float | None = None,
) -> Generator[Event, None, PredictResult]:
    """Segment the tiles of a volume, without what follows them; everything else is as for `predict`."""
    begun = time.perf_counter()
    if tuple(sinks.result.shape[:3]) != plan.region.shape:
        raise SpecError(
            f"The result has the shape {plan.region.shape}; the output that was passed has {sinks.result.shape}."
        )
    run = _Segmenting(volume, predictor, spec, sinks, scaling, where or Where(), focus, expected)
    for tiles in done:
        run.coverage.mark_all(plan, tiles)
    if glance is not None and not run.coverage:
        yield from _glance(run, glance, device)
    plan = yield from _all_tiles(run, plan, device)
    if run.n_nonfinite:
        yield Note(f"{run.n_nonfinite:,} voxels are not finite numbers; the network read them as background.")
    return PredictResult(plan, time.perf_counter() - begun, run.flops_per_second)


def _glance(run: _Segmenting, plan: TilePlan, device: str) -> Iterator[Event]:
    """Segment the one tile of a plan that is nearest to what is looked at; without room for it there is none."""
    yield Started(1, plan.input_shape, device, plan.peak_bytes, run.seconds_of(plan), is_glance=True)
    try:
        yield from run.tiles(plan, most=1)
    except OutOfMemoryError:
        yield Note(f"{device} ran out of memory. The run goes on.")


def _all_tiles(run: _Segmenting, plan: TilePlan, device: str) -> Generator[Event, None, TilePlan]:
    """Segment all tiles, smaller ones each time memory runs out, and return the plan that was carried out."""
    if not run.n_tiles(plan):
        return plan
    for attempt in range(MAX_SMALLER_PLANS + 1):
        yield Started(run.n_tiles(plan), plan.input_shape, device, plan.peak_bytes, run.seconds_of(plan))
        try:
            yield from run.tiles(plan)
            break
        except OutOfMemoryError:
            if attempt == MAX_SMALLER_PLANS:
                raise
            plan = _smaller_plan(plan, device)
            shape = times(plan.input_shape)
            yield Note(f"{device} ran out of memory. The run goes on with smaller tiles of {shape} voxels.")
    return plan


def _smaller_plan(plan: TilePlan, device: str) -> TilePlan:
    try:
        return plan_tiles(
            plan.volume_shape,
            plan.spec,
            memory=(plan.peak_bytes + plan.reading_bytes) // 2,
            region=plan.region,
            bytes_per_value=plan.bytes_per_value,
            reading_bytes=plan.reading_bytes,
        )
    except MemoryBudgetError as error:
        raise OutOfMemoryError(f"{device} has no memory left for the smallest tile. {error}") from error


@dataclass
class _Segmenting:
    """The state of a segmentation that outlives a plan: what is done, and how fast it goes."""

    volume: Readable
    predictor: Predictor
    spec: PredictSpec
    sinks: Sinks
    scaling: Scaling
    where: Where
    focus: Box | None = None
    expected: float | None = None
    coverage: Coverage = field(default_factory=Coverage)
    n_nonfinite: int = 0
    timings: list[tuple[int, float]] = field(default_factory=list)

    @property
    def flops_per_second(self) -> float:
        # The first tile also pays for the compilation of the graph.
        counted = self.timings[1:] or self.timings
        return sum(flops for flops, _ in counted) / max(sum(seconds for _, seconds in counted), 1e-9)

    def n_tiles(self, plan: TilePlan) -> int:
        return sum(self._is_missing(tile) for tile in plan) if self.coverage or self.where else len(plan)

    def _is_missing(self, tile: Tile) -> bool:
        return self.where.meets(tile.write) and not self.coverage.covers(tile.write)

    def seconds_of(self, plan: TilePlan) -> float | None:
        """Return how long a tile is expected to take; None where nothing is known."""
        return None if self.expected is None else plan.tile_flops / self.expected

    def tiles(self, plan: TilePlan, *, most: int | None = None) -> Iterator[TileDone]:
        """Segment the tiles of a plan that are not done yet, or the first `most` of them."""
        n_missing = self.n_tiles(plan)
        total = n_missing if most is None else min(most, n_missing)
        self.timings.clear()
        what: What = "labels" if self.spec.output == "labels" and self.spec.cleanup is None else "probabilities"
        pace = _Pace(self.seconds_of(plan))
        n_done, margin = 0, plan.spec.geometry.halo
        with _threads("reader", "writer") as (reader, writer):
            writing: deque[tuple[Future[None], Tile]] = deque()

            def written() -> TileDone:
                nonlocal n_done
                future, tile = writing.popleft()
                future.result()
                n_done += 1
                self.coverage.mark(plan, tile.write)
                return TileDone(self._in_output(tile.write), n_done, total, pace.tile_done() * (total - n_done))

            try:
                for tile, voxels in _read_ahead(reader, self._read, islice(self._missing(plan), most)):
                    computing = time.perf_counter()
                    values = self.predictor(voxels, what)
                    self.timings.append((plan.tile_flops, time.perf_counter() - computing))
                    writing.append((writer.submit(self._write, plan, tile, values[tile.crop(margin)]), tile))
                    del voxels, values
                    while writing and (len(writing) > TILES_READ_AHEAD or writing[0][0].done()):
                        yield written()
            except OutOfMemoryError:
                # What was computed before is not lost.
                while writing:
                    yield written()
                raise
            while writing:
                yield written()

    def _missing(self, plan: TilePlan) -> Iterator[Tile]:
        """Yield the tiles of a plan that nobody has written yet, those nearest to the focus first."""
        for tile in nearest_first(plan, self.focus):
            if self._is_missing(tile):
                yield tile

    def _read(self, tile: Tile) -> npt.NDArray[np.float32]:
        voxels = read_reflected(self.volume, tile.read)
        # A float64 beyond the range of float32 becomes infinity, which is found below.
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = self.scaling.apply(voxels)
        finite = finite_voxels(scaled) if voxels.dtype.kind == "f" else None
        if finite is None:
            return scaled
        if self.spec.nonfinite == "refuse":
            inside = tile.read.intersection(Box.whole(_three(self.volume.shape)))
            n_bad = _count_false(finite, tile.read, inside)
            raise VolumeError(
                f"The volume holds {NOT_FINITE}: {n_bad:,} voxels in {inside} (z, y, x) "
                "alone. Correct them, or read them as background (nonfinite: background)."
            )
        scaled[~finite] = 0
        self.n_nonfinite += _count_false(finite, tile.read, tile.write)
        return scaled

    def _write(self, plan: TilePlan, tile: Tile, values: npt.NDArray[Any]) -> None:
        where = self._in_output(tile.write)
        box = where.slices
        if self.spec.cleanup is not None:
            values = evidence(values, self.spec.cleanup)
        looked_at = self.where.voxels(tile.write)
        if looked_at is not None:
            # What the network gives belongs to it.
            values = values.copy()
            values[~looked_at] = 0
        if self.spec.cleanup is not None and self.sinks.evidence is not None:
            self.sinks.evidence[box] = values
            values = evident_classes(values)
        self.sinks.result[box] = values
        if self.sinks.keep is not None:
            self.sinks.keep(plan.input_shape, where)

    def _in_output(self, box: Box) -> Box:
        region = self.spec.region or Box.whole(box.shape)
        z, y, x = (-start for start, _ in region)
        return box.shifted((z, y, x))


class _Pace:
    """How long a tile takes, without the first, which also pays for the compilation of the graph.

    Parameters
    ----------
    expected
        Seconds that a tile is expected to take; None where nothing is known.
    """

    def __init__(self, expected: float | None) -> None:
        self._expected = expected
        self._begun = self._first = time.perf_counter()
        self._n = 0

    def tile_done(self) -> float:
        """Note that a tile is done, and return how many seconds one takes."""
        now = time.perf_counter()
        self._n += 1
        if self._n == 1:
            self._first = now
            return now - self._begun if self._expected is None else self._expected
        return (now - self._first) / (self._n - 1)


def _three(shape: Sequence[int]) -> tuple[int, int, int]:
    z, y, x = shape[:3]
    return z, y, x


def _count_false(mask: npt.NDArray[np.bool_], read: Box, part: Box) -> int:
    """Count what is false in `part` of a mask that covers `read`."""
    z, y, x = (-start for start, _ in read)
    return int(np.count_nonzero(~mask[part.shifted((z, y, x)).slices]))


@contextmanager
def _threads(*names: str) -> Iterator[tuple[ThreadPoolExecutor, ...]]:
    """Give one thread a name, and wait for what they are at when the block ends in any way."""
    pools = tuple(ThreadPoolExecutor(1, thread_name_prefix=f"unet3d-{name}") for name in names)
    try:
        yield pools
    finally:
        for pool in pools:
            pool.shutdown(wait=True, cancel_futures=True)


def _read_ahead(
    pool: ThreadPoolExecutor, read: Callable[[Tile], npt.NDArray[np.float32]], tiles: Iterable[Tile]
) -> Iterator[tuple[Tile, npt.NDArray[np.float32]]]:
    waiting: deque[tuple[Tile, Future[npt.NDArray[np.float32]]]] = deque()
    for tile in tiles:
        waiting.append((tile, pool.submit(read, tile)))
        if len(waiting) > TILES_READ_AHEAD:
            first, future = waiting.popleft()
            yield first, future.result()
    while waiting:
        first, future = waiting.popleft()
        yield first, future.result()

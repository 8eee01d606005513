"""Segmentation of a volume in tiles, as a task.

Reading, computing and writing overlap: one thread reads ahead, the caller's thread computes, one thread writes. The
queues between them are bounded, so that memory depends on the tile and not on the volume.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.coverage import Coverage, DoneTiles, nearest_first
from napari_unet3d.core.finite import NOT_FINITE, finite_voxels
from napari_unet3d.core.geometry import halo
from napari_unet3d.core.normalize import Scaling, measure
from napari_unet3d.core.postprocess import (
    BYTES_PER_SLAB_VOXEL,
    SLAB_VOXELS,
    Writable,
    clean_up,
    evidence,
    evident_classes,
)
from napari_unet3d.core.tiling import TILES_READ_AHEAD, Readable, Tile, TilePlan, plan_tiles, read_reflected
from napari_unet3d.errors import MemoryBudgetError, OutOfMemoryError, SpecError, VolumeError
from napari_unet3d.tasks.check_device import check_device
from napari_unet3d.tasks.events import Event, Note, Progress, Started, TileDone
from napari_unet3d.tasks.shares import share_memory
from napari_unet3d.tasks.specs import PredictSpec

if TYPE_CHECKING:
    from napari_unet3d.network.devices import Device
    from napari_unet3d.network.model import Model

MAX_SMALLER_PLANS = 3


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


def plan_prediction(
    shape: Sequence[int],
    model: Model,
    spec: PredictSpec,
    device: Device | None = None,
    *,
    volume: Readable | None = None,
    sink: Writable | None = None,
) -> TilePlan:
    """Return the plan of a run: what the device has free decides, unless the spec does.

    Parameters
    ----------
    shape
        Shape (z, y, x) of the whole volume.
    model
        The model; only its network matters.
    spec
        The choices for the run.
    device
        Where it runs; None takes the device that the spec names.
    volume, sink
        What is read, which is told how much it may keep, and what is written to; None takes no memory for them.

    Raises
    ------
    MemoryBudgetError, SizeError, DeviceError
        If nothing fits, the volume is empty, or there is no such device.
    """
    from napari_unet3d.network.devices import select_device, usable_memory

    device = device or select_device(spec.device)
    memory = spec.memory_bytes or usable_memory(device)
    # A GPU has a memory of its own; the reader's is that of the machine.
    reading = 0 if device.is_gpu else share_memory(volume, sink, memory)
    return plan_tiles(
        shape,
        model.spec,
        memory=memory,
        region=spec.region,
        tile_shape=spec.tile_shape,
        bytes_per_value=device.bytes_per_value,
        reading_bytes=reading,
    )


def predict(
    volume: Readable,
    model: Model,
    spec: PredictSpec,
    sink: Writable,
    *,
    scratch: Writable | None = None,
    focus: Box | None = None,
    done: Sequence[DoneTiles] = (),
) -> Generator[Event, None, PredictResult]:
    """Segment a volume; a generator of events, each a safe point to stop.

    Parameters
    ----------
    volume
        (z, y, x) or (z, y, x, c), any real type, in memory or not.
    model
        What segments it.
    spec
        The choices for the run.
    sink
        Takes the result: the shape of the region, (z, y, x), or (z, y, x, classes) for probabilities.
    scratch
        (z, y, x) uint8 of the same shape, where clean-up keeps its evidence; meanwhile the sink shows the classes of
        the finished tiles. None keeps it in the sink, which then makes sense at the end only.
    focus
        What is looked at, in voxels of the volume: the tiles nearest to it come first. The result does not change.
    done
        What an earlier, stopped run over the same region has left in the sink (and in the scratch).

    Raises
    ------
    Unet3dError
        One of its children, if the volume does not suit the model, nothing fits the memory, or a
        voxel cannot be read or written.
    """
    from napari_unet3d.network.devices import select_device

    begun = time.perf_counter()
    model.check_channels(volume.shape[3] if len(volume.shape) == 4 else 1)
    device = select_device(spec.device)
    plan = plan_prediction(volume.shape[:3], model, spec, device, volume=volume, sink=sink)
    if tuple(sink.shape[:3]) != plan.region.shape:
        raise SpecError(f"The result has the shape {plan.region.shape}; the output that was passed has {sink.shape}.")
    scaling = measure(model.card.normalization, volume)
    for text in scaling.notes:
        yield Note(text)
    yield from check_device(plan, device)
    run = _Run(volume, model, spec, sink, device, scaling, scratch=scratch, focus=focus)
    for tiles in done:
        run.coverage.mark_all(plan, tiles)
    for attempt in range(MAX_SMALLER_PLANS + 1):
        yield Started(run.n_tiles(plan), plan.input_shape, device.label, plan.peak_bytes)
        try:
            yield from run.tiles(plan)
            break
        except OutOfMemoryError:
            if attempt == MAX_SMALLER_PLANS:
                raise
            try:
                plan = _smaller_plan(plan)
            except MemoryBudgetError as error:
                raise OutOfMemoryError(f"{device.label} has no memory left for the smallest tile. {error}") from error
            shape = " x ".join(map(str, plan.input_shape))
            yield Note(f"{device.label} ran out of memory. The run goes on with smaller tiles of {shape} voxels.")
    if run.n_nonfinite:
        yield Note(f"{run.n_nonfinite:,} voxels are not finite numbers; the network read them as background.")
    if spec.cleanup is not None:
        slab_voxels = min(SLAB_VOXELS, plan.peak_bytes // BYTES_PER_SLAB_VOXEL)
        for n, total in clean_up(sink if scratch is None else scratch, sink, spec.cleanup, slab_voxels=slab_voxels):
            yield Progress("cleaning up", n, total)
    return PredictResult(plan, time.perf_counter() - begun, run.flops_per_second)


def _smaller_plan(plan: TilePlan) -> TilePlan:
    return plan_tiles(
        plan.volume_shape,
        plan.spec,
        memory=(plan.peak_bytes + plan.reading_bytes) // 2,
        region=plan.region,
        bytes_per_value=plan.bytes_per_value,
        reading_bytes=plan.reading_bytes,
    )


@dataclass
class _Run:
    """The state of a segmentation that outlives a plan: what is done, and how fast it goes."""

    volume: Readable
    model: Model
    spec: PredictSpec
    sink: Writable
    device: Device
    scaling: Scaling
    scratch: Writable | None = None
    focus: Box | None = None
    coverage: Coverage = field(default_factory=Coverage)
    n_nonfinite: int = 0
    timings: list[tuple[int, float]] = field(default_factory=list)

    @property
    def flops_per_second(self) -> float:
        # The first tile also pays for the compilation of the graph.
        counted = self.timings[1:] or self.timings
        return sum(flops for flops, _ in counted) / max(sum(seconds for _, seconds in counted), 1e-9)

    def n_tiles(self, plan: TilePlan) -> int:
        return sum(not self.coverage.covers(tile.write) for tile in plan) if self.coverage else len(plan)

    def tiles(self, plan: TilePlan) -> Iterator[TileDone]:
        """Segment the tiles of a plan that are not done yet."""
        total = self.n_tiles(plan)
        head = "labels" if self.spec.output == "labels" and self.spec.cleanup is None else "probabilities"
        forward = self.model.forward(plan.input_shape, head, self.device)
        flops_a_tile = plan.flops // len(plan)
        begun = time.perf_counter()
        n_done = 0
        with _threads("reader", "writer") as (reader, writer):
            writing: deque[tuple[Future[None], Tile]] = deque()

            def written() -> TileDone:
                nonlocal n_done
                future, tile = writing.popleft()
                future.result()
                n_done += 1
                self.coverage.mark(plan, tile.write)
                left = (time.perf_counter() - begun) / n_done * (total - n_done)
                return TileDone(self._in_output(tile.write), n_done, total, left)

            try:
                for tile, voxels in _read_ahead(reader, self._read, self._missing(plan)):
                    computing = time.perf_counter()
                    values = forward(voxels)
                    self.timings.append((flops_a_tile, time.perf_counter() - computing))
                    writing.append((writer.submit(self._write, tile, values), tile))
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
            if not self.coverage.covers(tile.write):
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
                "alone. Mend them, or have them read as background (nonfinite: background)."
            )
        scaled[~finite] = 0
        self.n_nonfinite += _count_false(finite, tile.read, tile.write)
        return scaled

    def _write(self, tile: Tile, values: npt.NDArray[Any]) -> None:
        values = values[tile.crop(halo(self.model.spec.blocks))]
        box = self._in_output(tile.write).slices
        if self.spec.cleanup is not None:
            values = evidence(values, self.spec.cleanup)
            if self.scratch is not None:
                self.scratch[box] = values
                values = evident_classes(values)
        self.sink[box] = values

    def _in_output(self, box: Box) -> Box:
        region = self.spec.region or Box.whole(box.shape)
        z, y, x = (-start for start, _ in region)
        return box.shifted((z, y, x))


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


def segment(
    volume: Readable | Any,
    model: Model,
    *,
    spec: PredictSpec | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> npt.NDArray[Any]:
    """Segment a volume that fits into memory, and return the result.

    Parameters
    ----------
    volume
        (z, y, x) or (z, y, x, c), any real type; or a `Volume`.
    model
        From `load_model`.
    spec
        The choices for the run; None is labels of the whole volume, with what is here.
    on_event
        Called with every event.

    Returns
    -------
    array
        (z, y, x) uint8 class indices, uint32 instances, or (z, y, x, classes) float32 probabilities.

    Examples
    --------
    >>> import napari_unet3d as unet3d
    >>> model = unet3d.load_model("neuron.unet3d")  # doctest: +SKIP
    >>> labels = unet3d.segment(unet3d.read_volume("stack.tif"), model)  # doctest: +SKIP
    """
    chosen = spec or PredictSpec()
    voxels = volume if isinstance(volume, np.ndarray) else getattr(volume, "data", volume)
    if len(getattr(voxels, "shape", ())) not in (3, 4):
        found = getattr(voxels, "shape", type(voxels).__name__)
        raise VolumeError(f"A volume is an array (z, y, x) or (z, y, x, c); {found} was passed.")
    region = chosen.region or Box.whole(_three(voxels.shape))
    classes = (model.spec.classes,) if chosen.output == "probabilities" else ()
    result = np.zeros((*region.shape, *classes), chosen.dtype)
    for event in predict(voxels, model, chosen, result):
        if on_event is not None:
            on_event(event)
    return result

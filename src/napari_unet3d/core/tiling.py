"""Where the tiles of a volume lie, so that they give the bytes of one pass.

Max-pooling makes the network equivariant to shifts of `alignment(blocks)` voxels only. So every tile starts on
that grid, whose origin is the volume's first voxel, writes a box that ends on the grid or with the volume, and
drops the surplus of its output. Outside, the volume is thought to continue by reflection (SciPy's `reflect`: the
border voxel is repeated). No network and no files here: a volume is anything with a shape and slices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.architecture import NetworkSpec
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.geometry import (
    AXES,
    Shape,
    alignment,
    flops,
    flops_grid,
    halo,
    input_size_for,
    output_shape,
    peak_bytes,
    peak_grid,
    smallest_size,
)
from napari_unet3d.errors import MemoryBudgetError, SizeError

# A run holds the tile being computed and, in the bounded queues, up to two read ahead; see `tasks.predict`.
TILES_READ_AHEAD = 2
# A single tile of more voxels along an axis than this gains less than 1 % and would not let Cancel act for minutes.
_LONGEST = 1024


class Readable(Protocol):
    """Something voxels can be read from, in memory or not."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape, (z, y, x) or (z, y, x, c)."""

    def __getitem__(self, index: Any, /) -> Any:
        """Return the voxels of a tuple of slices."""


class Tile(NamedTuple):
    """One call of the network.

    Attributes
    ----------
    read
        What goes in, in voxels of the volume; may lie outside of it.
    write
        What comes out, in voxels of the volume.
    """

    read: Box
    write: Box

    def crop(self, halo: int) -> tuple[slice, slice, slice]:
        """Return which part of the network's output is written."""
        z, y, x = (
            slice(w0 - r0 - halo, w1 - r0 - halo) for (r0, _), (w0, w1) in zip(self.read, self.write, strict=True)
        )
        return z, y, x


@dataclass(frozen=True)
class TilePlan:
    """How a volume is cut, and what that costs.

    Attributes
    ----------
    spec
        The network the plan is for.
    volume_shape
        Shape (z, y, x) of the whole volume in voxels.
    region
        What is segmented, in voxels of the volume.
    input_shape
        The one input shape of all tiles.
    bytes_per_value
        4 for float32, 2 for mixed precision.
    """

    spec: NetworkSpec
    volume_shape: Shape
    region: Box
    input_shape: Shape
    bytes_per_value: int = 4
    reading_bytes: int = 0

    @cached_property
    def output_shape(self) -> Shape:
        """Return the output shape of one tile."""
        return output_shape(self.input_shape, blocks=self.spec.blocks)

    @property
    def stride(self) -> Shape:
        """Return the voxels from one tile to the next."""
        step = alignment(self.spec.blocks)
        z, y, x = (n // step * step for n in self.output_shape)
        return z, y, x

    @cached_property
    def counts(self) -> Shape:
        """Return the number of tiles along every axis."""
        step = alignment(self.spec.blocks)
        z, y, x = (
            _n_tiles(stop - start // step * step, out, step)
            for (start, stop), out in zip(self.region, self.output_shape, strict=True)
        )
        return z, y, x

    def __len__(self) -> int:
        z, y, x = self.counts
        return z * y * x

    def __iter__(self) -> Iterator[Tile]:
        return (self.tile(*index) for index in np.ndindex(*self.counts))

    def tile(self, *index: int) -> Tile:
        """Return the tile at `index` (z, y, x) of the grid of tiles."""
        step, margin = alignment(self.spec.blocks), halo(self.spec.blocks)
        read, write = [], []
        for i, count, (start, stop), n, stride in zip(
            index, self.counts, self.region, self.input_shape, self.stride, strict=True
        ):
            origin = start // step * step + i * stride
            read.append((origin - margin, origin - margin + n))
            write.append((max(origin, start), stop if i == count - 1 else origin + stride))
        return Tile(Box(*read), Box(*write))

    def edges(self, axis: int) -> tuple[npt.NDArray[np.int_], npt.NDArray[np.int_]]:
        """Return where the written boxes start and stop along an axis, one value a tile."""
        step = alignment(self.spec.blocks)
        start, stop = self.region[axis]
        origins = start // step * step + np.arange(self.counts[axis]) * self.stride[axis]
        return np.maximum(origins, start), np.append(origins[1:], stop)

    def tiles_meeting(self, box: Box) -> tuple[slice, slice, slice]:
        """Return which tiles, as an index into the grid of them, write `box`; the box lies in the region."""
        step = alignment(self.spec.blocks)
        z, y, x = (
            # A single tile may write less than one step, then its stride is 0.
            slice(
                min((first - start // step * step) // max(stride, 1), count - 1),
                min((last - 1 - start // step * step) // max(stride, 1), count - 1) + 1,
            )
            for (first, last), (start, _), stride, count in zip(box, self.region, self.stride, self.counts, strict=True)
        )
        return z, y, x

    @property
    def flops(self) -> int:
        """Return the operations of all tiles."""
        return len(self) * flops(self.input_shape, self.spec)

    @cached_property
    def flops_over_ideal(self) -> float:
        """Return the operations relative to those of one pass over the whole region."""
        step, blocks = alignment(self.spec.blocks), self.spec.blocks
        once = [input_size_for(stop - start // step * step, blocks=blocks) for start, stop in self.region]
        return self.flops / flops(once, self.spec)

    @property
    def peak_bytes(self) -> int:
        """Return the memory of a run at its worst moment: one pass, the tiles in the queues, and what readers keep."""
        return (
            self.reading_bytes
            + peak_bytes(self.input_shape, self.spec, bytes_per_value=self.bytes_per_value)
            + int(
                _queue_bytes(np.prod(self.input_shape, dtype=float), np.prod(self.output_shape, dtype=float), self.spec)
            )
        )

    def seconds(self, flops_per_second: float) -> float:
        """Return the time the tiles take on a machine of that speed."""
        return self.flops / flops_per_second


def _queue_bytes(inputs: Any, outputs: Any, spec: NetworkSpec) -> Any:
    ahead = TILES_READ_AHEAD + 1
    return 4 * ahead * (inputs * spec.channels + outputs * spec.classes)


def plan_tiles(
    shape: Sequence[int],
    spec: NetworkSpec,
    *,
    memory: int | None = None,
    region: Box | None = None,
    tile_shape: Sequence[int] | None = None,
    bytes_per_value: int = 4,
    reading_bytes: int = 0,
) -> TilePlan:
    """Plan the tiles of a volume with the fewest operations that the memory allows.

    Parameters
    ----------
    shape
        Shape (z, y, x) of the volume in voxels.
    spec
        The network.
    memory
        Bytes that a run may use beyond the program itself. None: no limit.
    region
        What to segment. None: the whole volume.
    tile_shape
        Input shape (z, y, x) of a tile, where the caller wants a certain one.
    bytes_per_value
        4 for float32, 2 for mixed precision.
    reading_bytes
        What of the memory is for reading the volume: decoded pieces that are kept, and the one being decoded.

    Raises
    ------
    MemoryBudgetError
        If not even the smallest tile fits the memory.
    SizeError
        If the volume is empty, or `tile_shape` does not fit the network.

    Examples
    --------
    >>> plan = plan_tiles((300, 300, 300), NetworkSpec())
    >>> plan.input_shape, len(plan), plan.flops_over_ideal
    ((388, 388, 388), 1, 1.0)
    """
    z, y, x = (int(n) for n in shape)
    if min(z, y, x) < 1:
        raise SizeError(f"A volume of {z} x {y} x {x} voxels (z, y, x) is empty; there is nothing to segment.")
    whole = Box.whole((z, y, x))
    box = region or whole
    if box.n_voxels == 0 or box.intersection(box) != box.intersection(whole):
        raise SizeError(f"The region {box} (z, y, x) is empty or leaves the volume, which is {whole}.")
    if tile_shape is None:
        chosen = _cheapest_input(box, spec, memory, bytes_per_value, reading_bytes)
    else:
        chosen = _checked_input(tile_shape, box, spec)
    return TilePlan(spec, (z, y, x), box, chosen, bytes_per_value, reading_bytes)


def _cheapest_input(
    region: Box, spec: NetworkSpec, memory: int | None, bytes_per_value: int, reading_bytes: int
) -> Shape:
    step, margin = alignment(spec.blocks), halo(spec.blocks)
    lengths = [stop - start // step * step for start, stop in region]
    sizes = [_candidates(length, spec.blocks) for length in lengths]
    inputs = _outer(*(np.array(s, float) for s in sizes))
    outputs = _outer(*(np.array(s, float) - 2 * margin for s in sizes))
    needed = peak_grid(*sizes, spec=spec, bytes_per_value=bytes_per_value) + _queue_bytes(inputs, outputs, spec)
    needed = needed + reading_bytes
    counts = _outer(
        *(
            np.array([_n_tiles(length, n - 2 * margin, step) for n in s], float)
            for length, s in zip(lengths, sizes, strict=True)
        )
    )
    cost = counts * flops_grid(*sizes, spec=spec)
    if memory is not None:
        if needed.min() > memory:
            smallest = " x ".join(str(s[0]) for s in sizes)
            raise MemoryBudgetError(
                f"{memory / 2**20:,.0f} MiB of memory is too little: the smallest tile of this network, {smallest} "
                f"voxels, takes {math.ceil(needed.min() / 2**20):,} MiB{_reading_text(reading_bytes)}. Allow that "
                "much, or free some."
            )
        cost = np.where(needed <= memory, cost, np.inf)
    # Of plans that cost the same, the one with the smallest tiles.
    cheapest = np.flatnonzero(cost == cost.min())
    best = np.unravel_index(cheapest[np.argmin(needed.flat[cheapest])], cost.shape)
    z, y, x = (s[i] for s, i in zip(sizes, best, strict=True))
    return z, y, x


def _reading_text(n_bytes: int) -> str:
    return f", of which reading the volume takes {math.ceil(n_bytes / 2**20):,} MiB" if n_bytes else ""


def _checked_input(tile_shape: Sequence[int], region: Box, spec: NetworkSpec) -> Shape:
    step = alignment(spec.blocks)
    outputs = output_shape(tile_shape, blocks=spec.blocks)
    for axis, out, (start, stop) in zip(AXES, outputs, region, strict=True):
        if out < min(step, stop - start // step * step):
            raise SizeError(
                f"Tiles that write {out} voxels along {axis} cannot be laid side by side: they start at multiples of "
                f"{step}. An input of at least {input_size_for(step, blocks=spec.blocks)} voxels works."
            )
    z, y, x = (int(n) for n in tile_shape)
    return z, y, x


def _candidates(length: int, blocks: int) -> list[int]:
    """Return the input sizes worth trying: for every number of tiles the smallest that covers `length`."""
    step, margin = alignment(blocks), halo(blocks)
    longest = min(input_size_for(length, blocks=blocks), max(smallest_size(blocks), _LONGEST))
    sizes: dict[int, int] = {}
    for n in range(smallest_size(blocks), longest + 1, step):
        output = n - 2 * margin
        if output >= min(step, length):
            sizes.setdefault(_n_tiles(length, output, step), n)
    return sorted(sizes.values())


def _n_tiles(length: int, output: int, step: int) -> int:
    if length <= output:
        return 1
    return 1 - (output - length) // (output // step * step)


def _outer(
    z: npt.NDArray[np.float64], y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    return np.asarray(z[:, None, None] * y[None, :, None] * x[None, None, :])


def read_reflected(volume: Readable, box: Box) -> npt.NDArray[Any]:
    """Return the voxels of `box`, with the volume continued by reflection where the box leaves it.

    Only the voxels that are needed are read from the volume, each once.

    Parameters
    ----------
    volume
        (z, y, x) or (z, y, x, c).
    box
        In voxels of the volume; may lie anywhere.

    Examples
    --------
    >>> read_reflected(np.arange(3).reshape(3, 1, 1), Box((-2, 5), (0, 1), (0, 1))).ravel()
    array([1, 0, 0, 1, 2, 2, 1])
    """
    indices = [_reflected(np.arange(start, stop), n) for (start, stop), n in zip(box, volume.shape[:3], strict=True)]
    inside = tuple(slice(int(index.min()), int(index.max()) + 1) for index in indices)
    voxels = np.asarray(volume[inside])
    for axis, index in enumerate(indices):
        if len(index) != voxels.shape[axis] or (np.diff(index) != 1).any():
            voxels = np.take(voxels, index - inside[axis].start, axis=axis)
    return voxels


def _reflected(index: npt.NDArray[np.int_], n: int) -> npt.NDArray[np.int_]:
    folded = np.mod(index, 2 * n)
    return np.where(folded < n, folded, 2 * n - 1 - folded)

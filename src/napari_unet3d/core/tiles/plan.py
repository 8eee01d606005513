"""Where the tiles of a volume lie, so that they give the bytes of one pass.

Max-pooling makes the network equivariant to shifts of `Geometry.alignment` voxels only. So every tile starts on
that grid, whose origin is the volume's first voxel, writes a box that ends on the grid or with the volume, and
drops the surplus of its output. Outside, the volume is thought to continue by reflection (SciPy's `reflect`: the
border voxel is repeated). No network and no files here: a volume is anything with a shape and slices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import AXES, Box, Shape
from napari_unet3d.core.tiles.sizes import Inputs, lengths_on_grid, n_tiles, queue_bytes
from napari_unet3d.core.unet.costs import flops, peak_bytes
from napari_unet3d.core.unet.geometry import Geometry
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import SizeError
from napari_unet3d.words import times


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

    def crop(self, halo: Shape) -> tuple[slice, slice, slice]:
        """Return which part of the network's output is written."""
        z, y, x = (
            slice(w0 - r0 - n, w1 - r0 - n) for (r0, _), (w0, w1), n in zip(self.read, self.write, halo, strict=True)
        )
        return z, y, x


@dataclass(frozen=True)
class TilePlan:
    """How a volume is cut into tiles, and what that costs.

    Attributes
    ----------
    spec
        The network the plan is for.
    volume_shape
        Shape (z, y, x) of the whole volume in voxels.
    region
        The box that is segmented, in voxels of the volume.
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

    # Kept: a plan of a large volume has a million tiles, and each asks.
    @cached_property
    def _geometry(self) -> Geometry:
        return self.spec.geometry

    @cached_property
    def _origins(self) -> Shape:
        """Return where the first tile's output begins along every axis, on the grid."""
        z, y, x = (start // step * step for (start, _), step in zip(self.region, self._geometry.alignment, strict=True))
        return z, y, x

    @cached_property
    def output_shape(self) -> Shape:
        """Return the output shape of one tile."""
        return self._geometry.output_shape(self.input_shape)

    @cached_property
    def stride(self) -> Shape:
        """Return the voxels from one tile to the next."""
        z, y, x = (n // step * step for n, step in zip(self.output_shape, self._geometry.alignment, strict=True))
        return z, y, x

    @cached_property
    def counts(self) -> Shape:
        """Return the number of tiles along every axis."""
        z, y, x = (
            n_tiles(stop - start // step * step, out, step)
            for (start, stop), out, step in zip(self.region, self.output_shape, self._geometry.alignment, strict=True)
        )
        return z, y, x

    @cached_property
    def blocks(self) -> Shape | None:
        """Return the shape of what tiles write, side by side from the region's first voxel on; None if they do not.

        They do unless the region begins between two points of the grid on which tiles start.
        """
        if any(
            n > 1 and start != first
            for n, (start, _), first in zip(self.counts, self.region, self._origins, strict=True)
        ):
            return None
        z, y, x = (
            step if n > 1 else length
            for n, step, length in zip(self.counts, self.stride, self.region.shape, strict=True)
        )
        return z, y, x

    def __len__(self) -> int:
        z, y, x = self.counts
        return z * y * x

    def __iter__(self) -> Iterator[Tile]:
        return (self.tile(*index) for index in np.ndindex(*self.counts))

    def tile(self, *index: int) -> Tile:
        """Return the tile at `index` (z, y, x) of the grid of tiles."""
        geometry = self._geometry
        read, write = [], []
        for axis, (i, (start, stop)) in enumerate(zip(index, self.region, strict=True)):
            origin = self._origins[axis] + i * self.stride[axis]
            first = origin - geometry.halo[axis]
            read.append((first, first + self.input_shape[axis]))
            is_last = i == self.counts[axis] - 1
            write.append((max(origin, start), stop if is_last else origin + self.stride[axis]))
        return Tile(Box(*read), Box(*write))

    def edges(self, axis: int) -> tuple[npt.NDArray[np.int_], npt.NDArray[np.int_]]:
        """Return where the written boxes start and stop along an axis, one value per tile."""
        start, stop = self.region[axis]
        origins = self._origins[axis] + np.arange(self.counts[axis]) * self.stride[axis]
        return np.maximum(origins, start), np.append(origins[1:], stop)

    def tiles_meeting(self, box: Box) -> tuple[slice, slice, slice]:
        """Return which tiles, as an index into the grid of them, write `box`; the box lies in the region."""
        z, y, x = (self._meeting(axis, *interval) for axis, interval in enumerate(box))
        return z, y, x

    def _meeting(self, axis: int, first: int, last: int) -> slice:
        # A single tile may write less than one step, then its stride is 0.
        origin, stride, end = self._origins[axis], max(self.stride[axis], 1), self.counts[axis] - 1
        return slice(min((first - origin) // stride, end), min((last - 1 - origin) // stride, end) + 1)

    @cached_property
    def tile_flops(self) -> int:
        """Return the operations of one tile."""
        return flops(self.input_shape, self.spec)

    @property
    def flops(self) -> int:
        """Return the operations of all tiles."""
        return len(self) * self.tile_flops

    @cached_property
    def flops_over_ideal(self) -> float:
        """Return the operations relative to those of one pass over the whole region."""
        once = self._geometry.input_shape_for([self.region[axis][1] - self._origins[axis] for axis in range(3)])
        return self.flops / flops(once, self.spec)

    @property
    def peak_bytes(self) -> int:
        """Return the memory of a run at its worst moment: one pass, the tiles in the queues, and what readers keep."""
        return (
            self.reading_bytes
            + peak_bytes(self.input_shape, self.spec, bytes_per_value=self.bytes_per_value)
            + int(
                queue_bytes(np.prod(self.input_shape, dtype=float), np.prod(self.output_shape, dtype=float), self.spec)
            )
        )

    def seconds(self, flops_per_second: float) -> float:
        """Return the time the tiles take on a machine of that speed."""
        return self.flops / flops_per_second


def plan_tiles(
    shape: Sequence[int],
    spec: NetworkSpec,
    *,
    memory: int | None = None,
    region: Box | None = None,
    tile_shape: Sequence[int] | None = None,
    bytes_per_value: int = 4,
    reading_bytes: int = 0,
    tile_flops: float | None = None,
    extra_work: float = 0.0,
) -> TilePlan:
    """Plan the tiles of a volume with the fewest operations that the memory allows, or smaller ones.

    Parameters
    ----------
    shape
        Shape (z, y, x) of the volume in voxels.
    spec
        The network.
    memory
        Bytes that a run may use beyond the program itself. None: no limit.
    region
        The box to segment. None: the whole volume.
    tile_shape
        Input shape (z, y, x) of a tile. None lets the planner choose.
    bytes_per_value
        4 for float32, 2 for mixed precision.
    reading_bytes
        Share of the memory for reading the volume: decoded pieces that are kept, and the one being decoded.
    tile_flops
        Operations that one tile should take at most, so that a result is seen soon; None asks for nothing.
    extra_work
        What that may cost: the share of operations that all tiles together take more than the cheapest ones.

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
        raise SizeError(f"A volume of {times((z, y, x))} voxels (z, y, x) is empty; there is nothing to segment.")
    whole = Box.whole((z, y, x))
    box = region or whole
    if box.n_voxels == 0 or box.intersection(box) != box.intersection(whole):
        raise SizeError(f"The region {box} (z, y, x) is empty or leaves the volume, which is {whole}.")
    if tile_shape is None:
        inputs = Inputs(box, spec, memory, bytes_per_value=bytes_per_value, reading_bytes=reading_bytes)
        chosen = inputs.cheapest() if tile_flops is None else inputs.small(tile_flops, extra_work)
    else:
        chosen = _check_input(tile_shape, box, spec)
    return TilePlan(spec, (z, y, x), box, chosen, bytes_per_value, reading_bytes)


def _check_input(tile_shape: Sequence[int], region: Box, spec: NetworkSpec) -> Shape:
    geometry = spec.geometry
    outputs = geometry.output_shape(tile_shape)
    for axis, (out, length) in enumerate(zip(outputs, lengths_on_grid(region, spec), strict=True)):
        step = geometry.alignment[axis]
        if out < min(step, length):
            raise SizeError(
                f"Tiles that write {out} voxels along {AXES[axis]} cannot be laid side by side: they start at "
                f"multiples of {step}. An input of at least {geometry.input_size_for(step, axis)} voxels works."
            )
    z, y, x = (int(n) for n in tile_shape)
    return z, y, x


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
    indices = [_reflect(np.arange(start, stop), n) for (start, stop), n in zip(box, volume.shape[:3], strict=True)]
    inside = tuple(slice(int(index.min()), int(index.max()) + 1) for index in indices)
    voxels = np.asarray(volume[inside])
    for axis, index in enumerate(indices):
        if len(index) != voxels.shape[axis] or (np.diff(index) != 1).any():
            voxels = np.take(voxels, index - inside[axis].start, axis=axis)
    return voxels


def _reflect(index: npt.NDArray[np.int_], n: int) -> npt.NDArray[np.int_]:
    folded = np.mod(index, 2 * n)
    return np.where(folded < n, folded, 2 * n - 1 - folded)

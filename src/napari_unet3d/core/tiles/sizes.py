"""Which input shape the tiles of a region have: what each possible one costs, and which is taken.

For every axis the candidates are the smallest sizes that cover it with 1, 2, 3, .. tiles. Sizes are voxels, memory is
bytes; nothing is read or computed here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.unet.costs import flops_grid, peak_grid
from napari_unet3d.core.unet.geometry import Geometry
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import MemoryBudgetError
from napari_unet3d.words import times

# A run holds the tile being computed and, in the bounded queues, up to two read ahead; see `tasks.segment.predict`.
TILES_READ_AHEAD = 2
# A single tile of more voxels along an axis than this gains less than 1 % and would not let Cancel act for minutes.
_LONGEST = 1024


class Inputs:
    """The input shapes that are possible for the tiles of a region, and what each would cost.

    Parameters
    ----------
    region
        What is segmented, in voxels of the volume.
    spec
        The network.
    memory
        Bytes that a run may use; None is any number.
    bytes_per_value, reading_bytes
        As of a `TilePlan`.

    Raises
    ------
    MemoryBudgetError
        If not even the smallest tile fits the memory.
    """

    def __init__(
        self, region: Box, spec: NetworkSpec, memory: int | None, *, bytes_per_value: int, reading_bytes: int
    ) -> None:
        geometry = spec.geometry
        lengths = lengths_on_grid(region, spec)
        self._sizes = sizes = [_candidates(length, axis, geometry) for axis, length in enumerate(lengths)]
        inputs = _outer(*(np.array(s, float) for s in sizes))
        outputs = _outer(*(np.array(s, float) - 2 * n for s, n in zip(sizes, geometry.halo, strict=True)))
        needed = peak_grid(*sizes, spec=spec, bytes_per_value=bytes_per_value) + queue_bytes(inputs, outputs, spec)
        self._needed = needed + reading_bytes
        if memory is not None and self._needed.min() > memory:
            smallest = times(s[0] for s in sizes)
            raise MemoryBudgetError(
                f"{memory / 2**20:,.0f} MiB of memory is too little: the smallest tile of this network, {smallest} "
                f"voxels, takes {math.ceil(self._needed.min() / 2**20):,} MiB{_reading_text(reading_bytes)}. Allow "
                "that much, or free some."
            )
        counts = _outer(
            *(
                np.array([n_tiles(length, n - 2 * geometry.halo[axis], geometry.alignment[axis]) for n in s], float)
                for axis, (length, s) in enumerate(zip(lengths, sizes, strict=True))
            )
        )
        self._each = flops_grid(*sizes, spec=spec)
        self._all = counts * self._each
        if memory is not None:
            self._all = np.where(self._needed <= memory, self._all, np.inf)

    def cheapest(self) -> Shape:
        """Return the input shape (z, y, x) with the fewest operations."""
        # Of plans that cost the same, the one with the smallest tiles.
        return self._smallest(self._all == self._all.min(), self._needed)

    def small(self, tile_flops: float, extra_work: float) -> Shape:
        """Return the cheapest input shape (z, y, x) whose tile is small enough, or else the smallest there is.

        Parameters
        ----------
        tile_flops
            Operations that a tile should take at most.
        extra_work
            The share of operations that all tiles together may take more than the cheapest ones.
        """
        may_be = np.isfinite(self._all) & (self._all <= self._all.min() * (1 + extra_work))
        is_small = may_be & (self._each <= tile_flops)
        if not is_small.any():
            return self._smallest(may_be, self._each)
        cost = np.where(is_small, self._all, np.inf)
        return self._smallest(cost == cost.min(), self._needed)

    def _smallest(self, which: npt.NDArray[np.bool_], by: npt.NDArray[np.float64]) -> Shape:
        best = np.unravel_index(np.argmin(np.where(which, by, np.inf)), by.shape)
        z, y, x = (s[i] for s, i in zip(self._sizes, best, strict=True))
        return z, y, x


def queue_bytes(inputs: Any, outputs: Any, spec: NetworkSpec) -> Any:
    """Return the memory of the tiles in the queues, from the voxels of an input and of an output."""
    ahead = TILES_READ_AHEAD + 1
    return 4 * ahead * (inputs * spec.channels + outputs * spec.classes)


def lengths_on_grid(region: Box, spec: NetworkSpec) -> list[int]:
    """Return the voxels to write along every axis, counted from the grid that tiles start on."""
    return [stop - start // step * step for (start, stop), step in zip(region, spec.geometry.alignment, strict=True)]


def n_tiles(length: int, output: int, step: int) -> int:
    """Return how many tiles of so many output voxels cover a length, each beginning on the grid of `step`."""
    if length <= output:
        return 1
    return 1 - (output - length) // (output // step * step)


def _candidates(length: int, axis: int, geometry: Geometry) -> list[int]:
    """Return the input sizes worth trying: for every number of tiles the smallest that covers `length`."""
    step = geometry.alignment[axis]
    longest = min(geometry.input_size_for(length, axis), max(geometry.smallest[axis], _LONGEST))
    sizes: dict[int, int] = {}
    for n in geometry.valid_sizes(longest, axis):
        output = n - 2 * geometry.halo[axis]
        if output >= min(step, length):
            sizes.setdefault(n_tiles(length, output, step), n)
    return sorted(sizes.values())


def _reading_text(reading_bytes: int) -> str:
    return f", of which reading the volume takes {math.ceil(reading_bytes / 2**20):,} MiB" if reading_bytes else ""


def _outer(
    z: npt.NDArray[np.float64], y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    return np.asarray(z[:, None, None] * y[None, :, None] * x[None, None, :])

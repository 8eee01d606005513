"""Cutting a volume into blocks for work that goes through all of it, so that a block fits the memory.

A block is a whole number of files where the array is stored in files, so that each is read and written once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from napari_unet3d.core.boxes import Box, Shape

# Slabs of whole planes are faster to read from most files; they have at least so many planes.
_FEWEST_PLANES = 16


class Placed(NamedTuple):
    """A block, and where it lies in the grid of blocks."""

    box: Box
    at: Shape


class BlockGrid:
    """A volume cut into blocks of one shape, in raster order.

    Parameters
    ----------
    shape
        Of the volume.
    block_shape
        Of a block; those at the end may be cut off.
    """

    def __init__(self, shape: Shape, block_shape: Shape) -> None:
        self.shape, self.block_shape = shape, block_shape

    def __len__(self) -> int:
        return math.prod(self._counts)

    def __iter__(self) -> Iterator[Placed]:
        n_z, n_y, n_x = self._counts
        for z in range(n_z):
            for y in range(n_y):
                for x in range(n_x):
                    yield Placed(self._box((z, y, x)), (z, y, x))

    @property
    def _counts(self) -> Shape:
        z, y, x = (-(-n // step) for n, step in zip(self.shape, self.block_shape, strict=True))
        return z, y, x

    def _box(self, index: Shape) -> Box:
        lengths = zip(index, self.block_shape, self.shape, strict=True)
        return Box(*((i * step, min((i + 1) * step, n)) for i, step, n in lengths))


def cut_into_blocks(shape: Shape, most_voxels: int, files: Shape = (1, 1, 1)) -> BlockGrid:
    """Return a volume cut into blocks: slabs of whole planes where these are thick enough, or else about cubes.

    Parameters
    ----------
    shape
        Of the volume.
    most_voxels
        A block has no more of them, but at least one.
    files
        Shape of what is stored in one file, counted from the first voxel.

    Examples
    --------
    >>> cut_into_blocks((100, 100, 100), 300_000).block_shape
    (30, 100, 100)
    >>> cut_into_blocks((1000, 9000, 9000), 20_000_000, (128, 128, 128)).block_shape
    (256, 256, 256)
    """
    n_z, n_y, n_x = (max(1, n) for n in shape)
    depth = min(n_z, most_voxels // (n_y * n_x))
    depth = depth // files[0] * files[0] if depth < n_z else depth
    if depth >= min(n_z, _FEWEST_PLANES):
        return BlockGrid(shape, (depth, n_y, n_x))
    sides = [min(file, n) for file, n in zip(files, (n_z, n_y, n_x), strict=True)]
    while math.prod(sides) > most_voxels and max(sides) > 1:
        longest = sides.index(max(sides))
        sides[longest] = -(-sides[longest] // 2)
    while growing := [a for a in range(3) if sides[a] < (n_z, n_y, n_x)[a] and 2 * math.prod(sides) <= most_voxels]:
        axis = min(growing, key=lambda a: (sides[a], -a))
        sides[axis] *= 2
    z, y, x = (min(side, n) for side, n in zip(sides, (n_z, n_y, n_x), strict=True))
    return BlockGrid(shape, (z, y, x))

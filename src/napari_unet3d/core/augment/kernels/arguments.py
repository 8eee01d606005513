"""What the loops of resampling are given: a part of the volume, and where the voxels of a box come from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

SEGMENT = 64
REFLECT, NEAREST, CONSTANT = 0, 1, 2


class Window(NamedTuple):
    """A part of the volume that is read from, as numba sees it.

    Attributes
    ----------
    voxels
        (c * z * y * x,), flat.
    shape, origin, bounds
        Shape (z, y, x) of the window, its first voxel in the volume, and the shape of the volume.
    """

    voxels: npt.NDArray[Any]
    shape: tuple[int, int, int]
    origin: tuple[int, int, int]
    bounds: tuple[int, int, int]


class Map(NamedTuple):
    """Where the voxels of a box of the output come from: ``matrix @ (o + displacement(o)) + offset``, as numba sees it.

    What has three numbers, one an axis, is followed by a fourth, which is 0, so that it is one vector.

    Attributes
    ----------
    columns
        (16,) float64: the columns of the matrix, for z, y and x, and the offset, in voxels.
    nodes
        (mz, my, mx * 4) float64: the coefficients of the displacement's B-spline, times the matrix; or empty.
    start, step
        Where the first cell begins, and the size of the cells, in voxels of the output.
    segments
        (n, 3) int64: the first voxel along x, the end, the cell.
    powers
        (n, 16) float64: what the four nodes along x around a segment add to each power of the voxel's number in it;
        four for power 0, then those for 1, 2 and 3.
    shifts
        (box z, 2) int64: how far the planes of the box are shifted along y and x.
    box
        ((start, stop),) * 3 in voxels of the output.
    """

    columns: npt.NDArray[np.float64]
    nodes: npt.NDArray[np.float64]
    start: tuple[float, float, float]
    step: tuple[float, float, float]
    segments: npt.NDArray[np.int64]
    powers: npt.NDArray[np.float64]
    shifts: npt.NDArray[np.int64]
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

"""Where the voxels of an augmented patch come from: turned, scaled, sheared, flipped and displaced, as one map.

The map leads from the output back to the source: ``matrix @ (o + displacement(o) - middle) + centre``. Positions are
voxels, and whole numbers are the centres of voxels, so the middle of n voxels is (n - 1) / 2. The displacement is known
on a coarse grid and smooth between its nodes (a cubic B-spline, C2); a dense field is never made.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, model_validator

from napari_unet3d.core.boxes import Box, Shape

Floats = npt.NDArray[np.float64]
# Rows of the matrix of a cubic B-spline: the weights of four nodes in powers of the place in a cell.
_CUBIC = np.array([[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]]) / 6
_BEZIER = np.array([[1, 4, 1, 0], [0, 4, 2, 0], [0, 2, 4, 0], [0, 1, 4, 1]]) / 6
_FEW_CELLS = 20
# Within a cell the Jacobian determinant is looked at this many places per axis.
_LOOKS, _LOOKS_AN_AXIS = 4, 96
_PLANES_A_LOOK = 8
# More than float32 arithmetic can be off, in voxels, and for each voxel that a place may move by.
_SLACK, _RELATIVE_SLACK = 1e-3, 1e-6
# Stands for what is infinitely far.
_FAR = 2.0**60


def _finite(values: Any) -> Floats:
    array = np.array(values, np.float64, order="C")
    if not np.isfinite(array).all():
        raise ValueError("numbers must be finite")
    array.flags.writeable = False
    return array


FloatArray = Annotated[Any, BeforeValidator(_finite), PlainSerializer(lambda array: array.tolist())]


class Deformation(BaseModel):
    """One map from a patch into a volume; a record that replays exactly.

    Attributes
    ----------
    shape
        Shape (z, y, x) of the patch that it is made for, in voxels. Its middle comes from `centre`.
    centre
        (z, y, x) in voxels of the volume.
    matrix
        (3, 3): from voxels of the patch to voxels of the volume.
    nodes
        (lines z, lines y, lines x, 3): displacements in voxels of the patch, at nodes of which the first and the last
        lie on its border; None displaces nothing. The smooth field passes through them.
    shifts
        (z, by y, by x): planes of the patch that are shifted by whole voxels, as in a stack that is not aligned.

    Examples
    --------
    >>> turned = Deformation(shape=(4, 4, 4), centre=(5.5, 5.5, 5.5), matrix=[[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    >>> turned.places([[0, 0, 0], [0, 0, 3]]).tolist()
    [[4.0, 4.0, 7.0], [4.0, 7.0, 7.0]]
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: Shape
    centre: tuple[float, float, float]
    matrix: FloatArray = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    nodes: FloatArray | None = None
    shifts: tuple[tuple[int, int, int], ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Deformation:
        if min(self.shape) < 1 or not all(map(math.isfinite, self.centre)):
            raise ValueError(f"there is no patch of {self.shape} voxels around {self.centre}")
        # pydantic does not validate defaults.
        object.__setattr__(self, "matrix", _finite(self.matrix))
        if self.matrix.shape != (3, 3):
            raise ValueError(f"a matrix of shape (3, 3) is needed, not {self.matrix.shape}")
        if self.nodes is not None and (
            self.nodes.ndim != 4 or self.nodes.shape[3] != 3 or min(self.nodes.shape[:3]) < 2
        ):
            raise ValueError(f"at least two lines per axis are needed, not nodes of shape {self.nodes.shape}")
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Deformation) and self.model_dump() == other.model_dump()

    __hash__ = None  # type: ignore[assignment]

    @property
    def middle(self) -> tuple[float, float, float]:
        """Return the middle of the patch, in its voxels."""
        z, y, x = ((n - 1) / 2 for n in self.shape)
        return z, y, x

    @property
    def offset(self) -> Floats:
        """Return what is added to ``matrix @ (o + displacement(o))``."""
        # Not by a matrix product, which rounds as the library for it does on this processor.
        with np.errstate(over="ignore", invalid="ignore"):
            turned = sum(self.matrix[:, axis] * at for axis, at in enumerate(self.middle))
            return np.asarray(np.asarray(self.centre) - turned, np.float64)

    @cached_property
    def spline(self) -> Spline | None:
        """Return the smooth displacement, or None."""
        reach = max((abs(by) for _, *bys in self.shifts for by in bys), default=0)
        if self.nodes is None or not np.any(self.nodes):
            return None
        return Spline.through(self.nodes, self.shape, margin=reach)

    def shift_of(self, z: int) -> tuple[int, int]:
        """Return by how much a plane is shifted along y and x."""
        return next(((y, x) for at, y, x in self.shifts if at == z), (0, 0))

    def displacements(self, points: npt.ArrayLike) -> Floats:
        """Return the elastic displacement at points (n, 3) of the patch, in its voxels."""
        at = np.atleast_2d(np.asarray(points, np.float64))
        return np.zeros_like(at) if self.spline is None else self.spline.at(at)

    def places(self, points: npt.ArrayLike) -> Floats:
        """Return where points (n, 3) of the patch come from, in voxels of the volume.

        This is the map in float64, without the shifts of planes; `resample` computes the same in float32.
        """
        at = np.atleast_2d(np.asarray(points, np.float64))
        return np.asarray((at + self.displacements(at)) @ self.matrix.T + self.offset)

    def source_box(self, box: Box) -> Box:
        """Return a box of the volume that holds all voxels which a box of the patch is interpolated from.

        It may leave the volume, and may be larger than needed where there is a displacement.
        """
        reach = [0, *(np.abs([shift[1:] for shift in self.shifts]).max(axis=0) if self.shifts else (0, 0))]
        corners = np.array(list(itertools.product(*((a - r, b - 1 + r) for (a, b), r in zip(box, reach, strict=True)))))
        # Infinitely far is farther than anything, and is refused by whoever reads.
        with np.errstate(over="ignore", invalid="ignore"):
            places = corners @ self.matrix.T + self.offset
            low, high = places.min(axis=0), places.max(axis=0)
            if self.spline is not None:
                below, above = self.spline.bounds(corners, self.matrix)
                low, high = low + below, high + above
        low = np.clip(np.nan_to_num(low, nan=-_FAR), -_FAR, _FAR)
        high = np.clip(np.nan_to_num(high, nan=_FAR), -_FAR, _FAR)
        slack = _SLACK + _RELATIVE_SLACK * (high - low)
        first, last = low - slack, high + slack
        return Box(*((math.floor(a), math.floor(b) + 2) for a, b in zip(first, last, strict=True)))

    def folded(self) -> float:
        """Return the share of the patch in which the displacement folds the volume over itself.

        Where the Jacobian determinant is not positive; looked at 64 places in every cell of the control grid, or at 8
        or one where there are many cells.
        """
        if self.spline is None:
            return 0.0
        counts = [(int((part <= 0).sum()), part.size) for part in self.spline.determinants(self.shape)]
        return sum(n for n, _ in counts) / sum(n for _, n in counts)


class Spline:
    """A displacement in the whole patch and a margin around it: the coefficients of a cubic B-spline.

    Parameters
    ----------
    coefficients
        (mz, my, mx, 3), in voxels.
    start, step
        Where the first cell begins, and the size of the cells (z, y, x), in voxels of the patch.
    """

    def __init__(
        self, coefficients: Floats, start: tuple[float, float, float], step: tuple[float, float, float]
    ) -> None:
        self.coefficients, self.start, self.step = coefficients, start, step

    @classmethod
    def through(cls, nodes: Floats, shape: Shape, *, margin: int = 0) -> Spline:
        """Return the spline through nodes, the first and the last of them on the border of a patch; mirrored beyond."""
        from scipy.ndimage import spline_filter

        step = [max(1, n - 1) / (lines - 1) for n, lines in zip(shape, nodes.shape[:3], strict=True)]
        pads = [2 + math.ceil(margin / size) for size in step]
        filtered = np.stack([spline_filter(nodes[..., axis], 3, np.float64, mode="mirror") for axis in range(3)], -1)
        coefficients = np.pad(filtered, [*((pad, pad) for pad in pads), (0, 0)], mode="reflect")
        start = [(1 - pad) * size for pad, size in zip(pads, step, strict=True)]
        return cls(np.ascontiguousarray(coefficients), (start[0], start[1], start[2]), (step[0], step[1], step[2]))

    def at(self, points: Floats) -> Floats:
        """Return the displacement at points (n, 3)."""
        cells, parts = self._cells(points)
        powers = parts[..., None] ** np.arange(4)
        weights = np.einsum("nap,kp->nak", powers, _CUBIC)
        found = np.zeros_like(points)
        for i, j, k in itertools.product(range(4), repeat=3):
            weight = weights[:, 0, i] * weights[:, 1, j] * weights[:, 2, k]
            found += weight[:, None] * self.coefficients[cells[:, 0] + i, cells[:, 1] + j, cells[:, 2] + k]
        return found

    def bounds(self, corners: Floats, matrix: Floats) -> Floats:
        """Return (2, 3): what ``matrix @ displacement`` cannot go below and above between some points."""
        cells, _ = self._cells(corners)
        first, last = cells.min(0), cells.max(0)
        part = self.coefficients[tuple(slice(a, b + 4) for a, b in zip(first, last, strict=True))] @ matrix.T
        # In each cell it lies between the smallest and the largest of its Bezier points, which are much nearer to it
        # than its coefficients; but there are 27 times as many.
        if (last - first).max() < _FEW_CELLS:
            for axis, n in enumerate(last - first + 1):
                part = np.moveaxis(np.tensordot(_bezier(int(n)), part, (1, axis)), 0, axis)
        return np.stack([part.min(axis=(0, 1, 2)), part.max(axis=(0, 1, 2))])

    def determinants(self, shape: Shape) -> Iterator[Floats]:
        """Yield the Jacobian determinant of o + displacement(o), a few planes of places at a time."""
        values, slopes = zip(*(self._looks(axis, n) for axis, n in enumerate(shape)), strict=True)
        for first in range(0, len(values[0]), _PLANES_A_LOOK):
            planes = slice(first, first + _PLANES_A_LOOK)
            columns = []
            for axis in range(3):
                by = [slopes[a] if a == axis else values[a] for a in range(3)]
                by[0] = by[0][planes]
                column = np.asarray(np.einsum("zi,yj,xk,ijka->azyx", *by, self.coefficients, optimize=True))
                column[axis] += 1
                columns.append(column)
            u, v, w = columns
            yield (
                u[0] * (v[1] * w[2] - v[2] * w[1])
                - u[1] * (v[0] * w[2] - v[2] * w[0])
                + u[2] * (v[0] * w[1] - v[1] * w[0])
            )

    def _looks(self, axis: int, size: int) -> tuple[Floats, Floats]:
        """Return (places, coefficients): what each coefficient adds to the value and to the slope at a place."""
        n_cells = max(1, round(max(1, size - 1) / self.step[axis]))
        n = n_cells * max(1, min(_LOOKS, _LOOKS_AN_AXIS // n_cells))
        at = (np.arange(n) + 0.5) / n * max(1, size - 1)
        cells, parts = self._cells(np.repeat(at[:, None], 3, axis=1))
        cell, part = cells[:, axis], parts[:, axis]
        value, slope = np.zeros((2, n, self.coefficients.shape[axis]))
        rows = np.arange(n)[:, None]
        columns = cell[:, None] + np.arange(4)
        value[rows, columns] = part[:, None] ** np.arange(4) @ _CUBIC.T
        slope[rows, columns] = part[:, None] ** np.arange(3) @ (_CUBIC[:, 1:] * [1, 2, 3]).T / self.step[axis]
        return value, slope

    def _cells(self, points: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
        q = (points - np.asarray(self.start)) / np.asarray(self.step)
        last = np.array(self.coefficients.shape[:3]) - 4
        cells = np.clip(np.floor(q), 0, last).astype(np.intp)
        return cells, q - cells


@lru_cache(maxsize=64)
def _bezier(n_cells: int) -> Floats:
    """Return (4 * cells, cells + 3): the Bezier points of a cubic B-spline, four a cell, from its coefficients."""
    points = np.zeros((4 * n_cells, n_cells + 3))
    for cell in range(n_cells):
        points[4 * cell : 4 * cell + 4, cell : cell + 4] = _BEZIER
    return points


def spline_powers(parts: Floats, step: float) -> Floats:
    """Return (n, 4, 4): what four nodes add to the powers 0 to 3 of t, in the cubic B-spline at part + t / step.

    Parameters
    ----------
    parts
        (n,): places in a cell, in [0, 1).
    step
        Size of the cell, in units of t.
    """
    powers = np.zeros((len(parts), 4, 4))
    for power in range(4):
        for higher in range(power, 4):
            factor = math.comb(higher, power) / step**power
            powers[:, power] += factor * parts[:, np.newaxis] ** (higher - power) * _CUBIC[:, higher]
    return powers

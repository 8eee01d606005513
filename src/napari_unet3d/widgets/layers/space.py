"""Where a volume lies in physical space: the transform of its axes, taken from one layer and given to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.errors import VolumeError

if TYPE_CHECKING:
    from napari.layers import Layer

AXES = ("z", "y", "x")


@dataclass(frozen=True, eq=False)
class Space:
    """Where the voxels of a volume lie: napari's transform of its three axes.

    Attributes
    ----------
    scale, translate
        (z, y, x), in `units`.
    rotate, affine
        (3, 3) and (4, 4) matrices.
    shear
        The three numbers of napari's shear.
    units, axis_labels
        One per axis.
    """

    scale: npt.NDArray[np.float64]
    translate: npt.NDArray[np.float64]
    rotate: npt.NDArray[np.float64]
    shear: npt.NDArray[np.float64]
    affine: npt.NDArray[np.float64]
    units: tuple[str, ...]
    axis_labels: tuple[str, ...]

    def moved(self, voxels: Sequence[float]) -> Space:
        """Return the space of a part of the volume, whose first voxel is `voxels` (z, y, x) of the whole."""
        if not any(voxels):
            return self
        from napari.utils.transforms import Affine

        linear = Affine(rotate=self.rotate, scale=self.scale, shear=self.shear, ndim=3).linear_matrix
        return replace(self, translate=self.translate + linear @ np.asarray(voxels, float))

    def coarser(self, factors: Sequence[float]) -> Space:
        """Return the space of a level whose voxels are `factors` (z, y, x) larger."""
        # The centre of a large voxel is that of the voxels it stands for.
        moved = self.moved([(factor - 1) / 2 for factor in factors])
        return replace(moved, scale=self.scale * np.asarray(factors))

    def to_world(self, voxel: Sequence[float]) -> npt.NDArray[np.float64]:
        """Return where a voxel (z, y, x) lies, in `units`."""
        matrix, shift = self.matrix
        return np.asarray(matrix @ np.asarray(voxel, float) + shift)

    def to_voxels(self, point: Sequence[float]) -> npt.NDArray[np.float64]:
        """Return which voxel (z, y, x) lies at a point; a fraction between voxels."""
        matrix, shift = self.matrix
        return np.asarray(np.linalg.solve(matrix, np.asarray(point, float) - shift))

    @property
    def matrix(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return (3, 3) and (3,): a voxel times the first, plus the second, lies there, in `units`."""
        from napari.utils.transforms import Affine

        linear = Affine(rotate=self.rotate, scale=self.scale, shear=self.shear, ndim=3).linear_matrix
        outer = self.affine[:3, :3]
        return outer @ linear, outer @ self.translate + self.affine[:3, 3]

    def equals(self, other: Space) -> bool:
        """Return whether both are the same place."""
        ours, theirs = self.keywords, other.keywords
        return all(np.array_equal(ours[name], theirs[name]) for name in ours)

    @property
    def keywords(self) -> dict[str, Any]:
        """Return the keywords for a layer with the axes z, y and x."""
        return {
            "scale": self.scale,
            "translate": self.translate,
            "rotate": self.rotate,
            "shear": self.shear,
            "affine": self.affine,
            "units": self.units,
            "axis_labels": self.axis_labels,
        }


def space_of(layer: Layer, axes: Sequence[int]) -> Space:
    """Return where three axes of a layer lie.

    Raises
    ------
    VolumeError
        If its transform mixes them with another axis.
    """
    axes = list(axes)
    rotate, affine = np.asarray(layer.rotate, float), np.asarray(layer.affine.affine_matrix, float)
    others = [axis for axis in range(layer.ndim) if axis not in axes]
    if np.abs(rotate[np.ix_(axes, others)]).max(initial=0) or np.abs(affine[np.ix_(axes, others)]).max(initial=0):
        raise VolumeError(f"The transform of '{layer.name}' mixes z, y or x with its other axis.")
    shear = np.eye(layer.ndim)
    shear[np.triu_indices(layer.ndim, 1)] = _upper(np.asarray(layer.shear, float))
    homogeneous = [*axes, layer.ndim]
    return Space(
        np.asarray(layer.scale, float)[axes],
        np.asarray(layer.translate, float)[axes],
        rotate[np.ix_(axes, axes)],
        shear[np.ix_(axes, axes)][np.triu_indices(3, 1)],
        affine[np.ix_(homogeneous, homogeneous)],
        tuple(str(layer.units[axis]) for axis in axes),
        _axis_names(layer, axes),
    )


def _upper(shear: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return shear[np.triu_indices(len(shear), 1)] if shear.ndim == 2 else shear


def _axis_names(layer: Layer, axes: Sequence[int]) -> tuple[str, ...]:
    names = tuple(str(layer.axis_labels[axis]) for axis in axes)
    # napari's own names for axes without one are their numbers from the end.
    return AXES if all(name.lstrip("-").isdigit() for name in names) else names

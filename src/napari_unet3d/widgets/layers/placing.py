"""Where in the window something is shown that was computed from a volume: at its time point, and at no other.

A layer with z, y and x alone lies at all positions of a leading axis, and in the wrong place where another axis stands
between them. So it gets the axis of the image that it lacks: one voxel along it, as wide as a time point, or as all
channels together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.volumes.arrays import LazyArray
from napari_unet3d.widgets.layers.space import AXES
from napari_unet3d.widgets.layers.volumes import TIME_AXES, LayerVolume, extra_axis, n_channels

if TYPE_CHECKING:
    from napari.layers import Layer


@dataclass(frozen=True, eq=False)
class Place:
    """Where a box of a volume is shown.

    Attributes
    ----------
    axis
        The axis of the layer along which it has one voxel; None where it has z, y and x alone.
    keywords
        For the layer.
    """

    axis: int | None
    keywords: dict[str, Any]

    def spread(self, data: Any) -> Any:
        """Return voxels (z, y, x) as the layer has them; what is written there is written to them too."""
        if self.axis is None:
            return data
        return np.expand_dims(data, self.axis) if isinstance(data, np.ndarray) else _Spread(data, self.axis)


def place_of(chosen: LayerVolume, corner: Sequence[float] = (0, 0, 0)) -> Place:
    """Return where a box of a volume is shown.

    Parameters
    ----------
    chosen
        The volume.
    corner
        The first voxel (z, y, x) of the box.
    """
    space, axis, layer = chosen.space.moved(corner), chosen.extra_axis, chosen.layer
    is_for_all = chosen.position is None or n_channels(layer) > 1
    if axis is None or (axis == 0 and is_for_all):
        return Place(None, space.keywords)
    n, at = (int(_data_of(layer).shape[axis]), 0.0) if is_for_all else (1, float(chosen.position or 0))
    scale, outer = float(layer.scale[axis]), np.asarray(layer.affine.affine_matrix, float)
    shear = np.eye(4)
    spatial = [other for other in range(4) if other != axis]
    inner = np.eye(3)
    inner[np.triu_indices(3, 1)] = space.shear
    shear[np.ix_(spatial, spatial)] = inner
    rotate, affine = np.eye(4), np.eye(5)
    rotate[np.ix_(spatial, spatial)] = space.rotate
    homogeneous = [*spatial, 4]
    affine[np.ix_(homogeneous, homogeneous)] = space.affine
    affine[axis, [axis, 4]] = outer[axis, [axis, layer.ndim]]
    keywords = {
        "scale": np.insert(space.scale, axis, n * scale),
        "translate": np.insert(space.translate, axis, float(layer.translate[axis]) + scale * (at + (n - 1) / 2)),
        "rotate": rotate,
        "shear": shear[np.triu_indices(4, 1)],
        "affine": affine,
        "units": _inserted(space.units, axis, str(layer.units[axis])),
        "axis_labels": _inserted(space.axis_labels, axis, axis_name(layer)),
    }
    return Place(axis, keywords)


def axis_name(layer: Layer) -> str:
    """Return what the axis of a layer that is not z, y or x is called; `c` or `t` where it has no name."""
    axis = extra_axis(layer)
    name = "" if axis is None else str(layer.axis_labels[axis])
    return name if name and not name.lstrip("-").isdigit() else "c" if n_channels(layer) > 1 else "t"


def name_extra_axis(layer: Layer, axis: int, name: str) -> None:
    """Say which of the four axes of a layer is not z, y or x, and what it is called; the sliders say it too."""
    layer.axis_labels = _inserted(AXES, axis, name)


def is_time(layer: Layer) -> bool:
    """Return whether a layer has a fourth axis, and that is time or unknown: not channels."""
    return extra_axis(layer) is not None and n_channels(layer) == 1


def time_text(chosen: LayerVolume) -> str:
    """Return which time point a volume is, to be put behind the name of a layer; nothing where there is one alone."""
    if chosen.position is None or not is_time(chosen.layer) or _n_positions(chosen.layer) == 1:
        return ""
    name = axis_name(chosen.layer)
    return f", {'t' if name.lower() in TIME_AXES else name} {chosen.position}"


def has_one_position(layer: Layer) -> bool:
    """Return whether a layer has a fourth axis of one voxel, and so lies at one place along it."""
    return extra_axis(layer) is not None and _n_positions(layer) == 1


def position_at(layer: Layer, world: Sequence[float]) -> int:
    """Return the position along the fourth axis of a layer at a point of the window; it may lie outside."""
    axis = extra_axis(layer)
    if axis is None:
        return 0
    return math.floor(float(np.asarray(layer.world_to_data(world))[axis]) + 0.5)


def _n_positions(layer: Layer) -> int:
    axis = extra_axis(layer)
    return 1 if axis is None else int(_data_of(layer).shape[axis])


def _data_of(layer: Any) -> Any:
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data


def _inserted(values: Sequence[str], axis: int, value: str) -> tuple[str, ...]:
    return (*values[:axis], value, *values[axis:])


class _Spread(LazyArray):
    """A lazy array (z, y, x) with one axis of length 1 more."""

    def __init__(self, source: Any, axis: int) -> None:
        shape = tuple(int(n) for n in source.shape)
        super().__init__((*shape[:axis], 1, *shape[axis:]), source.dtype)
        self._source, self._axis = source, axis

    def read(self, box: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Return the numbers inside a box."""
        inner = tuple(part for axis, part in enumerate(box) if axis != self._axis)
        return np.expand_dims(np.asarray(self._source[inner]), self._axis)

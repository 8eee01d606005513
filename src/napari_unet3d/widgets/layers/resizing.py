"""Another voxel size for an image that is shown: all that lies on it changes with it, and what is shown stays shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


def resize_voxels(viewer: ViewerModel, image: Layer, scale: Sequence[float], units: Sequence[str]) -> None:
    """Give an image, and every layer that lies on its voxels, another voxel size; the shown slice and the view stay.

    Parameters
    ----------
    viewer
        Where they are.
    image
        The image.
    scale, units
        Of all its axes.
    """
    on_it = [layer for layer in viewer.layers if layer is not image and _is_on(layer, image)]
    shown = _data_of(image, viewer.dims.point[-image.ndim :])
    ratio = np.asarray(scale, float) / np.asarray(image.scale, float)
    centre, zoom = np.array(viewer.scene.camera.center, float), viewer.scene.camera.zoom
    displayed = [axis - (viewer.dims.ndim - image.ndim) for axis in viewer.dims.displayed]
    origin = np.asarray(image.translate, float)
    for layer in on_it:
        layer.translate = origin + (np.asarray(layer.translate, float) - origin) * ratio
        layer.scale = np.asarray(layer.scale, float) * ratio
    image.scale = scale
    for layer in (image, *on_it):
        layer.units = tuple(units)
    _show_slice(viewer, image.data_to_world(shown))
    factors = [ratio[axis] for axis in displayed]
    starts = np.array([origin[axis] for axis in displayed])
    kept = starts + (centre[-len(displayed) :] - starts) * factors
    viewer.scene.camera.center = (*centre[: -len(displayed)], *kept) if len(displayed) < 3 else tuple(kept)
    viewer.scene.camera.zoom = zoom / factors[-1]


def _is_on(layer: Layer, image: Layer) -> bool:
    """Return whether the voxels of a layer are those of an image, wherever it begins."""
    if layer.ndim != image.ndim or [str(u) for u in layer.units] != [str(u) for u in image.units]:
        return False
    pairs = ((layer.scale, image.scale), (layer.rotate, image.rotate), (layer.shear, image.shear))
    return all(np.allclose(ours, theirs) for ours, theirs in pairs)


def _data_of(layer: Layer, world: Sequence[float]) -> npt.NDArray[np.float64]:
    return np.asarray(layer.world_to_data(world), float)


def _show_slice(viewer: ViewerModel, world: Sequence[float]) -> None:
    """Show a place, even if it is the present one: napari shows another slice after a change of units."""
    first = viewer.dims.ndim - len(world)
    for number, at in enumerate(world):
        axis = first + number
        if axis in viewer.dims.displayed:
            continue
        start, stop, step = viewer.dims.range[axis]
        viewer.dims.set_point(axis, at + step if at + step <= stop else max(start, at - step))
        viewer.dims.set_point(axis, float(at))

"""What the window shows of a volume, and how a part of a layer is drawn again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.widgets.layers.volumes import LayerVolume, level_factors, n_levels

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer


def shown_box(viewer: ViewerModel, chosen: LayerVolume) -> Box:
    """Return what the window shows of a volume, in its voxels: the view along the displayed axes, one voxel else."""
    layer = chosen.layer
    level = getattr(layer, "data_level", 0) if n_levels(layer) > 1 else 0
    shown = level_factors(layer, level, list(chosen.spatial_axes))
    corners = np.asarray(layer.corner_pixels, float)
    point = np.asarray(layer.world_to_data(viewer.dims.point))
    displayed = {axis - (viewer.dims.ndim - layer.ndim) for axis in viewer.dims.displayed}
    intervals = []
    for at, (axis, n) in enumerate(zip(chosen.spatial_axes, chosen.shape, strict=True)):
        low, high = corners[0, axis] * shown[at], (corners[1, axis] + 1) * shown[at]
        if axis not in displayed:
            # napari shows the slice that is nearest.
            low = high = float(np.rint(point[axis]))
        elif high - low <= shown[at] or viewer.dims.ndisplay == 3:
            low, high = 0, n * chosen.factors[at]
        start = int(np.clip(np.floor(low / chosen.factors[at] + 1e-6), 0, n - 1))
        stop = int(np.clip(np.ceil(high / chosen.factors[at] - 1e-6), start + 1, n))
        intervals.append((start, stop if axis in displayed else start + 1))
    return Box(*intervals)


def box_in_view(viewer: ViewerModel, chosen: LayerVolume, *, alignment: Shape) -> Box:
    """Return what is worth segmenting of what is shown: the view, and some slices around the one that is shown.

    Slices to the next multiples of `alignment` (z, y, x) cost nothing more than one, because tiles lie on that grid.
    """
    box = []
    for (start, stop), n, step in zip(shown_box(viewer, chosen), chosen.shape, alignment, strict=True):
        if stop - start == 1:
            start, stop = max(0, start // step * step - step), min(n, start // step * step + 2 * step)
        box.append((start, stop))
    return Box(*box)


def refresh_boxes(layer: Labels | Image, boxes: Sequence[Box], axis: int | None = None) -> None:
    """Show what was written into boxes of a layer; nothing is done if none of them meets the shown slice.

    Parameters
    ----------
    layer
        Its data is written already.
    boxes
        In voxels of the layer, along z, y and x.
    axis
        The axis of the layer that is none of these and has one voxel, or None.
    """
    if not layer.visible:  # it is shown as it is when it becomes visible
        return
    position = np.rint(layer._data_slice.point)
    hidden = layer._slice_input.not_displayed
    wholes = [tuple(box) if axis is None else (*box[:axis], (0, 1), *box[axis:]) for box in boxes]
    met = [box for box in wholes if all(box[at][0] <= position[at] < box[at][1] for at in hidden)]
    if not met:
        return
    # The texture of small integers is the array itself: then a part of it can be sent alone.
    is_partial = isinstance(layer.data, np.ndarray) and layer.data.dtype.itemsize <= 2
    if not (is_partial and hasattr(layer, "_accumulate_updated_slice")):
        layer.refresh(thumbnail=False, highlight=False, extent=False)
        return
    for box in met:
        layer._accumulate_updated_slice(tuple(slice(*interval) for interval in box))
    layer._partial_labels_refresh()


def place_data(layer: Layer, data: Any, keywords: Mapping[str, Any]) -> None:
    """Show other data in a layer, or elsewhere; what stays is not set, as napari draws again for each of them.

    Parameters
    ----------
    layer
        The layer.
    data
        What it shows.
    keywords
        Where it lies, by the names that napari has for that.
    """
    if layer.data is not data:
        layer.data = data
    for name, value in keywords.items():
        given = getattr(layer, name)
        if not np.array_equal(getattr(given, "affine_matrix", given), value):
            setattr(layer, name, value)


@contextmanager
def selection_kept(viewer: ViewerModel) -> Iterator[None]:
    """Keep what is selected while layers are added, so that painting goes on where it was."""
    selected, active = set(viewer.layers.selection), viewer.layers.selection.active
    yield
    viewer.layers.selection = selected
    viewer.layers.selection.active = active


class View(NamedTuple):
    """What a person looks at: the slice, and where the camera is."""

    point: tuple[float, ...]
    center: tuple[float, ...]
    zoom: float
    angles: tuple[float, ...]


def view_of(viewer: ViewerModel) -> View:
    """Return what is looked at."""
    camera = viewer.scene.camera
    return View(tuple(viewer.dims.point), tuple(camera.center), float(camera.zoom), tuple(camera.angles))


def restore_view(viewer: ViewerModel, view: View) -> None:
    """Look again at what was looked at."""
    camera = viewer.scene.camera
    for axis, at in enumerate(view.point[: viewer.dims.ndim]):
        viewer.dims.set_point(axis, at)
    camera.center, camera.zoom, camera.angles = view.center, view.zoom, view.angles


def look_at(viewer: ViewerModel, layer: Layer) -> None:
    """Look at all of a layer, in its middle slice."""
    middle = (layer.extent.world[0] + layer.extent.world[1]) / 2
    first = viewer.dims.ndim - layer.ndim
    for axis, at in enumerate(middle):
        viewer.dims.set_point(first + axis, float(at))
    viewer.reset_view(layers=[layer], reset_camera_angle=False)

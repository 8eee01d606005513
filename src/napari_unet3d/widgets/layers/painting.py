"""Painting in a labels layer by voxels (z, y, x), whatever other axis it has; as a stroke that can be undone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.widgets.layers.volumes import LayerVolume


def voxels_of(labels: LayerVolume) -> npt.NDArray[Any]:
    """Return the voxels (z, y, x) of labels in memory, not copied."""
    data = np.asarray(labels.source)
    if labels.extra_axis is None:
        return data
    return data[(slice(None),) * labels.extra_axis + (labels.position or 0,)]


def paint_voxels(labels: LayerVolume, places: npt.NDArray[np.int64], values: Any) -> None:
    """Paint values at places (n, 3), as one stroke."""
    layer: Any = labels.layer
    columns = list(places.T)
    if labels.extra_axis is not None:
        columns.insert(labels.extra_axis, np.full(len(places), labels.position or 0))
    layer.data_setitem(tuple(columns), values)

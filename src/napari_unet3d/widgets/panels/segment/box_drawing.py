"""Drawing a box: a rectangle in the viewer becomes the region of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet3d.core.boxes import Box
from napari_unet3d.errors import VolumeError
from napari_unet3d.widgets.host.notices import notify_error
from napari_unet3d.widgets.runs.session import Session

if TYPE_CHECKING:
    from napari.layers import Shapes


class BoxDrawing:
    """A layer for one rectangle over the chosen image.

    Parameters
    ----------
    session
        What the panels of this window share.
    on_drawn
        Called with the box as text, whenever a rectangle was drawn or changed.
    """

    def __init__(self, session: Session, on_drawn: Callable[[str], None]) -> None:
        self._session = session
        self._on_drawn = on_drawn
        self._layer: Shapes | None = None
        self._space: Any = None
        # What was told last: napari also tells of data that are merely shown in another slice.
        self._told: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def begin(self) -> None:
        """Make the layer, if it is not there, and let the user draw."""
        viewer = self._session.viewer
        try:
            space = self._session.volume().space
        except VolumeError as error:
            notify_error(error)
            return
        if self._layer is not None and self._layer in viewer.layers and not space.equals(self._space):
            # Drawn over another image, or another level: its voxels are not those of this one.
            viewer.layers.remove(self._layer)
        if self._layer is None or self._layer not in viewer.layers:
            self._space = space
            self._layer = viewer.add_shapes(
                ndim=3, name="region", edge_color="#56b4e9", face_color="transparent", edge_width=2, **space.keywords
            )
            self._layer.events.set_data.connect(self._on_change)
            self._layer.events.data.connect(self._on_change)
        viewer.layers.selection.active = self._layer
        self._layer.mode = "add_rectangle"

    def _on_change(self, event: Any = None) -> None:
        if self._layer is None or not len(self._layer.data):
            return
        try:
            volume = self._session.volume()
        except VolumeError:
            return
        if not volume.space.equals(self._space):
            return
        shape = volume.shape
        corners = np.asarray(self._layer.data[-1])
        low, high = corners.min(axis=0), corners.max(axis=0)
        drawn = (tuple(low.tolist()), tuple(high.tolist()))
        if drawn == self._told:
            return
        self._told = drawn
        intervals = []
        for first, last, n in zip(low, high, shape, strict=True):
            # Along the axis that is not seen a rectangle is flat, and the box goes all the way.
            start, stop = (
                (0, n) if last - first < 1 else (int(np.clip(first, 0, n - 1)), int(np.clip(np.ceil(last), 1, n)))
            )
            intervals.append((start, max(stop, start + 1)))
        self._on_drawn(str(Box(*intervals)))

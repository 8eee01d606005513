"""Drawing a box: a rectangle in the viewer becomes the region of a run, and shows what was typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet3d.core.boxes import Box
from napari_unet3d.errors import VolumeError
from napari_unet3d.widgets.host.notices import notify_error
from napari_unet3d.widgets.layers.volumes import ILLUSTRATION
from napari_unet3d.widgets.runs.session import Session

if TYPE_CHECKING:
    from napari.layers import Shapes

    from napari_unet3d.widgets.layers.space import Space


class BoxDrawing:
    """A layer for one rectangle over the chosen image: where a box meets the slice that is shown.

    Parameters
    ----------
    session
        What the panels of this window share.
    on_drawn
        Called with the box of a rectangle that was drawn or changed. Along the axis that is not seen it goes as far as
        it did, or all the way.
    """

    def __init__(self, session: Session, on_drawn: Callable[[Box], None]) -> None:
        self._session = session
        self._on_drawn = on_drawn
        self._layer: Shapes | None = None
        self._space: Space | None = None
        # What the layer has shown or told last: napari also tells of data that are merely shown in another slice.
        self._known: tuple[tuple[float, ...], tuple[float, ...]] | None = None
        self._box: Box | None = None
        self._is_telling = False

    def begin(self) -> None:
        """Make the layer, if it is not there, and let the user draw."""
        try:
            layer = self._layer_over(self._session.volume().space)
        except VolumeError as error:
            notify_error(error)
            return
        layer.visible = True
        self._session.viewer.layers.selection.active = layer
        layer.mode = "add_rectangle"

    def show(self, box: Box | None, *, is_typed: bool = False) -> None:
        """Show a box where it meets the slice that is shown; None hides it.

        Parameters
        ----------
        box
            In voxels of the chosen image.
        is_typed
            A layer is made for it where there is none.
        """
        self._box = box
        if self._is_telling:
            # A person is at it: the rectangle must not be replaced under the mouse.
            return
        viewer = self._session.viewer
        has_layer = self._layer is not None and self._layer in viewer.layers
        if box is None or not (has_layer or is_typed):
            if has_layer and self._layer is not None and len(self._layer.data):
                self._layer.visible = False
            return
        try:
            volume = self._session.volume()
        except VolumeError:
            return
        if has_layer and self._space is not None and not volume.space.equals(self._space):
            return
        active = viewer.layers.selection.active
        layer = self._layer_over(volume.space)
        if active is not None and not has_layer:
            viewer.layers.selection.active = active
        layer.visible = True
        corners = self._rectangle(box)
        wanted = None if corners is None else (tuple(corners.min(0).tolist()), tuple(corners.max(0).tolist()))
        if wanted == self._known and len(layer.data) == (corners is not None):
            return
        self._known = wanted
        layer.data = [] if corners is None else [corners]

    def follow(self) -> None:
        """Show the box in the slice that is shown now."""
        layer = self._layer
        if self._box is not None and layer is not None and layer in self._session.viewer.layers and layer.visible:
            self.show(self._box)

    def _layer_over(self, space: Space) -> Shapes:
        """Return the layer over voxels, made anew where there is none."""
        viewer = self._session.viewer
        if self._layer is not None and self._layer in viewer.layers and not (self._space and space.equals(self._space)):
            # Drawn over another image, or another level: its voxels are not those of this one.
            viewer.layers.remove(self._layer)
        if self._layer is None or self._layer not in viewer.layers:
            self._space, self._known = space, None
            self._layer = viewer.add_shapes(
                ndim=3,
                name="region",
                edge_color="#56b4e9",
                face_color="transparent",
                edge_width=2,
                metadata=dict(ILLUSTRATION),
                **space.keywords,
            )
            self._layer.events.set_data.connect(self._on_change)
            self._layer.events.data.connect(self._on_change)
        return self._layer

    def _rectangle(self, box: Box) -> Any:
        """Return the corners (4, 3) of a box in the slice that is shown, or None where it does not meet it."""
        viewer, layer = self._session.viewer, self._layer
        hidden = 0 if layer is None or viewer.dims.ndisplay == 3 else viewer.dims.order[-3:][0] - (viewer.dims.ndim - 3)
        at = (box[hidden][0] + box[hidden][1]) // 2
        if layer is not None and viewer.dims.ndisplay == 2:
            at = round(float(layer.world_to_data(viewer.dims.point[-3:])[hidden]))
        if not box[hidden][0] <= at < box[hidden][1]:
            return None
        (a, b), (c, d) = (box[axis] for axis in range(3) if axis != hidden)
        # Around the voxels, whose centres are at whole numbers.
        flat = np.array([[a, c], [a, d], [b, d], [b, c]]) - 0.5
        return np.insert(flat, hidden, at, axis=1)

    def _on_change(self, event: Any = None) -> None:
        if self._layer is None or not len(self._layer.data):
            return
        try:
            volume = self._session.volume()
        except VolumeError:
            return
        if self._space is None or not volume.space.equals(self._space):
            return
        corners = np.asarray(self._layer.data[-1])
        low, high = corners.min(axis=0), corners.max(axis=0)
        drawn = (tuple(low.tolist()), tuple(high.tolist()))
        if drawn == self._known:
            return
        self._known = drawn
        box = Box(*(self._interval(axis, *ends) for axis, ends in enumerate(zip(low, high, volume.shape, strict=True))))
        self._is_telling = True
        try:
            self._box = box
            self._on_drawn(box)
        finally:
            self._is_telling = False

    def _interval(self, axis: int, low: float, high: float, n: int) -> tuple[int, int]:
        """Return the voxels between two edges of the rectangle, of `n` along an axis."""
        if high - low < 1:
            before = (0, n) if self._box is None else self._box[axis]
            return before if before[0] <= round(low) < before[1] else (0, n)
        start, stop = (int(np.floor(edge + 0.5)) for edge in (low, high))
        start = min(max(start, 0), n - 1)
        return start, min(max(stop, start + 1), n)

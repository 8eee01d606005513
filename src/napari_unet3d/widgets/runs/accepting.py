"""A brush that accepts: it paints what a network found under it, instead of the label in hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.errors import SpecError
from napari_unet3d.widgets.host.notices import notify
from napari_unet3d.widgets.layers.painting import paint_voxels, voxels_of
from napari_unet3d.widgets.layers.placing import has_one_position, position_at
from napari_unet3d.widgets.layers.volumes import extra_axis, layer_volume
from napari_unet3d.widgets.runs.annotating import take_brush
from napari_unet3d.widgets.runs.corrections import found_at, values_of

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_unet3d.widgets.runs.session import Session


class AcceptBrush:
    """Takes the place of napari's brush in the chosen annotation, as long as it is on.

    Parameters
    ----------
    session
        What the panels of this window share.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._layer: Any = None

    @property
    def is_on(self) -> bool:
        """Return whether the brush accepts."""
        return self._layer is not None

    def take(self) -> str:
        """Take the brush in hand, and return what it paints, as a sentence.

        Raises
        ------
        SpecError
            If there is no annotation, or nothing that a network found is shown.
        """
        layer = self._session.labels
        if layer is None or layer not in self._session.viewer.layers:
            raise SpecError("Make a new annotation first.")
        found, class_names = self._found()
        values = values_of(class_names, self._known())
        missing = [name for name, value in zip(class_names, values, strict=True) if not value]
        self.leave()
        take_brush(self._session, layer)
        self._layer = layer
        layer.mouse_drag_callbacks.append(self._on_drag)
        layer.events.mode.connect(self._on_mode)
        self._on_mode()
        but = (
            f" Not {', '.join(missing)}, as the annotation has no such class: give it the same name." if missing else ""
        )
        return f"The brush paints what '{found.name}' says.{but}"

    def leave(self) -> None:
        """Give napari's brush back."""
        layer, self._layer = self._layer, None
        if layer is None:
            return
        layer.events.mode.disconnect(self._on_mode)
        if self._on_drag in layer.mouse_drag_callbacks:
            layer.mouse_drag_callbacks.remove(self._on_drag)
        if layer.mode == "paint":
            layer.mode = "pan_zoom"
            layer.mode = "paint"

    def _on_mode(self, event: Any = None) -> None:
        """Take napari's own brush away: it comes back whenever somebody turns to it, as after moving the view."""
        layer = self._layer
        if layer is not None and layer.mode == "paint":
            theirs = layer._drag_modes[layer._mode]
            while theirs in layer.mouse_drag_callbacks:
                layer.mouse_drag_callbacks.remove(theirs)

    def _found(self) -> tuple[Labels, Sequence[str]]:
        """Return what a network found, in the topmost layer of such that is shown, and the names of its classes."""
        session, training, segmentation = self._session, self._session.training, self._session.segmentation
        named: list[tuple[Any, Sequence[str]]] = []
        if training is not None and training.layer is not None:
            named.append((training.layer, training.spec.class_names))
        if segmentation is not None and segmentation.choices.shows_classes:
            named.append((segmentation.layer, segmentation.choices.card.class_names))
        if session.last_emphasis is not None and session.last_emphasis.layer is not None and session.card is not None:
            named.append((session.last_emphasis.layer, session.card.class_names))
        order = list(session.viewer.layers)
        point = session.viewer.dims.point
        shown = [
            (layer, names)
            for layer, names in named
            # What lies at another time point is visible to napari, but not on the screen.
            if layer in order and layer.visible and not (has_one_position(layer) and position_at(layer, point) != 0)
        ]
        if not shown:
            raise SpecError("There is nothing to accept: show a result or a live preview first.")
        return max(shown, key=lambda one: order.index(one[0]))

    def _known(self) -> Meanings:
        known = self._session.annotation.of(self._session.labels).meanings
        if known is None:
            raise SpecError("Say what the labels mean first.")
        return known

    def _on_drag(self, layer: Any, event: Any) -> Iterator[None]:
        """Paint from the press of the mouse to its release: one stroke to undo."""
        if layer.mode != "paint" or self._session.viewer.dims.ndisplay != 2 or getattr(event, "button", 1) == 2:
            return
        with layer.block_history():
            last = here = np.asarray(layer.world_to_data(event.position), float)
            try:
                self.stamp(layer, last, here)
                yield
                while event.type == "mouse_move":
                    here = np.asarray(layer.world_to_data(event.position), float)
                    self.stamp(layer, last, here)
                    last = here
                    yield
            except SpecError as error:
                notify(str(error))

    def stamp(self, layer: Labels, last: npt.NDArray[np.float64], here: npt.NDArray[np.float64]) -> None:
        """Paint what was found under the brush, on its way from one voxel to another; in the slice that is shown."""
        found, class_names = self._found()
        axis = extra_axis(layer)
        ours = layer_volume(layer, position=0 if axis is None else round(float(here[axis])))
        places = under_brush(layer, last, here)[:, list(ours.spatial_axes)]
        places = places[((places >= 0) & (places < ours.shape)).all(axis=1)]
        if layer.preserve_labels:
            places = places[voxels_of(ours)[tuple(places.T)] == 0]
        places, values = found_at(ours, layer_volume(found), values_of(class_names, self._known()), places)
        if values is not None and len(values):
            paint_voxels(ours, places, values.astype(layer.data.dtype))


def under_brush(layer: Labels, last: npt.NDArray[np.float64], here: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the voxels of a layer (n, axes) that its round brush passes over, in the slice that is shown."""
    shown = list(layer._slice_input.displayed)
    scale = np.abs(np.asarray(layer.scale, float)[shown])
    radius = layer.brush_size / 2
    # The brush is as wide in voxels as along the axis with the smallest ones, and round on the screen.
    reach = radius * scale.min() / scale
    low = np.floor(np.minimum(last, here)[shown] - reach).astype(int)
    high = np.ceil(np.maximum(last, here)[shown] + reach).astype(int) + 1
    grid = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij"), -1)
    places = grid.reshape(-1, len(shown))
    unit = scale / scale.min()
    start, step = last[shown] * unit, (here - last)[shown] * unit
    points = places * unit
    along = np.clip((points - start) @ step / max(float(step @ step), 1e-12), 0, 1)
    distance = np.linalg.norm(points - (start + along[:, np.newaxis] * step), axis=1)
    inside = places[distance <= radius]
    voxels = np.tile(np.rint(here).astype(np.int64), (len(inside), 1))
    voxels[:, shown] = inside
    return voxels

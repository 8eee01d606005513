"""One tile in the viewer: the box that goes into the network and the box that comes out, as two layers.

The layers take no memory, lie in the physical space of the volume, and are known by identity, not by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.tiles.plan import Tile, TilePlan
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.widgets.layers.placing import place_of
from napari_unet3d.widgets.layers.volumes import ILLUSTRATION, LayerVolume, unwrap
from napari_unet3d.words import times

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

IN_COLOUR, OUT_COLOUR = "#e69f00", "#009e73"
_OPACITY, _LINE = 0.25, 2
# In 3D what comes out would be hidden within what goes in.
_BLENDING = "translucent_no_depth"
# By the viewer, not by the panel: a dock widget that is closed and opened again finds the layers it had made.
_made_in: WeakKeyDictionary[Any, list[Labels | None]] = WeakKeyDictionary()


def tile_around(centre: Sequence[int], volume: Shape, shape: Shape, network: NetworkSpec) -> Tile:
    """Return a tile of input `shape` whose output lies around a voxel, where a run may lay one.

    Parameters
    ----------
    centre
        (z, y, x), in voxels of the volume.
    volume
        Shape of the volume; the output begins in it, and leaves it only where it is the larger one.
    shape
        Input shape of the tile. It fits the network.
    network
        The network.

    Returns
    -------
    tile
        `write` is the whole output.

    Examples
    --------
    >>> tile_around((150, 150, 20), (300, 300, 300), (220, 220, 220), NetworkSpec()).write
    Box(z=(80, 212), y=(80, 212), x=(0, 132))
    """
    geometry = network.geometry
    write = []
    for at, n, out, step in zip(centre, volume, geometry.output_shape(shape), geometry.alignment, strict=True):
        start = min(max(0, at - out // 2), max(0, n - out)) // step * step
        write.append((start, start + out))
    return Tile(Box(*write).grown(geometry.halo), Box(*write))


def tile_at(centre: Sequence[int], plan: TilePlan) -> Tile:
    """Return the tile of a plan that writes a voxel (z, y, x) of its region; `write` is the whole output."""
    met = plan.tiles_meeting(Box(*((at, at + 1) for at in centre)))
    read = plan.tile(*(part.start for part in met)).read
    z, y, x = plan.spec.geometry.halo
    return Tile(read, read.grown((-z, -y, -x)))


class TileBoxes:
    """The two layers.

    Parameters
    ----------
    viewer
        Where they are shown.

    Attributes
    ----------
    layers
        Those of the input and of the output, if they are in the viewer.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._made = _made_in.setdefault(viewer, [None, None])

    @property
    def layers(self) -> list[Labels]:
        """Return those of the two layers that are in the viewer, the input's first."""
        return [layer for layer in self._made if layer is not None and layer in self._viewer.layers]

    def show(self, tile: Tile, chosen: LayerVolume) -> None:
        """Show a tile of a volume; the layers that are there are moved."""
        # What the user works on stays selected, so that painting goes on where it was.
        selected, active = set(self._viewer.layers.selection), self._viewer.layers.selection.active
        parts = [("tile in", tile.read, IN_COLOUR), ("tile out", tile.write, OUT_COLOUR)]
        for index, (name, box, colour) in enumerate(parts):
            place = place_of(chosen, [start for start, _ in box])
            look = {"name": f"{name}, {times(box.shape)}", **place.keywords}
            # One byte for all voxels.
            data = place.spread(np.broadcast_to(np.uint8(1), box.shape))
            layer = self._made[index]
            if layer is None or layer not in self._viewer.layers:
                layer = self._made[index] = self._add(data, colour, look)
            else:
                layer.data = data
                for attribute, value in look.items():
                    setattr(layer, attribute, value)
            # napari makes a layer editable whenever its data is set.
            layer.editable = False
        self._viewer.layers.selection = selected
        self._viewer.layers.selection.active = active

    def hide(self) -> None:
        """Remove the layers."""
        for layer in self.layers:
            self._viewer.layers.remove(layer)
        self._made[:] = [None, None]

    def _add(self, data: Any, colour: str, look: dict[str, Any]) -> Labels:
        from napari.utils.colormaps import DirectLabelColormap

        colours = DirectLabelColormap(color_dict={None: "transparent", 0: "transparent", 1: colour})
        layer = unwrap(
            self._viewer.add_labels(
                data, colormap=colours, opacity=_OPACITY, blending=_BLENDING, metadata=ILLUSTRATION, **look
            )
        )
        layer.bounding_box.line_color = colour
        layer.bounding_box.line_thickness = _LINE
        layer.bounding_box.points = False
        layer.bounding_box.visible = True
        return layer

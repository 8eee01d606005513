"""Which part of a region is done, and which tile comes next.

A run may go through several plans: memory ran out and the tiles became smaller, or it was stopped and goes on with
another budget. What earlier tiles have written stays, because all plans give the same bytes. Boxes are voxels of the
volume; nothing is computed or read here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.tiles.plan import Tile, TilePlan, plan_tiles


class DoneTiles(NamedTuple):
    """What a run has written with tiles of one shape.

    Attributes
    ----------
    input_shape
        Input shape (z, y, x) of the tiles.
    boxes
        What each of them wrote, in voxels of the result, whose first voxel is that of the region.
    """

    input_shape: Shape
    boxes: tuple[Box, ...]


class Coverage:
    """What the tiles of one or several plans over the same region have written.

    Examples
    --------
    >>> from napari_unet3d.core.unet.spec import NetworkSpec
    >>> plan = plan_tiles((20, 20, 40), NetworkSpec(blocks=1), tile_shape=(60, 60, 60))
    >>> coverage = Coverage()
    >>> first, second = plan
    >>> coverage.mark(plan, first.write)
    >>> coverage.covers(first.write), coverage.covers(second.write)
    (True, False)
    """

    def __init__(self) -> None:
        self._plans: list[tuple[TilePlan, npt.NDArray[np.bool_]]] = []

    def __bool__(self) -> bool:
        return bool(self._plans)

    def mark(self, plan: TilePlan, box: Box) -> None:
        """Note that the tile of `plan` that writes `box` is done."""
        if not self._plans or self._plans[-1][0] is not plan:
            self._plans.append((plan, np.zeros(plan.counts, bool)))
        z, y, x = plan.tiles_meeting(box)
        self._plans[-1][1][z.start, y.start, x.start] = True

    def mark_all(self, plan: TilePlan, done: DoneTiles) -> None:
        """Note what an earlier run over the region of `plan` has written, with tiles of whatever shape."""
        earlier = plan_tiles(
            plan.volume_shape,
            plan.spec,
            region=plan.region,
            tile_shape=done.input_shape,
            bytes_per_value=plan.bytes_per_value,
        )
        z, y, x = (start for start, _ in plan.region)
        for box in done.boxes:
            self.mark(earlier, box.shifted((z, y, x)))

    def covers(self, box: Box) -> bool:
        """Return whether the tiles of one plan, together, have written all of `box`."""
        return any(bool(flags[plan.tiles_meeting(box)].all()) for plan, flags in self._plans)


def nearest_first(plan: TilePlan, focus: Box | None) -> Iterator[Tile]:
    """Yield the tiles of a plan, those nearest to a box first; without a box in their order.

    Parameters
    ----------
    plan
        The plan.
    focus
        What is looked at, in voxels of the volume. Tiles that meet it come first, from its centre outwards.

    Examples
    --------
    >>> from napari_unet3d.core.unet.spec import NetworkSpec
    >>> plan = plan_tiles((8, 8, 40), NetworkSpec(blocks=1), tile_shape=(52, 52, 52))
    >>> [tile.write.x for tile in nearest_first(plan, Box((0, 8), (0, 8), (30, 31)))]
    [(24, 36), (36, 40), (12, 24), (0, 12)]
    """
    if focus is None:
        yield from plan
        return
    outside: npt.NDArray[np.float64] = np.zeros((1, 1, 1))
    from_centre: npt.NDArray[np.float64] = np.zeros((1, 1, 1))
    for axis, (start, stop) in enumerate(focus):
        starts, stops = plan.edges(axis)
        gap = np.maximum(0, np.maximum(starts - (stop - 1), start - (stops - 1)))
        off = (starts + stops) / 2 - (start + stop) / 2
        along = [1, 1, 1]
        along[axis] = -1
        outside = outside + np.square(gap, dtype=float).reshape(along)
        from_centre = from_centre + np.square(off).reshape(along)
    for index in np.lexsort((from_centre.ravel(), outside.ravel())):
        yield plan.tile(*(int(i) for i in np.unravel_index(index, plan.counts)))

"""Where a volume is looked at: cells of a coarse grid, so that tiles in which nothing can be are not computed.

A voxel that is not looked at is 0 in the result, whichever tile would have computed it: so the result does not depend
on the tiles.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.tiles.plan import TilePlan

# Side of a cell in which voxels are compared with a value.
CELL = 32

Packed = tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], str]


@dataclass(frozen=True, eq=False)
class Cells:
    """A grid of cells, each looked at or not.

    Attributes
    ----------
    edges
        Along (z, y, x): where each cell begins, and where the last one ends, in voxels of the volume.
    flags
        (z, y, x) bool: whether a cell is looked at.

    Examples
    --------
    >>> cells = Cells.of(np.array([[[True, False]]]), (4, 4, 6))
    >>> cells.meets(Box((0, 4), (0, 4), (3, 6))), cells.voxels(Box((0, 1), (0, 1), (1, 5))).tolist()
    (False, [[[True, True, False, False]]])
    """

    edges: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    flags: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, flags: npt.NDArray[np.bool_], shape: Shape) -> Cells:
        """Return cells that divide a volume of `shape` as evenly as whole voxels allow."""
        z, y, x = (
            tuple(int(edge) for edge in np.arange(count + 1) * n // count)
            for n, count in zip(shape, flags.shape, strict=True)
        )
        return cls((z, y, x), flags)

    @classmethod
    def unpack(cls, packed: Packed) -> Cells:
        """Return what `pack` gave."""
        edges, text = packed
        counts = [len(along) - 1 for along in edges]
        bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
        return cls(edges, np.unpackbits(bits, count=int(np.prod(counts))).astype(bool).reshape(counts))

    def pack(self) -> Packed:
        """Return the cells as a value for JSON."""
        return self.edges, base64.b64encode(zlib.compress(np.packbits(self.flags).tobytes(), 9)).decode()

    def meets(self, box: Box) -> bool:
        """Return whether some voxel of a box is looked at."""
        return bool(self.flags[self._touched(box)].any())

    def voxels(self, box: Box) -> npt.NDArray[np.bool_]:
        """Return which voxels of a box are looked at."""
        touched = self._touched(box)
        found = self.flags[touched]
        for axis, (part, along, (start, stop)) in enumerate(zip(touched, self.edges, box, strict=True)):
            lengths = np.diff(np.clip(along[part.start : part.stop + 1], start, stop))
            found = np.repeat(found, lengths, axis=axis)
        return found

    def _touched(self, box: Box) -> tuple[slice, slice, slice]:
        z, y, x = (
            slice(int(np.searchsorted(along, start, "right")) - 1, int(np.searchsorted(along, stop, "left")))
            for along, (start, stop) in zip(self.edges, box, strict=True)
        )
        return z, y, x


class Where:
    """Several grids of cells: a voxel is looked at if it is in all of them.

    Parameters
    ----------
    cells
        None of them looks at everything.
    """

    def __init__(self, cells: Sequence[Cells] = ()) -> None:
        self._cells = tuple(cells)

    def __bool__(self) -> bool:
        return bool(self._cells)

    def meets(self, box: Box) -> bool:
        """Return whether some voxel of a box may be looked at."""
        return all(cells.meets(box) for cells in self._cells)

    def voxels(self, box: Box) -> npt.NDArray[np.bool_] | None:
        """Return which voxels of a box are looked at; None if all are."""
        found: npt.NDArray[np.bool_] | None = None
        for cells in self._cells:
            here = cells.voxels(box)
            if not here.all():
                found = here if found is None else found & here
        return found

    def n_skipped(self, plan: TilePlan) -> int:
        """Return how many tiles of a plan need not be computed."""
        return sum(not self.meets(tile.write) for tile in plan) if self._cells else 0

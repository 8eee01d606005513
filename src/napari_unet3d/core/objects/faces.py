"""Which components of neighbouring blocks touch: of each block only its last faces are kept, until nobody needs them.

Blocks come in raster order. A block is compared with the layer above, the row before and the block before, with the
corners and edges that these share; so every pair of neighbours meets once. Faces are compressed: most of a face is
background.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Shape

Numbers = npt.NDArray[np.int64]


class Faces:
    """The faces that blocks to come will touch, and the contacts that were found.

    Parameters
    ----------
    structure
        The neighbours of a voxel, (3, 3, 3) bool.
    """

    def __init__(self, structure: npt.NDArray[np.bool_]) -> None:
        self._structure = structure
        # By the index of their blocks: the last planes of the layer above and of this one, and so for rows and blocks.
        self._above: dict[tuple[int, int], _Face] = {}
        self._layer: dict[tuple[int, int], _Face] = {}
        self._before: dict[int, _Face] = {}
        self._row: dict[int, _Face] = {}
        self._last: _Face | None = None
        self._index: Shape = (0, 0, 0)
        self._contacts = [np.zeros((2, 0), np.int64)]

    def add(self, labels: npt.NDArray[np.integer[Any]], ids: Numbers, index: Shape) -> None:
        """Compare the next block with those before it.

        Parameters
        ----------
        labels
            (z, y, x) labels of the block.
        ids
            (labels,): what a label is called in the volume; -1 for what touches nothing.
        index
            Where the block lies in the grid of blocks, (z, y, x).
        """
        self._turn(index)
        _, y, x = index
        upper = _assemble(labels.shape[1:], lambda dy, dx: self._above.get((y + dy, x + dx)))
        self._compare(upper, ids[labels[0]], self._structure[0])
        before = _assemble((labels.shape[0], labels.shape[2]), lambda dz, dx: None if dz else self._before.get(x + dx))
        self._compare(before, ids[labels[:, 0]], self._structure[:, 0])
        last = _assemble(labels.shape[:2], lambda dz, dy: None if dz or dy else self._last)
        self._compare(last, ids[labels[:, :, 0]], self._structure[:, :, 0])
        self._layer[y, x] = _Face(ids[labels[-1]])
        self._row[x] = _Face(ids[labels[:, -1]])
        self._last = _Face(ids[labels[:, :, -1]])

    def contacts(self) -> Numbers:
        """Return the pairs of ids that touch, (2, n)."""
        return np.concatenate(self._contacts, axis=1)

    def _turn(self, index: Shape) -> None:
        """Forget what blocks from this one on do not touch."""
        if index[0] != self._index[0]:
            self._above, self._layer = self._layer, {}
            self._row = {}
        if index[:2] != self._index[:2]:
            self._before, self._row = self._row, {}
            self._last = None
        self._index = index

    def _compare(self, padded: Numbers | None, face: Numbers, offsets: npt.NDArray[np.bool_]) -> None:
        """Note which ids of a face touch those of the plane before it, which has a margin of 1."""
        if padded is None or (face < 0).all():
            return
        height, width = face.shape
        pairs = []
        for dy, dx in np.argwhere(offsets):
            shifted = padded[dy : dy + height, dx : dx + width]
            touch = (shifted >= 0) & (face >= 0)
            pairs.append(np.stack([shifted[touch], face[touch]]))
        if pairs:
            self._contacts.append(np.unique(np.concatenate(pairs, axis=1), axis=1))


class _Face:
    """A plane of ids, compressed."""

    def __init__(self, ids: Numbers) -> None:
        self._shape = ids.shape
        self._packed = zlib.compress(ids.tobytes(), 1) if (ids >= 0).any() else None

    def ids(self) -> Numbers | None:
        """Return the plane; None if there is nothing in it."""
        if self._packed is None:
            return None
        return np.frombuffer(zlib.decompress(self._packed), np.int64).reshape(self._shape)


def _assemble(shape: tuple[int, ...], face_at: Any) -> Numbers | None:
    """Return a plane of ids with a margin of 1 from the faces around it; None where there is nothing."""
    padded: Numbers | None = None
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            face = face_at(dy, dx)
            ids = None if face is None else face.ids()
            if ids is None:
                continue
            if padded is None:
                padded = np.full([n + 2 for n in shape], -1, np.int64)
            to, part = zip(*(_overlap(step, n) for step, n in zip((dy, dx), shape, strict=True)), strict=True)
            padded[to] = ids[part]
    return padded


def _overlap(step: int, n: int) -> tuple[slice, slice]:
    """Return which part of a margin a neighbour fills, and with which part of itself."""
    if step < 0:
        return slice(0, 1), slice(-1, None)
    return (slice(n + 1, n + 2), slice(0, 1)) if step else (slice(1, n + 1), slice(None))

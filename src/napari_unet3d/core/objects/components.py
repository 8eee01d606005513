"""Connected components of a volume that is seen block by block.

A component is an object if it holds a seed and has enough voxels. What lies inside a block is decided there and then;
of components that touch the face of a block a few numbers are kept, and which of them touch across faces. Objects are
numbered by their first voxel in raster order, so the numbers do not depend on the blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Shape
from napari_unet3d.core.objects.blocks import Placed
from napari_unet3d.core.objects.faces import Faces

Booleans = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """The components within one block: label 0 is background.

    A component is open if it touches a face behind which there are other blocks: it may go on there.
    """

    labels: npt.NDArray[np.integer[Any]]  # (z, y, x)
    n_voxels: Numbers  # (labels,), as are all below
    first: Numbers  # the number of its first voxel in the volume, in raster order
    is_seeded: Booleans
    is_open: Booleans
    is_object: Booleans  # by itself: holds a seed and is large enough

    def open_ids(self, first: int) -> Numbers:
        """Return the ids of the open components, counted up from `first`; -1 for all others."""
        return np.where(self.is_open, first - 1 + np.cumsum(self.is_open), -1)


def label_block(
    found: npt.NDArray[np.integer[Any]], placed: Placed, shape: Shape, structure: Booleans, min_voxels: int
) -> Block:
    """Return the components of a block.

    Parameters
    ----------
    found
        (z, y, x) integers: 0 background, odd weak, even strong. A strong voxel is a seed.
    placed
        Where it lies.
    shape
        Of the volume.
    structure
        The neighbours of a voxel, (3, 3, 3) bool.
    min_voxels
        Objects have at least so many.
    """
    from scipy import ndimage

    labels, n_labels = ndimage.label(found, structure)
    n_voxels = np.zeros(n_labels + 1, np.int64)
    is_seeded = np.zeros(n_labels + 1, bool)
    # Plane by plane: counting makes eight bytes of every number that it is given.
    for plane, numbers in zip(found, labels, strict=True):
        counts = np.bincount(numbers[plane > 0])
        n_voxels[: len(counts)] += counts
        is_seeded[numbers[(plane > 0) & (plane % 2 == 0)]] = True
    is_open = np.zeros(n_labels + 1, bool)
    for axis, ((start, stop), n) in enumerate(zip(placed.box, shape, strict=True)):
        for at, goes_on in ((0, start > 0), (-1, stop < n)):
            if goes_on:
                is_open[np.take(labels, at, axis)] = True
    is_open[0] = False
    first = _first_voxels(labels, n_labels, placed, shape)
    return Block(labels, n_voxels, first, is_seeded, is_open, is_seeded & (n_voxels >= min_voxels))


def _first_voxels(labels: npt.NDArray[np.integer[Any]], n_labels: int, placed: Placed, shape: Shape) -> Numbers:
    """Return the number of the first voxel of each label in the volume."""
    first = np.zeros(n_labels + 1, np.int64)
    (z0, _), (y0, _), (x0, _) = placed.box
    width = labels.shape[2]
    # Of several values for one index the last assigned stays: from back to front, that is the first voxel.
    for z, plane in reversed(list(enumerate(labels))):
        flat = plane.reshape(-1)
        voxels = np.flatnonzero(flat)[::-1]
        y, x = np.divmod(voxels, width)
        first[flat[voxels]] = ((z + z0) * shape[1] + y + y0) * shape[2] + x + x0
    return first


class Survey:
    """What the first pass remembers: the open components, which of them touch, and where each object begins.

    Parameters
    ----------
    structure
        The neighbours of a voxel, (3, 3, 3) bool.
    min_voxels
        Objects have at least so many.
    """

    def __init__(self, structure: Booleans, min_voxels: int) -> None:
        self._min_voxels = min_voxels
        self._faces = Faces(structure)
        self._n_open = 0
        self._inside = [np.zeros(0, np.int64)]
        self._n_voxels = [np.zeros(0, np.int64)]
        self._first = [np.zeros(0, np.int64)]
        self._is_seeded = [np.zeros(0, bool)]

    def add(self, block: Block, placed: Placed) -> None:
        """Take note of the next block in raster order."""
        ids = block.open_ids(self._n_open)
        self._n_open += int(np.count_nonzero(block.is_open))
        self._inside.append(block.first[block.is_object & ~block.is_open])
        self._n_voxels.append(block.n_voxels[block.is_open])
        self._first.append(block.first[block.is_open])
        self._is_seeded.append(block.is_seeded[block.is_open])
        self._faces.add(block.labels, ids, placed.at)

    def join(self) -> Census:
        """Return the components of the whole volume."""
        from scipy import sparse
        from scipy.sparse import csgraph

        one, other = self._faces.contacts()
        graph = sparse.coo_array((np.ones(len(one), bool), (one, other)), shape=(self._n_open, self._n_open))
        n_joined, joined_of = csgraph.connected_components(graph, directed=False)
        n_voxels = np.zeros(n_joined, np.int64)
        np.add.at(n_voxels, joined_of, np.concatenate(self._n_voxels))
        first = np.full(n_joined, np.iinfo(np.int64).max)
        np.minimum.at(first, joined_of, np.concatenate(self._first))
        is_object = np.zeros(n_joined, bool)
        is_object[joined_of[np.concatenate(self._is_seeded)]] = True
        is_object &= n_voxels >= self._min_voxels
        begins = np.sort(np.concatenate([*self._inside, first[is_object]]))
        return Census(np.where(is_object, first, -1)[joined_of], begins)


class Census:
    """The components of the whole volume.

    Parameters
    ----------
    begins_of
        (open ids,): the first voxel of the object that each belongs to; -1 where it is removed.
    begins
        (objects,): the first voxels of all objects, in order.
    """

    def __init__(self, begins_of: Numbers, begins: Numbers) -> None:
        self._begins_of, self._begins = begins_of, begins
        self._n_open = 0

    @property
    def n_objects(self) -> int:
        """Return how many objects there are."""
        return len(self._begins)

    def numbers(self, block: Block) -> Numbers:
        """Return the number of each label of the next block, (labels,): 0 for what is removed."""
        first = np.where(block.is_object, block.first, -1)
        first[block.is_open] = self._begins_of[block.open_ids(self._n_open)[block.is_open]]
        self._n_open += int(np.count_nonzero(block.is_open))
        return np.where(first >= 0, 1 + np.searchsorted(self._begins, first), 0)

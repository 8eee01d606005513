"""Connected components of a volume that is seen slab by slab along z.

A component is an object if it holds a seed and has enough voxels. What lies inside a slab is decided there
and then; only components that touch the face of a slab are remembered between slabs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Slab:
    """The components within one slab: label 0 is background.

    A component is open if it touches the first or the last plane: it may go on in the next slab.
    """

    labels: npt.NDArray[np.integer[Any]]  # (z, y, x)
    n_voxels: npt.NDArray[np.int64]  # (labels,), as are all below
    is_seeded: Booleans
    is_open: Booleans
    is_object: Booleans  # by itself: holds a seed and is large enough

    def open_ids(self, first: int) -> npt.NDArray[np.int64]:
        """Return the ids of the open components, counted up from `first`; -1 for all others."""
        return np.where(self.is_open, first - 1 + np.cumsum(self.is_open), -1)


def label_slab(found: npt.NDArray[np.integer[Any]], structure: Booleans, min_voxels: int) -> Slab:
    """Return the components of a slab.

    Parameters
    ----------
    found
        (z, y, x) integers: 0 background, odd weak, even strong. A strong voxel is a seed.
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
    is_open[labels[[0, -1]]] = True
    is_open[0] = False
    return Slab(labels, n_voxels, is_seeded, is_open, is_seeded & (n_voxels >= min_voxels))


class Survey:
    """What the first pass remembers: the open components, and which of them touch.

    Components inside a slab are counted and forgotten; the second pass finds them again.
    """

    def __init__(self, structure: Booleans, min_voxels: int) -> None:
        self._structure = structure
        self._min_voxels = min_voxels
        self._n_inside = 0
        self._n_open = 0
        self._n_voxels = [np.zeros(0, np.int64)]
        self._is_seeded = [np.zeros(0, bool)]
        self._contacts = [np.zeros((2, 0), np.int64)]
        self._last_plane: npt.NDArray[np.int64] | None = None

    def add(self, slab: Slab) -> None:
        """Take note of the next slab along z."""
        ids = slab.open_ids(self._n_open)
        self._n_inside += int(np.count_nonzero(slab.is_object & ~slab.is_open))
        self._n_open += int(np.count_nonzero(slab.is_open))
        self._n_voxels.append(slab.n_voxels[slab.is_open])
        self._is_seeded.append(slab.is_seeded[slab.is_open])
        if self._last_plane is not None:
            self._contacts.append(_contacts(self._last_plane, ids[slab.labels[0]], self._structure))
        self._last_plane = ids[slab.labels[-1]]

    def join(self) -> Census:
        """Return the components of the whole volume."""
        one, other = np.concatenate(self._contacts, axis=1)
        from scipy import sparse
        from scipy.sparse import csgraph

        graph = sparse.coo_array((np.ones(len(one), bool), (one, other)), shape=(self._n_open, self._n_open))
        n_joined, joined_of = csgraph.connected_components(graph, directed=False)
        n_voxels = np.zeros(n_joined, np.int64)
        np.add.at(n_voxels, joined_of, np.concatenate(self._n_voxels))
        is_object = np.zeros(n_joined, bool)
        is_object[joined_of[np.concatenate(self._is_seeded)]] = True
        is_object &= n_voxels >= self._min_voxels
        return Census(joined_of, is_object, self._n_inside)


def _contacts(upper: npt.NDArray[np.int64], lower: npt.NDArray[np.int64], structure: Booleans) -> npt.NDArray[np.int64]:
    """Return the pairs of ids, (2, n), that touch over the face between two planes (y, x) of ids."""
    n_y, n_x = lower.shape
    padded = np.pad(upper, 1, constant_values=-1)
    pairs = [np.zeros((2, 0), np.int64)]
    for dy, dx in np.argwhere(structure[0]):
        shifted = padded[dy : dy + n_y, dx : dx + n_x]
        touch = (shifted >= 0) & (lower >= 0)
        pairs.append(np.stack([shifted[touch], lower[touch]]))
    return np.unique(np.concatenate(pairs, axis=1), axis=1)


class Census:
    """The components of the whole volume, numbered as the slabs come along z.

    Parameters
    ----------
    joined_of
        (open ids,): the joined component of each.
    is_object
        (joined components,): those that stay.
    n_inside
        Objects that are not open in any slab.
    """

    def __init__(self, joined_of: npt.NDArray[np.integer[Any]], is_object: Booleans, n_inside: int) -> None:
        self._joined_of = joined_of
        self._is_object = is_object
        self._number_of = np.zeros(len(is_object), np.int64)
        self._n_open = 0
        self._n_numbered = 0
        self.n_objects = n_inside + int(np.count_nonzero(is_object))

    def numbers(self, slab: Slab) -> npt.NDArray[np.int64]:
        """Return the number of each label of the next slab, (labels,): 0 for what is removed."""
        ids = slab.open_ids(self._n_open)
        self._n_open += int(np.count_nonzero(slab.is_open))
        joined = np.full(len(ids), -1)
        joined[slab.is_open] = self._joined_of[ids[slab.is_open]]
        stays = np.where(slab.is_open, False, slab.is_object)
        stays[slab.is_open] = self._is_object[joined[slab.is_open]]
        numbers = np.zeros(len(ids), np.int64)
        for label in _in_raster_order(slab.labels, stays):
            whole = joined[label]
            number = self._number_of[whole] if whole >= 0 else 0
            if not number:
                self._n_numbered += 1
                number = self._n_numbered
            if whole >= 0:
                self._number_of[whole] = number
            numbers[label] = number
        return numbers


def _in_raster_order(labels: npt.NDArray[np.integer[Any]], chosen: Booleans) -> npt.NDArray[np.intp]:
    """Return the labels that are chosen, by their first voxel: SciPy promises no order."""
    first = np.zeros(len(chosen), np.intp)
    # Of several values for one index the last assigned stays: from back to front, that is the first voxel.
    for z, plane in reversed(list(enumerate(labels))):
        flat = plane.reshape(-1)
        voxels = np.flatnonzero(flat)[::-1]
        first[flat[voxels]] = voxels + z * flat.size
    candidates = np.flatnonzero(chosen)
    return candidates[np.argsort(first[candidates])]

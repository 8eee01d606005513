"""What is known of each object: its class, its voxels, its middle and its box, gathered block by block.

In voxels (z, y, x) of the volume that is cleaned up; nothing here knows how long a voxel is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Box


class ObjectRow(NamedTuple):
    """One object.

    Attributes
    ----------
    number
        By which it is found among the labels, from 1.
    label
        The class of most of its voxels.
    voxels
        How many it has.
    centroid
        The mean position (z, y, x) of its voxels, in voxels.
    box
        The smallest one that holds it.
    """

    number: int
    label: int
    voxels: int
    centroid: tuple[float, float, float]
    box: Box


class ObjectTable:
    """The objects of a volume. It takes some 60 bytes for each, and 8 more for each class.

    Parameters
    ----------
    classes
        How many there are, the first one (background) included.
    """

    def __init__(self, classes: int) -> None:
        self._n_classes = classes
        self.begin(0)

    def begin(self, n_objects: int) -> None:
        """Forget what was gathered; so many objects come."""
        self._by_class = np.zeros((n_objects, self._n_classes), np.int64)
        self._sums = np.zeros((n_objects, 3))
        self._starts = np.full((n_objects, 3), np.iinfo(np.int32).max, np.int32)
        self._stops = np.zeros((n_objects, 3), np.int32)

    def __len__(self) -> int:
        return len(self._sums)

    def add(
        self,
        found: npt.NDArray[np.integer[Any]],
        labels: npt.NDArray[np.integer[Any]],
        numbers: npt.NDArray[np.int64],
        box: Box,
    ) -> None:
        """Take note of a block.

        Parameters
        ----------
        found
            (z, y, x) evidence.
        labels
            (z, y, x) labels of the block.
        numbers
            (labels,): the number of the object that each belongs to, 0 for none.
        box
            Where the block lies.
        """
        from scipy import ndimage

        (z0, _), (y0, _), (x0, _) = box
        n, width = len(numbers), labels.shape[2]
        by_class, sums = np.zeros((n, self._n_classes), np.int64), np.zeros((n, 3))
        # Plane by plane: counting makes eight bytes of every number that it is given.
        for z, (plane, ids) in enumerate(zip(found, labels, strict=True)):
            voxels = np.flatnonzero(ids)
            if not voxels.size:
                continue
            chosen, classes = ids.reshape(-1)[voxels], (plane.reshape(-1)[voxels].astype(np.int64) + 1) // 2
            y, x = np.divmod(voxels, width)
            by_class += np.bincount(chosen * self._n_classes + classes, minlength=n * self._n_classes).reshape(
                n, self._n_classes
            )
            sums[:, 0] += np.bincount(chosen, minlength=n) * (z + z0)
            sums[:, 1] += np.bincount(chosen, y + y0, minlength=n)
            sums[:, 2] += np.bincount(chosen, x + x0, minlength=n)
        stays = numbers > 0
        rows = numbers[stays] - 1
        np.add.at(self._by_class, rows, by_class[stays])
        np.add.at(self._sums, rows, sums[stays])
        corner = np.array([z0, y0, x0])
        boxes = [Box(*((s.start, s.stop) for s in slices)) for slices in ndimage.find_objects(labels)]
        ends = np.array(boxes, np.int64).reshape(-1, 3, 2)[stays[1:]] + corner[:, None]
        np.minimum.at(self._starts, rows, ends[..., 0].astype(np.int32))
        np.maximum.at(self._stops, rows, ends[..., 1].astype(np.int32))

    def rows(self) -> Iterator[ObjectRow]:
        """Yield the objects by their numbers."""
        for at in range(len(self)):
            voxels = int(self._by_class[at].sum())
            z, y, x = (float(total) / voxels for total in self._sums[at])
            ends = zip(self._starts[at], self._stops[at], strict=True)
            box = Box(*((int(start), int(stop)) for start, stop in ends))
            yield ObjectRow(at + 1, int(self._by_class[at].argmax()), voxels, (z, y, x), box)

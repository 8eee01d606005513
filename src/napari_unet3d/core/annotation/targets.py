"""Annotation as training sees it: the class of every annotated voxel of a volume, and nothing of the rest.

Only planes that hold annotation are kept, cut to what is painted in them, so a few slices of a very large volume take
little memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.annotation.meanings import Meanings, add_counts, count_values
from napari_unet3d.core.annotation.survey import check_values, planes_of
from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.tiles.plan import Readable
from napari_unet3d.errors import SpecError

# Stands for a voxel that nobody has annotated, or that does not count.
IGNORED = 255
# Annotation in at most this share of the planes of its extent is slice by slice.
_SLICEWISE = 0.5


class Plane(NamedTuple):
    """The annotated part of a plane: its first voxel, and the classes from there on, (y, x) uint8."""

    y: int
    x: int
    classes: npt.NDArray[np.uint8]


class Targets:
    """The classes of a volume, indexed like it: uint8, `IGNORED` where nothing is known.

    Parameters
    ----------
    shape
        (z, y, x) of the volume.
    n_classes
        How many classes there are.
    planes
        What is annotated, by z.

    Attributes
    ----------
    counts
        How many voxels each class has.

    Examples
    --------
    >>> targets = Targets((3, 4, 4), 2, {1: Plane(2, 0, np.array([[0, 1, 1]], np.uint8))})
    >>> targets.counts, targets[0:2, 2:3, 1:4].tolist()
    ((1, 2), [[[255, 255, 255]], [[1, 1, 255]]])
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, shape: Shape, n_classes: int, planes: Mapping[int, Plane]) -> None:
        self.shape = shape
        self.n_classes = n_classes
        self._planes = {z: planes[z] for z in sorted(planes)}
        self._plane_counts = {z: _class_counts(plane.classes, n_classes) for z, plane in self._planes.items()}
        total: npt.NDArray[np.int64] = sum(self._plane_counts.values(), np.zeros(n_classes, np.int64))
        self.counts: tuple[int, ...] = tuple(total.tolist())

    def __getitem__(self, box: tuple[slice, slice, slice]) -> npt.NDArray[np.uint8]:
        z, y, x = (slice(*part.indices(n)[:2]) for part, n in zip(box, self.shape, strict=True))
        out = np.full([max(0, part.stop - part.start) for part in (z, y, x)], IGNORED, np.uint8)
        for at in range(z.start, z.stop):
            if (plane := self._planes.get(at)) is None:
                continue
            height, width = plane.classes.shape
            y0, y1 = max(y.start, plane.y), min(y.stop, plane.y + height)
            x0, x1 = max(x.start, plane.x), min(x.stop, plane.x + width)
            if y0 < y1 and x0 < x1:
                part = plane.classes[y0 - plane.y : y1 - plane.y, x0 - plane.x : x1 - plane.x]
                out[at - z.start, y0 - y.start : y1 - y.start, x0 - x.start : x1 - x.start] = part
        return out

    @property
    def n_voxels(self) -> int:
        """Return how many voxels are annotated."""
        return sum(self.counts)

    @property
    def planes(self) -> tuple[int, ...]:
        """Return which planes (z) hold annotation."""
        return tuple(self._planes)

    def plane(self, z: int) -> Plane:
        """Return the annotated part of a plane that holds annotation."""
        return self._planes[z]

    def bounds(self) -> Box | None:
        """Return the smallest box that holds all annotation; None where there is none."""
        intervals = []
        for axis in range(3):
            found = np.flatnonzero(self.profile(axis).any(axis=1))
            if not len(found):
                return None
            intervals.append((int(found[0]), int(found[-1]) + 1))
        return Box(*intervals)

    def profile(self, axis: int) -> npt.NDArray[np.int64]:
        """Return (n, classes): how many voxels of each class lie in every plane across an axis."""
        counts = np.zeros((self.shape[axis], self.n_classes), np.int64)
        for z, plane in self._planes.items():
            if axis == 0:
                counts[z] = self._plane_counts[z]
                continue
            start = plane.y if axis == 1 else plane.x
            for index in range(self.n_classes):
                along = (plane.classes == index).sum(axis=2 - axis)
                counts[start : start + len(along), index] += along
        return counts

    def is_slicewise(self, axis: int) -> bool:
        """Return whether planes across an axis are annotated one by one; see `is_slicewise`."""
        return is_slicewise(self.profile(axis))

    def within(self, boxes: Sequence[Box]) -> Targets:
        """Return what is annotated in any of some boxes."""
        return self._kept(lambda inside: inside, boxes)

    def without(self, boxes: Sequence[Box]) -> Targets:
        """Return what is annotated in none of some boxes."""
        return self._kept(lambda inside: ~inside, boxes)

    def voxel(self, index: int, number: int) -> tuple[int, int, int]:
        """Return where the voxel with a number among those of a class lies."""
        for z, counts in self._plane_counts.items():
            if number < counts[index]:
                plane = self._planes[z]
                y, x = divmod(int(np.flatnonzero(plane.classes == index)[number]), plane.classes.shape[1])
                return z, plane.y + y, plane.x + x
            number -= int(counts[index])
        raise IndexError(f"class {index} has no such voxel")

    def _kept(self, keeps: Callable[[npt.NDArray[np.bool_]], npt.NDArray[np.bool_]], boxes: Sequence[Box]) -> Targets:
        planes = {}
        for z, plane in self._planes.items():
            inside = np.zeros(plane.classes.shape, bool)
            for box in boxes:
                if box.z[0] <= z < box.z[1]:
                    (y0, y1), (x0, x1) = box.y, box.x
                    inside[max(0, y0 - plane.y) : max(0, y1 - plane.y), max(0, x0 - plane.x) : max(0, x1 - plane.x)] = (
                        True
                    )
            cut = _cut(np.where(keeps(inside), plane.classes, np.uint8(IGNORED)), plane.y, plane.x)
            if cut is not None:
                planes[z] = cut
        return Targets(self.shape, self.n_classes, planes)


def is_slicewise(profile: npt.NDArray[np.int64]) -> bool:
    """Return whether planes are annotated one by one: most of those between them are left out. One alone is, too.

    Parameters
    ----------
    profile
        (n, classes): how many voxels of each class lie in every plane.
    """
    found = np.flatnonzero(profile.any(axis=1))
    return bool(len(found)) and len(found) <= max(1, _SLICEWISE * (found[-1] - found[0] + 1))


def read_targets(
    labels: Readable, meanings: Meanings, *, volume: Shape | None = None, origin: Shape = (0, 0, 0)
) -> Targets:
    """Read what is annotated, plane by plane.

    Parameters
    ----------
    labels
        (z, y, x) integers, or floats that are all whole.
    meanings
        What the values mean.
    volume
        Shape of the image; None where the labels cover it.
    origin
        First voxel of the labels, in voxels of the image (z, y, x).

    Raises
    ------
    SpecError
        If the labels leave the image, a value has no meaning, or nothing is annotated. The message shows the values
        and how often they occur.
    """
    targets, counts = scan_targets(labels, meanings, volume=volume, origin=origin)
    check_values(counts, meanings)
    return targets


def scan_targets(
    labels: Readable, meanings: Meanings, *, volume: Shape | None = None, origin: Shape = (0, 0, 0)
) -> tuple[Targets, dict[int, int]]:
    """Return what is annotated and how many voxels have each value, whatever they mean; see `read_targets`."""
    z, y, x = labels.shape[:3]
    volume = (z, y, x) if volume is None else volume
    place = Box.whole((z, y, x)).shifted(origin)
    if len(labels.shape) != 3 or place.intersection(Box.whole(volume)) != place:
        raise SpecError(
            f"The labels cover {place} (z, y, x) and the image {Box.whole(volume)}; labels must lie in their image."
        )
    if len(meanings.class_names) >= IGNORED:
        raise SpecError(f"At most {IGNORED - 1} classes can be told apart.")
    counts: dict[int, int] = {}
    planes: dict[int, Plane] = {}
    for at, plane in enumerate(planes_of(labels), start=origin[0]):
        found = count_values(plane)
        counts = add_counts(counts, found)
        if all(meanings.of(value) is None for value in found):
            # Most planes of sparse annotation.
            continue
        classes, is_known = meanings.apply(plane)
        cut = _cut(np.where(is_known, classes, np.uint8(IGNORED)), origin[1], origin[2])
        if cut is not None:
            planes[at] = cut
    return Targets(volume, len(meanings.class_names), planes), counts


def _class_counts(classes: npt.NDArray[np.uint8], n_classes: int) -> npt.NDArray[np.int64]:
    return np.bincount(classes.reshape(-1), minlength=IGNORED + 1)[:n_classes].astype(np.int64)


def _cut(classes: npt.NDArray[Any], y: int, x: int) -> Plane | None:
    """Return the smallest part of a plane that holds all its annotation."""
    known = classes != IGNORED
    rows, columns = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
    if not len(rows):
        return None
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    return Plane(y + y0, x + x0, np.ascontiguousarray(classes[y0:y1, x0:x1], np.uint8))

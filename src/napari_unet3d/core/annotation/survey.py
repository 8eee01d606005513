"""Which values labels hold, plane by plane: read once, and enough to count classes whatever the values come to mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.annotation.meanings import MAX_VALUES, Meanings, value_counts
from napari_unet3d.core.tiles.plan import Readable
from napari_unet3d.errors import SpecError

# Voxels that are read at once, if a plane has no more: chunks that hold many planes are not read once for each.
_SLAB_VOXELS = 1 << 24
# More pairs of a plane and a value than this are no classes and no objects, and would fill the memory.
_MOST_PAIRS = 1 << 24


@dataclass(frozen=True, eq=False)
class Survey:
    """How many voxels of labels have each value, plane by plane.

    Attributes
    ----------
    planes
        One a plane along z: its values, ascending, and how many voxels have each.

    Examples
    --------
    >>> survey = survey_labels(np.array([[[0, 1]], [[2, 2]]]))
    >>> survey.counts, survey.profile(Meanings.painted(("background", "axon"))).tolist()
    ({0: 1, 1: 1, 2: 2}, [[1, 0], [0, 2]])
    """

    planes: tuple[tuple[npt.NDArray[Any], npt.NDArray[np.int64]], ...]

    @cached_property
    def counts(self) -> dict[int, int]:
        """Return how many voxels have each value, ascending."""
        _, values, numbers = self._pairs
        found, places = np.unique(values, return_inverse=True)
        sums = np.zeros(len(found), np.int64)
        np.add.at(sums, places, numbers)
        return dict(zip(map(int, found), sums.tolist(), strict=True))

    def profile(self, meanings: Meanings) -> npt.NDArray[np.int64]:
        """Return (n, classes): how many voxels of each class lie in every plane; as `Targets.profile` along z."""
        planes, values, numbers = self._pairs
        classes, is_known = meanings.apply(values)
        profile = np.zeros((len(self.planes), len(meanings.class_names)), np.int64)
        np.add.at(profile, (planes[is_known], classes[is_known]), numbers[is_known])
        return profile

    @cached_property
    def _pairs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Return the plane, the value and the number of voxels of all pairs of a plane and a value."""
        if not self.planes:
            return (np.zeros(0, np.int64),) * 3
        lengths = [len(values) for values, _ in self.planes]
        values, numbers = (np.concatenate(parts) for parts in zip(*self.planes, strict=True))
        return np.repeat(np.arange(len(lengths)), lengths), values, numbers


def survey_labels(labels: Readable) -> Survey:
    """Return which values labels hold, read once, slab by slab.

    Parameters
    ----------
    labels
        (z, y, x) integers, or floats that are all whole; in memory or not.

    Raises
    ------
    SpecError
        If a value is not a whole number, or nearly every voxel has a value of its own.
    """
    planes, n = [], 0
    for plane in planes_of(labels):
        planes.append(value_counts(plane))
        n += len(planes[-1][0])
        if n > _MOST_PAIRS:
            raise SpecError("These labels hold too many different numbers for classes or objects.")
    return Survey(tuple(planes))


def planes_of(labels: Readable) -> Iterator[npt.NDArray[Any]]:
    """Yield the planes (y, x) along z, read a slab at a time."""
    z, y, x = labels.shape[:3]
    depth = max(1, _SLAB_VOXELS // max(1, math.prod((y, x))))
    for start in range(0, z, depth):
        yield from np.asarray(labels[start : min(start + depth, z), 0:y, 0:x])


def check_values(counts: Mapping[int, int], meanings: Meanings) -> None:
    """Raise a SpecError, with the values found, if one has no meaning or none of them is of a class."""
    if unexpected := meanings.unexpected(counts):
        without = list_counts({value: counts[value] for value in unexpected})
        raise SpecError(
            f"The labels hold values that mean no class: {without}. "
            f"Say what they mean: a class ({', '.join(meanings.class_names)}), or that they are ignored."
        )
    if all(meanings.of(value) is None for value in counts):
        raise SpecError(f"There are no annotated voxels; the labels hold {list_counts(counts)}.")


def list_counts(counts: Mapping[int, int]) -> str:
    """Return values with their counts as a text; of very many the first.

    Examples
    --------
    >>> list_counts({0: 1200, 2: 5})
    '0 (1,200 voxels), 2 (5 voxels)'
    """
    shown: Sequence[tuple[int, int]] = list(counts.items())[:MAX_VALUES]
    more = len(counts) - len(shown)
    text = ", ".join(f"{value} ({n:,} voxels)" for value, n in shown)
    return f"{text} and {more:,} more values" if more else text


def draw_painted(labels: Readable, survey: Survey | None, meanings: Meanings | None, seed: int) -> list[int] | None:
    """Return a voxel (z, y, x) that was painted, its class drawn first, as in training; None where there is none.

    Parameters
    ----------
    labels
        (z, y, x) integers; one plane of them is read.
    survey
        What they hold; None where nobody has looked yet.
    meanings
        What their values mean; where that is not known, or nothing counts for a class, all but 0 is painted.
    seed
        The same seed gives the same voxel.
    """
    if survey is None:
        return None
    rng = np.random.default_rng(seed)
    profile = np.zeros((0, 1), np.int64) if meanings is None else survey.profile(meanings)
    if not profile.sum():
        meanings = None
        profile = np.array([[numbers[values != 0].sum()] for values, numbers in survey.planes])
    if not profile.sum():
        return None
    chosen = int(rng.choice(np.flatnonzero(profile.sum(axis=0))))
    painted = profile[:, chosen] / profile[:, chosen].sum()
    z = int(rng.choice(len(painted), p=painted))
    plane = np.asarray(labels[z : z + 1])[0]
    if meanings is None:
        places = np.flatnonzero(plane)
    else:
        classes, is_known = meanings.apply(plane)
        places = np.flatnonzero(is_known & (classes == chosen))
    if not len(places):  # painted over since it was looked at
        return None
    y, x = np.unravel_index(int(rng.choice(places)), plane.shape)
    return [z, int(y), int(x)]

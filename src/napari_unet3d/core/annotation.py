"""What the numbers of a labels array mean: a class, or nothing that is known.

Masks hold values they should not, and painted numbers are not class indices. So the values found are counted, each is
given a meaning, and that meaning is part of the choices of a run; the array is never changed. Unlabelled is not
background: it has no class, and no weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_unet3d.errors import SpecError

# With more values than this it is instances that were passed, and not classes.
MAX_VALUES = 32


class Meanings(BaseModel):
    """The class of every value.

    Attributes
    ----------
    class_names
        One a class; the first is the background.
    classes
        The index of the class by value; a value that is not here is ignored, like None.
    rest
        The class of all values that are not in `classes`; None ignores them.

    Examples
    --------
    >>> meanings = Meanings(class_names=("background", "axon"), classes={1: 0, 2: 1})
    >>> meanings.apply(np.array([0, 1, 2, 4]))
    (array([0, 0, 1, 0], dtype=uint8), array([False,  True,  True, False]))
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_names: tuple[str, ...] = Field(min_length=2)
    classes: Mapping[int, int | None] = Field(default_factory=dict)
    rest: int | None = None

    @model_validator(mode="after")
    def _known_classes(self) -> Meanings:
        for index in [*self.classes.values(), self.rest]:
            if index is not None and not 0 <= index < len(self.class_names):
                raise ValueError(f"there is no class {index} among {', '.join(self.class_names)}")
        return self

    @classmethod
    def painted(cls, class_names: tuple[str, ...]) -> Meanings:
        """Return the code of annotation made here: 0 is unlabelled, 1 the background, 2 the first object, .."""
        return cls(class_names=class_names, classes={0: None, **{i + 1: i for i in range(len(class_names))}})

    @classmethod
    def indices(cls, class_names: tuple[str, ...]) -> Meanings:
        """Return the code of a complete mask: every value is the index of its class."""
        return cls(class_names=class_names, classes={i: i for i in range(len(class_names))})

    @classmethod
    def everything_above_zero(cls, class_names: tuple[str, ...]) -> Meanings:
        """Return the code of a binary mask whatever its values are, and of instances: above 0 is the first object."""
        return cls(class_names=class_names, classes={0: 0}, rest=1)

    def of(self, value: int) -> int | None:
        """Return the class of a value, or None if it is ignored."""
        return self.classes.get(value, self.rest)

    def with_class(self, value: int, index: int | None) -> Meanings:
        """Return meanings in which one value is another class, or is ignored."""
        return Meanings(class_names=self.class_names, classes={**self.classes, value: index}, rest=self.rest)

    def unexpected(self, values: Iterable[int]) -> list[int]:
        """Return the values, of those that were found, that nobody has given a meaning to."""
        return sorted(value for value in values if value not in self.classes and self.rest is None)

    def apply(self, labels: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Return the class of every voxel, and whether the voxel counts.

        Parameters
        ----------
        labels
            Integers of any shape; not changed.

        Returns
        -------
        classes
            uint8 of the same shape; 0 where the voxel does not count.
        counts
            bool of the same shape.
        """
        values, places = np.unique(labels, return_inverse=True)
        found = [self.of(int(value)) for value in values]
        classes = np.array([index or 0 for index in found], np.uint8)
        counts = np.array([index is not None for index in found], bool)
        places = places.reshape(labels.shape)
        return classes[places], counts[places]


def count_values(labels: npt.NDArray[Any]) -> dict[int, int]:
    """Return how many voxels have each value.

    Parameters
    ----------
    labels
        Integers, or floats that are all whole; of any shape.

    Raises
    ------
    SpecError
        If a value is not a whole number.

    Examples
    --------
    >>> count_values(np.array([0, 2, 2, 4]))
    {0: 1, 2: 2, 4: 1}
    """
    if labels.dtype.kind == "f" and not (labels == np.rint(labels)).all():
        raise SpecError("These labels hold numbers that are not whole, so they mean no classes.")
    if labels.dtype == np.uint8:
        counts = np.bincount(labels.reshape(-1), minlength=256)
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, numbers = np.unique(labels, return_counts=True)
    return {int(value): int(n) for value, n in zip(values, numbers, strict=True)}


def add_counts(counts: dict[int, int], more: Mapping[int, int]) -> dict[int, int]:
    """Return the sum of two counts, so that a volume can be counted box by box."""
    return {value: counts.get(value, 0) + more.get(value, 0) for value in sorted({*counts, *more})}


def guess_meanings(counts: Mapping[int, int], class_names: tuple[str, ...]) -> Meanings:
    """Return what the values most likely mean: class indices, or instances if there are very many; a person decides.

    Examples
    --------
    >>> guess_meanings({0: 900, 1: 60, 3: 40}, ("background", "axon")).unexpected([0, 1, 3])
    [3]
    """
    if len(counts) > MAX_VALUES:
        return Meanings.everything_above_zero(class_names)
    return Meanings.indices(class_names)

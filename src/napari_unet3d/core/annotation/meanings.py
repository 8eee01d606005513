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

# In the metadata of a labels layer: every voxel was looked at, and 0 is background.
COMPLETE = {"napari-unet3d": {"complete": True}}
# With more values than this it is instances that were passed, and not classes.
MAX_VALUES = 32
# If all values lie within a range of this length, they are looked up in a table.
_TABLE = 1 << 16
# Voxels that are counted at once: they and their numbers stay in the cache of a core.
_PART_VOXELS = 1 << 15
# What people call what nobody has painted.
_NOT_LEARNT = {"ignore", "ignored", "unlabelled", "unlabeled", "unannotated", "unpainted"}


class Meanings(BaseModel):
    """The class of every value.

    Attributes
    ----------
    class_names
        One name per class; the first is the background.
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

    def renamed(self, class_names: tuple[str, ...]) -> Meanings:
        """Return the same meanings with other names of classes.

        Values of a class that is gone have none. A class that is new takes the next value.

        Examples
        --------
        >>> Meanings.painted(("background", "axon")).renamed(("background", "axon", "soma")).classes
        {0: None, 1: 0, 2: 1, 3: 2}
        """
        n = len(class_names)
        classes = {value: index for value, index in self.classes.items() if index is None or index < n}
        rest = None if self.rest is not None and self.rest >= n else self.rest
        if rest is None:
            free = max([0, *classes]) + 1
            new = range(len(self.class_names), n)
            classes |= dict(zip(range(free, free + len(new)), new, strict=True))
        return Meanings(class_names=class_names, classes=classes, rest=rest)

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
        if labels.dtype.kind not in "iu" or not labels.size or (low := _narrow(labels)) is None:
            values, places = np.unique(labels, return_inverse=True)
            places = places.reshape(labels.shape)
            found = np.array([_none_as_ignored(self.of(int(value))) for value in values], np.int16)
        else:
            found = np.full(int(labels.max()) - low + 1, _none_as_ignored(self.rest), np.int16)
            for value, index in self.classes.items():
                if 0 <= value - low < len(found):
                    found[value - low] = _none_as_ignored(index)
            places = labels if low == 0 else labels.astype(np.int64) - low
        return np.maximum(found, 0).astype(np.uint8)[places], (found >= 0)[places]


def _none_as_ignored(index: int | None) -> int:
    return -1 if index is None else index


def _narrow(labels: npt.NDArray[Any]) -> int | None:
    """Return the lowest value of integers that lie so close together that a table of them is small; or None."""
    low, high = int(labels.min()), int(labels.max())
    return low if high - low < _TABLE and high < 1 << 63 else None


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
    values, numbers = value_counts(labels)
    return dict(zip(map(int, values), numbers.tolist(), strict=True))


def value_counts(labels: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Return the values that occur, ascending, and how many voxels have each; see `count_values`.

    Integers that lie close together are counted in a table, in parts that fit the cache: no copy of them all is made.
    """
    if labels.dtype.kind == "f" and not (labels == np.rint(labels)).all():
        raise SpecError("These labels hold numbers that are not whole, so they cannot stand for classes.")
    if labels.dtype.kind not in "iu" or not labels.size or (low := _narrow(labels)) is None:
        values, numbers = np.unique(labels, return_counts=True)
        return values, numbers.astype(np.int64)
    if low == int(labels.max()):
        # Most planes of sparse annotation.
        return np.array([low]), np.array([labels.size], np.int64)
    table = np.zeros(int(labels.max()) - low + 1, np.int64)
    parts = np.nditer(labels, flags=["external_loop", "buffered"], order="K", buffersize=_PART_VOXELS)
    for part in parts:
        table += np.bincount(np.asarray(part).astype(np.int64) - low, minlength=len(table))
    found = np.flatnonzero(table)
    return found + low, table[found]


def add_counts(counts: dict[int, int], more: Mapping[int, int]) -> dict[int, int]:
    """Return the sum of two counts, so that a volume can be counted box by box."""
    return {value: counts.get(value, 0) + more.get(value, 0) for value in sorted({*counts, *more})}


def meanings_from(text: str) -> Meanings:
    """Return what `0=ignore,1=background,2=axon,4=ignore` says; `*` is every value that is not named.

    Nothing is learnt from values that are called ignore, or unlabelled.

    Raises
    ------
    SpecError
        If it is not of that form, or has fewer than two classes.

    Examples
    --------
    >>> meanings = meanings_from("0=ignore,1=background,2=axon,4=ignore")
    >>> meanings.class_names, meanings.classes
    (('background', 'axon'), {0: None, 1: 0, 2: 1, 4: None})
    """
    pairs = [part.partition("=") for part in text.split(",")]
    try:
        said = [(None if value.strip() == "*" else int(value), name.strip()) for value, _, name in pairs]
    except ValueError:
        said = []
    if not said or not all(name for _, name in said):
        raise SpecError(
            f"{text!r} does not say what values mean; 0=ignore,1=background,2=axon would (* is every other value)."
        )
    named = [(value, None if name.casefold() in _NOT_LEARNT else name) for value, name in said]
    names = list(dict.fromkeys(name for _, name in named if name is not None))
    # The first class is the background, wherever it stands.
    names.sort(key=lambda name: name != "background")
    if len(names) < 2:
        raise SpecError(f"{text!r} names {len(names)} class; a network tells at least two apart.")
    index = {name: None if name is None else names.index(name) for _, name in named}
    return Meanings(
        class_names=tuple(names),
        classes={value: index[name] for value, name in named if value is not None},
        rest=next((index[name] for value, name in named if value is None), None),
    )


def guess_meanings(counts: Mapping[int, int], class_names: tuple[str, ...], *, is_complete: bool) -> Meanings:
    """Return what the values most likely mean: class indices, or instances if there are very many; a person decides.

    Parameters
    ----------
    counts
        How many voxels have each value.
    class_names
        Background first.
    is_complete
        It is known that every voxel was looked at. Otherwise 0 is unlabelled, until somebody says that it is not.

    Examples
    --------
    >>> guess_meanings({0: 900, 1: 60, 3: 40}, ("background", "axon"), is_complete=True).unexpected([0, 1, 3])
    [3]
    >>> guess_meanings({0: 900, 1: 60}, ("background", "axon"), is_complete=False).of(0) is None
    True
    """
    is_instances = len(counts) > MAX_VALUES
    guessed = Meanings.everything_above_zero(class_names) if is_instances else Meanings.indices(class_names)
    return guessed if is_complete else guessed.with_class(0, None)

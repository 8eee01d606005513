"""How well a segmentation agrees with the truth: Dice and IoU of one class.

Only voxels that count are compared, so sparse annotation scores what was painted and nothing else.
Overlaps add up: a volume scored box by box gets the score of the whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Overlap:
    """Voxels of one class, in counts that can be added over boxes.

    Attributes
    ----------
    both
        Voxels that are predicted and true.
    predicted
        Voxels that are predicted.
    true
        Voxels that are true.
    compared
        Voxels that count.

    Examples
    --------
    >>> whole = Overlap(both=3, predicted=4, true=4, compared=8) + Overlap(0, 0, 2, 8)
    >>> whole.dice, whole.iou
    (0.6, 0.42857142857142855)
    """

    both: int = 0
    predicted: int = 0
    true: int = 0
    compared: int = 0

    def __add__(self, other: Overlap) -> Overlap:
        return Overlap(
            self.both + other.both,
            self.predicted + other.predicted,
            self.true + other.true,
            self.compared + other.compared,
        )

    @property
    def is_a_score(self) -> bool:
        """Return whether the class could be missed and could be found where it is not: both it and others are true."""
        return 0 < self.true < self.compared

    @property
    def dice(self) -> float:
        """Return 2 |both| / (|predicted| + |true|), in [0, 1].

        1.0 where the class is neither predicted nor true: nothing was to be found, and nothing was.
        NaN where no voxel counts: nothing was compared.
        """
        return self._share(2 * self.both, self.predicted + self.true)

    @property
    def iou(self) -> float:
        """Return |both| / |predicted or true|, in [0, 1]; 1.0 and NaN as for `dice`."""
        return self._share(self.both, self.predicted + self.true - self.both)

    def _share(self, part: int, whole: int) -> float:
        if not self.compared:
            return math.nan
        return part / whole if whole else 1.0


def overlap(predicted: Booleans, true: Booleans, counts: Booleans | None = None) -> Overlap:
    """Count where the voxels of one class were predicted and where they are.

    Parameters
    ----------
    predicted, true
        Boolean arrays of one shape: the voxels of the class.
    counts
        Boolean array of that shape: the voxels to compare. None: all of them.

    Raises
    ------
    TypeError
        If an array is not boolean: compare class indices first, as in ``labels == 2``.
    ValueError
        If the shapes differ.
    """
    masks = {"predicted": predicted, "true": true}
    if counts is not None:
        masks["counts"] = counts
    for name, mask in masks.items():
        if mask.dtype != np.bool_:
            raise TypeError(f"`{name}` holds {mask.dtype}; a boolean array is needed, as in labels == 2")
        if mask.shape != predicted.shape:
            raise ValueError(f"`{name}` has shape {mask.shape}, but `predicted` has {predicted.shape}")
    if counts is not None:
        predicted, true = predicted & counts, true & counts
    return Overlap(
        both=int(np.count_nonzero(predicted & true)),
        predicted=int(np.count_nonzero(predicted)),
        true=int(np.count_nonzero(true)),
        compared=predicted.size if counts is None else int(np.count_nonzero(counts)),
    )


def dice(predicted: Booleans, true: Booleans, counts: Booleans | None = None) -> float:
    """Return the Dice coefficient of one class, in [0, 1]; see `overlap` and `Overlap.dice`.

    Examples
    --------
    >>> dice(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    >>> dice(np.zeros(3, bool), np.zeros(3, bool))
    1.0
    """
    return overlap(predicted, true, counts).dice


def iou(predicted: Booleans, true: Booleans, counts: Booleans | None = None) -> float:
    """Return the intersection over union of one class, in [0, 1]; see `overlap` and `Overlap.iou`.

    Examples
    --------
    >>> iou(np.array([True, True, False]), np.array([True, False, False]))
    0.5
    """
    return overlap(predicted, true, counts).iou

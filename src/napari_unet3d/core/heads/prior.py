"""How frequent each class is: in what a network has learnt from, and in the volume that it is used on.

People paint around objects, and training draws every class equally often, so a network expects other shares of the
classes than a volume has. Its probabilities are Bayesian: divided by the shares that it has learnt with and multiplied
by those of the volume they are right again. The shares of the volume are found from its own probabilities by
expectation maximization (Saerens, Latinne and Decaestecker 2002, Neural Computation 14, 21-41), and the correction
goes half of the way to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.annotation.targets import IGNORED
from napari_unet3d.errors import SpecError

Shares = tuple[float, ...]

_MOST_ROUNDS, _CLOSE = 200, 1e-5
# Steps: by then most of what a network has learnt with other shares is forgotten.
REMEMBERED = 200
# No class is thought to be rarer in a volume than this part of what was learnt: a dark volume has none of it, and says
# nothing of others.
_LEAST_PART = 1 / 10
# Of 10,000 voxels one: a class that was learnt is thought to be possible.
_LEAST_SHARE = 1e-4


def normalized(shares: Sequence[float]) -> Shares:
    """Return shares that add up to 1.

    Raises
    ------
    SpecError
        If they are not positive numbers.

    Examples
    --------
    >>> normalized([3, 1])
    (0.75, 0.25)
    """
    values = np.asarray(shares, float)
    if values.ndim != 1 or not np.isfinite(values).all() or (values <= 0).any():
        raise SpecError(
            f"Shares of classes must be numbers above 0, not {', '.join(f'{share:g}' for share in shares)}."
        )
    return tuple(float(share) for share in values / values.sum())


def learnt_shares(
    targets: npt.NDArray[np.uint8], class_weights: Sequence[float], before: Shares | None, step: int
) -> Shares | None:
    """Return how frequent the classes were in what was learnt of late, after one more step.

    Parameters
    ----------
    targets
        (..) classes of the patches of the step, and `IGNORED`.
    class_weights
        Weight of a voxel of each class in the loss.
    before
        What this function has returned after the step before.
    step
        Its number, from 0: the mean of the first steps, and then of about the last `REMEMBERED`. A network that starts
        from a model is as old as that.
    """
    counts = np.bincount(targets[targets != IGNORED].ravel(), minlength=len(class_weights)) * np.asarray(class_weights)
    if not counts.sum():
        return before
    now = counts / counts.sum()
    if before is not None:
        share = 1 / min(step + 1, REMEMBERED)
        now = (1 - share) * np.asarray(before) + share * now
    return tuple(float(value) for value in now)


def volume_shares(probabilities: npt.NDArray[Any], learnt: Shares) -> Shares:
    """Return how frequent the classes are in a volume.

    Parameters
    ----------
    probabilities
        (n, classes) of voxels that stand for the volume, as the network gives them.
    learnt
        The shares that the network has learnt with.

    Returns
    -------
    tuple
        One share for each class. Only the first may be larger than in what was learnt: people paint around objects, so
        a volume has fewer of them, and where more seem to be there the network errs more often than the sample is
        special. No class has less than `_LEAST_PART` of its learnt share.

    Examples
    --------
    >>> certain = np.eye(2)[[0, 0, 0, 1]]
    >>> [round(share, 3) for share in volume_shares(certain, (0.5, 0.5))]
    [0.75, 0.25]
    """
    found = np.asarray(probabilities, np.float64)
    known = np.maximum(learnt, _LEAST_SHARE)
    known /= known.sum()
    shares = known
    for _ in range(_MOST_ROUNDS):
        corrected = found * (shares / known)
        corrected /= np.maximum(corrected.sum(axis=1, keepdims=True), np.finfo(float).tiny)
        before, shares = shares, np.clip(corrected.mean(axis=0), _LEAST_PART * known, known)
        shares[0] = 1 - shares[1:].sum()
        if np.abs(shares - before).max() < _CLOSE:
            break
    return tuple(float(share) for share in shares)


def halfway(learnt: Shares, found: Shares) -> Shares:
    """Return the shares that probabilities are corrected for: half of the way, in odds, from `learnt` to `found`.

    Most of the background of a volume lies far from all that was painted and is easily told. It makes objects rare,
    and says nothing of the voxels beside them, which are hard to tell. docs/how-to/train.md has what was measured.

    Parameters
    ----------
    learnt, found
        The shares that the network has learnt with, and those of a volume (`volume_shares`).

    Examples
    --------
    >>> [round(share, 3) for share in halfway((0.5, 0.5), (0.8, 0.2))]
    [0.667, 0.333]
    """
    return normalized(np.sqrt(np.maximum(learnt, _LEAST_SHARE) * np.asarray(found)).tolist())


def emphasized(shares: Sequence[float], emphasis: Sequence[float]) -> Shares:
    """Return shares with which more, or less, of some classes is found.

    Parameters
    ----------
    shares
        One for each class.
    emphasis
        For each class, how many times its odds are doubled; none leaves the shares as they are.

    Raises
    ------
    SpecError
        If there are not as many numbers as classes.

    Examples
    --------
    >>> [round(share, 3) for share in emphasized((0.5, 0.5), (0, 1))]
    [0.333, 0.667]
    """
    if emphasis and len(emphasis) != len(shares):
        raise SpecError(f"There are {len(shares)} classes; the emphasis has {len(emphasis)} numbers.")
    return normalized(
        [share * 2.0**times for share, times in zip(shares, emphasis or [0.0] * len(shares), strict=True)]
    )


def shift(learnt: Shares, wanted: Shares) -> npt.NDArray[np.float32]:
    """Return what is added to the logits, (classes,), so that probabilities are right for other shares.

    Examples
    --------
    >>> shift((0.5, 0.5), (0.5, 0.5)).tolist()
    [0.0, 0.0]
    """
    ratio: npt.NDArray[np.float64] = np.log(np.maximum(wanted, _LEAST_SHARE) / np.maximum(learnt, _LEAST_SHARE))
    return np.asarray(ratio - ratio.mean(), np.float32)

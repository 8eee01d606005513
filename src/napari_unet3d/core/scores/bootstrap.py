"""How sure a score is: the interval in which it would mostly lie, had other places been held out.

Voxels that lie together are alike, so blocks of them are drawn, not voxels (bootstrap; Efron 1979). Whatever adds up
over voxels adds up over blocks. It says nothing of other images, and too little of doubt where objects are larger than
the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Interval = tuple[float, float]
UNKNOWN: Interval = (math.nan, math.nan)
RESAMPLES = 200
# The share of the draws that lies in an interval.
COVERAGE = 0.9
# From fewer blocks than this nothing can be said of others.
LEAST_BLOCKS = 5
_SEED = 0


def resample(
    blocks: Mapping[str, npt.NDArray[np.float64]],
    score: Callable[[Mapping[str, npt.NDArray[np.float64]]], Sequence[float]],
) -> npt.NDArray[np.float64]:
    """Return scores of as many blocks as there are, drawn with replacement; the same draws every time.

    Parameters
    ----------
    blocks
        By name, (blocks, ..): what is summed over the voxels of each block.
    score
        From such sums over all voxels to scores.

    Returns
    -------
    numpy.ndarray
        (200, scores) float64; NaN where a draw has none.

    Examples
    --------
    >>> drawn = resample({"hits": np.array([1.0, 0, 1, 0])}, lambda sums: [sums["hits"] / 4])
    >>> drawn.shape, float(drawn.min()), float(drawn.max())
    ((200, 1), 0.0, 1.0)
    """
    rng = np.random.default_rng(_SEED)
    n = len(next(iter(blocks.values())))
    scores = []
    for _ in range(RESAMPLES):
        times_drawn = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        scores.append(score({name: np.tensordot(times_drawn, part, 1) for name, part in blocks.items()}))
    return np.array(scores, np.float64)


def interval(drawn: npt.NDArray[np.float64]) -> Interval:
    """Return between what nine in ten of the draws of a score lie; draws that have none are left out.

    Examples
    --------
    >>> interval(np.linspace(0, 1, 101))
    (0.05, 0.95)
    """
    found = drawn[~np.isnan(drawn)]
    if not len(found):
        return UNKNOWN
    low, high = np.quantile(found, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return round(float(low), 6), round(float(high), 6)

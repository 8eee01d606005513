"""Which values of a volume say nothing of its intensities: padding, masked and clipped voxels.

They are exact ties: one number that is far more frequent than the numbers next to it, or that most voxels have. An
ordinary histogram, however narrow, has no such number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# Looked at to find ties; enough to see one of a thousandth of all voxels.
_LOOKED_AT = 1 << 18
# A tie is more frequent than either neighbour, and so many times as frequent as those around it ..
_RATIO = 10
# .. of which so many on either side are looked at, and the second most frequent counts: the edge of another tie is no
# measure, and beside the top of a narrow histogram lie two others.
_NEIGHBOURS = 3
# Fewer voxels, or a smaller share of them, are no tie.
_LEAST, _LEAST_SHARE = 10, 1 / 4000
_MOST_VALUES = 8


def fill_values(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the values that are fill values, the most frequent first.

    Parameters
    ----------
    values
        Finite numbers in any order, of one channel.

    Returns
    -------
    array
        Of the same type, short, and mostly empty.

    Examples
    --------
    >>> ramp = np.arange(1000, 2000)
    >>> fill_values(ramp), fill_values(np.concatenate([np.zeros(300, int), ramp]))
    (array([], dtype=int64), array([0]))
    """
    looked_at = values
    if values.size > _LOOKED_AT:
        # Drawn, and not every n-th: rows of a volume have a period too.
        looked_at = values[np.random.default_rng(0).integers(values.size, size=_LOOKED_AT)]
    found, counts = np.unique(looked_at, return_counts=True)
    least = max(_LEAST, looked_at.size * _LEAST_SHARE)
    is_majority = 2 * counts > looked_at.size
    ties = [
        int(i) for i in np.flatnonzero((counts >= least) | is_majority) if is_majority[i] or _is_tie(counts, int(i))
    ]
    ties.sort(key=lambda i: -counts[i])
    return np.asarray(found[ties[:_MOST_VALUES]])


def _is_tie(counts: npt.NDArray[np.int64], index: int) -> bool:
    before, after = counts[max(0, index - _NEIGHBOURS) : index], counts[index + 1 : index + 1 + _NEIGHBOURS]
    # Counts of few photons fall as steeply, but 1 is not more frequent than 0.
    if max(*before[-1:], *after[:1], 0, 0) >= counts[index]:
        return False
    second = sorted([*before, *after])[-2:][:1]
    return bool(counts[index] > _RATIO * max(second, default=0))


def without(values: npt.NDArray[Any], fills: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the values that are none of the fill values; the same array where there are none."""
    for fill in fills:
        values = values[values != fill]
    return values

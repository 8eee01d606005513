"""Numbers that no network can read: NaN, infinity, and what is beyond float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

NOT_FINITE = "NaN, infinity or numbers beyond float32"


def finite_voxels(voxels: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    """Return which voxels are finite in all channels; None where all are.

    Parameters
    ----------
    voxels
        (z, y, x) or (z, y, x, c), any real type.

    Returns
    -------
    array or None
        (z, y, x).

    Examples
    --------
    >>> finite_voxels(np.array([[[1.0, np.nan]]])), finite_voxels(np.zeros((1, 1, 2)))
    (array([[[ True, False]]]), None)
    """
    if voxels.dtype.kind != "f":
        return None
    with np.errstate(over="ignore"):
        finite = np.isfinite(voxels.astype(np.float32, copy=False))
    if finite.ndim == 4:
        finite = np.asarray(finite.all(axis=-1))
    return None if finite.all() else finite

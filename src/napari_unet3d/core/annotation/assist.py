"""Help with painting: what looks like a voxel and hangs together with it, and what lies between two painted slices."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Booleans = npt.NDArray[np.bool_]


def grow_alike(image: npt.NDArray[Any], seed: tuple[int, ...], tolerance: float) -> Booleans:
    """Return the region of similar intensity around a voxel.

    Parameters
    ----------
    image
        Intensities, any number of axes and any real type.
    seed
        The voxel.
    tolerance
        How much a voxel may differ from the seed, in the units of `image`; at least 0.

    Returns
    -------
    numpy.ndarray
        bool, of the shape of `image`: the voxels that do not differ more, and are connected with the seed over faces.

    Examples
    --------
    >>> grow_alike(np.array([5, 6, 9, 6]), (0,), 1.0)
    array([ True,  True, False, False])
    """
    from scipy import ndimage

    # Unsigned numbers would wrap around.
    values = np.asarray(image, np.float64)
    alike = np.abs(values - values[seed]) <= tolerance
    alike[seed] = True
    regions, _ = ndimage.label(alike)
    return np.asarray(regions == regions[seed])


def usual_tolerance(image: npt.NDArray[Any], seed: tuple[int, ...]) -> float:
    """Return a tolerance for `grow_alike`: three times the noise around the seed, measured by neighbours that differ.

    Structures are left out as far as half of the neighbours lie within one; where nothing differs it is half a grey
    value, so that equal voxels alone are taken.
    """
    near = tuple(slice(max(0, at - _NOISE_REACH), at + _NOISE_REACH + 1) for at in seed)
    part = np.asarray(image[near], np.float64)
    steps = [np.abs(np.diff(part, axis=axis)).ravel() for axis in range(part.ndim)]
    typical = float(np.median(np.concatenate(steps))) if any(map(len, steps)) else 0.0
    # The median of the absolute difference of two normal numbers is 0.954 times their spread.
    return max(0.5, _SPREADS * typical / 0.954)


_NOISE_REACH, _SPREADS = 5, 3.0


def between_slices(first: Booleans, last: Booleans, n_between: int) -> Booleans:
    """Return one object on the slices between two on which it was painted.

    The signed distance to its outline is interpolated, so that it grows and moves steadily from one to the other
    (Raya and Udupa 1990).

    Parameters
    ----------
    first, last
        The object on the two slices, (y, x) bool; neither is empty.
    n_between
        How many slices lie between them.

    Returns
    -------
    numpy.ndarray
        (n_between, y, x) bool.

    Raises
    ------
    ValueError
        If the object is on none of the two, or the shapes differ.
    """
    if first.shape != last.shape or not (first.any() and last.any()):
        raise ValueError("the object is on both slices, which have the same shape")
    between = np.zeros((n_between, *first.shape), bool)
    # Outside of both the distances are above 0, and so is every mean of them.
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in np.nonzero(first | last))
    begin, end = _signed_distance(first[box]), _signed_distance(last[box])
    for number, part in enumerate(between, start=1):
        share = number / (n_between + 1)
        part[box] = (1 - share) * begin + share * end < 0
    return between


def _signed_distance(mask: Booleans) -> npt.NDArray[np.float64]:
    """Return how far pixels are from the outline, below 0 inside."""
    from scipy import ndimage

    # Outside of the picture is outside of the object.
    padded = np.pad(mask, 1)
    inside, outside = ndimage.distance_transform_edt(padded), ndimage.distance_transform_edt(~padded)
    distance = np.where(padded, 0.5 - inside, outside - 0.5)
    return np.asarray(distance[1:-1, 1:-1], np.float64)

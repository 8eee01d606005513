"""Smaller copies of a volume, each made from the one before, so that a volume of any size can be looked at.

Labels take the most frequent value of what becomes one voxel, and of equally frequent ones the largest: a mean would
invent classes. Intensities and probabilities take the mean. Arrays are as they are stored, ([c, ]z, y, x).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

Factors = tuple[int, int, int]
# A copy that is no longer than this along any axis needs none that is smaller.
SMALL = 256
# Axes whose voxels are longer than this times the shortest ones are left as they are.
_ISOTROPIC = 1.5


def plan_levels(shape: Sequence[int], voxel_size: Sequence[float]) -> list[Factors]:
    """Return how many voxels of the full size make one, (z, y, x), for each smaller copy; the first is a half.

    Thick slices are kept until the voxels are about as long along all axes.

    Examples
    --------
    >>> plan_levels((100, 1000, 1000), (4.0, 1.0, 1.0))
    [(1, 2, 2), (1, 4, 4)]
    """
    levels: list[Factors] = []
    factors = np.ones(3, int)
    while True:
        sizes = -(-np.asarray(shape) // factors)
        if sizes.max() <= SMALL:
            return levels
        lengths = np.where(sizes > 1, np.asarray(voxel_size) * factors, np.inf)
        factors = factors * np.where(lengths <= _ISOTROPIC * lengths.min(), 2, 1)
        z, y, x = (int(n) for n in factors)
        levels.append((z, y, x))


def fill_level(source: Any, target: Any, *, is_labels: bool) -> Iterator[None]:
    """Write a smaller copy, file by file; yields after each.

    Parameters
    ----------
    source, target
        Arrays of zarr; along an axis the target is as long as the source, or half as long, rounded up.
    is_labels
        Whether to take the most frequent value, or the mean.
    """
    factors = tuple(1 if small == size else 2 for size, small in zip(source.shape, target.shape, strict=True))
    files, chunks = target.shards or target.chunks, target.chunks
    for corner in product(*(range(0, size, step) for size, step in zip(target.shape, files, strict=True))):
        stops = [min(at + step, size) for at, step, size in zip(corner, files, target.shape, strict=True)]
        values = np.empty([stop - at for at, stop in zip(corner, stops, strict=True)], target.dtype)
        # Chunk by chunk: what is read is eight times as much.
        for inner in product(*(range(at, stop, step) for at, stop, step in zip(corner, stops, chunks, strict=True))):
            ends = [min(at + step, stop) for at, step, stop in zip(inner, chunks, stops, strict=True)]
            read = (slice(at * n, end * n) for at, end, n in zip(inner, ends, factors, strict=True))
            where = (slice(at - low, end - low) for at, end, low in zip(inner, ends, corner, strict=True))
            values[tuple(where)] = reduce_box(np.asarray(source[tuple(read)]), factors, is_labels=is_labels)
        target[tuple(slice(at, stop) for at, stop in zip(corner, stops, strict=True))] = values
        yield


def reduce_box(values: npt.NDArray[Any], factors: Sequence[int], *, is_labels: bool) -> npt.NDArray[Any]:
    """Return a box with 1 or 2 voxels along each axis made into one; the last one may stand for a half.

    Examples
    --------
    >>> reduce_box(np.array([[3, 3, 1, 0, 7]]), (1, 2), is_labels=True)
    array([[3, 1, 7]])
    """
    padded = np.pad(values, [(0, -size % n) for size, n in zip(values.shape, factors, strict=True)], mode="edge")
    parts = [
        padded[tuple(slice(start, None, n) for start, n in zip(starts, factors, strict=True))]
        for starts in product(*map(range, factors))
    ]
    if len(parts) == 1:
        return padded
    if is_labels:
        return _most_frequent(parts)
    mean = sum(part.astype(np.float32) for part in parts) / np.float32(len(parts))
    return np.asarray(mean if values.dtype.kind == "f" else np.rint(mean), values.dtype)


def _most_frequent(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    best, most = parts[0], np.zeros(parts[0].shape, np.uint8)
    for part in parts:
        count = np.zeros(part.shape, np.uint8)
        for other in parts:
            count += part == other
        better = (count > most) | ((count == most) & (part > best))
        best = np.where(better, part, best)
        most = np.where(better, count, most)
    return best

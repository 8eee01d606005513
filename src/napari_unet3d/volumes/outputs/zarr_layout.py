"""How a Zarr is cut into chunks, and its chunks put into files (shards), for whoever writes it in blocks.

Two processes that write into one file lose data in silence. So where the boxes that are written at once are known, each
of them is a whole number of files. Shapes are as the array is stored: channels first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Shape = tuple[int, ...]
CHUNK_SIZE = 128
# zarr encodes so many chunks at the same time, each with a copy.
_AT_ONCE, _COPIES = 10, 2
# Of a shard there are its numbers, its chunks encoded, and both as they are put together.
_COPIES_OF_SHARD = 3


@dataclass(frozen=True)
class Layout:
    """Chunks, and the shards that hold them; None where each chunk is a file.

    Examples
    --------
    >>> lay_out((1000, 1000, 2000), np.dtype("uint8"), (248, 248, 248))
    Layout(chunks=(124, 124, 124), shards=(124, 248, 248))
    """

    chunks: Shape
    shards: Shape | None

    @property
    def files(self) -> Shape:
        """Return the shape of what lies in one file."""
        return self.shards or self.chunks


def lay_out(shape: Shape, dtype: np.dtype[Any], blocks: Shape | None) -> Layout:
    """Return how an array is stored.

    Parameters
    ----------
    shape
        Of the array, ([c, ]z, y, x).
    dtype
        Its number type.
    blocks
        (z, y, x) of the boxes that are written at once, side by side from the first voxel on; None where that is not
        known. A block that is as long as the array, or longer, is the only one along its axis.
    """
    space = shape[-3:]
    plain = tuple(min(size, CHUNK_SIZE) for size in space)
    leading = (1,) * (len(shape) - 3)
    if blocks is None:
        return Layout((*leading, *plain), None)
    chunks, counts = zip(*(_cut(size, block) for size, block in zip(space, blocks, strict=True)), strict=True)
    most = bytes_at_once(shape, Layout((*leading, *plain), None), dtype) // _COPIES_OF_SHARD
    kept = _fit(list(chunks), list(counts), max(1, most // dtype.itemsize))
    shards = tuple(chunk * n for chunk, n in zip(chunks, kept, strict=True))
    return Layout((*leading, *chunks), None if shards == tuple(chunks) else (*leading, *shards))


def bytes_at_once(shape: Shape, layout: Layout, dtype: np.dtype[Any]) -> int:
    """Return the bytes that a write takes beyond the box: what is decoded and encoded at the same time."""
    if layout.shards is not None:
        return _COPIES_OF_SHARD * math.prod(layout.shards) * dtype.itemsize
    n_chunks = -(-shape[-1] // layout.chunks[-1])
    return _COPIES * math.prod(layout.chunks) * dtype.itemsize * min(n_chunks, _AT_ONCE)


def _cut(size: int, block: int) -> tuple[int, int]:
    """Return the length of a chunk along an axis, and how many of them make up a block."""
    if block >= size:
        # The last chunk may reach beyond the array.
        n = -(-size // CHUNK_SIZE)
        return -(-size // n), n
    divisors = [n for n in range(1, block + 1) if block % n == 0]
    n = min(divisors, key=lambda n: abs(math.log2(block / n / CHUNK_SIZE)))
    return block // n, n


def _fit(chunks: list[int], counts: list[int], most_voxels: int) -> list[int]:
    """Return how many chunks a shard has along each axis, so that it has no more voxels: divisors of `counts`."""
    kept = list(counts)
    while math.prod(chunks) * math.prod(kept) > most_voxels and max(kept) > 1:
        # x last: a row of chunks along x is read together.
        axis = max(range(3), key=lambda axis: (kept[axis], -axis))
        kept[axis] = max(n for n in range(1, kept[axis]) if counts[axis] % n == 0)
    return kept

"""Reading boxes of an array in an open HDF5 file.

Chunks that are compressed with gzip are inflated here and not by the library: never to more than the file
declares, without the library's lock, and once for all boxes that need them. Other large chunks are read whole by
the library and kept as well; its own cache holds 1 MiB.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from napari_unet3d.errors import VolumeError, shown
from napari_unet3d.volumes.arrays import DecodedCache, LazyArray, Slices, read_in_pieces
from napari_unet3d.volumes.hdf5.links import explain_errors
from napari_unet3d.volumes.inflating import TooMuchError, inflate

_DEFLATE, _SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE
# How many bytes deflate makes at most of one.
_MOST = 1032
_HARMLESS = 64 * 2**20
_LIBRARY_CACHE = 2**20
_WORTH_INFLATING = 2**16
_LARGEST_CHUNK = 2**32
_MOST_COUNTED = 50_000


class Hdf5Array(LazyArray):
    """An array in an open file. h5py has one lock for all of its calls: threads are safe, and take turns.

    Parameters
    ----------
    array
        The dataset of h5py.
    path
        The file.
    cache
        Where decoded chunks are kept, with those of other arrays; None makes one of its own.

    Raises
    ------
    VolumeError
        If its chunks are larger than is plausible.
    """

    def __init__(self, array: Any, path: Path, cache: DecodedCache | None = None) -> None:
        super().__init__(array.shape, array.dtype)
        self._array = array
        self._path = path
        self._stored_dtype: np.dtype[Any] = np.dtype(array.dtype)
        self._cache = cache or DecodedCache()
        self._name = str(array.name)
        self._grid = None if array.chunks is None else tuple(int(size) for size in array.chunks)
        self._chunk_bytes = 0 if self._grid is None else math.prod(self._grid) * self._stored_dtype.itemsize
        if self._chunk_bytes > _LARGEST_CHUNK:
            raise VolumeError(
                f"{shown(path)} declares chunks of {self._chunk_bytes:,} bytes each, which is not plausible."
            )
        self._filters = _filters(array) if self._grid is not None else []
        is_inflatable = _DEFLATE in self._filters and set(self._filters) <= {_DEFLATE, _SHUFFLE}
        self._inflates = is_inflatable and self._chunk_bytes >= _WORTH_INFLATING

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the number type in the file, with its byte order."""
        return self._stored_dtype

    @property
    def piece_bytes(self) -> int:
        """Return the bytes of a chunk."""
        return self._chunk_bytes

    def keep_at_most(self, n_bytes: int) -> None:
        """Keep so many bytes of decoded chunks between reads, or one chunk if that is more."""
        self._cache.keep_at_most(n_bytes)

    def read(self, box: Slices) -> npt.NDArray[Any]:
        """Return a box.

        Raises
        ------
        VolumeError
            If a chunk is damaged, or inflates to more than it declares.
        """
        with explain_errors(self._path):
            if self._grid is None or not (self._inflates or self._chunk_bytes > _LIBRARY_CACHE):
                self._refuse_bombs(box)
                values: npt.NDArray[Any] = self._array[box]
                return values
            return read_in_pieces(box, self._grid, self.shape, self._dtype, self._chunk)

    def _corners(self, box: Slices) -> Iterator[tuple[int, ...]]:
        """Yield the first voxel of each chunk that a box touches."""
        grid = self._grid or self.shape
        ranges = [range(part.start // step * step, part.stop, step) for part, step in zip(box, grid, strict=True)]
        return product(*ranges)

    def _chunk(self, corner: tuple[int, ...], whole: Slices) -> npt.NDArray[Any]:
        key = (self._name, corner)
        if self._inflates:
            return self._cache.fetch(key, lambda: self._inflate(corner))
        self._refuse_bombs(whole)
        return self._cache.fetch(key, lambda: np.asarray(self._array[whole]))

    @cached_property
    def _stored_bytes(self) -> dict[tuple[int, ...], int]:
        """Return the bytes in the file of each chunk that was written, by its first element."""
        found: dict[tuple[int, ...], int] = {}
        # To ask for one chunk is a search through all of them.
        self._array.id.chunk_iter(lambda info: found.__setitem__(info.chunk_offset, info.size))
        return found

    @cached_property
    def _is_harmless(self) -> bool:
        """Return whether no chunk can inflate to much, whatever is in it."""
        return max(self._stored_bytes.values(), default=0) * _MOST <= max(_HARMLESS, 4 * self._chunk_bytes)

    def _inflate(self, corner: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return a chunk, as far as the file declares it, from its bytes in the file."""
        grid = self._grid or self.shape
        if corner not in self._stored_bytes:
            return np.full(grid, self._array.fillvalue, self._dtype)
        mask, stored = self._array.id.read_direct_chunk(corner)
        data = bytes(stored)
        for number, kind in reversed(list(enumerate(self._filters))):
            if mask >> number & 1:
                continue
            data = self._deflate(data) if kind == _DEFLATE else _unshuffle(data, self._stored_dtype.itemsize)
        if len(data) != self._chunk_bytes:
            raise self._damaged(f"a chunk holds {len(data):,} bytes instead of {self._chunk_bytes:,}")
        values = np.frombuffer(data, self._stored_dtype).reshape(grid)
        return values.astype(self._dtype, copy=False)

    def _deflate(self, data: bytes) -> bytes:
        try:
            return inflate(data, "zlib", self._chunk_bytes) or b""
        except TooMuchError as error:
            reason = f"a chunk inflates to more than the {self._chunk_bytes:,} bytes that it declares"
            raise self._damaged(reason) from error
        except ValueError as error:
            raise self._damaged(f"a chunk cannot be inflated ({error})") from error

    def _refuse_bombs(self, box: Slices) -> None:
        """Refuse chunks that the library would inflate to far more than they declare."""
        if _DEFLATE not in self._filters or self._is_harmless:
            return
        for corner in self._corners(box):
            if corner not in self._stored_bytes:
                continue
            _, stored = self._array.id.read_direct_chunk(corner)
            # Checksums and other filters lie around what was deflated, in few bytes.
            limit = self._chunk_bytes + 1024
            if len(zlib.decompressobj().decompress(bytes(stored), limit + 1)) > limit:
                raise self._damaged(f"a chunk inflates to more than the {self._chunk_bytes:,} bytes that it declares")

    def _damaged(self, reason: str) -> VolumeError:
        return VolumeError(f"{shown(self._path)} is damaged: {reason}. Copy or download it again.")

    def note_on_chunks(self) -> list[str]:
        """Return a note if chunks were never written; none for arrays with too many chunks to count."""
        if self._grid is None:
            is_there = (
                self._array.id.get_storage_size() > 0
                or self._array.id.get_space_status() == h5py.h5d.SPACE_STATUS_ALLOCATED
            )
            return [] if is_there or not self.size else [f"Its voxels were not written and read as {self._fill}."]
        n_chunks = math.prod(-(-size // step) for size, step in zip(self.shape, self._grid, strict=True))
        n_written = self._array.id.get_num_chunks() if n_chunks <= _MOST_COUNTED else n_chunks
        if n_written >= n_chunks:
            return []
        return [f"{n_chunks - n_written} of {n_chunks} chunks were not written and read as {self._fill}."]

    @property
    def _fill(self) -> str:
        return str(self._array.fillvalue)


def _filters(array: Any) -> list[int]:
    """Return the numbers of the filters that chunks pass, in the order in which they were written."""
    plist = array.id.get_create_plist()
    return [int(plist.get_filter(number)[0]) for number in range(plist.get_nfilters())]


def _unshuffle(data: bytes, itemsize: int) -> bytes:
    """Return bytes that HDF5's shuffle has sorted by their place in a number, in their own order again."""
    n_whole = len(data) // itemsize * itemsize
    if itemsize == 1 or not n_whole:
        return data
    planes = np.frombuffer(data, np.uint8, n_whole).reshape(itemsize, -1)
    numbers = np.empty((planes.shape[1], itemsize), np.uint8)
    # A byte after the other is five times faster than to transpose them.
    for at, plane in enumerate(planes):
        numbers[:, at] = plane
    return numbers.tobytes() + data[n_whole:]

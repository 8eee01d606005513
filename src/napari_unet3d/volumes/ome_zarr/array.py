"""Reading boxes of a Zarr array.

A chunk that is missing reads as the fill value, which Zarr allows: it is counted and said, and refused in what
this program wrote, because that always has every chunk. Chunks much larger than what is asked for are decoded
once and kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.errors import VolumeError
from napari_unet3d.volumes.arrays import DecodedCache, LazyArray, Slices, box_shape, read_in_pieces
from napari_unet3d.volumes.blame import is_mistake
from napari_unet3d.volumes.ome_zarr.capped import cap_codecs
from napari_unet3d.volumes.ome_zarr.place import ZIP_ERRORS, ZarrPlace

ALL_CHUNKS = "napari_unet3d_all_chunks_written"
_MOST_COUNTED = 50_000
_LARGEST_CHUNK = 2**32
_LARGE_CHUNK = 4 * 2**20
_DECODE_ERRORS = (
    ArithmeticError,
    KeyError,
    OSError,
    TypeError,
    ValueError,
    *ZIP_ERRORS,
)


class ZarrArray(LazyArray):
    """A Zarr array on a local disk. Nothing but a zip file is held open; threads may read at the same time.

    Parameters
    ----------
    array
        The array of the zarr library.
    place
        Where it lies.

    Raises
    ------
    VolumeError
        If its chunks are larger than is plausible.
    """

    def __init__(self, array: Any, place: ZarrPlace) -> None:
        super().__init__(tuple(array.shape), array.dtype)
        self._place = place
        self._cache = DecodedCache()
        self._chunk_shape = tuple(int(size) for size in array.chunks)
        itemsize = np.dtype(array.dtype).itemsize
        self._chunk_bytes = int(math.prod(self._chunk_shape) * itemsize)
        for n_bytes in (self._chunk_bytes, math.prod(array.shards or array.chunks) * itemsize):
            if not 0 < n_bytes <= _LARGEST_CHUNK:
                raise VolumeError(f"{place} declares chunks of {n_bytes:,} bytes each, which is not plausible.")
        # No codec makes more than this of a chunk, or of the chunks of a shard with their index.
        self._most_bytes = 2 * math.prod(array.shards or array.chunks) * itemsize + 2**20
        self._array = cap_codecs(array)
        # The files on disk: shards where there are some.
        self._grid = tuple(array.shards or array.chunks)
        self._is_ours = array.attrs.asdict().get(ALL_CHUNKS) is True

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the number type in the chunks, with its byte order."""
        dtype: np.dtype[Any] = np.dtype(self._array.dtype)
        return dtype

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
            Naming the chunk that is damaged, or that this program wrote and that is gone.
        """
        looks = {index: self._place.look(self._key(index)) for index in self._chunks(box)}
        if self._is_ours and (missing := [index for index, (n_bytes, _) in looks.items() if n_bytes < 0]):
            raise self._lost(len(missing), missing[0])
        for index, (n_bytes, _) in looks.items():
            if n_bytes > self._most_bytes:
                raise VolumeError(
                    f"{self._place}: the chunk {self._key(index)!r} has {n_bytes:,} bytes, which is not plausible for "
                    f"what its metadata declare. Copy it again."
                )
        foreign = {index for index, (_, leads_out) in looks.items() if leads_out}
        try:
            if foreign:
                return self._without(foreign, box)
            return self._kept(box) if self._is_worth_keeping(box) else np.asarray(self._array[box])
        except _DECODE_ERRORS as error:
            if is_mistake(error):
                raise
            raise self._damaged(box, error) from error

    def _without(self, foreign: set[tuple[int, ...]], box: Slices) -> npt.NDArray[Any]:
        """Return a box in which chunks that are links to somewhere else read as missing ones do."""

        def piece(corner: tuple[int, ...], whole: Slices) -> npt.NDArray[Any]:
            index = tuple(at // step for at, step in zip(corner, self._grid, strict=True))
            if index in foreign:
                return np.full(box_shape(whole), self._array.fill_value, self._dtype)
            return np.asarray(self._array[whole])

        return read_in_pieces(box, self._grid, self.shape, self._dtype, piece)

    def _is_worth_keeping(self, box: Slices) -> bool:
        """Return whether chunks are so large that most of what is decoded would be thrown away."""
        if self._chunk_bytes < _LARGE_CHUNK:
            return False
        touched = math.prod(
            (-(-part.stop // step) - part.start // step) * step
            for part, step in zip(box, self._chunk_shape, strict=True)
        )
        return bool(touched > 2 * math.prod(box_shape(box)))

    def _kept(self, box: Slices) -> npt.NDArray[Any]:
        """Return a box from whole chunks, each decoded once as long as it is at hand."""

        def piece(corner: tuple[int, ...], whole: Slices) -> npt.NDArray[Any]:
            return self._cache.fetch(corner, lambda: np.asarray(self._array[whole]))

        return read_in_pieces(box, self._chunk_shape, self.shape, self._dtype, piece)

    def check_chunks(self) -> list[str]:
        """Return a note if chunks are missing; none in arrays with too many chunks to count.

        Raises
        ------
        VolumeError
            If this program wrote the array: then every chunk was there.
        """
        everything = tuple(slice(0, size) for size in self.shape)
        n_chunks = math.prod(-(-size // step) for size, step in zip(self.shape, self._grid, strict=True))
        if n_chunks > _MOST_COUNTED:
            return []
        looks = {index: self._place.look(self._key(index)) for index in self._chunks(everything)}
        missing = [index for index, (n_bytes, _) in looks.items() if n_bytes < 0]
        if missing and self._is_ours:
            raise self._lost(len(missing), missing[0])
        fill = self._array.fill_value
        notes = []
        if missing:
            notes.append(
                f"{len(missing)} of {n_chunks} chunks are not there and read as {fill}: never written, or lost."
            )
        n_links = sum(leads_out for _, leads_out in looks.values())
        if n_links:
            notes.append(f"{n_links} of {n_chunks} chunks are links that lead out of the Zarr; they read as {fill}.")
        return notes

    def _chunks(self, box: Slices) -> Iterator[tuple[int, ...]]:
        """Yield the index of each chunk that a box touches."""
        ranges = [range(part.start // step, -(-part.stop // step)) for part, step in zip(box, self._grid, strict=True)]
        return product(*ranges)

    def _key(self, index: tuple[int, ...]) -> str:
        return str(self._array.metadata.encode_chunk_key(index))

    def _lost(self, n_missing: int, first: tuple[int, ...]) -> VolumeError:
        return VolumeError(
            f"{self._place} has lost {n_missing} chunks, the first {self._key(first)!r}: this program "
            "wrote every chunk, so they have been removed since. Copy it again, or make it again."
        )

    def _damaged(self, box: Slices, error: Exception) -> VolumeError:
        """Return the error that names the first chunk in the box that cannot be read."""
        for index in self._chunks(box):
            chunk = tuple(
                slice(at * step, min((at + 1) * step, size))
                for at, step, size in zip(index, self._grid, self.shape, strict=True)
            )
            try:
                self._array[chunk]
            except _DECODE_ERRORS as reason:
                return VolumeError(
                    f"{self._place}: the chunk {self._key(index)!r} is damaged ({reason}). Copy it again."
                )
        return VolumeError(f"{self._place} cannot be read: {error}.")

"""Arrays that stay on disk: a box is read when it is asked for.

`LazyArray` turns a NumPy-like key into a box of slices and back, so that a format only has to read a
box. `Arranged` puts the axes of a file into the order (z, y, x[, c]) and the numbers into a type that
the rest of the program knows. Positions are voxels; no files here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from itertools import product
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.errors import VolumeError
from napari_unet3d.volumes.axes import EVERYTHING, Pick
from napari_unet3d.volumes.volume import VolumeData

Slices = tuple[slice, ...]


def normalize_key(key: Any, shape: tuple[int, ...]) -> tuple[Slices, tuple[int | slice, ...]]:
    """Return the box that a key touches, and the key that picks from the box what was asked for.

    Integers, slices with a step and an ellipsis are understood, as in NumPy.

    Examples
    --------
    >>> normalize_key((2, slice(None, 5)), (4, 8))
    ((slice(2, 3, None), slice(0, 5, None)), (0, slice(None, None, 1)))
    """
    given = key if isinstance(key, tuple) else (key,)
    if any(part is Ellipsis for part in given):
        at = next(i for i, part in enumerate(given) if part is Ellipsis)
        rest = len(shape) - (len(given) - 1)
        given = given[:at] + (slice(None),) * rest + given[at + 1 :]
    if len(given) > len(shape):
        raise IndexError(f"{len(given)} indices for an array with {len(shape)} axes")
    given += (slice(None),) * (len(shape) - len(given))
    box: list[slice] = []
    pick: list[int | slice] = []
    for part, size in zip(given, shape, strict=True):
        if isinstance(part, slice):
            positions = range(*part.indices(size))
            low, high = (min(positions), max(positions) + 1) if positions else (0, 0)
            box.append(slice(low, high))
            pick.append(slice(None, None, positions.step))
        else:
            index = int(part) + size if int(part) < 0 else int(part)
            if not 0 <= index < size:
                raise IndexError(f"index {part} is out of range for an axis of {size}")
            box.append(slice(index, index + 1))
            pick.append(0)
    return tuple(box), tuple(pick)


def box_shape(box: Slices) -> tuple[int, ...]:
    """Return the shape of a box of plain slices."""
    return tuple(part.stop - part.start for part in box)


def read_in_pieces(
    box: Slices,
    grid: tuple[int, ...],
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    piece: Callable[[tuple[int, ...], Slices], npt.NDArray[Any]],
) -> npt.NDArray[Any]:
    """Return a box put together from the pieces of a regular grid.

    Parameters
    ----------
    box
        Not empty, inside the array.
    grid
        The shape of a piece; those at the end may be cut off.
    shape, dtype
        Of the array.
    piece
        Returns the numbers of a piece, from its first element and its box; they may go on beyond the array.
    """
    result = np.empty(box_shape(box), dtype)
    starts = [range(part.start // step * step, part.stop, step) for part, step in zip(box, grid, strict=True)]
    for corner in product(*starts):
        ends = (min(at + step, size) for at, step, size in zip(corner, grid, shape, strict=True))
        whole = tuple(slice(at, end) for at, end in zip(corner, ends, strict=True))
        both = [(max(p.start, w.start), min(p.stop, w.stop)) for p, w in zip(whole, box, strict=True)]
        inside = tuple(slice(low - at, high - at) for (low, high), at in zip(both, corner, strict=True))
        target = tuple(slice(low - w.start, high - w.start) for (low, high), w in zip(both, box, strict=True))
        result[target] = piece(corner, whole)[inside]
    return result


class LazyArray(ABC):
    """An array on disk. A child reads boxes; indexing as in NumPy comes from here.

    Parameters
    ----------
    shape
        The size along each axis.
    dtype
        The number type that a read gives.
    """

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self._shape = tuple(int(size) for size in shape)
        self._dtype = np.dtype(dtype).newbyteorder("=")

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the size along each axis."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the number type that a read gives, in native byte order."""
        return self._dtype

    @property
    def ndim(self) -> int:
        """Return the number of axes."""
        return len(self._shape)

    @property
    def size(self) -> int:
        """Return the number of elements."""
        return math.prod(self._shape)

    @property
    def nbytes(self) -> int:
        """Return the bytes of the whole array in memory."""
        return self.size * self._dtype.itemsize

    def __len__(self) -> int:
        return self._shape[0]

    def __getitem__(self, key: Any) -> Any:
        box, pick = normalize_key(key, self._shape)
        if 0 in box_shape(box):
            return np.empty(box_shape(box), self._dtype)[pick]
        return np.asarray(self.read(box), self._dtype)[pick]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("an array on disk cannot be used without a copy in memory")
        return np.asarray(self[...], dtype)

    @property
    def piece_bytes(self) -> int:
        """Return the bytes of the largest piece that has to be decoded whole; 0 where boxes are read as they are."""
        return 0

    def keep_at_most(self, n_bytes: int) -> None:  # noqa: B027 - most arrays keep nothing
        """Keep so many bytes of decoded pieces between reads, or one piece if that is more."""

    @abstractmethod
    def read(self, box: Slices) -> npt.NDArray[Any]:
        """Return the numbers inside a box that lies in the array and is not empty."""


class Arranged(LazyArray):
    """The axes of an array put into the order (z, y, x[, c]), in a type that can be worked with.

    Parameters
    ----------
    source
        The array as it lies in the file.
    axes
        A letter for each axis of `source`: "z", "y", "x", "c"; of an axis with any other letter one position is taken.
    positions
        Which position that is, by the number of the axis; 0 where it is not said. An axis named here is left out.
    convert
        From the file's numbers to `dtype`; None keeps them.
    dtype
        The number type that a read gives.
    """

    def __init__(
        self,
        source: VolumeData,
        axes: str,
        dtype: npt.DTypeLike,
        convert: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None = None,
        positions: Mapping[int, int] | None = None,
    ) -> None:
        self._positions = dict(positions or {})
        wanted = [letter for letter in "zyxc" if letter in axes]
        self._order = [axes.index(letter) for letter in wanted if axes.index(letter) not in self._positions]
        dropped = [at for at in range(len(axes)) if at not in self._order]
        self._permutation = [*self._order, *dropped]
        self._source = source
        self._convert = convert
        super().__init__(tuple(source.shape[at] for at in self._order), dtype)

    @property
    def piece_bytes(self) -> int:
        """Return the bytes of the largest piece that its source has to decode whole."""
        return self._source.piece_bytes if isinstance(self._source, LazyArray) else 0

    def keep_at_most(self, n_bytes: int) -> None:
        """Keep so many bytes of decoded pieces between reads, or one piece if that is more."""
        if isinstance(self._source, LazyArray):
            self._source.keep_at_most(n_bytes)

    def read(self, box: Slices) -> npt.NDArray[Any]:
        """Return the numbers inside a box given as (z, y, x[, c])."""
        fixed = (self._positions.get(axis, 0) for axis in range(len(self._permutation)))
        wanted = [slice(position, position + 1) for position in fixed]
        for at, part in zip(self._order, box, strict=True):
            wanted[at] = part
        values = np.asarray(self._source[tuple(wanted)])
        values = values.transpose(self._permutation).reshape(box_shape(box))
        return values if self._convert is None else self._convert(values)


def arrange(source: VolumeData, axes: str, where: str, pick: Pick = EVERYTHING) -> tuple[Arranged, list[str]]:
    """Return what is wanted of the volume behind `source`, and a note for each conversion; see `Arranged`.

    Raises
    ------
    VolumeError
        If the numbers are not integers, floats or booleans.
    """
    found = np.dtype(source.dtype)
    if pick.is_labels and found.kind in "ui":
        dtype, sentence, convert = found.newbyteorder("="), "", None
    else:
        dtype, sentence, convert = _conversion(found, where)
    return Arranged(source, axes, dtype, convert, pick.positions(axes)), [sentence] if sentence else []


def _conversion(
    found: np.dtype[Any], where: str
) -> tuple[np.dtype[Any], str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None]:
    if found.kind not in "buif":
        raise VolumeError(
            f"{where} holds numbers of type {found}, which is not an image; "
            "integers, floating-point numbers and booleans can be read."
        )
    native = found.newbyteorder("=")
    if found.kind == "b":
        return np.dtype(np.uint8), "True and false are read as 1 and 0 (uint8).", None
    if found.kind == "f" and found.itemsize != 4:
        return np.dtype(np.float32), f"{native} is read as float32.", _as_float32
    if found.kind in "ui" and found.itemsize == 8:
        narrow = np.dtype(np.uint32 if found.kind == "u" else np.int32)
        sentence = f"{native} is read as {narrow}; a value that does not fit stops the reading."
        return narrow, sentence, lambda values: _narrow(values, narrow, where)
    sentence = "" if found.isnative else f"Big-endian {native} is read in this machine's byte order."
    return native, sentence, None


def _as_float32(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # A float64 above 3.4e38 becomes infinity, which whoever counts infinities will name.
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _narrow(values: npt.NDArray[Any], dtype: np.dtype[Any], where: str) -> npt.NDArray[Any]:
    limits = np.iinfo(dtype)
    low, high = int(values.min()), int(values.max())
    if low < limits.min or high > limits.max:
        raise VolumeError(
            f"{where} holds values from {low} to {high}; 64-bit integers are read as {dtype}, "
            f"which holds {limits.min} to {limits.max}. Save it as {dtype} with smaller numbers."
        )
    return values.astype(dtype)


class DecodedCache:
    """The last decoded pieces of a file, up to a number of bytes; shared by threads.

    Neighbouring tiles need the same planes: without it each plane would be decompressed for each tile.
    """

    def __init__(self, limit_bytes: int = 256 * 2**20) -> None:
        self._limit = limit_bytes
        self._pieces: OrderedDict[Hashable, npt.NDArray[Any]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def keep_at_most(self, n_bytes: int) -> None:
        """Set how many bytes are kept; one piece always is."""
        with self._lock:
            self._limit = n_bytes
            self._drop()

    def fetch(self, key: Hashable, decode: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Return the piece under `key`, decoded now if it is not at hand. It must not be changed."""
        with self._lock:
            if key in self._pieces:
                self._pieces.move_to_end(key)
                return self._pieces[key]
        # Outside the lock: two threads may decode the same piece, but none waits for another's.
        piece = decode()
        with self._lock:
            if key not in self._pieces:
                self._pieces[key] = piece
                self._bytes += piece.nbytes
            self._drop()
        return piece

    def _drop(self) -> None:
        while self._bytes > self._limit and len(self._pieces) > 1:
            _, dropped = self._pieces.popitem(last=False)
            self._bytes -= dropped.nbytes

"""The directories of a TIFF, read before any library trusts them.

A damaged or hostile TIFF can point at itself, past its end, or at nothing. This walks the chain of
directories once, with bounded reads, and keeps of each what is needed to tell which planes belong together and
where their strips or tiles lie. Offsets are bytes.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from napari_unet3d.errors import VolumeError, shown

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# numpy's letters of TIFF's types; two of them are one rational.
_TYPES = {
    1: "u1",
    2: "S1",
    3: "u2",
    4: "u4",
    5: "u4",
    6: "i1",
    7: "u1",
    8: "i2",
    9: "i4",
    10: "i4",
    11: "f4",
    12: "f8",
    13: "u4",
    16: "u8",
    17: "i8",
    18: "u8",
}
_RATIONALS = (5, 10)
_WIDTHS = {kind: int(letters[1]) * (2 if kind in _RATIONALS else 1) for kind, letters in _TYPES.items()}
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_FILL_ORDER, _DESCRIPTION, _STRIP_OFFSETS, _SAMPLES, _ROWS, _STRIP_COUNTS = 266, 270, 273, 277, 278, 279
_PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_LENGTH = 284, 317, 322, 323
_TILE_OFFSETS, _TILE_COUNTS, _FORMAT, _TABLES, _DEPTH = 324, 325, 339, 347, 32997
_AXES_OF = {_WIDTH: "x", _HEIGHT: "y"}
# What makes a plane what it is: two planes that agree in these are decoded alike.
_LAYOUT = (
    _WIDTH,
    _HEIGHT,
    _BITS,
    _COMPRESSION,
    _PHOTOMETRIC,
    _FILL_ORDER,
    _SAMPLES,
    _ROWS,
    _PLANAR,
    _PREDICTOR,
    _TILE_WIDTH,
    _TILE_LENGTH,
    _FORMAT,
    _TABLES,
    _DEPTH,
)
# The tags without which no plane can be read: their values must lie inside the file.
_ADDRESSES = frozenset((_STRIP_OFFSETS, _STRIP_COUNTS, _TILE_OFFSETS, _TILE_COUNTS))
_STRUCTURE = _ADDRESSES.union(_LAYOUT)
_SINGLE = frozenset(_LAYOUT) - {_BITS, _FORMAT, _TABLES}
_INTEGERS = (1, 3, 4, 13, 16)
_TEXT_LIMIT = 64 * 2**20
# Where Micro-Manager's stacks say how they were acquired, and the number that marks it.
_SUMMARY_AT, _SUMMARY_MAGIC = 32, 2355492
_MOST_ENTRIES = 4096
_MOST_DIRECTORIES = 400_000
_WHOLE_BYTES = (8, 16, 32, 64)
_PACKED_BITS = {**dict.fromkeys(range(1, 8), 1), **dict.fromkeys(range(9, 16), 2)}

Entry = tuple[int, int, int, bytes]


# The directories of smaller copies of a plane; more levels than this are not plausible.
_COPIES, _MOST_COPIES = 330, 32


@dataclass(frozen=True, slots=True)
class Directory:
    """One plane of a TIFF, as its directory declares it.

    Parameters
    ----------
    index
        Its number in the chain.
    offset
        Where it lies.
    layout
        The values of the tags by which planes are decoded: equal for planes that are decoded alike.
    offsets, counts
        The entries that list where its strips or tiles lie, and how long they are.
    description
        The entry of its description; None if it has none.
    is_reduced
        Whether it is a smaller copy of another plane, or a mask of one, by its own words.
    copies
        The entry that lists its own smaller copies; None if it has none.
    level
        Which smaller copy of the plane in the chain it is, counted from 1; 0 for that plane.
    """

    index: int
    offset: int
    layout: tuple[Any, ...]
    offsets: Entry
    counts: Entry | None
    description: Entry | None
    is_reduced: bool
    copies: Entry | None = None
    level: int = 0

    def value(self, tag: int, default: int) -> int:
        """Return the first number of a tag that belongs to the layout."""
        found = self.layout[_LAYOUT.index(tag)]
        return int(found[0]) if found else default

    @property
    def shape(self) -> tuple[int, int]:
        """Return (y, x), in pixels."""
        return self.value(_HEIGHT, 0), self.value(_WIDTH, 0)

    @property
    def n_samples(self) -> int:
        """Return how many numbers a pixel has: 3 in RGB."""
        return self.value(_SAMPLES, 1)

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Return the number type, in native byte order; None for what is no plain number."""
        kind = {1: "u", 2: "i", 3: "f"}.get(self.value(_FORMAT, 1))
        bits = self.value(_BITS, 1)
        if bits == 1 and kind == "u":
            return np.dtype(np.bool_)
        n_bytes = bits // 8 if bits in _WHOLE_BYTES else _PACKED_BITS.get(bits) if kind == "u" else None
        if kind is None or n_bytes is None or (kind == "f" and bits == 8):
            return None
        return np.dtype(f"{kind}{n_bytes}")

    @property
    def is_inverted(self) -> bool:
        """Return whether 0 stands for white."""
        return self.value(_PHOTOMETRIC, 1) == 0

    @property
    def n_copies(self) -> int:
        """Return how many smaller copies it has."""
        return 0 if self.copies is None or self.copies[0] not in _INTEGERS else min(self.copies[1], _MOST_COPIES)

    @property
    def kind(self) -> tuple[Any, ...]:
        """Return what planes of one image have in common: shape, samples, number type."""
        return (*self.shape, self.n_samples, self.value(_BITS, 1), self.value(_FORMAT, 1))


class TiffFile:
    """The directories of one TIFF; the file is not held open.

    Parameters
    ----------
    path
        The file.
    level
        Which of the smaller copies of each plane stand in its place; 0 for the planes themselves.

    Raises
    ------
    VolumeError
        If the chain of directories runs in a circle or past the end of the file, or a plane is empty; or if there are
        no such copies.
    """

    def __init__(self, path: Path, level: int = 0) -> None:
        self.path = path
        self.where = shown(path)
        self._first: dict[int, Entry] = {}
        self._layouts: dict[tuple[Entry | None, ...], tuple[Any, ...]] = {}
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            self.n_bytes = status.st_size
            self.fingerprint = (status.st_size, status.st_mtime_ns)
            magic = file.read(4)
            self.order = "<" if magic[:2] == b"II" else ">"
            self._is_big = b"+" in magic
            self.directories = self._walk(file)
            # (y, x) of the first plane, whichever copy stands in its place.
            self.full_shape = self.directories[0].shape
            if level:
                self.directories = self._copies(file, level)

    @cached_property
    def description(self) -> str:
        """Return the description of the first plane."""
        return self.text(270)

    def text(self, tag: int) -> str:
        """Return a text of the first directory; empty if it is not there."""
        entry = self._first.get(tag)
        return "" if entry is None else self.text_of(entry)

    def numbers(self, tag: int) -> tuple[float, ...]:
        """Return the numbers of a tag of the first directory, rationals as their quotient; none if it is not there."""
        entry = self._first.get(tag)
        if entry is None or entry[1] > 64 or entry[0] not in _TYPES:
            return ()
        values = [float(value) for value in self.values(entry)] if entry[0] != 2 else []
        if entry[0] not in _RATIONALS:
            return tuple(values)
        pairs = zip(values[::2], values[1::2], strict=False)
        return tuple(above / below if below else 0.0 for above, below in pairs)

    def micro_manager_summary(self) -> dict[str, Any]:
        """Return what Micro-Manager says of a whole acquisition in front of the planes; nothing if it says nothing."""
        with open(self.path, "rb") as file:
            file.seek(_SUMMARY_AT)
            header = file.read(8)
            magic, n_bytes = struct.unpack(f"{self.order}II", header) if len(header) == 8 else (0, 0)
            text = file.read(min(n_bytes, _TEXT_LIMIT)) if magic == _SUMMARY_MAGIC else b""
        try:
            found = json.loads(text.rstrip(b"\0"))
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def text_of(self, entry: Entry) -> str:
        """Return the text behind an entry; what is no UTF-8 is Latin-1, as programs of before wrote it."""
        with open(self.path, "rb") as file:
            data = self._bytes(file, entry, _TEXT_LIMIT).rstrip(b"\0")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return data.decode("latin-1")

    def values(self, entry: Entry) -> npt.NDArray[Any]:
        """Return the whole numbers behind an entry."""
        with open(self.path, "rb") as file:
            return self.values_in(file, entry)

    def values_in(self, file: BinaryIO, entry: Entry) -> npt.NDArray[Any]:
        """Return the whole numbers behind an entry of the open file."""
        kind, count, _, _ = entry
        n_values = count * (2 if kind in _RATIONALS else 1)
        dtype = np.dtype(self.order + _TYPES[kind])
        data = self._bytes(file, entry, n_values * dtype.itemsize)
        return np.frombuffer(data, dtype, min(n_values, len(data) // dtype.itemsize))

    def _walk(self, file: BinaryIO) -> tuple[Directory, ...]:
        offset = self._number(file, 8 if self._is_big else 4, "Q" if self._is_big else "I", 0)
        found: list[Directory] = []
        seen: set[int] = set()
        read_bytes = 0
        while offset:
            if offset in seen:
                raise VolumeError(
                    f"{self.where} is damaged: its directories run in a circle, after {len(seen)}. "
                    "Copy or download it again."
                )
            if len(seen) == _MOST_DIRECTORIES:
                raise VolumeError(f"{self.where} holds more than {_MOST_DIRECTORIES:,} planes, which is not plausible.")
            seen.add(offset)
            entries, following, n_bytes = self._entries(file, offset, len(found))
            read_bytes += n_bytes + sum(self._outside(entries[tag]) for tag in _ADDRESSES & entries.keys())
            if read_bytes > self.n_bytes:
                raise VolumeError(
                    f"{self.where} is damaged: its directories lie over each other. Copy or download it again."
                )
            if not found:
                self._first = entries
            found.append(self._directory(file, entries, offset, len(found)))
            offset = following
        if not found:
            raise VolumeError(f"{self.where} holds no planes: empty axis z.")
        return tuple(found)

    def _copies(self, file: BinaryIO, level: int) -> tuple[Directory, ...]:
        """Return the directories, with a smaller copy in the place of each that has so many."""
        found: list[Directory] = []
        read_bytes = 0
        for directory in self.directories:
            copies = directory.copies
            if copies is None or level > directory.n_copies:
                found.append(directory)
                continue
            offsets = self.values_in(file, copies)
            if len(offsets) < level:
                raise VolumeError(
                    f"{self.where} is damaged: it ends before the places of its smaller copies. "
                    "Copy or download it again."
                )
            offset = int(offsets[level - 1])
            entries, _, n_bytes = self._entries(file, offset, directory.index)
            read_bytes += n_bytes + sum(self._outside(entries[tag]) for tag in _ADDRESSES & entries.keys())
            if read_bytes > self.n_bytes:
                raise VolumeError(
                    f"{self.where} is damaged: its directories lie over each other. Copy or download it again."
                )
            copy = self._directory(file, entries, offset, directory.index)
            found.append(replace(copy, level=level, is_reduced=directory.is_reduced, description=directory.description))
        if not any(directory.level for directory in found):
            raise VolumeError(f"{self.where} has no level {level}.")
        return tuple(found)

    def _entries(self, file: BinaryIO, offset: int, index: int) -> tuple[dict[int, Entry], int, int]:
        """Return the entries of a directory by tag, where the next directory lies, and the bytes of this one."""
        big = self._is_big
        n_entries = self._number(file, offset, "Q" if big else "H", index)
        start, size = offset + (8 if big else 2), n_entries * (20 if big else 12)
        if start + size > self.n_bytes:
            raise self.cut(index)
        if n_entries > _MOST_ENTRIES:
            raise VolumeError(
                f"{self.where} is damaged at plane {index}: {n_entries:,} tags in one directory. "
                "Copy or download it again."
            )
        block = file.read(size)
        if len(block) < size:
            raise self.cut(index)
        layout = self.order + ("HHQ8s" if big else "HHI4s")
        address = self.order + ("Q" if big else "I")
        entries: dict[int, Entry] = {}
        for tag, kind, count, value in struct.iter_unpack(layout, block):
            # Micro-Manager writes two descriptions: the first is OME's.
            entries.setdefault(tag, (kind, count, struct.unpack(address, value)[0], value))
        following = self._number(file, start + size, "Q" if big else "I", index)
        return entries, following, size

    def _directory(self, file: BinaryIO, entries: Mapping[int, Entry], offset: int, index: int) -> Directory:
        layout = self._layout(file, entries, index)
        offsets = entries.get(_STRIP_OFFSETS) or entries.get(_TILE_OFFSETS)
        if offsets is None:
            raise VolumeError(
                f"{self.where} is damaged at plane {index}: nothing says where its voxels lie. "
                "Copy or download it again."
            )
        subfile = self._first_number(file, entries[_SUBFILE]) if _SUBFILE in entries else 0
        return Directory(
            index,
            offset,
            layout,
            offsets,
            entries.get(_STRIP_COUNTS) or entries.get(_TILE_COUNTS),
            entries.get(_DESCRIPTION),
            # 1: a smaller copy; 4: a mask.
            is_reduced=bool(subfile & 5),
            copies=entries.get(_COPIES),
        )

    def _first_number(self, file: BinaryIO, entry: Entry) -> int:
        """Return the first whole number behind an entry; 0 if it holds none."""
        values: Any = self._layout_value(file, entry) if entry[0] in _INTEGERS else ()
        return int(values[0]) if len(values) else 0

    def _layout(self, file: BinaryIO, entries: Mapping[int, Entry], index: int) -> tuple[Any, ...]:
        """Return the values by which a plane is decoded, after checking that they lie in the file."""
        for tag in _STRUCTURE & entries.keys():
            kind, count, at, _ = entries[tag]
            if (n_bytes := self._outside(entries[tag])) and at + n_bytes > self.n_bytes:
                raise self.cut(index)
            if tag != _TABLES and (kind not in _INTEGERS or (tag in _SINGLE and count != 1)):
                raise VolumeError(
                    f"{self.where} is damaged at plane {index}: its tag {tag} holds no whole number. "
                    "Copy or download it again."
                )
        wanted = tuple(entries.get(tag) for tag in _LAYOUT)
        is_inline = not any(entry is not None and self._outside(entry) for entry in wanted)
        if is_inline and wanted in self._layouts:
            return self._layouts[wanted]
        layout = tuple(None if entry is None else tuple(self._layout_value(file, entry)) for entry in wanted)
        for tag, axis in _AXES_OF.items():
            size = layout[_LAYOUT.index(tag)]
            if not size or size[0] == 0:
                raise VolumeError(f"{self.where} holds no voxels: empty axis {axis} in plane {index}.")
        if is_inline:
            self._layouts[wanted] = layout
        return layout

    def _outside(self, entry: Entry) -> int:
        """Return how many bytes of an entry lie elsewhere in the file; 0 if they stand in the entry itself."""
        n_bytes = entry[1] * self._width(entry[0])
        return n_bytes if n_bytes > len(entry[3]) else 0

    def _layout_value(self, file: BinaryIO, entry: Entry) -> Any:
        """Return the numbers behind an entry, as far as planes differ in them; raw bytes of a type that is unknown."""
        kind, count, at, value = entry
        if kind not in _TYPES or kind == 2:
            return b""
        return self.values_in(file, (kind, min(count, 1024), at, value))

    def _bytes(self, file: BinaryIO, entry: Entry, limit: int) -> bytes:
        kind, count, at, value = entry
        n_bytes = count * self._width(kind)
        if n_bytes <= len(value):
            return value[:n_bytes]
        file.seek(min(at, self.n_bytes))
        return file.read(min(n_bytes, limit))

    @staticmethod
    def _width(kind: int) -> int:
        return _WIDTHS.get(kind, 1)

    def _number(self, file: BinaryIO, offset: int, code: str, index: int) -> int:
        size = struct.calcsize(code)
        if offset + size > self.n_bytes:
            raise self.cut(index)
        file.seek(offset)
        return int(struct.unpack(self.order + code, file.read(size))[0])

    def cut(self, readable: int) -> VolumeError:
        """Return the error for a file that ends before its last plane."""
        from napari_unet3d.volumes.tiff.descriptions import declared_planes

        return cut_short(self.where, declared_planes(self.description), readable)


def cut_short(where: str, declared: int | None, readable: int) -> VolumeError:
    """Return the error for a file that ends before its last plane."""
    known = f"more than {readable}" if declared is None or declared <= readable else str(declared)
    return VolumeError(
        f"{where} is cut short: planes declared: {known}, planes readable: {readable}. Copy or download it again."
    )

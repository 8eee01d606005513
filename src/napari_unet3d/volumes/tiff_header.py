"""The directories of a TIFF, read before any library trusts them.

A damaged or hostile TIFF can point at itself, past its end, or at nothing. This walks the chain of
directories once, with bounded reads, and gives the numbers of the first. Offsets are bytes.
"""

from __future__ import annotations

import math
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from napari_unet3d.errors import VolumeError, shown

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_WIDTH, _HEIGHT, _BITS, _DESCRIPTION, _SAMPLES, _FORMAT = 256, 257, 258, 270, 277, 339
_AXES_OF = {_WIDTH: "x", _HEIGHT: "y"}
# The tags without which no plane can be read: their values must lie inside the file.
_STRUCTURE = {256, 257, 258, 259, 273, 277, 278, 279, 322, 323, 324, 325}
_DESCRIPTION_LIMIT = 2**16


@dataclass(frozen=True)
class TiffHeader:
    """What the directories say, without any library's help.

    Parameters
    ----------
    n_directories
        How many directories the chain holds: planes, except in ImageJ's own form above 4 GiB.
    width, height
        Of the first plane, in pixels.
    n_samples
        Numbers a pixel of the first plane has: 3 in RGB.
    dtype
        Of the first plane; None if it is no plain number of 8 to 64 bits.
    description
        The beginning of the first plane's description.
    """

    n_directories: int
    width: int
    height: int
    n_samples: int
    dtype: np.dtype[np.generic] | None
    description: str

    @property
    def is_ome(self) -> bool:
        """Return whether the description is OME-XML."""
        return "<" in self.description[:100] and "OME" in self.description[:1000]

    @property
    def n_declared(self) -> int | None:
        """Return how many planes the description speaks of; None if it is silent."""
        return declared_planes(self.description)


def declared_planes(description: str) -> int | None:
    r"""Return how many planes an ImageJ, OME or tifffile description speaks of.

    Examples
    --------
    >>> declared_planes("ImageJ=1.54f\nimages=12\nslices=12\n")
    12
    >>> declared_planes('<OME><Image><Pixels SizeX="9" SizeY="9" SizeZ="4" SizeC="2" SizeT="1">')
    8
    >>> declared_planes('{"shape": [5, 32, 32]}')
    5
    """
    if match := re.match(r"(?:ImageJ|SCIFIO)=.*?\nimages=(\d{1,18})", description, re.DOTALL):
        return int(match[1])
    if match := re.search(r"<(?:\w+:)?Pixels\b[^>]*>", description):
        sizes = [re.search(rf'\bSize{axis}="([0-9]{{1,18}})"', match[0]) for axis in "ZCT"]
        return math.prod(int(size[1]) for size in sizes if size)
    if match := re.match(r'\{"shape": \[([\d, ]+)\]', description):
        shape = [int(size) for size in re.findall(r"\d{1,18}", match[1])]
        return math.prod(shape[:-2]) if len(shape) > 2 else 1
    return None


def cut_short(where: str, declared: int | None, readable: int) -> VolumeError:
    """Return the error for a file that ends before its last plane."""
    known = f"more than {readable}" if declared is None or declared <= readable else str(declared)
    return VolumeError(
        f"{where} is cut short: planes declared: {known}, planes readable: {readable}. Copy or download it again."
    )


def scan_tiff(path: Path) -> TiffHeader:
    """Return what the directories of a TIFF say.

    Raises
    ------
    VolumeError
        If the chain of directories runs in a circle or past the end of the file, or a plane is empty.
    """
    with open(path, "rb") as file:
        return _Scanner(file, shown(path)).scan()


class _Scanner:
    """One walk through the directories of one open file."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file = file
        self._where = where
        self._size = os.fstat(file.fileno()).st_size
        magic = file.read(4)
        self._order = "<" if magic[:2] == b"II" else ">"
        self._is_big = b"+" in magic
        self._first: dict[int, tuple[int, ...]] = {}
        self._description = ""

    def scan(self) -> TiffHeader:
        offset = self._unpack(8 if self._is_big else 4, *(("Q", 8) if self._is_big else ("I", 4)))
        seen: set[int] = set()
        while offset:
            if offset in seen:
                raise VolumeError(
                    f"{self._where} is damaged: its directories run in a circle, after {len(seen)}. "
                    "Copy or download it again."
                )
            if offset >= self._size:
                raise self._cut(len(seen))
            offset = self._directory(offset, len(seen), seen)
        if not seen:
            raise VolumeError(f"{self._where} holds no planes: empty axis z.")
        return TiffHeader(
            len(seen),
            self._value(_WIDTH, 0),
            self._value(_HEIGHT, 0),
            self._value(_SAMPLES, 1),
            self._dtype(),
            self._description,
        )

    def _directory(self, offset: int, index: int, seen: set[int]) -> int:
        """Check one directory, note it in `seen`, and return the offset of the next."""
        count_code, count_bytes = ("Q", 8) if self._is_big else ("H", 2)
        entry_bytes = 20 if self._is_big else 12
        n_entries = self._unpack(offset, count_code, count_bytes, index)
        start = offset + count_bytes
        end = start + n_entries * entry_bytes
        offset_code, offset_bytes = ("Q", 8) if self._is_big else ("I", 4)
        if end + offset_bytes > self._size:
            raise self._cut(index)
        self._file.seek(start)
        block = self._file.read(n_entries * entry_bytes)
        for at in range(0, len(block), entry_bytes):
            self._entry(block[at : at + entry_bytes], index)
        seen.add(offset)
        return self._unpack(end, offset_code, offset_bytes, index)

    def _entry(self, entry: bytes, index: int) -> None:
        tag, kind = struct.unpack(self._order + "HH", entry[:4])
        code, inline = ("Q", 8) if self._is_big else ("I", 4)
        (count,) = struct.unpack(self._order + code, entry[4 : 4 + inline])
        n_bytes = count * _TYPE_BYTES.get(kind, 1)
        value = entry[4 + inline :]
        (at,) = struct.unpack(self._order + code, value)
        if tag in _STRUCTURE and n_bytes > inline and at + n_bytes > self._size:
            raise self._cut(index)
        if tag == _DESCRIPTION and index == 0:
            self._description = self._text(value, at, n_bytes, inline)
        if tag in (_WIDTH, _HEIGHT, _BITS, _SAMPLES, _FORMAT) and kind in _INTEGERS:
            numbers = self._numbers(value, at, count, kind, inline)
            if tag in _AXES_OF and (not numbers or numbers[0] == 0):
                raise VolumeError(f"{self._where} holds no voxels: empty axis {_AXES_OF[tag]} in plane {index}.")
            if index == 0:
                self._first[tag] = numbers

    def _numbers(self, value: bytes, at: int, count: int, kind: int, inline: int) -> tuple[int, ...]:
        n_bytes = min(count, 8) * _TYPE_BYTES[kind]
        if count * _TYPE_BYTES[kind] > inline:
            self._file.seek(min(at, self._size))
            value = self._file.read(n_bytes)
        n_whole = min(count, 8, len(value) // _TYPE_BYTES[kind])
        return struct.unpack(f"{self._order}{n_whole}{_INTEGERS[kind]}", value[: n_whole * _TYPE_BYTES[kind]])

    def _text(self, value: bytes, at: int, n_bytes: int, inline: int) -> str:
        if n_bytes > inline:
            self._file.seek(min(at, self._size))
            value = self._file.read(min(n_bytes, _DESCRIPTION_LIMIT))
        return value.rstrip(b"\0").decode("utf-8", "replace")

    def _unpack(self, offset: int, code: str, n_bytes: int, index: int = 0) -> int:
        self._file.seek(offset)
        data = self._file.read(n_bytes)
        if len(data) < n_bytes:
            raise self._cut(index)
        return int(struct.unpack(self._order + code, data)[0])

    def _cut(self, readable: int) -> VolumeError:
        return cut_short(self._where, declared_planes(self._description), readable)

    def _value(self, tag: int, default: int) -> int:
        return (self._first.get(tag) or (default,))[0]

    def _dtype(self) -> np.dtype[np.generic] | None:
        kind = {1: "u", 2: "i", 3: "f"}.get(self._value(_FORMAT, 1))
        bits = self._value(_BITS, 1)
        if kind is None or bits not in (8, 16, 32, 64) or (kind == "f" and bits == 8):
            return None
        return np.dtype(f"{self._order}{kind}{bits // 8}")

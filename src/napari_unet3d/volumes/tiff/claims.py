"""How large a picture inside a strip or tile says it is, read from its first bytes before any codec allocates.

JPEG, JPEG 2000, JPEG XL, PNG, WebP and LERC carry a size of their own, which need not be that of the strip. Bytes
in, numbers out; what is not understood is None, and left to the codec.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

# TIFF's numbers of the codecs that keep a size of their own.
_JPEG = (6, 7, 33007, 34892)
_JPEG_2000 = (33003, 33004, 33005, 34712)
_JPEG_XL = (50002, 52546)
_PNG, _LERC, _WEBP = 34933, 34887, (34927, 50001)
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def claimed_values(data: bytes, compression: int) -> int | None:
    """Return how many numbers the picture inside a strip or tile says that it has; None if it does not say."""
    read = _READERS.get(compression)
    if read is None:
        return None
    try:
        return read(data)
    except (struct.error, IndexError):
        return None


def _jpeg(data: bytes) -> int | None:
    at = 2
    while at + 9 < len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF or 0xD0 <= marker <= 0xD8 or marker == 0x01:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _START_OF_FRAME:
            height, width, samples = struct.unpack(">HHB", data[at + 5 : at + 10])
            return int(height * width * samples)
        at += 2 + int(struct.unpack(">H", data[at + 2 : at + 4])[0])
    return None


def _jpeg_2000(data: bytes) -> int | None:
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0:
        return None
    right, bottom, left, top = struct.unpack(">IIII", data[at + 8 : at + 24])
    (samples,) = struct.unpack(">H", data[at + 40 : at + 42])
    return int(max(0, right - left) * max(0, bottom - top) * samples)


def _jpeg_xl(data: bytes) -> int | None:
    at = data.find(b"\xff\x0a")
    if at < 0 or at > 4096:
        return None
    bits = int.from_bytes(data[at + 2 : at + 18], "little")

    def take(n_bits: int) -> int:
        nonlocal bits
        value = bits & ((1 << n_bits) - 1)
        bits >>= n_bits
        return value

    def size() -> int:
        return 1 + take((9, 13, 18, 30)[take(2)])

    is_small = take(1)
    height = 8 * (1 + take(5)) if is_small else size()
    ratio = take(3)
    shares = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
    above, below = shares[ratio]
    width = height * above // below if ratio else 8 * (1 + take(5)) if is_small else size()
    return height * width


def _png(data: bytes) -> int | None:
    width, height = struct.unpack(">II", data[16:24])
    return int(width) * int(height) if data.startswith(b"\x89PNG") else None


def _webp(data: bytes) -> int | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return (1 + int.from_bytes(data[24:27], "little")) * (1 + int.from_bytes(data[27:30], "little")) * 3
    if kind == b"VP8L":
        packed = int.from_bytes(data[21:25], "little")
        return (1 + (packed & 0x3FFF)) * (1 + (packed >> 14 & 0x3FFF)) * 3
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return int((width & 0x3FFF) * (height & 0x3FFF) * 3)
    return None


def _lerc(data: bytes) -> int | None:
    if not data.startswith(b"Lerc2 "):
        return None
    (version,) = struct.unpack("<i", data[6:10])
    at = 14 if version >= 3 else 10
    rows, columns = struct.unpack("<ii", data[at : at + 8])
    depth = struct.unpack("<i", data[at + 8 : at + 12])[0] if version >= 4 else 1
    return int(abs(rows * columns * max(1, depth)))


_READERS: dict[int, Callable[[bytes], int | None]] = {
    **dict.fromkeys(_JPEG, _jpeg),
    **dict.fromkeys(_JPEG_2000, _jpeg_2000),
    **dict.fromkeys(_JPEG_XL, _jpeg_xl),
    **dict.fromkeys(_WEBP, _webp),
    _PNG: _png,
    _LERC: _lerc,
}

"""Decompression that never makes more bytes than a chunk declares.

A few bytes of gzip or zstd can become gigabytes. Formats that state their size are asked for it before a codec
allocates; those that do not are inflated here, up to a limit. Bytes in, bytes out.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Any

_ZSTD_MAGIC = 0xFD2FB528
# The longest header that states a size.
_HEADER = 32

Buffer = bytes | memoryview


class TooMuchError(ValueError):
    """Compressed bytes become more than was declared."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"it inflates to more than the {limit:,} bytes that it declares")


def inflate(data: Buffer, codec: str, limit: int) -> bytes | None:
    """Return what compressed bytes become, at most `limit` bytes; None where their codec can be trusted with them.

    Parameters
    ----------
    data
        The compressed bytes.
    codec
        The name that numcodecs and Zarr give the codec.
    limit
        The most bytes that may come out.

    Raises
    ------
    TooMuchError
        If they become more.
    ValueError
        If they are damaged.
    """
    name = codec.removeprefix("numcodecs.")
    if name in _STATED:
        stated = _STATED[name](bytes(data[:_HEADER]))
        if stated is not None and stated > limit:
            raise TooMuchError(limit)
        return None if stated is not None else _unknown_zstd(bytes(data), limit) if name == "zstd" else None
    return _STREAMS[name](data, limit) if name in _STREAMS else None


def can_state_size(codec: str) -> bool:
    """Return whether compressed bytes of a codec begin with a header that states what they become."""
    return codec.removeprefix("numcodecs.") in _STATED


def _zstd_size(data: bytes) -> int | None:
    """Return the size in the header of a zstd frame (RFC 8878, 3.1.1.1); None if it is not there."""
    if len(data) < 6 or struct.unpack("<I", data[:4])[0] != _ZSTD_MAGIC:
        return None
    descriptor = data[4]
    is_single, flag = descriptor >> 5 & 1, descriptor >> 6
    n_bytes = (1 if is_single else 0, 2, 4, 8)[flag]
    start = 5 + (0 if is_single else 1) + (0, 1, 2, 4)[descriptor & 3]
    if n_bytes == 0 or len(data) < start + n_bytes:
        return None
    return int.from_bytes(data[start : start + n_bytes], "little") + (256 if flag == 1 else 0)


def _blosc_size(data: bytes) -> int | None:
    return int(struct.unpack("<I", data[4:8])[0]) if len(data) >= 16 else 0


def _lz4_size(data: bytes) -> int | None:
    return int(struct.unpack("<I", data[:4])[0]) if len(data) >= 4 else 0


def _unknown_zstd(data: bytes, limit: int) -> bytes:
    import imagecodecs

    try:
        return bytes(imagecodecs.zstd_decode(data, out=limit))
    except RuntimeError as error:
        raise ValueError(f"its zstd data are damaged, or more than the {limit:,} bytes that it declares") from error


def _stream(make: Callable[[], Any]) -> Callable[[Buffer, int], bytes]:
    def inflate_stream(data: Buffer, limit: int) -> bytes:
        unpack = make()
        try:
            inflated: bytes = unpack.decompress(data, limit + 1)
        except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
            raise ValueError(str(error)) from error
        if len(inflated) > limit:
            raise TooMuchError(limit)
        if not unpack.eof:
            raise ValueError("its compressed data end too early")
        return inflated

    return inflate_stream


_STATED: dict[str, Callable[[bytes], int | None]] = {"zstd": _zstd_size, "blosc": _blosc_size, "lz4": _lz4_size}


def _deflate(name: str, wbits: int) -> Callable[[Buffer, int], bytes]:
    """Return a reader that is tried with libdeflate, which is twice as fast, and explains with zlib what is wrong."""
    slow = _stream(lambda: zlib.decompressobj(wbits=wbits))

    def inflate_at_once(data: Buffer, limit: int) -> bytes:
        import imagecodecs

        try:
            return bytes(getattr(imagecodecs, f"{name}_decode")(data, out=limit))
        except RuntimeError:
            return slow(data, limit)

    return inflate_at_once


_STREAMS: dict[str, Callable[[Buffer, int], bytes]] = {
    "gzip": _deflate("gzip", 31),
    "zlib": _deflate("deflate", zlib.MAX_WBITS),
    "lzma": _stream(lzma.LZMADecompressor),
    "bz2": _stream(bz2.BZ2Decompressor),
}

"""A Zarr array whose codecs never make more of a chunk than its metadata declare."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numcodecs
import numcodecs.abc
import numpy as np
import zarr
from zarr.abc.codec import ArrayArrayCodec, BytesBytesCodec
from zarr.codecs import ShardingCodec, TransposeCodec

from napari_unet3d.volumes.inflating import can_state_size, inflate

# Checksums and headers that lie around the bytes of a chunk.
_SLACK = 4096
_WIDEST = 8


def cap_codecs(array: Any) -> Any:
    """Return the same array with codecs that stop at the size of a chunk."""
    metadata = array.metadata
    itemsize = np.dtype(array.dtype).itemsize
    if metadata.zarr_format == 2:
        if metadata.compressor is None:
            return array
        # A filter may have kept the numbers in a wider type.
        width = max(itemsize, _WIDEST) if metadata.filters else itemsize
        limit = math.prod(metadata.chunks) * width + _SLACK
        return _with(array, replace(metadata, compressor=_Compressor(metadata.compressor, limit)))
    if any(isinstance(codec, ArrayArrayCodec) and not isinstance(codec, TransposeCodec) for codec in metadata.codecs):
        itemsize = max(itemsize, _WIDEST)
    shape = array.shards or array.chunks
    codecs = tuple(_cap_codec(codec, math.prod(shape) * itemsize + _SLACK, itemsize) for codec in metadata.codecs)
    return _with(array, replace(metadata, codecs=codecs))


def _with(array: Any, metadata: Any) -> Any:
    return zarr.Array(zarr.AsyncArray(metadata, array.store_path))


def _cap_codec(codec: Any, limit: int, itemsize: int) -> Any:
    if isinstance(codec, ShardingCodec):
        inner = math.prod(codec.chunk_shape) * itemsize + _SLACK
        return ShardingCodec(
            chunk_shape=codec.chunk_shape,
            codecs=tuple(_cap_codec(one, inner, itemsize) for one in codec.codecs),
            index_codecs=codec.index_codecs,
            index_location=codec.index_location,
        )
    return _Codec(codec, limit) if isinstance(codec, BytesBytesCodec) else codec


@dataclass(frozen=True)
class _Codec(BytesBytesCodec):  # type: ignore[misc]
    """A codec of Zarr 3 that stops at a limit."""

    inner: Any
    limit: int

    @property
    def is_fixed_size(self) -> bool:
        return bool(self.inner.is_fixed_size)

    @cached_property
    def _name(self) -> str:
        return str(self.inner.to_dict().get("name", ""))

    def to_dict(self) -> Any:
        return self.inner.to_dict()

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        return int(self.inner.compute_encoded_size(input_byte_length, chunk_spec))

    def evolve_from_array_spec(self, array_spec: Any) -> Any:
        return replace(self, inner=self.inner.evolve_from_array_spec(array_spec))

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        if can_state_size(self._name):
            # Only a header is looked at: no thread is needed for that.
            done = self._inflate(chunk_bytes, chunk_spec)
        else:
            done = await asyncio.to_thread(self._inflate, chunk_bytes, chunk_spec)
        return await self.inner._decode_single(chunk_bytes, chunk_spec) if done is None else done

    def _decode_sync(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        done = self._inflate(chunk_bytes, chunk_spec)
        return self.inner._decode_sync(chunk_bytes, chunk_spec) if done is None else done

    def _inflate(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        inflated = inflate(memoryview(chunk_bytes.as_numpy_array()), self._name, self.limit)
        return None if inflated is None else chunk_spec.prototype.buffer.from_bytes(inflated)


class _Compressor(numcodecs.abc.Codec):  # type: ignore[misc]
    """A compressor of Zarr 2 that stops at a limit."""

    # zarr wants a name of the class; that of the compressor is in each instance.
    codec_id = "capped"

    def __init__(self, inner: Any, limit: int) -> None:
        self.inner = inner
        self.limit = limit
        self.codec_id = inner.codec_id

    def encode(self, buf: Any) -> Any:
        return self.inner.encode(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        inflated = inflate(memoryview(buf).cast("B"), str(self.codec_id), self.limit)
        return self.inner.decode(buf, out) if inflated is None else inflated

    def get_config(self) -> dict[str, Any]:
        return dict(self.inner.get_config())

    @classmethod
    def from_config(cls, config: Any) -> Any:
        return numcodecs.get_codec(config)

"""How a plane of a TIFF is cut into strips or tiles, and how one of these is decoded.

What a strip declares is compared with its bytes on disk before anything is allocated, and nothing inflates to
more than it declares. No files here: bytes in, pixels out.
"""

from __future__ import annotations

import lzma
import math
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from napari_unet3d.errors import VolumeError
from napari_unet3d.volumes.inflating import inflate
from napari_unet3d.volumes.tiff.claims import claimed_values

_DEFLATE = (8, 32946)
_LZMA = 34925
# How many bytes one byte can become: what the format allows, not what is usual. A blank plane comes close
# (1030 with deflate), so that only a lie exceeds it.
_MOST = {
    1: 1,
    5: 2731,
    32773: 64,
    _LZMA: 10_000,
    34926: 44_000,
    50000: 44_000,
    **dict.fromkeys(_DEFLATE, 1032),
}
# A single compressed strip or tile above this is taken for a lie also where the codec has no known limit.
_LARGEST_SEGMENT = 2**32
DECODE_ERRORS = (
    zlib.error,
    lzma.LZMAError,
    tifffile.TiffFileError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


class SegmentLayout:
    """How a plane is cut into strips or tiles, and how one of them is decoded. Sizes in pixels.

    Parameters
    ----------
    page
        The first of tifffile's pages; all planes are laid out as it is.
    where
        The file, for messages.
    """

    def __init__(self, page: Any, where: str) -> None:
        self.n_separate, depth, self.length, self.width, self.n_samples = page.shaped
        self.axes = str(page.axes)
        self.shape = tuple(int(size) for size in page.shape)
        self.compression = int(page.compression)
        self._predictor = int(page.predictor)
        self._where = where
        if depth != 1 or page.dtype is None:
            raise VolumeError(f"{where} has planes of a kind that is not understood; save it as a plain TIFF.")
        self.is_tiled = bool(page.is_tiled)
        self.segment_length = int(page.tilelength if page.is_tiled else min(page.rowsperstrip, self.length))
        self.segment_width = int(page.tilewidth if page.is_tiled else self.width)
        self.n_rows = -(-self.length // self.segment_length)
        self.n_columns = -(-self.width // self.segment_width)
        self._bits = page.bitspersample
        is_regular = page.bitspersample in (8, 16, 32, 64) and page.fillorder == 1 and page.sampleformat in (1, 2, 3)
        self.stored_dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
        self._is_plain = is_regular and (
            (self._predictor == 1 or (self._predictor == 2 and self.stored_dtype.kind in "ui"))
            and self.compression in (1, *_DEFLATE, _LZMA)
        )
        self.is_direct = self._is_plain and self.compression == 1 and self._predictor == 1 and not self.is_tiled
        self._tables = page.jpegtables
        if not self._is_plain:
            self._refuse_missing_codec()
        self._foreign_decode = page.decode

    def __str__(self) -> str:
        return f"{' x '.join(map(str, self.shape))} {self.dtype}"

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the number type in native byte order."""
        native: np.dtype[Any] = self.stored_dtype.newbyteorder("=")
        return native

    @property
    def n_segments(self) -> int:
        """Return how many strips or tiles a plane has."""
        return int(self.n_separate * self.n_rows * self.n_columns)

    @property
    def plane_bytes(self) -> int:
        """Return the bytes of a decoded plane."""
        return int(math.prod(self.shape) * self.stored_dtype.itemsize)

    def segment_rows(self, segment: int) -> int:
        """Return the rows a strip or tile must hold: the last strip ends with the plane."""
        if self.is_tiled:
            return self.segment_length
        row = segment % self.n_rows
        return int(min(self.segment_length, self.length - row * self.segment_length))

    def segment_bytes(self, n_rows: int) -> int:
        """Return the bytes of `n_rows` rows of a decoded strip or tile."""
        bits = self._bits if isinstance(self._bits, int) else self.stored_dtype.itemsize * 8
        return int(-(-self.segment_width * self.n_samples * bits // 8) * n_rows)

    def check(self, segment: int, n_bytes: int) -> str:
        """Return what is impossible about a strip or tile with `n_bytes` on disk, or nothing."""
        needed = self.segment_bytes(self.segment_rows(segment))
        most = _MOST.get(self.compression)
        if n_bytes == 0:
            return "it has no data"
        if most is not None and needed > n_bytes * most + (0 if most == 1 else 64):
            return f"it declares {needed:,} bytes of which {n_bytes:,} bytes on disk cannot be the source"
        if most != 1 and needed > _LARGEST_SEGMENT:
            return f"it declares a single piece of {needed:,} bytes"
        return ""

    def decode(self, data: bytes, segment: int) -> npt.NDArray[Any]:
        """Return a strip or tile as (y, x, samples).

        Raises
        ------
        ValueError
            Or what the codec raises, if the bytes are damaged.
        """
        inflated = self._inflate(data)
        if not self._is_plain:
            self._refuse_claims(data)
            values, _, _ = self._foreign_decode(data, segment, jpegtables=self._tables)
            if values is None:
                raise ValueError("it has no data")
            return np.asarray(values).reshape(values.shape[-3:])
        n_rows = self.segment_rows(segment)
        needed = self.segment_bytes(n_rows)
        if len(inflated) < needed:
            raise ValueError(f"{needed:,} bytes are declared, {len(inflated):,} are there")
        values = np.frombuffer(inflated, self.stored_dtype, needed // self.stored_dtype.itemsize)
        values = values.reshape(n_rows, self.segment_width, self.n_samples)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        return values if self._predictor == 1 else np.cumsum(values, axis=1, dtype=values.dtype)

    def _refuse_claims(self, data: bytes) -> None:
        """Refuse a picture that says it is much larger than the strip or tile that it fills."""
        claimed = claimed_values(data, self.compression)
        # Some codecs fill up to whole blocks, and a last strip up to the full number of rows.
        most = 4 * (self.segment_width + 64) * (self.segment_length + 64) * max(3, self.n_samples)
        if claimed is not None and claimed > most:
            raise ValueError(f"the picture in it says that it holds {claimed:,} numbers, more than its strip or tile")

    def _inflate(self, data: bytes) -> bytes:
        """Return what a strip inflates to, and no more than it declares."""
        # Some writers fill the last strip up to the full number of rows.
        limit = self.segment_bytes(self.segment_length)
        codec = "zlib" if self.compression in _DEFLATE else "lzma" if self.compression == _LZMA else ""
        return data if not codec else inflate(data, codec, limit) or b""

    def _refuse_missing_codec(self) -> None:
        try:
            if self.compression != 1:
                tifffile.TIFF.DECOMPRESSORS[self.compression]
            if self._predictor != 1 and self.compression not in tifffile.TIFF.IMAGE_COMPRESSIONS:
                tifffile.TIFF.UNPREDICTORS[self._predictor]
        except KeyError:
            name = getattr(tifffile.COMPRESSION(self.compression), "name", str(self.compression))
            raise VolumeError(
                f"{self._where} is compressed with {name}, for which the package imagecodecs is needed: "
                "pip install imagecodecs, or save the file without compression."
            ) from None

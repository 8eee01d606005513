"""The planes of a TIFF as an array on disk.

Of uncompressed strips only the rows that are asked for are read; other strips and tiles are decoded whole and
the last ones kept. Each read opens the file for itself, so that threads do not share a position in it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from napari_unet3d.errors import VolumeError, shown
from napari_unet3d.volumes.arrays import Box, DecodedCache, LazyArray, box_shape
from napari_unet3d.volumes.tiff_header import cut_short
from napari_unet3d.volumes.tiff_segments import DECODE_ERRORS, SegmentLayout


class TiffPlanes(LazyArray):
    """The planes of a TIFF: some axes that count planes, then those of a plane.

    Parameters
    ----------
    path
        The file.
    lead
        The shape of the axes that count planes; () for a single plane.
    layout
        How each plane is cut up.
    segments
        For each plane the offsets of its strips or tiles and their bytes on disk; or the offset of
        the first plane, when all planes follow it without a gap.
    cache
        Where decoded strips and tiles are kept.
    """

    def __init__(
        self,
        path: Path,
        lead: tuple[int, ...],
        layout: SegmentLayout,
        segments: Sequence[tuple[Sequence[int], Sequence[int]]] | int,
        cache: DecodedCache,
    ) -> None:
        super().__init__((*lead, *layout.shape), layout.stored_dtype)
        self._path = path
        self._lead = lead
        self._layout = layout
        self._segments = segments
        self._cache = cache
        status = path.stat()
        self._fingerprint = (status.st_size, status.st_mtime_ns)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the number type in the file, with its byte order."""
        dtype: np.dtype[Any] = self._layout.stored_dtype
        return dtype

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Return a box of planes; what is not in it is not read, but for whole compressed strips."""
        n_lead = len(self._lead)
        inside = dict(zip(self._layout.axes, box[n_lead:], strict=True))
        wanted = list(product(*(range(part.start, part.stop) for part in box[:n_lead])))
        result = np.empty((len(wanted), *box_shape(box[n_lead:])), self._dtype)
        with open(self._path, "rb") as file:
            status = os.fstat(file.fileno())
            if (status.st_size, status.st_mtime_ns) != self._fingerprint:
                raise VolumeError(f"{shown(self._path)} was changed after it was opened; open it again.")
            for at, index in enumerate(wanted):
                plane = int(np.ravel_multi_index(index, self._lead)) if self._lead else 0
                result[at] = self._read_plane(file, plane, inside)
        return result.reshape(box_shape(box))

    def _read_plane(self, file: BinaryIO, plane: int, inside: dict[str, slice]) -> npt.NDArray[Any]:
        """Return a part of one plane, with the axes of the plane."""
        layout, ys, xs = self._layout, inside["Y"], inside["X"]
        shape = (layout.n_separate, ys.stop - ys.start, xs.stop - xs.start, layout.n_samples)
        result = np.empty(shape, layout.stored_dtype.newbyteorder("="))
        length, width = layout.segment_length, layout.segment_width
        rows = range(ys.start // length, -(-ys.stop // length))
        columns = range(xs.start // width, -(-xs.stop // width))
        for sample, row, column in product(range(layout.n_separate), rows, columns):
            segment = (sample * layout.n_rows + row) * layout.n_columns + column
            top, left = max(ys.start, row * length), max(xs.start, column * width)
            bottom, right = min(ys.stop, (row + 1) * length), min(xs.stop, (column + 1) * width)
            piece = self._segment_rows(file, plane, segment, top - row * length, bottom - row * length)
            result[sample, top - ys.start : bottom - ys.start, left - xs.start : right - xs.start] = piece[
                :, left - column * width : right - column * width
            ]
        if "S" not in layout.axes:
            return result[0, :, :, 0]
        return result[0][..., inside["S"]] if layout.axes.endswith("S") else result[inside["S"], :, :, 0]

    def _segment_rows(self, file: BinaryIO, plane: int, segment: int, first: int, last: int) -> npt.NDArray[Any]:
        """Return some rows of a strip or tile, as (y, x, samples)."""
        layout = self._layout
        if isinstance(self._segments, int):
            # Planes without a gap between them are one long column of rows.
            offset, n_bytes = self._segments + plane * layout.plane_bytes, layout.plane_bytes
            row = segment % layout.n_rows * layout.segment_length
            sample = segment // layout.n_rows
            offset += layout.segment_bytes(1) * (sample * layout.length + row)
        else:
            offsets, counts = self._segments[plane]
            offset, n_bytes = offsets[segment], counts[segment]
        try:
            if layout.is_direct:
                file.seek(offset + layout.segment_bytes(first))
                data = file.read(layout.segment_bytes(last - first))
                values = np.frombuffer(data, layout.stored_dtype)
                return values.reshape(last - first, layout.segment_width, layout.n_samples)
            key = (self._path, self._fingerprint, plane, segment)
            return self._cache.fetch(key, lambda: layout.decode(_read_at(file, offset, n_bytes), segment))[first:last]
        except DECODE_ERRORS as error:
            raise VolumeError(
                f"{shown(self._path)} is damaged at plane {plane}: {error}. Copy or download it again."
            ) from error


def collect_planes(
    path: Path, pages: Sequence[Any], lead: tuple[int, ...], offset: int | None, cache: DecodedCache
) -> TiffPlanes:
    """Return the planes of a TIFF after checking that what they declare can be there.

    Parameters
    ----------
    path
        The file.
    pages
        tifffile's pages in order, one a plane; only the first counts where `offset` is given.
    lead
        The shape of the axes that count planes.
    offset
        Where the first plane begins, if all planes follow it without a gap.
    cache
        Where decoded strips and tiles are kept.

    Raises
    ------
    VolumeError
        If a plane lies outside the file, or declares more than its bytes can hold.
    """
    where, size, n_planes = shown(path), path.stat().st_size, math.prod(lead)
    layout = SegmentLayout(pages[0], where)
    if offset is not None and layout.is_direct:
        n_readable = max(0, size - offset) // layout.plane_bytes
        if n_readable < n_planes:
            raise _too_short(where, layout, n_planes, n_readable, size)
        return TiffPlanes(path, lead, layout, int(offset), cache)
    if len(pages) < n_planes:
        raise _too_short(where, layout, n_planes, len(pages), size)
    segments = []
    for plane, page in enumerate(pages[:n_planes]):
        offsets, counts = tuple(page.dataoffsets), tuple(page.databytecounts)
        if len(offsets) < layout.n_segments or len(counts) < layout.n_segments:
            raise VolumeError(
                f"{where} is damaged at plane {plane}: {layout.n_segments} strips or tiles are needed, "
                f"{min(len(offsets), len(counts))} are listed. Copy or download it again."
            )
        if max(map(sum, zip(offsets, counts, strict=False))) > size:
            raise _too_short(where, layout, n_planes, plane, size)
        for segment, n_bytes in enumerate(counts[: layout.n_segments]):
            if fault := layout.check(segment, n_bytes):
                raise VolumeError(f"{where} is damaged at plane {plane}: {fault}. Copy or download it again.")
        segments.append((offsets, counts))
    return TiffPlanes(path, lead, layout, segments, cache)


def _too_short(where: str, layout: SegmentLayout, declared: int, readable: int, size: int) -> VolumeError:
    if declared > 1:
        return cut_short(where, declared, readable)
    return VolumeError(
        f"{where} is cut short or no image: it declares a plane of {layout.plane_bytes:,} bytes "
        f"but holds {size:,} bytes. Copy or download it again."
    )


def _read_at(file: BinaryIO, offset: int, n_bytes: int) -> bytes:
    file.seek(offset)
    return file.read(n_bytes)

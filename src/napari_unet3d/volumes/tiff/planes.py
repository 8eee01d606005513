"""The planes of a TIFF: where the voxels of each lie, and reading a part of one.

Of uncompressed strips only the rows that are asked for are read; other strips and tiles are decoded whole and
the last ones kept. What the directories declare is compared with the bytes of the file before anything is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from napari_unet3d.errors import VolumeError, shown
from napari_unet3d.volumes.arrays import DecodedCache, Slices
from napari_unet3d.volumes.blame import is_mistake
from napari_unet3d.volumes.stack import Fingerprint, PlaneStack
from napari_unet3d.volumes.tiff.directories import Directory, TiffFile, cut_short
from napari_unet3d.volumes.tiff.foreign import open_tiff
from napari_unet3d.volumes.tiff.images import TiffImage
from napari_unet3d.volumes.tiff.segments import DECODE_ERRORS, SegmentLayout

Addresses = tuple[npt.NDArray[Any], npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class TiffPlane:
    """One plane of a TIFF.

    Parameters
    ----------
    path, fingerprint
        The file, and its size and time when it was looked at.
    layout
        How it is cut up, and how a piece is decoded.
    number
        Which plane it is, for messages.
    offsets, counts
        Where its strips or tiles lie in the file, and their bytes there.
    """

    path: Path
    fingerprint: Fingerprint
    layout: SegmentLayout
    number: int
    offsets: npt.NDArray[Any]
    counts: npt.NDArray[Any]

    @property
    def piece_bytes(self) -> int:
        """Return the bytes of a strip or tile that has to be decoded whole; 0 where rows are read as they are."""
        layout = self.layout
        return 0 if layout.is_direct else layout.segment_bytes(layout.segment_length)

    def read(self, file: BinaryIO, box: Slices, cache: DecodedCache) -> npt.NDArray[Any]:
        """Return a part of it, with the axes of the plane.

        Raises
        ------
        VolumeError
            If a strip or tile is damaged.
        """
        layout = self.layout
        inside = dict(zip(layout.axes, box, strict=True))
        ys, xs = inside["Y"], inside["X"]
        shape = (layout.n_separate, ys.stop - ys.start, xs.stop - xs.start, layout.n_samples)
        result = np.empty(shape, layout.stored_dtype.newbyteorder("="))
        length, width = layout.segment_length, layout.segment_width
        rows = range(ys.start // length, -(-ys.stop // length))
        columns = range(xs.start // width, -(-xs.stop // width))
        for sample, row, column in product(range(layout.n_separate), rows, columns):
            segment = (sample * layout.n_rows + row) * layout.n_columns + column
            top, left = max(ys.start, row * length), max(xs.start, column * width)
            bottom, right = min(ys.stop, (row + 1) * length), min(xs.stop, (column + 1) * width)
            piece = self._rows(file, cache, segment, top - row * length, bottom - row * length)
            result[sample, top - ys.start : bottom - ys.start, left - xs.start : right - xs.start] = piece[
                :, left - column * width : right - column * width
            ]
        if "S" not in layout.axes:
            return result[0, :, :, 0]
        return result[0][..., inside["S"]] if layout.axes.endswith("S") else result[inside["S"], :, :, 0]

    def _rows(self, file: BinaryIO, cache: DecodedCache, segment: int, first: int, last: int) -> npt.NDArray[Any]:
        """Return some rows of a strip or tile, as (y, x, samples)."""
        layout, offset = self.layout, int(self.offsets[segment])
        try:
            if layout.is_direct:
                file.seek(offset + layout.segment_bytes(first))
                values = np.frombuffer(file.read(layout.segment_bytes(last - first)), layout.stored_dtype)
                return values.reshape(last - first, layout.segment_width, layout.n_samples)
            key = (self.path, self.fingerprint, offset)
            n_bytes = int(self.counts[segment])
            return cache.fetch(key, lambda: layout.decode(_read_at(file, offset, n_bytes), segment))[first:last]
        except DECODE_ERRORS as error:
            if is_mistake(error):
                raise
            raise VolumeError(
                f"{shown(self.path)} is damaged at plane {self.number}: {error}. Copy or download it again."
            ) from error


class Layouts:
    """How planes are cut up, asked for once for all that are alike."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], SegmentLayout] = {}

    def of(self, file: TiffFile, directory: Directory) -> SegmentLayout:
        """Return the layout of a directory.

        Raises
        ------
        VolumeError
            If tifffile cannot make sense of it.
        """
        key = (file.order, directory.layout)
        if key not in self._known:
            with open_tiff(file.path) as tif:
                page: Any = tif.pages[directory.index]
                if directory.level:
                    page = page.pages[directory.level - 1]
                self._known[key] = SegmentLayout(page, file.where)
        return self._known[key]


def stack_of(image: TiffImage, layouts: Layouts) -> tuple[PlaneStack, str]:
    """Return the planes of an image as an array, and tifffile's letters for the axes of a plane.

    Raises
    ------
    VolumeError
        If a plane lies outside its file, declares more than its bytes can hold, or is of another shape.
    """
    layout = layouts.of(*image.planes[0])
    if image.is_run:
        planes = _run(*image.planes[0], layout, image.lead.n_planes)
    else:
        planes = _listed(image.planes, layouts, layout)
    return PlaneStack(image.lead.shape, planes, layout.shape, layout.stored_dtype), layout.axes


def plane_of(file: TiffFile, directory: Directory, layouts: Layouts) -> TiffPlane:
    """Return one plane of a file, after the checks of `stack_of`."""
    return _checked_planes([(file, directory)], layouts)[0]


def _run(file: TiffFile, directory: Directory, layout: SegmentLayout, n_planes: int) -> list[TiffPlane]:
    """Return planes that follow each other without directories: one long column of rows."""
    start = int(file.values(directory.offsets)[0])
    if not layout.is_direct:
        raise cut_short(file.where, n_planes, 1)
    n_readable = max(0, file.n_bytes - start) // layout.plane_bytes
    if n_readable < n_planes:
        raise _too_short(file, layout, n_planes, n_readable)
    strip = np.arange(layout.n_segments, dtype=np.int64)
    row = strip % layout.n_rows * layout.segment_length + strip // layout.n_rows * layout.length
    offsets = start + row * layout.segment_bytes(1)
    counts = np.zeros_like(offsets)
    return [
        TiffPlane(file.path, file.fingerprint, layout, plane, offsets + plane * layout.plane_bytes, counts)
        for plane in range(n_planes)
    ]


def _listed(
    sources: Sequence[tuple[TiffFile, Directory]], layouts: Layouts, expected: SegmentLayout
) -> list[TiffPlane]:
    for number, (file, directory) in enumerate(sources):
        layout = layouts.of(file, directory)
        if (layout.shape, layout.axes) != (expected.shape, expected.axes) or layout.dtype != expected.dtype:
            raise VolumeError(
                f"{file.where} holds planes of different shapes: plane {number} is {layout}, the first {expected}; "
                "a volume has one shape."
            )
    return _checked_planes(sources, layouts)


def _checked_planes(sources: Sequence[tuple[TiffFile, Directory]], layouts: Layouts) -> list[TiffPlane]:
    planes = []
    handles: dict[Path, BinaryIO] = {}
    try:
        for number, (file, directory) in enumerate(sources):
            layout = layouts.of(file, directory)
            if file.path not in handles:
                handles[file.path] = open(file.path, "rb")  # noqa: SIM115 - closed below, one per file
            offsets, counts = _addresses(handles[file.path], file, directory, layout, number)
            if layout.is_direct and layout.plane_bytes > file.n_bytes:
                raise _too_short(file, layout, len(sources), number)
            if int((offsets.astype(np.int64) + counts.astype(np.int64)).max()) > file.n_bytes:
                raise _too_short(file, layout, len(sources), number)
            for segment, n_bytes in enumerate(counts.tolist()):
                if fault := layout.check(segment, n_bytes):
                    raise VolumeError(f"{file.where} is damaged at plane {number}: {fault}. Copy or download it again.")
            planes.append(TiffPlane(file.path, file.fingerprint, layout, number, offsets, counts))
    finally:
        for handle in handles.values():
            handle.close()
    return planes


def _addresses(handle: BinaryIO, file: TiffFile, directory: Directory, layout: SegmentLayout, number: int) -> Addresses:
    """Return where the strips or tiles of a plane lie, and their bytes."""
    n_segments = layout.n_segments
    offsets = file.values_in(handle, directory.offsets)
    if directory.counts is None and layout.is_direct:
        rows = [layout.segment_rows(segment) for segment in range(n_segments)]
        counts: npt.NDArray[Any] = np.array([layout.segment_bytes(n_rows) for n_rows in rows], np.int64)
    else:
        counts = np.empty(0) if directory.counts is None else file.values_in(handle, directory.counts)
    if len(offsets) < n_segments or len(counts) < n_segments:
        raise VolumeError(
            f"{file.where} is damaged at plane {number}: {n_segments} strips or tiles are needed, "
            f"{min(len(offsets), len(counts))} are listed. Copy or download it again."
        )
    return offsets[:n_segments], counts[:n_segments]


def foreign_stack(file: TiffFile, lead: tuple[int, ...], series: Any) -> tuple[PlaneStack, str]:
    """Return the planes of an image that tifffile found; see `stack_of`."""
    layout = SegmentLayout(series.keyframe, file.where)
    pages = [page for page in series if page is not None]
    n_planes = int(np.prod(lead, dtype=np.int64))
    planes: list[TiffPlane]
    if len(pages) < n_planes:
        if series.dataoffset is None:
            raise cut_short(file.where, n_planes, len(pages))
        directory = dataclasses.replace(file.directories[0], offsets=_entry_of(file, int(series.dataoffset)))
        planes = _run(file, directory, layout, n_planes)
    else:
        planes = [
            _foreign_plane(file, layout, number, page, len(pages)) for number, page in enumerate(pages[:n_planes])
        ]
    return PlaneStack(lead, planes, layout.shape, layout.stored_dtype), layout.axes


def _foreign_plane(file: TiffFile, layout: SegmentLayout, number: int, page: Any, n_planes: int) -> TiffPlane:
    offsets, counts = (np.asarray(found, np.int64) for found in (page.dataoffsets, page.databytecounts))
    if min(len(offsets), len(counts)) < layout.n_segments:
        raise cut_short(file.where, n_planes, number)
    if int((offsets + counts).max()) > file.n_bytes:
        raise _too_short(file, layout, n_planes, number)
    return TiffPlane(file.path, file.fingerprint, layout, number, offsets, counts)


def _entry_of(file: TiffFile, offset: int) -> tuple[int, int, int, bytes]:
    """Return an entry that holds one offset."""
    return 16, 1, 0, np.array([offset], f"{file.order}u8").tobytes()


def _too_short(file: TiffFile, layout: SegmentLayout, declared: int, readable: int) -> VolumeError:
    if declared > 1:
        return cut_short(file.where, declared, readable)
    return VolumeError(
        f"{file.where} is cut short or no image: it declares a plane of {layout.plane_bytes:,} bytes "
        f"but holds {file.n_bytes:,} bytes. Copy or download it again."
    )


def _read_at(file: BinaryIO, offset: int, n_bytes: int) -> bytes:
    file.seek(offset)
    return file.read(n_bytes)

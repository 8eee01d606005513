"""Writing a TIFF box by box.

The numbers are not compressed and lie in one run behind the header, plane by plane, so that each row of a
box is a seek and a write. No memory map: on a full disk a write to the map of a sparse file ends the process
with SIGBUS. The whole file is reserved before the first box instead.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import numpy as np
import numpy.typing as npt
import tifffile

from napari_unet3d import atomic
from napari_unet3d.volumes.arrays import Slices, box_shape
from napari_unet3d.volumes.outputs.base import Output

_IMAGEJ_DTYPES = ("uint8", "uint16", "float32")
_OME_UNITS = {"um": "µm", "nm": "nm", "mm": "mm", "pixel": "pixel"}
# A classic TIFF addresses 4 GiB; what the directories of the planes need is left free below that.
_CLASSIC_LIMIT = 2**32 - 2**25
_BINARY = getattr(os, "O_BINARY", 0)


class TiffOutput(Output):
    """A TIFF for ImageJ, or an OME-TIFF where the name or the number type asks for it."""

    _descriptor: int | None = None

    def _begin(self, path: Path) -> None:
        # A window shows what another thread writes, and the position in the file is one for both.
        self._seeking = Lock()
        # Exclusively: a link that somebody laid under this name is not followed.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        is_ome = self._spec.target.name.lower().endswith((".ome.tif", ".ome.tiff"))
        if is_ome or self.dtype.name not in _IMAGEJ_DTYPES:
            self._write_ome_header(path)
        else:
            self._write_imagej_header(path)
        self._open(path)
        atomic.preallocate(self._open_file(), path.stat().st_size, path.parent)

    def _resume(self, path: Path) -> None:
        self._seeking = Lock()
        self._open(path)

    def _open(self, path: Path) -> None:
        self._data_offset = find_numbers(path)[0]
        self._descriptor = os.open(path, os.O_RDWR | _BINARY)

    def _stored_shape(self) -> tuple[int, ...]:
        """Return the shape on disk: the channels of a slice are planes of their own."""
        z, y, x, *c = self.shape
        return (z, *c, y, x)

    def _write_imagej_header(self, path: Path) -> None:
        size, spec = self._spec.voxel_size, self._spec
        z, y, x, *c = self.shape
        # All of ImageJ's axes: of fewer, tifffile takes a last axis of 1 for a colour's samples.
        metadata: dict[str, Any] = {"axes": "TZCYXS", "spacing": size[0], "unit": spec.unit}
        if spec.made_by:
            metadata["Info"] = spec.made_by
        for axis, offset, step in zip("zyx", spec.translate, size, strict=True):
            if offset:
                # ImageJ's origin is the voxel, counted from the first, at which the coordinate is 0.
                metadata[f"{axis}origin"] = -offset / step
        with warnings.catch_warnings(), tifffile.TiffWriter(path, byteorder="<", imagej=True) as writer:
            # Above 4 GiB ImageJ's own form has one directory only; tifffile warns that it writes that.
            warnings.filterwarnings("ignore", message=".*truncating ImageJ file", category=UserWarning)
            writer.write(
                shape=(1, z, *(c or [1]), y, x, 1),
                dtype=self.dtype,
                photometric="minisblack",
                resolution=(1 / size[2], 1 / size[1]),
                metadata=metadata,
            )

    def _write_ome_header(self, path: Path) -> None:
        spec, unit = self._spec, _OME_UNITS[self._spec.unit]
        n_planes = int(np.prod(self._stored_shape()[:-2]))
        metadata: dict[str, Any] = {"axes": "ZYX" if len(self.shape) == 3 else "ZCYX"}
        if spec.made_by:
            metadata["Description"] = spec.made_by
        # By default it is another one each time: the same work gives the same bytes.
        metadata["UUID"] = str(uuid5(NAMESPACE_OID, f"{spec.made_by} {spec.shape} {spec.dtype} {spec.translate}"))
        plane: dict[str, Any] = {}
        for axis, step, offset in zip("ZYX", spec.voxel_size, spec.translate, strict=True):
            metadata[f"PhysicalSize{axis}"] = step
            metadata[f"PhysicalSize{axis}Unit"] = unit
            plane[f"Position{axis}"] = [offset] * n_planes
            plane[f"Position{axis}Unit"] = [unit] * n_planes
        if any(spec.translate):
            per_slice = n_planes // self.shape[0]
            plane["PositionZ"] = [
                spec.translate[0] + z * spec.voxel_size[0] for z in range(self.shape[0]) for _ in range(per_slice)
            ]
            metadata["Plane"] = plane
        is_big = spec.nbytes > _CLASSIC_LIMIT
        with tifffile.TiffWriter(path, byteorder="<", ome=True, bigtiff=is_big) as writer:
            writer.write(shape=self._stored_shape(), dtype=self.dtype, photometric="minisblack", metadata=metadata)

    def _write(self, box: Slices, values: npt.NDArray[Any]) -> None:
        ordered = values if values.ndim == 3 else np.moveaxis(values, 3, 1)
        stored = np.ascontiguousarray(ordered, self.dtype.newbyteorder("<"))
        rows = stored.reshape(-1, stored.shape[-1] * _rows_at_once(box, self.shape))
        for offset, row in zip(_offsets(box, self.shape, self.dtype), rows, strict=True):
            with self._seeking:
                _write_at(self._open_file(), self._data_offset + offset, row.data.cast("B"))

    def _read(self, box: Slices) -> npt.NDArray[Any]:
        with self._seeking:
            return read_box(self._open_file(), self._data_offset, box, self.shape, self.dtype)

    def _open_file(self) -> int:
        if self._descriptor is None:
            raise ValueError("the file is closed")
        return self._descriptor

    def _sync(self) -> None:
        os.fsync(self._open_file())

    def _finish(self) -> None:
        self._sync()
        self._abandon()

    def _abandon(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def find_numbers(path: Path) -> tuple[int, np.dtype[Any]]:
    """Return where the numbers of a TIFF that was begun here lie in its file, and of what type they are."""
    with tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        return int(series.dataoffset or tif.pages[0].dataoffsets[0]), np.dtype(series.dtype).newbyteorder("=")


def read_path(path: Path, offset: int, box: Slices, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return a box of a file that is opened for that alone: whoever writes it may rename it meanwhile."""
    descriptor = os.open(path, os.O_RDONLY | _BINARY)
    try:
        return read_box(descriptor, offset, box, shape, dtype)
    finally:
        os.close(descriptor)


def read_box(
    descriptor: int, data_offset: int, box: Slices, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    """Return a box of an open file.

    Parameters
    ----------
    descriptor
        Of the file.
    data_offset
        Where its numbers begin.
    box
        One slice per axis.
    shape, dtype
        Of the whole volume.
    """
    z, y, x, *c = box_shape(box)
    stored = np.empty((z, *c, y, x), dtype.newbyteorder("<"))
    rows = stored.reshape(-1, x * _rows_at_once(box, shape))
    for offset, row in zip(_offsets(box, shape, dtype), rows, strict=True):
        os.lseek(descriptor, data_offset + offset, os.SEEK_SET)
        row[:] = np.frombuffer(os.read(descriptor, row.nbytes), stored.dtype)
    return (stored if not c else np.moveaxis(stored, 1, 3)).astype(dtype)


def _rows_at_once(box: Slices, shape: tuple[int, ...]) -> int:
    """Return how many rows of a plane follow one another on disk: all, if the box has the full width."""
    is_full = box[2] == slice(0, shape[2])
    return box[1].stop - box[1].start if is_full else 1


def _offsets(box: Slices, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[int]:
    """Yield where each run of rows begins among the numbers, in the order of the stored axes."""
    _, height, width, *channels = shape
    n_channels = channels[0] if channels else 1
    wanted = box[3] if channels else slice(0, 1)
    for z in range(box[0].start, box[0].stop):
        for c in range(wanted.start, wanted.stop):
            for y in range(box[1].start, box[1].stop, _rows_at_once(box, shape)):
                yield (((z * n_channels + c) * height + y) * width + box[2].start) * dtype.itemsize


def _write_at(descriptor: int, offset: int, data: memoryview) -> None:
    os.lseek(descriptor, offset, os.SEEK_SET)
    while data:
        data = data[os.write(descriptor, data) :]

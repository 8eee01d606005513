"""Reading a folder of slices, TIFF or PNG, one file per slice, in natural order (2 before 10).

The headers of all slices are read at once and compared; the voxels of a slice only when they are asked for.
"""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from napari_unet3d.errors import VolumeError, shown
from napari_unet3d.volumes.arrays import DecodedCache, Slices, arrange
from napari_unet3d.volumes.axes import EVERYTHING, Pick
from napari_unet3d.volumes.named import what_lies_in
from napari_unet3d.volumes.slices.numbering import natural_key, order_slices
from napari_unet3d.volumes.space.calibration import Calibration
from napari_unet3d.volumes.stack import Fingerprint, Plane, PlaneStack
from napari_unet3d.volumes.tiff.descriptions import declared_planes, is_imagej, is_shaped
from napari_unet3d.volumes.tiff.directories import MAGIC, TiffFile
from napari_unet3d.volumes.tiff.planes import Layouts, TiffPlane, plane_of
from napari_unet3d.volumes.tiff.reading import found_in, note_on_inversion
from napari_unet3d.volumes.volume import Volume

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_SUFFIXES = (".tif", ".tiff", ".png")
_PNG_GRAY, _PNG_PALETTE = 0, 3


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice: its plane, (y, x) and number type, and what is odd about it."""

    plane: Plane
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.shape[0]} x {self.shape[1]} {self.dtype.newbyteorder('=')}"


def slice_files(folder: Path) -> list[Path]:
    """Return the images in a folder in natural order; hidden files and other kinds are left out."""
    files = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    return sorted(files, key=lambda path: natural_key(path.name))


def read_slices(folder: Path, pattern: str | None = None, pick: Pick = EVERYTHING) -> Volume:
    """Return the volume that the slices in a folder make up, the first slice at z = 0.

    Parameters
    ----------
    folder
        The folder.
    pattern
        Which of its files are meant, such as ``DAPI_*.tif``; None takes all, if they are one stack.
    pick
        Its axes can only be "zyx"; slices have no other channel or point in time to choose.

    Raises
    ------
    VolumeError
        If there are none, one is missing in the numbering, there are several stacks, or they differ in shape or
        number type.
    """
    if pick.axes not in (None, "zyx"):
        raise VolumeError(f"axes={pick.axes!r} cannot be used for {shown(folder)}: slices are read as 'zyx'.")
    if (pick.channel or 0, pick.timepoint or 0) != (0, 0):
        raise VolumeError(f"{shown(folder)} holds slices, which have one channel and one point in time each.")
    files = slice_files(folder)
    if not files:
        raise VolumeError(
            f"{shown(folder)} holds no slices: no .tif, .tiff or .png file is in it. "
            + (what_lies_in(folder) or "Pass a folder of slices, one with image/ and mask/, or a .zarr folder.")
        )
    numbered = order_slices([file.name for file in files], shown(folder), pattern)
    layouts = Layouts()
    slices = [_slice(folder / name, layouts) for name in numbered.names]
    for name, found in zip(numbered.names, slices, strict=True):
        _refuse_if_different(folder / numbered.names[0], slices[0], folder / name, found)
    stack = PlaneStack((len(slices),), [found.plane for found in slices], slices[0].shape, slices[0].dtype)
    data, notes = arrange(stack, "zyx", shown(folder), pick)
    calibration = _calibration(folder / numbered.names[0])
    return Volume(data, calibration, notes=(*calibration.notes, *numbered.notes, *slices[0].notes, *notes))


def _slice(path: Path, layouts: Layouts) -> Slice:
    """Return a slice after a look at its header."""
    where = shown(path)
    with open(path, "rb") as file:
        start = file.read(33)
    if not start:
        raise VolumeError(f"{where} is empty (0 bytes).")
    if start.startswith(MAGIC):
        return _tiff_slice(path, layouts)
    if start.startswith(PNG_MAGIC) and len(start) == 33:
        shape, dtype = _png_header(start, path)
        status = path.stat()
        n_bytes = shape[0] * shape[1] * dtype.itemsize
        return Slice(PngPlane(path, (status.st_size, status.st_mtime_ns), n_bytes), shape, dtype)
    raise VolumeError(f"{where} is neither a TIFF nor a PNG, whatever its name says.")


def _tiff_slice(path: Path, layouts: Layouts) -> Slice:
    """Return a TIFF with one plane, whatever its metadata say of a whole."""
    file = TiffFile(path)
    whole = [directory for directory in file.directories if not directory.is_reduced] or list(file.directories)
    n_planes = len(whole)
    if n_planes == 1 and (is_imagej(file.description) or is_shaped(file.description)):
        n_planes = max(1, declared_planes(file.description) or 1)
    if whole[0].n_samples != 1 or whole[0].dtype is None:
        raise VolumeError(
            f"{file.where} is a colour image or has unusual numbers; slices have one channel of 1 to 64 bits."
        )
    if n_planes != 1:
        raise VolumeError(
            f"{file.where} holds {n_planes} planes; a slice has one. To read that stack, pass the file itself."
        )
    plane: TiffPlane = plane_of(file, whole[0], layouts)
    shape = plane.layout.shape[0], plane.layout.shape[1]
    return Slice(plane, shape, plane.layout.stored_dtype, note_on_inversion(whole[0]))


def _calibration(first: Path) -> Calibration:
    with open(first, "rb") as file:
        is_tiff = file.read(4).startswith(MAGIC)
    return found_in(TiffFile(first)).calibrate() if is_tiff else Calibration(notes=("PNG slices have no voxel size.",))


def _png_header(start: bytes, path: Path) -> tuple[tuple[int, int], np.dtype[Any]]:
    width, height, bits, kind = struct.unpack(">IIBB", start[16:26])
    if width == 0 or height == 0:
        raise VolumeError(f"{shown(path)} holds no voxels: empty axis {'x' if width == 0 else 'y'}.")
    # Pillow multiplies gray numbers of 2 and 4 bits, and keeps those of a palette.
    is_readable = (kind == _PNG_GRAY and bits in (1, 8, 16)) or (kind == _PNG_PALETTE and bits <= 8)
    if not is_readable:
        raise VolumeError(
            f"{shown(path)} is a colour image or has unusual numbers; slices have one channel of 8 or 16 bits."
        )
    # Deflate makes at most 1032 bytes of one: more is a lie, found before anything is allocated.
    if width * height * bits // 8 > path.stat().st_size * 1032:
        raise VolumeError(f"{shown(path)} declares {width} x {height} pixels, which its bytes cannot hold.")
    is_mask = bits == 1 and kind == _PNG_GRAY
    return (height, width), np.dtype(np.bool_ if is_mask else np.uint16 if bits == 16 else np.uint8)


@dataclass(frozen=True)
class PngPlane:
    """A PNG as a plane; it is decoded whole."""

    path: Path
    fingerprint: Fingerprint
    piece_bytes: int

    def read(self, file: BinaryIO, box: Slices, cache: DecodedCache) -> npt.NDArray[Any]:
        """Return a part of it, (y, x)."""
        return cache.fetch((self.path, self.fingerprint), lambda: _read_png(file, self.path))[box]


def _read_png(file: BinaryIO, path: Path) -> npt.NDArray[Any]:
    from PIL import Image

    try:
        shape, dtype = _png_header(file.read(33), path)
        file.seek(0)
        with warnings.catch_warnings():
            # Pillow warns of many pixels; the header was held against the bytes on disk already.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=["PNG"]) as image:
                values = np.asarray(image)
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise VolumeError(f"The slice {shown(path)} is damaged or too large for a PNG: {error}.") from error
    if values.shape != shape:
        raise VolumeError(f"The slice {shown(path)} was changed after the folder was opened; open it again.")
    return values.astype(dtype)


def _refuse_if_different(first: Path, expected: Slice, file: Path, found: Slice) -> None:
    if found.shape == expected.shape and found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("="):
        return
    what = "shape" if found.shape != expected.shape else "number type"
    raise VolumeError(
        f"The slice {shown(file)} has another {what} than the first: {found} instead of {expected} in {first.name}. "
        "All slices of a volume are alike."
    )

"""Reading a folder of slices, TIFF or PNG, one file a slice, in natural order (2 before 10).

The headers of all slices are read at once and compared; the voxels of a slice only when they are asked for.
"""

from __future__ import annotations

import re
import struct
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.errors import VolumeError, shown
from napari_unet3d.volumes.arrays import Box, DecodedCache, LazyArray, arrange, box_shape
from napari_unet3d.volumes.tiff import calibration_of_slice, read_tiff_slice
from napari_unet3d.volumes.tiff_header import MAGIC, scan_tiff
from napari_unet3d.volumes.volume import Volume, calibrate

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_SUFFIXES = (".tif", ".tiff", ".png")
_PNG_GRAY, _PNG_PALETTE = 0, 3
_SHOWN_NUMBERS = 5

SliceHeader = tuple[tuple[int, int], np.dtype[Any]]


def slice_files(folder: Path) -> list[Path]:
    """Return the slices in a folder in natural order; hidden files and other kinds are left out."""
    files = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    return sorted(files, key=lambda path: natural_key(path.name))


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a key under which names sort by the numbers in them.

    Examples
    --------
    >>> sorted(["z10.tif", "z2.tif", "z1.tif"], key=natural_key)
    ['z1.tif', 'z2.tif', 'z10.tif']
    """
    parts = re.split(r"([0-9]+)", name)
    return [(1, int(part), "") if at % 2 else (0, 0, part.lower()) for at, part in enumerate(parts)], name


def read_slices(folder: Path, axes: str | None = None) -> Volume:
    """Return the volume that the slices in a folder make up, the first slice at z = 0.

    Raises
    ------
    VolumeError
        If there are none, one is missing in the numbering, or they differ in shape or number type.
    """
    if axes not in (None, "zyx"):
        raise VolumeError(f"axes={axes!r} cannot be used for {shown(folder)}: slices are read as 'zyx'.")
    files = slice_files(folder)
    if not files:
        raise VolumeError(
            f"{shown(folder)} holds no slices: no .tif, .tiff or .png file is in it. "
            "Pass a folder of slices, a sample folder with image/ and mask/, or a .zarr folder."
        )
    _check_numbering(files)
    headers = [slice_header(file) for file in files]
    for file, header in zip(files, headers, strict=True):
        _refuse_if_different(files[0], headers[0], file, header)
    data, notes = arrange(SliceStack(files, *headers[0]), "zyx", shown(folder))
    calibration = calibrate(*(calibration_of_slice(files[0]) if _is_tiff(files[0]) else ({}, None)))
    return Volume(data, calibration.voxel_size, calibration.unit, notes=(*calibration.notes, *notes))


def slice_header(path: Path) -> SliceHeader:
    """Return the shape (y, x) of a slice and the number type in the file."""
    where = shown(path)
    with open(path, "rb") as file:
        start = file.read(33)
    if not start:
        raise VolumeError(f"{where} is empty (0 bytes).")
    if start.startswith(MAGIC):
        header = scan_tiff(path)
        if header.n_samples != 1 or header.dtype is None:
            raise VolumeError(
                f"{where} is a colour image or has unusual numbers; slices have one channel of 8 to 64 bits."
            )
        return (header.height, header.width), header.dtype
    if start.startswith(PNG_MAGIC) and len(start) == 33:
        return _png_header(start, path)
    raise VolumeError(f"{where} is neither a TIFF nor a PNG, whatever its name says.")


def _png_header(start: bytes, path: Path) -> SliceHeader:
    width, height, bits, kind = struct.unpack(">IIBB", start[16:26])
    if width == 0 or height == 0:
        raise VolumeError(f"{shown(path)} holds no voxels: empty axis {'x' if width == 0 else 'y'}.")
    is_readable = (kind == _PNG_GRAY and bits in (1, 8, 16)) or (kind == _PNG_PALETTE and bits == 8)
    if not is_readable:
        raise VolumeError(
            f"{shown(path)} is a colour image or has unusual numbers; slices have one channel of 8 or 16 bits."
        )
    # Deflate makes at most 1032 bytes of one: more is a lie, found before anything is allocated.
    if width * height * bits // 8 > path.stat().st_size * 1032:
        raise VolumeError(f"{shown(path)} declares {width} x {height} pixels, which its bytes cannot hold.")
    return (height, width), np.dtype({1: np.bool_, 8: np.uint8, 16: np.uint16}[bits])


class SliceStack(LazyArray):
    """Slices as one array (z, y, x) on disk.

    Parameters
    ----------
    files
        One file a slice, in order.
    shape
        (y, x) of each slice.
    dtype
        The number type in the files.
    """

    def __init__(self, files: list[Path], shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        super().__init__((len(files), *shape), dtype)
        self._files = files
        self._stored_dtype = dtype
        self._cache = DecodedCache()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the number type in the files, with its byte order."""
        return self._stored_dtype

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Return a box; only its slices are opened."""
        result = np.empty(box_shape(box), self._dtype)
        for at, z in enumerate(range(box[0].start, box[0].stop)):
            file = self._files[z]
            try:
                if _is_tiff(file):
                    result[at] = self._tiff(file)[box[1:]]
                else:
                    result[at] = self._cache.fetch(file, lambda file=file: _read_png(file))[box[1:]]  # type: ignore[misc]
            except OSError as error:
                raise VolumeError(f"The slice {shown(file)} cannot be read: {error}.") from error
        return result

    def _tiff(self, file: Path) -> Any:
        planes = read_tiff_slice(file, self._cache)
        if planes.shape != self.shape[1:] or planes.dtype.newbyteorder("=") != self._dtype:
            raise VolumeError(f"The slice {shown(file)} was changed after the folder was opened; open it again.")
        return planes


def _is_tiff(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4).startswith(MAGIC)


def _read_png(path: Path) -> npt.NDArray[Any]:
    from PIL import Image

    shape, dtype = slice_header(path)
    try:
        with warnings.catch_warnings():
            # Pillow warns of many pixels; the header was held against the bytes on disk already.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG"]) as image:
                values = np.asarray(image)
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise VolumeError(f"The slice {shown(path)} is damaged or too large for a PNG: {error}.") from error
    if values.shape != shape:
        raise VolumeError(f"The slice {shown(path)} was changed after the folder was opened; open it again.")
    return values.astype(dtype)


def _refuse_if_different(first: Path, expected: SliceHeader, file: Path, found: SliceHeader) -> None:
    if found[0] == expected[0] and found[1].newbyteorder("=") == expected[1].newbyteorder("="):
        return
    what = "shape" if found[0] != expected[0] else "number type"
    raise VolumeError(
        f"The slice {shown(file)} has another {what} than the first: "
        f"{_words(found)} instead of {_words(expected)} in {first.name}. All slices of a volume are alike."
    )


def _words(header: SliceHeader) -> str:
    (height, width), dtype = header
    return f"{height} x {width} {dtype.newbyteorder('=')}"


def _check_numbering(files: list[Path]) -> None:
    """Refuse a stack in which a number is missing or comes twice.

    Names that share no pattern are taken as they are: there is no numbering to check.
    """
    skeletons = {re.sub(r"[0-9]+", "#", file.name) for file in files}
    if len(skeletons) != 1 or len(files) < 2:
        return
    numbers = [[int(number) for number in re.findall(r"[0-9]+", file.name)] for file in files]
    varying = [at for at in range(len(numbers[0])) if len({row[at] for row in numbers}) > 1]
    if not varying:
        raise VolumeError(f"{shown(files[0].parent)} holds a slice twice: {files[0].name} and {files[1].name}.")
    index = [row[varying[-1]] for row in numbers]
    steps = [after - before for before, after in pairwise(index)]
    if min(steps) <= 0:
        at = next(at for at, step in enumerate(steps) if step <= 0)
        raise VolumeError(
            f"{shown(files[0].parent)} holds several stacks, or channels, or a slice twice: "
            f"{files[at + 1].name} follows {files[at].name}. "
            "Keep the slices of one channel in a folder of their own."
        )
    missing = [
        number
        for before, after in pairwise(index)
        for number in range(before + min(steps), min(after, before + (_SHOWN_NUMBERS + 1) * min(steps)), min(steps))
    ]
    if missing:
        gap = next(at for at, step in enumerate(steps) if step != min(steps))
        listed = ", ".join(map(str, missing[:_SHOWN_NUMBERS])) + (" .." if len(missing) > _SHOWN_NUMBERS else "")
        raise VolumeError(
            f"{shown(files[0].parent)} lacks slices: {listed} (the first gap is between "
            f"{files[gap].name} and {files[gap + 1].name}). Add them, or renumber the files."
        )

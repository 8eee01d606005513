"""From a path to a volume: what lies there decides, not its suffix alone.

Sample folders (`image/` and `mask/`), folders of slices, TIFF, HDF5 (`file.h5:/dataset`) and Zarr are told
apart by their first bytes or by the files they hold. The module of a format is imported when one is met.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from napari_unet3d.errors import VolumeError, is_possible, shown
from napari_unet3d.small_files import check_regular
from napari_unet3d.volumes.axes import Pick
from napari_unet3d.volumes.named import READABLE, file_kind, folder_kind, refused_address
from napari_unet3d.volumes.volume import ArrayInfo, Volume

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\3\4"
_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
_HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".ims")
_SNIFFED_BYTES = 1024


def read_volume(
    path: str | os.PathLike[str],
    *,
    axes: str | None = None,
    dataset: str | None = None,
    channel: int | None = None,
    timepoint: int | None = None,
    kind: Literal["image", "labels"] = "image",
) -> Volume:
    """Return the volume at a path; its voxels are read when they are asked for, where the file allows it.

    Parameters
    ----------
    path
        A TIFF, a folder of TIFF or PNG slices, a sample folder (its image is read), `file.h5` or
        `file.h5:/dataset`, a Zarr array, or an OME-Zarr image or one of its levels.
    axes
        A letter for each axis as it lies in the file: z, y, x, c for channels and t for time. None
        takes what the file says.
    dataset
        The array inside an HDF5 file or a Zarr group, the image in a TIFF by its number counted from 0, or the names
        of the slices that are meant, such as ``DAPI_*.tif``. It may also stand behind a colon in the path.
    channel, timepoint
        The channel and the point in time, counted from 0; None takes all channels, and the only point in time.
    kind
        Labels keep whole numbers of 64 bits; an image has those of 32.

    Raises
    ------
    VolumeError
        If nothing can be read there, it is damaged, or it is not one volume.
    """
    if refusal := refused_address(os.fspath(path)):
        raise VolumeError(refusal)
    place, inside = _split(path)
    if inside is not None and dataset is not None:
        raise VolumeError(f"{shown(path)} names the array {inside!r} and dataset={dataset!r} another; name one.")
    dataset = inside if inside is not None else dataset
    with _explain_errors(place):
        volume = _read(place, dataset, Pick(axes, channel, timepoint, kind == "labels"))
    stem = (
        place.name.split(".")[0] if place.name.lower().endswith((".ome.tif", ".ome.tiff", ".ome.zarr")) else place.stem
    )
    name = f"{stem} {dataset.strip('/')}" if dataset else stem
    return replace(volume, name=shown(name), path=os.fspath(path))


def read_coarser(volume: Volume) -> list[Volume]:
    """Return the smaller levels of a pyramid whose full size was read, the largest first; none where there are none.

    What of them cannot be read, or has not fewer voxels along each axis, is left out.

    Parameters
    ----------
    volume
        From `read_volume`, of an OME-Zarr, an Imaris file or a TIFF whose planes have smaller copies.
    """
    if not volume.path:
        return []
    place, dataset = _split(volume.path)
    levels = [volume]
    with suppress(VolumeError, OSError):
        for name in _coarser_names(place, dataset):
            level = read_volume(f"{place}:{name}")
            last = levels[-1].data
            is_smaller = len(level.data.shape) == len(last.shape) and level.data.dtype == last.dtype
            if is_smaller and level.data.shape != last.shape and np.less_equal(level.data.shape, last.shape).all():
                levels.append(level)
    return levels[1:]


def _coarser_names(place: Path, dataset: str | None) -> list[str]:
    """Return what chooses the smaller copies of a volume, the largest first."""
    if place.is_dir():
        if not _is_zarr(place):
            return []
        from napari_unet3d.volumes.ome_zarr import coarser_arrays

        return coarser_arrays(place, dataset)
    with open(place, "rb") as file:
        start = file.read(_SNIFFED_BYTES)
    if start.startswith(_TIFF):
        from napari_unet3d.volumes.tiff import count_levels

        image = "" if dataset is None else f"{dataset}/"
        return [f"{image}level {number}" for number in range(1, count_levels(place) + 1)]
    if _is_hdf5(place):
        from napari_unet3d.volumes.hdf5 import coarser_levels

        return coarser_levels(place, dataset)
    return []


def read_sample(folder: str | os.PathLike[str]) -> tuple[Volume, Volume]:
    """Return the image and the mask of a sample folder: `image/` and `mask/`, each one file a slice.

    Raises
    ------
    VolumeError
        If one of them is missing or cannot be read.
    """
    place = Path(folder)
    if not is_sample(place):
        raise VolumeError(
            f"{shown(place)} is not a sample: a sample is a folder that holds the folders image/ and mask/."
        )
    image, mask = read_volume(place / "image"), read_volume(place / "mask", kind="labels")
    return replace(image, name=f"{place.name} image"), replace(mask, name=f"{place.name} mask")


def is_sample(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a folder with the folders `image/` and `mask/`."""
    return all(Path(path, part).is_dir() for part in ("image", "mask"))


def list_arrays(path: str | os.PathLike[str]) -> list[ArrayInfo]:
    """Return the arrays in an HDF5 file or a Zarr group, without reading their numbers.

    Raises
    ------
    VolumeError
        If it is neither of these, or cannot be read.
    """
    place = Path(path)
    with _explain_errors(place):
        if not place.is_dir():
            check_regular(place)
        if (place.is_dir() and _is_zarr(place)) or _holds_zarr(place):
            from napari_unet3d.volumes.ome_zarr import list_zarr

            return list_zarr(place)
        if place.is_dir() or not _is_hdf5(place):
            raise VolumeError(f"{shown(place)} holds no list of arrays; HDF5 files and Zarr groups do.")
        from napari_unet3d.volumes.hdf5 import list_hdf5

        return list_hdf5(place)


def _read(place: Path, dataset: str | None, pick: Pick) -> Volume:
    os.stat(place)
    if place.is_dir():
        return _read_folder(place, dataset, pick)
    check_regular(place)
    with open(place, "rb") as file:
        start = file.read(_SNIFFED_BYTES)
    if not start:
        raise VolumeError(f"{shown(place)} is empty (0 bytes).")
    if _is_hdf5(place):
        from napari_unet3d.volumes.hdf5 import read_hdf5

        return read_hdf5(place, dataset, pick)
    if start.startswith(_TIFF):
        from napari_unet3d.volumes.tiff import read_tiff

        return read_tiff(place, dataset, pick)
    if start.startswith(_ZIP) and _holds_zarr(place):
        from napari_unet3d.volumes.ome_zarr import read_zarr

        return read_zarr(place, dataset, pick)
    kind = file_kind(place, start)
    raise VolumeError(
        f"{shown(place)} is {kind}."
        if kind
        else f"{shown(place)} is not a volume that can be read. What works: {READABLE}."
    )


def _read_folder(place: Path, dataset: str | None, pick: Pick) -> Volume:
    if _is_zarr(place):
        from napari_unet3d.volumes.ome_zarr import read_zarr

        return read_zarr(place, dataset, pick)
    if kind := folder_kind(place):
        raise VolumeError(f"{shown(place)} is {kind}.")
    from napari_unet3d.volumes.slices.reading import read_slices

    return read_slices(place / "image" if is_sample(place) else place, dataset, pick)


def _split(path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """Return the file and the array named behind the last colon that follows a file's name.

    A colon in the name of a file or behind a Windows drive is no such colon.
    """
    text = os.fspath(path)
    at = text.rfind(":")
    while at > 0 and not os.path.lexists(text):
        left = Path(text[:at])
        if os.path.lexists(left) or left.suffix.lower() in _HDF5_SUFFIXES:
            return left, text[at + 1 :].lstrip(":") or None
        at = text.rfind(":", 0, at)
    return Path(text), None


def _is_zarr(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _ZARR_FILES)


def _holds_zarr(place: Path) -> bool:
    """Return whether a zip file holds a Zarr, at its top or in its only folder."""
    try:
        with zipfile.ZipFile(place) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return any(name.rpartition("/")[2] in _ZARR_FILES and name.count("/") <= 1 for name in names)


def _is_hdf5(place: Path) -> bool:
    """Return whether the signature is at 0, or behind a user block of 512 bytes, 1024, ..."""
    size, offset = place.stat().st_size, 0
    with open(place, "rb") as file:
        while offset < size:
            file.seek(offset)
            if file.read(len(_HDF5)) == _HDF5:
                return True
            offset = max(512, offset * 2)
    return False


@contextmanager
def _explain_errors(place: Path) -> Iterator[None]:
    """Turn errors of the operating system into one `VolumeError` about `place`."""
    if not is_possible(place):
        raise VolumeError(f"{shown(place)} holds a character that no file name may hold.")
    try:
        yield
    except FileNotFoundError as error:
        raise VolumeError(f"{shown(error.filename or place)} does not exist.") from error
    except PermissionError as error:
        raise VolumeError(
            f"{shown(error.filename or place)} cannot be read: permission denied. Ask its owner, or copy it elsewhere."
        ) from error
    except OSError as error:
        raise VolumeError(f"{shown(place)} cannot be read: {error.strerror or error}.") from error

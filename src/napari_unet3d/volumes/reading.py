"""From a path to a volume: what lies there decides, not its suffix alone.

Sample folders (`image/` and `mask/`), folders of slices, TIFF, HDF5 (`file.h5:/dataset`) and Zarr are told
apart by their first bytes or by the files they hold. The module of a format is imported when one is met.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from napari_unet3d.errors import VolumeError, is_possible, shown
from napari_unet3d.volumes.volume import ArrayInfo, Volume

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
_READABLE = (
    "a TIFF, a folder of TIFF or PNG slices, a sample folder with image/ and mask/, "
    "file.h5:/dataset, or a Zarr or OME-Zarr folder"
)
_OTHERS = (
    (b"\x89PNG", "a single PNG, which is 2D; pass the folder that holds all slices"),
    (b"PK\3\4", "a zip archive; unpack it first"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"version https://git-lfs", "a Git LFS pointer and not the data; fetch it with git lfs pull"),
)
_SNIFFED_BYTES = 512


def read_volume(path: str | os.PathLike[str], *, axes: str | None = None, dataset: str | None = None) -> Volume:
    """Return the volume at a path; its voxels are read when they are asked for, where the file allows it.

    Parameters
    ----------
    path
        A TIFF, a folder of TIFF or PNG slices, a sample folder (its image is read), `file.h5` or
        `file.h5:/dataset`, a Zarr array, or an OME-Zarr image or one of its levels.
    axes
        A letter for each axis as it lies in the file: z, y, x and c for channels; None believes the file.
    dataset
        The array inside an HDF5 file or a Zarr group.

    Raises
    ------
    VolumeError
        If nothing can be read there, it is damaged, or it is not one volume.
    """
    place, inside = _split(path)
    if inside is not None and dataset is not None:
        raise VolumeError(f"{shown(path)} names the array {inside!r} and dataset={dataset!r} another; name one.")
    dataset = inside if inside is not None else dataset
    with _explained(place):
        volume = _read(place, axes, dataset)
    stem = (
        place.name.split(".")[0] if place.name.lower().endswith((".ome.tif", ".ome.tiff", ".ome.zarr")) else place.stem
    )
    name = f"{stem} {dataset.strip('/')}" if dataset else stem
    return replace(volume, name=shown(name), path=os.fspath(path))


def read_sample(folder: str | os.PathLike[str]) -> tuple[Volume, Volume]:
    """Return the image and the mask of a sample folder: `image/` and `mask/`, each one file a slice.

    Raises
    ------
    VolumeError
        If one of them is missing or cannot be read.
    """
    place = Path(folder)
    if not is_sample(place):
        raise VolumeError(f"{shown(place)} is no sample: a sample is a folder that holds the folders image/ and mask/.")
    image, mask = (read_volume(place / part) for part in ("image", "mask"))
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
    with _explained(place):
        if place.is_dir() and _is_zarr(place):
            from napari_unet3d.volumes.ome_zarr import list_zarr

            return list_zarr(place)
        if place.is_dir() or not _is_hdf5(place):
            raise VolumeError(f"{shown(place)} holds no list of arrays; HDF5 files and Zarr groups do.")
        from napari_unet3d.volumes.hdf5 import list_hdf5

        return list_hdf5(place)


def _read(place: Path, axes: str | None, dataset: str | None) -> Volume:
    os.stat(place)
    if place.is_dir():
        return _read_folder(place, axes, dataset)
    with open(place, "rb") as file:
        start = file.read(_SNIFFED_BYTES)
    if not start:
        raise VolumeError(f"{shown(place)} is empty (0 bytes).")
    if _is_hdf5(place):
        from napari_unet3d.volumes.hdf5 import read_hdf5

        return read_hdf5(place, dataset, axes)
    if dataset is not None:
        raise VolumeError(f"{shown(place)} is no HDF5 file and no Zarr, so it has no array {dataset!r}.")
    if start.startswith(_TIFF):
        from napari_unet3d.volumes.tiff import read_tiff

        return read_tiff(place, axes)
    raise VolumeError(_what_it_is(place, start))


def _read_folder(place: Path, axes: str | None, dataset: str | None) -> Volume:
    if _is_zarr(place):
        from napari_unet3d.volumes.ome_zarr import read_zarr

        return read_zarr(place, dataset, axes)
    if dataset is not None:
        raise VolumeError(f"{shown(place)} is no HDF5 file and no Zarr, so it has no array {dataset!r}.")
    from napari_unet3d.volumes.slices import read_slices

    return read_slices(place / "image" if is_sample(place) else place, axes)


def _what_it_is(place: Path, start: bytes) -> str:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        wanted = "a TIFF" if place.suffix.lower() in (".tif", ".tiff") else "a volume"
        return f"{shown(place)} is a web page, not {wanted}: the download gave a page instead of the file."
    for magic, what in _OTHERS:
        if start.startswith(magic):
            return f"{shown(place)} is {what}."
    return f"{shown(place)} is no volume that can be read. What works: {_READABLE}."


def _split(path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """Return the file and the array named behind the last colon that follows a file's name.

    A colon in the name of a file or behind a Windows drive is no such colon.
    """
    text = os.fspath(path)
    at = text.rfind(":")
    while at > 0 and not os.path.lexists(text):
        left = Path(text[:at])
        if left.is_file() or (left.is_dir() and _is_zarr(left)) or left.suffix.lower() in (".h5", ".hdf5", ".hdf"):
            return left, text[at + 1 :].lstrip(":") or None
        at = text.rfind(":", 0, at)
    return Path(text), None


def _is_zarr(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _ZARR_FILES)


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
def _explained(place: Path) -> Iterator[None]:
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

"""Reading an array in an HDF5 file.

HDF5 follows links into other files by itself: external links, external storage, virtual datasets. A volume
that was sent by somebody must not read other files of this machine, so each step of a path is looked at
before it is taken, and such an array is refused without opening what it points to.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from napari_unet3d.errors import VolumeError, shown
from napari_unet3d.volumes.arrays import Box, LazyArray, arrange
from napari_unet3d.volumes.axes import EVERYTHING, Pick, name_axes, unnamed_axes
from napari_unet3d.volumes.calibration import calibrate
from napari_unet3d.volumes.volume import ArrayInfo, Volume

MAGIC = b"\x89HDF\r\n\x1a\n"
_MOST_SOFT_LINKS = 16
# What the library says of a file that another program, or this one, has open for writing.
_LOCKED = ("unable to lock file", "already open for write", "already open for read", "file is already open")


def read_hdf5(path: Path, dataset: str | None = None, pick: Pick = EVERYTHING) -> Volume:
    """Return the volume in an array of an HDF5 file.

    Parameters
    ----------
    path
        The file.
    dataset
        The path of the array inside the file; None if it holds one 3D array.
    pick
        Which axes, channel and point in time are wanted; without axes (z, y, x), or the axis tags that ilastik writes.

    Raises
    ------
    VolumeError
        If the array is missing, ambiguous, lies in another file, or the file is damaged or in use.
    """
    with _explained(path):
        file = h5py.File(path, "r")
        try:
            return _read_open(file, path, dataset, pick)
        except BaseException:
            # The traceback would keep the file open, and with that locked for others.
            file.close()
            raise


def _read_open(file: Any, path: Path, dataset: str | None, pick: Pick) -> Volume:
    """Return the volume in an open file, which its array keeps open."""
    where = shown(path)
    name = dataset or _only_array(file, where, 3 if pick.axes is None else len(pick.axes))
    array = _resolve(file, name, where)
    label = f"{where}:{array.name}"
    found = _tagged_axes(array) or unnamed_axes(array.shape, array.dtype)
    shape = tuple(int(size) for size in array.shape)
    named = name_axes(label, shape, found, pick)
    data, notes = arrange(_Hdf5Array(array, path), named, label, pick.positions(named))
    calibration = calibrate(*_element_size(array))
    return Volume(data, calibration, notes=(*calibration.notes, *notes))


def list_hdf5(path: Path) -> list[ArrayInfo]:
    """Return the arrays in an HDF5 file; those that lie in other files are left out."""
    with _explained(path), h5py.File(path, "r") as file:
        return _arrays(file)


class _Hdf5Array(LazyArray):
    """An array in an open file. h5py has one lock for all of its calls: threads are safe, and take turns."""

    def __init__(self, array: Any, path: Path) -> None:
        super().__init__(array.shape, array.dtype)
        self._array = array
        self._path = path

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the number type in the file, with its byte order."""
        dtype: np.dtype[Any] = np.dtype(self._array.dtype)
        return dtype

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Return a box."""
        with _explained(self._path):
            values: npt.NDArray[Any] = self._array[box]
        return values


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the library raises into a `VolumeError`."""
    try:
        yield
    except PermissionError as error:
        raise VolumeError(f"{shown(path)} cannot be read: permission denied.") from error
    except (OSError, RuntimeError, KeyError) as error:
        if any(sign in str(error) for sign in _LOCKED) or isinstance(error, BlockingIOError):
            raise VolumeError(
                f"{shown(path)} is in use by another program that writes to it; close it there first."
            ) from error
        if "filter" in str(error) and "not" in str(error):
            raise VolumeError(
                f"{shown(path)} is compressed in a way that is not installed here ({error}); "
                "save it with gzip, or install hdf5plugin."
            ) from error
        raise VolumeError(f"{shown(path)} is damaged: {error}. Copy or download it again.") from error


def _arrays(file: Any) -> list[ArrayInfo]:
    found: list[ArrayInfo] = []

    def visit(name: str, item: Any) -> None:
        # Asking a virtual dataset for its shape would already open the files behind it.
        if isinstance(item, h5py.Dataset) and not item.is_virtual and not item.external and item.shape:
            found.append(ArrayInfo(f"/{name}", tuple(int(size) for size in item.shape), str(item.dtype)))

    # This walk takes neither soft nor external links.
    file.visititems(visit)
    return found


def _only_array(file: Any, where: str, n_axes: int) -> str:
    arrays = _arrays(file)
    fitting = [info for info in arrays if len(info.shape) == n_axes] or [i for i in arrays if len(i.shape) > 2]
    if len(fitting) == 1:
        return fitting[0].name
    links = _foreign_links(file)
    if not arrays and links:
        raise _foreign(where, *links[0])
    listed = "; ".join(map(str, arrays)) or "no arrays"
    what = "several arrays" if fitting else "no 3D array"
    example = f" Name one: {where}:{fitting[0].name}" if fitting else ""
    raise VolumeError(f"{where} holds {what}: {listed}.{example}")


def _foreign_links(file: Any) -> list[tuple[str, str]]:
    """Return name and target of what the file's top level has in other files."""
    links = []
    for name in file:
        link = file.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            links.append((f"/{name}", f"{link.filename}:{link.path}"))
        elif isinstance(link, h5py.HardLink) and (target := _outside(file[name])):
            links.append((f"/{name}", target))
    return links


def _resolve(file: Any, name: str, where: str) -> Any:
    """Return the array at a path, each link looked at before it is followed."""
    parts = [part for part in posixpath.normpath("/" + name).split("/") if part]
    group, at, n_links = file, "", 0
    while parts:
        part = parts.pop(0)
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            listed = "; ".join(map(str, _arrays(file))) or "none"
            raise VolumeError(f"{where} has no array {name!r}; its arrays are: {listed}.")
        if isinstance(link, h5py.SoftLink):
            n_links += 1
            if n_links > _MOST_SOFT_LINKS:
                raise VolumeError(f"{where}: the links behind {name!r} run in a circle.")
            target = posixpath.normpath(posixpath.join(at or "/", link.path))
            parts = [step for step in target.split("/") if step] + parts
            group, at = file, ""
            continue
        if not isinstance(link, h5py.HardLink):
            raise _foreign(where, f"{at}/{part}", f"{link.filename}:{link.path}")
        group, at = group[part], f"{at}/{part}"
    if not isinstance(group, h5py.Dataset):
        listed = "; ".join(map(str, _arrays(file))) or "none"
        raise VolumeError(f"{where}:{at or '/'} is a group, not an array; the arrays in the file are: {listed}.")
    if target := _outside(group):
        raise _foreign(where, at, target)
    return group


def _outside(item: Any) -> str:
    """Return which other files hold the numbers of a dataset; nothing if they are its own."""
    if not isinstance(item, h5py.Dataset):
        return ""
    if item.external:
        return ", ".join(str(name) for name, _, _ in item.external)
    if item.is_virtual:
        return ", ".join(sorted({f"{source.file_name}:{source.dset_name}" for source in item.virtual_sources()}))
    return ""


def _foreign(where: str, name: str, target: str) -> VolumeError:
    return VolumeError(
        f"{where}:{name} lies in another file ({target}), which is not opened. "
        "Pass that file, or copy the array into this one."
    )


def _element_size(array: Any) -> tuple[dict[str, float | None], str | None]:
    sizes = array.attrs.get("element_size_um")
    if sizes is None:
        return {}, None
    numbers = np.ravel(np.asarray(sizes))
    if numbers.size != 3 or numbers.dtype.kind not in "uif":
        return {}, None
    return dict(zip("zyx", (float(number) for number in numbers), strict=True)), "um"


def _tagged_axes(array: Any) -> str | None:
    """Return the axes that ilastik wrote, such as "zyxc"; None if there are none for each axis."""
    text = array.attrs.get("axistags")
    try:
        keys = [str(axis["key"]) for axis in json.loads(text)["axes"]]
    except (TypeError, ValueError, KeyError):
        return None
    letters = "".join(key if key in ("z", "y", "x", "c", "t") else "?" for key in keys)
    return letters if len(letters) == array.ndim else None

"""What is in an HDF5 file, and where a path in it leads.

HDF5 follows links into other files by itself: external links, external storage, virtual datasets. A volume
that was sent by somebody must not read other files of this machine, so each step of a path is looked at
before it is taken, and such an array is refused without opening what it points to.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from napari_unet3d.errors import VolumeError, shown
from napari_unet3d.volumes.blame import is_mistake
from napari_unet3d.volumes.volume import ArrayInfo

_MOST_SOFT_LINKS = 16
_MOST_ARRAYS = 10_000
# What the library says of a file that another program, or this one, has open for writing.
_LOCKED = ("unable to lock file", "already open for write", "already open for read", "file is already open")


@contextmanager
def explain_errors(path: Path) -> Iterator[None]:
    """Turn what the library raises into a `VolumeError`."""
    try:
        yield
    except PermissionError as error:
        raise VolumeError(f"{shown(path)} cannot be read: permission denied.") from error
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, AttributeError) as error:
        if is_mistake(error):
            raise
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


def arrays_in(file: Any) -> list[ArrayInfo]:
    """Return the arrays in an open file; those that lie in other files, or cannot be understood, are left out."""
    found: list[ArrayInfo] = []

    def visit(name: str, item: Any) -> None:
        # Asking a virtual dataset for its shape would already open the files behind it.
        if not isinstance(item, h5py.Dataset) or len(found) >= _MOST_ARRAYS:
            return
        try:
            if not item.is_virtual and not item.external and item.shape:
                found.append(ArrayInfo(f"/{name}", tuple(int(size) for size in item.shape), str(item.dtype)))
        except (TypeError, ValueError, RuntimeError, OSError):
            # Types that NumPy does not have, such as HDF5's times: the other arrays stay readable.
            return

    # This walk takes neither soft nor external links.
    file.visititems(visit)
    return found


def foreign_links(file: Any) -> list[tuple[str, str]]:
    """Return name and target of what the file's top level has in other files."""
    links = []
    for name in file:
        link = file.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            links.append((f"/{name}", f"{link.filename}:{link.path}"))
        elif isinstance(link, h5py.HardLink) and (target := outside(file[name])):
            links.append((f"/{name}", target))
    return links


def follow(file: Any, name: str, where: str) -> tuple[Any, str]:
    """Return the array or group at a path, and its own path, each link looked at before it is followed.

    Raises
    ------
    VolumeError
        If there is nothing, or a link leads into another file.
    """
    parts = [part for part in posixpath.normpath("/" + name).split("/") if part]
    group, at, n_links = file, "", 0
    while parts:
        part = parts.pop(0)
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            listed = "; ".join(map(str, arrays_in(file))) or "none"
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
            raise foreign(where, f"{at}/{part}", f"{link.filename}:{link.path}")
        group, at = group[part], f"{at}/{part}"
    return group, at


def resolve(file: Any, name: str, where: str) -> Any:
    """Return the array at a path; see `follow`.

    Raises
    ------
    VolumeError
        If there is none, or its numbers lie in another file.
    """
    group, at = follow(file, name, where)
    if not isinstance(group, h5py.Dataset):
        listed = "; ".join(map(str, arrays_in(file))) or "none"
        raise VolumeError(f"{where}:{at or '/'} is a group, not an array; the arrays in the file are: {listed}.")
    if target := outside(group):
        raise foreign(where, at, target)
    return group


def outside(item: Any) -> str:
    """Return which other files hold the numbers of a dataset; nothing if they are its own."""
    if not isinstance(item, h5py.Dataset):
        return ""
    if item.external:
        return ", ".join(str(name) for name, _, _ in item.external)
    if item.is_virtual:
        return ", ".join(sorted({f"{source.file_name}:{source.dset_name}" for source in item.virtual_sources()}))
    return ""


def foreign(where: str, name: str, target: str) -> VolumeError:
    """Return the error for an array whose numbers lie in another file."""
    return VolumeError(
        f"{where}:{name} lies in another file ({target}), which is not opened. "
        "Pass that file, or copy the array into this one."
    )

"""Imaris files (.ims): one array for each channel and point in time, padded, with the sizes in attributes.

The layout is Bitplane's "Imaris 5.5 file format": ``DataSet/ResolutionLevel r/TimePoint t/Channel c/Data``. The
channels of one level are read as one array (t, c, z, y, x), cut to the size that the attributes give.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from napari_unet3d.errors import VolumeError, shown
from napari_unet3d.volumes.arrays import DecodedCache, LazyArray, Slices, box_shape
from napari_unet3d.volumes.hdf5.chunks import Hdf5Array
from napari_unet3d.volumes.hdf5.links import follow, resolve
from napari_unet3d.volumes.space.calibration import Calibration, calibrate

_DATA = re.compile(r"/?DataSet/ResolutionLevel (\d{1,4})(?:/TimePoint (\d{1,6})/Channel (\d{1,4})(?:/Data)?)?/?")
_MOST_CHANNELS, _MOST_TIMES, _MOST_LEVELS = 256, 100_000, 32


class ImarisImage(LazyArray):
    """One level of an Imaris file as (t, c, z, y, x).

    Parameters
    ----------
    file
        The open file.
    path
        Where it lies.
    name
        A level, a channel of a level, or its array; "" is the level in full size.

    Raises
    ------
    VolumeError
        If there is no such level or channel, or its sizes are missing or larger than its arrays.
    """

    def __init__(self, file: Any, path: Path, name: str) -> None:
        where = shown(path)
        wanted = _DATA.fullmatch(name or "DataSet/ResolutionLevel 0")
        if wanted is None:
            raise VolumeError(f"{where} is an Imaris file; {name!r} is not a level or channel of its DataSet.")
        self.level = int(wanted[1])
        parts = [None if wanted[at] is None else int(wanted[at]) for at in (2, 3)]
        base = f"/DataSet/ResolutionLevel {self.level}"
        times = [parts[0]] if parts[0] is not None else _numbered(file, base, "TimePoint", _MOST_TIMES)
        channels = (
            [parts[1]]
            if parts[1] is not None
            else _numbered(file, f"{base}/TimePoint {times[0]}", "Channel", _MOST_CHANNELS)
        )
        names = [[f"{base}/TimePoint {time}/Channel {channel}/Data" for channel in channels] for time in times]
        # One for all: of the channels and points in time that are not read nothing is kept.
        self._cache = DecodedCache()
        self._arrays = [[Hdf5Array(resolve(file, one, where), path, self._cache) for one in row] for row in names]
        first = self._arrays[0][0]
        group = resolve(file, names[0][0], where).parent
        sizes = [_whole(group.attrs.get(f"ImageSize{axis}")) for axis in "ZYX"]
        shape = tuple(size or full for size, full in zip(sizes, first.shape, strict=True))
        kinds = {(array.shape, array.dtype) for row in self._arrays for array in row}
        if len(kinds) > 1 or any(size > full for size, full in zip(shape, first.shape, strict=True)):
            raise VolumeError(f"{where} is damaged: the sizes of its channels do not agree. Copy or download it again.")
        super().__init__((len(times), len(channels), *shape), first.dtype)

    @property
    def piece_bytes(self) -> int:
        """Return the bytes of a chunk."""
        return max(array.piece_bytes for row in self._arrays for array in row)

    def keep_at_most(self, n_bytes: int) -> None:
        """Keep so many bytes of decoded chunks between reads, or one chunk if that is more."""
        self._cache.keep_at_most(n_bytes)

    def read(self, box: Slices) -> npt.NDArray[Any]:
        """Return a box."""
        result = np.empty(box_shape(box), self._dtype)
        for at, time in enumerate(range(box[0].start, box[0].stop)):
            for to, channel in enumerate(range(box[1].start, box[1].stop)):
                result[at, to] = self._arrays[time][channel].read(box[2:])
        return result


def is_imaris(file: Any) -> bool:
    """Return whether Imaris wrote an open file."""
    return all(isinstance(file.get(name, getlink=True), h5py.HardLink) for name in ("DataSet", "DataSetInfo"))


def coarser_names(file: Any, name: str) -> list[str]:
    """Return the names of the smaller levels of a level or channel in full size, the largest first.

    Parameters
    ----------
    file
        An open file.
    name
        As for `ImarisImage`.
    """
    wanted = _DATA.fullmatch(name or "DataSet/ResolutionLevel 0")
    if wanted is None or int(wanted[1]):
        return []
    channel = "" if wanted[2] is None else f"/TimePoint {int(wanted[2])}/Channel {int(wanted[3])}"
    levels = _numbered(file, "/DataSet", "ResolutionLevel", _MOST_LEVELS)
    return [f"DataSet/ResolutionLevel {level}{channel}" for level in levels if level]


def imaris_calibration(file: Any, shape: tuple[int, ...], full: tuple[int, ...]) -> Calibration:
    """Return the voxel size of a level, from the extent of the whole image, and the centre of its first voxel.

    Parameters
    ----------
    file
        An open file.
    shape, full
        (.., z, y, x) of the level, and of the image in full size.
    """
    group = file.get("DataSetInfo/Image", getlink=True)
    attributes: Mapping[str, Any] = file["DataSetInfo/Image"].attrs if isinstance(group, h5py.HardLink) else {}
    sizes, positions, centres, lows = {}, {}, {}, []
    for axis, number, n_voxels, n_full in zip("xyz", "012", shape[:-4:-1], full[:-4:-1], strict=True):
        low, high = (_number(attributes.get(f"Ext{end}{number}")) for end in ("Min", "Max"))
        if low is None or high is None:
            continue
        sizes[axis] = (high - low) / n_voxels
        positions[axis] = low + sizes[axis] / 2
        lows.append(low)
        centres[axis] = (sizes[axis] - (high - low) / n_full) / 2
    unit = _text(attributes.get("Unit")) or ("um" if sizes else None)
    if any(abs(low) > 1e-12 for low in lows):
        return calibrate(sizes, unit, positions)
    # An image that begins at 0 has no position of its own: the centre of its first voxel in full size is 0.
    return calibrate(sizes, unit, centres if any(centres.values()) else {})


def _numbered(file: Any, group: str, kind: str, most: int) -> list[int]:
    found, _ = follow(file, group, shown(file.filename))
    names = list(found) if isinstance(found, h5py.Group) else []
    numbers = sorted(int(name.rpartition(" ")[2]) for name in names if re.fullmatch(rf"{kind} \d{{1,6}}", name))
    if not numbers or len(numbers) > most:
        raise VolumeError(f"{shown(file.filename)} is an Imaris file without {kind.lower()}s in {group!r}.")
    return numbers


def _text(found: Any) -> str | None:
    """Return an attribute of Imaris, which keeps each as an array of single characters."""
    if found is None:
        return None
    try:
        return b"".join(np.ravel(np.asarray(found, "S1")).tolist()).decode("utf-8", "replace").strip("\0 ")
    except (TypeError, ValueError):
        return None


def _number(found: Any) -> float | None:
    try:
        number = float(_text(found) or "")
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _whole(found: Any) -> int | None:
    text = _text(found) or ""
    return int(text) if text.isdecimal() and 0 < len(text) < 10 and int(text) > 0 else None

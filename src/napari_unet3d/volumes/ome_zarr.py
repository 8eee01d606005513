"""Reading Zarr arrays (v2 and v3) and OME-Zarr images (0.4 and 0.5).

An array's place in an image gives its voxel size, so a level inside an image is looked up in the metadata of
the folders above it. A chunk that is missing reads as the fill value, which Zarr allows: it is counted and
said, and refused in what this program wrote, because that always has every chunk.
"""

from __future__ import annotations

import json
import lzma
import math
import posixpath
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import LocalStore

from napari_unet3d.errors import VolumeError, shown
from napari_unet3d.volumes.arrays import Box, LazyArray, arrange
from napari_unet3d.volumes.axes import EVERYTHING, Pick, name_axes, unnamed_axes
from napari_unet3d.volumes.calibration import calibrate
from napari_unet3d.volumes.ome_metadata import Level, find_level, level_of, multiscales
from napari_unet3d.volumes.volume import ArrayInfo, Volume

ALL_CHUNKS = "napari_unet3d_all_chunks_written"
_MOST_COUNTED = 50_000
_LARGEST_CHUNK = 2**32
_DECODE_ERRORS = (
    RuntimeError,
    ValueError,
    OSError,
    TypeError,
    KeyError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
)


def read_zarr(path: Path, dataset: str | None = None, pick: Pick = EVERYTHING) -> Volume:
    """Return the volume in a Zarr array, an OME-Zarr image (its first level), or a level of one.

    Parameters
    ----------
    path
        The folder of the array or group.
    dataset
        The path of an array or image inside a group.
    pick
        Which axes, channel and point in time are wanted; without axes the metadata are believed.

    Raises
    ------
    VolumeError
        If there is a group without an image, the metadata lead outside, or chunks were lost.
    """
    if dataset:
        place = path / inside(dataset, shown(path))
        if not place.is_dir():
            raise VolumeError(f"{shown(path)} has no array {dataset!r}; {_listed(path)}.")
        path = place
    node = _open(path)
    if isinstance(node, zarr.Array):
        return _volume(path, node, find_level(path), pick)
    scales = multiscales(node.attrs.asdict())
    if not scales:
        raise VolumeError(f"{shown(path)} is a Zarr group, not an array or an image; {_listed(path)}.")
    level = level_of(scales[0], 0, shown(path))
    array_path = path / inside(level.path, shown(path))
    if not array_path.is_dir():
        raise VolumeError(f"{shown(path)} is incomplete: its array {level.path!r} is missing. Copy it again.")
    array = _open(array_path)
    if not isinstance(array, zarr.Array):
        raise VolumeError(f"{shown(path)}: {level.path!r} is a group where an array is needed; {_listed(path)}.")
    return _volume(array_path, array, level, pick)


def list_zarr(path: Path) -> list[ArrayInfo]:
    """Return the arrays in a Zarr group, or the array itself under the name "/"."""
    node = _open(path)
    if isinstance(node, zarr.Array):
        return [ArrayInfo("/", tuple(node.shape), str(node.dtype))]
    members = sorted(node.members(max_depth=None))
    return [
        ArrayInfo(f"/{name}", tuple(item.shape), str(item.dtype))
        for name, item in members
        if isinstance(item, zarr.Array)
    ]


def inside(relative: str, where: str) -> str:
    """Return a path inside a group as it is.

    Raises
    ------
    VolumeError
        If it leads out of the group.
    """
    if ".." in relative.replace("\\", "/").split("/") or PureWindowsPath(relative).drive:
        raise VolumeError(f"{where} points outside itself ({relative!r}), which is not followed.")
    return posixpath.normpath(relative.strip("/"))


def _open(path: Path) -> Any:
    _refuse_pickle(path)
    try:
        node = zarr.open(LocalStore(path, read_only=True), mode="r")
        # Attributes that are no mapping show themselves here and not in the middle of the work.
        node.attrs.asdict()
        return node
    except FileNotFoundError as error:
        raise VolumeError(f"{shown(path)} is no Zarr array or group.") from error
    except (ValueError, KeyError, TypeError, NotImplementedError, AttributeError) as error:
        raise VolumeError(f"{shown(path)} cannot be read as Zarr: {error}.") from error


def _refuse_pickle(path: Path) -> None:
    """Refuse chunks that are Python objects: reading those would run code that came with the file."""
    try:
        metadata = json.loads((path / ".zarray").read_text("utf-8"))
    except FileNotFoundError:
        return
    except ValueError as error:
        raise VolumeError(f"{shown(path)} is damaged: .zarray is no JSON ({error}).") from error
    if not isinstance(metadata, dict):
        raise VolumeError(f"{shown(path)} is damaged: .zarray does not describe an array.")
    filters = metadata.get("filters")
    codecs = [metadata.get("compressor"), *(filters if isinstance(filters, list) else [])]
    if any(isinstance(codec, dict) and codec.get("id") == "pickle" for codec in codecs):
        raise VolumeError(f"{shown(path)} holds pickled Python objects, which can run code; it is not read.")


def _listed(path: Path) -> str:
    arrays = list_zarr(path)
    if not arrays:
        return "it holds no arrays"
    listed = "; ".join(map(str, arrays))
    return f"its arrays are: {listed}. Pass one of them, such as {shown(path)}{arrays[0].name}"


def _volume(path: Path, array: Any, level: Level | None, pick: Pick) -> Volume:
    where = shown(path)
    chunk_bytes = math.prod(array.shards or array.chunks) * np.dtype(array.dtype).itemsize
    if chunk_bytes > _LARGEST_CHUNK:
        raise VolumeError(f"{where} declares chunks of {chunk_bytes:,} bytes each, which is not plausible.")
    found = level.axes if level is not None and len(level.axes) == array.ndim else _array_axes(array)
    named = name_axes(where, array.shape, found, pick)
    source = ZarrArray(array, path)
    data, notes = arrange(source, named, where, pick.positions(named))
    if level is None:
        calibration = calibrate({}, None)
    else:
        calibration = calibrate(level.by_axis(level.scale), level.units, level.by_axis(level.translation))
        notes = [*level.notes, *notes]
    return Volume(
        data,
        calibration,
        notes=(*calibration.notes, *notes, *source.check_chunks()),
    )


def _array_axes(array: Any) -> str:
    """Return the letters of a bare array's axes: its dimension names, or (z, y, x) for three."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.asdict().get("_ARRAY_DIMENSIONS")
    if names and len(names) == array.ndim and {"y", "x"} <= {str(name).lower() for name in names}:
        return "".join(str(name).lower() if str(name).lower() in ("z", "y", "x", "c", "t") else "?" for name in names)
    return unnamed_axes(array.shape, array.dtype)


class ZarrArray(LazyArray):
    """A Zarr array on a local disk. Nothing is held open; threads may read at the same time.

    Parameters
    ----------
    array
        The array of the zarr library.
    path
        Its folder.
    """

    def __init__(self, array: Any, path: Path) -> None:
        super().__init__(tuple(array.shape), array.dtype)
        self._array = array
        self._path = path
        # The files on disk: shards where there are some.
        self._grid = tuple(array.shards or array.chunks)
        self._is_ours = array.attrs.asdict().get(ALL_CHUNKS) is True

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the number type in the chunks, with its byte order."""
        dtype: np.dtype[Any] = np.dtype(self._array.dtype)
        return dtype

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Return a box.

        Raises
        ------
        VolumeError
            Naming the chunk that is damaged, or that this program wrote and that is gone.
        """
        if self._is_ours:
            missing = [index for index in self._chunks(box) if not self._file(index).is_file()]
            if missing:
                raise self._lost(len(missing), missing[0])
        try:
            return np.asarray(self._array[box])
        except _DECODE_ERRORS as error:
            raise self._damaged(box, error) from error

    def check_chunks(self) -> list[str]:
        """Return a note if chunks are missing; none in arrays with too many chunks to count.

        Raises
        ------
        VolumeError
            If this program wrote the array: then every chunk was there.
        """
        everything = tuple(slice(0, size) for size in self.shape)
        n_chunks = math.prod(-(-size // step) for size, step in zip(self.shape, self._grid, strict=True))
        if n_chunks > _MOST_COUNTED:
            return []
        missing = [index for index in self._chunks(everything) if not self._file(index).is_file()]
        if missing and self._is_ours:
            raise self._lost(len(missing), missing[0])
        if not missing:
            return []
        fill = self._array.fill_value
        return [f"{len(missing)} of {n_chunks} chunks are not there and read as {fill}: never written, or lost."]

    def _chunks(self, box: Box) -> Iterator[tuple[int, ...]]:
        """Yield the index of each chunk that a box touches."""
        ranges = [range(part.start // step, -(-part.stop // step)) for part, step in zip(box, self._grid, strict=True)]
        return product(*ranges)

    def _key(self, index: tuple[int, ...]) -> str:
        return str(self._array.metadata.encode_chunk_key(index))

    def _file(self, index: tuple[int, ...]) -> Path:
        return self._path / self._key(index)

    def _lost(self, n_missing: int, first: tuple[int, ...]) -> VolumeError:
        return VolumeError(
            f"{shown(self._path)} has lost {n_missing} chunks, the first {self._key(first)!r}: this program "
            "wrote every chunk, so they were removed since. Copy it again, or make it anew."
        )

    def _damaged(self, box: Box, error: Exception) -> VolumeError:
        """Return the error that names the first chunk in the box that cannot be read."""
        for index in self._chunks(box):
            chunk = tuple(
                slice(at * step, min((at + 1) * step, size))
                for at, step, size in zip(index, self._grid, self.shape, strict=True)
            )
            try:
                self._array[chunk]
            except _DECODE_ERRORS as reason:
                return VolumeError(
                    f"{shown(self._path)}: the chunk {self._key(index)!r} is damaged ({reason}). Copy it again."
                )
        return VolumeError(f"{shown(self._path)} cannot be read: {error}.")

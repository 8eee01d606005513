"""What is painted, on disk while it is painted: an OME-Zarr label image that is written chunk by chunk.

Every chunk appears whole or not at all, and has a checksum. Only chunks whose voxels have changed are written.

What is painted is saved at the very end of the program too, where zarr can write nothing: it needs threads, and Python
3.12.0 and 3.12.1 start none by then. So a chunk, and what says how the array is stored, are written here, as the Zarr 3
specification has them; zarr reads them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from numcodecs.zstd import Zstd
from zarr.storage import LocalStore

from napari_unet3d import atomic
from napari_unet3d.errors import VolumeError, shown
from napari_unet3d.volumes.arrays import Slices
from napari_unet3d.volumes.outputs.base import OutputSpec
from napari_unet3d.volumes.outputs.zarr import describe

# Thin along z, because people paint slices.
_CHUNK = (16, 128, 128)
_ZSTD_LEVEL = 3


class KeptAnnotation:
    """The voxels of one annotation on disk.

    Parameters
    ----------
    path
        The OME-Zarr, which is there; see `create`.

    Raises
    ------
    VolumeError
        If it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        # Of what lies on the disk, by chunk; a chunk that is not here holds nothing but 0.
        self._sums: dict[tuple[int, ...], int] = {}
        try:
            found = json.loads((path / "0" / "zarr.json").read_bytes())
            self._shape = tuple(int(size) for size in found["shape"])
            self._steps = tuple(int(size) for size in found["chunk_grid"]["configuration"]["chunk_shape"])
            self._dtype: np.dtype[Any] = np.dtype(found["data_type"])
            if found["codecs"] != _describe_array(self._shape, self._dtype)["codecs"]:
                raise ValueError(f"it is stored otherwise than this program does it: {found['codecs']}")
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise VolumeError(f"The annotation in {shown(path)} cannot be opened: {error}") from error

    @classmethod
    def create(
        cls,
        path: Path,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        *,
        voxel_size: tuple[float, float, float],
        translate: tuple[float, float, float],
        unit: str,
    ) -> KeptAnnotation:
        """Make an annotation in which nothing is painted.

        Parameters
        ----------
        path
            Ends in `.ome.zarr`; nothing is there yet.
        shape, dtype
            Of the labels; (z, y, x), with one more axis before them or not.
        voxel_size, translate, unit
            As in `Volume`.

        Raises
        ------
        OutputError
            If it cannot be written there.
        """
        found = OutputSpec(path, shape, np.dtype(dtype), voxel_size, unit, translate, "labels", (), False)
        attributes = {"ome": describe(found)} if len(shape) == 3 else {}
        with atomic.writing(path, 0):
            partial = atomic.claim_partial(path)
            try:
                partial.mkdir()
                (partial / "0").mkdir()
                group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
                (partial / "zarr.json").write_text(json.dumps(group, indent=2))
                array = _describe_array(shape, np.dtype(dtype))
                (partial / "0" / "zarr.json").write_text(json.dumps(array, indent=2))
                atomic.sync_tree(partial)
                atomic.put_in_place(partial, path, overwrite=False)
            except BaseException:
                atomic.release_partial(partial)
                raise
        return cls(path)

    @property
    def is_there(self) -> bool:
        """Return whether nobody has moved or deleted it meanwhile; what is written then could not be read again."""
        return (self.path / "0" / "zarr.json").is_file()

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the labels."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the number type of the labels."""
        return self._dtype

    def load(self) -> npt.NDArray[Any]:
        """Return what is painted; what is saved later is compared with that.

        Raises
        ------
        VolumeError
            If it is damaged.
        """
        with self._lock:
            try:
                array: Any = zarr.open_array(LocalStore(self.path / "0"), mode="r", zarr_format=3)
                labels = np.asarray(array[...])
            except Exception as error:  # zarr raises what its codecs raise
                raise VolumeError(f"The annotation in {shown(self.path)} cannot be read: {error}") from error
            sums = ((index, _checksum(labels[box])) for index, box in self._chunks())
            self._sums = {index: total for index, total in sums if total is not None}
        return labels

    def save(self, labels: npt.NDArray[Any]) -> int:
        """Write the chunks that have changed, and return how many voxels are not 0.

        Parameters
        ----------
        labels
            Of the shape and type of the annotation. Somebody may be painting in them: what changes meanwhile is
            written the next time.

        Raises
        ------
        OutputError
            If it cannot be written. What was written before stays.
        """
        n_painted = 0
        with self._lock, atomic.writing(self.path, 0):
            for index, box in self._chunks():
                if index not in self._sums and not labels[box].any():
                    continue
                # A copy: what is summed is what is written.
                part = np.array(labels[box])
                n_painted += int(np.count_nonzero(part))
                total = _checksum(part)
                if total == self._sums.get(index):
                    continue
                file = self.path.joinpath("0", "c", *map(str, index))
                if total is None:
                    # A chunk in which nothing is painted any more has no file.
                    file.unlink(missing_ok=True)
                    del self._sums[index]
                else:
                    self._write(file, part)
                    self._sums[index] = total
        return n_painted

    def _write(self, file: Path, part: npt.NDArray[Any]) -> None:
        """Write a chunk, whole or not at all."""
        # Chunks at the end are as large as the others.
        whole = np.zeros(self._steps, self._dtype.newbyteorder("<"))
        whole[tuple(slice(size) for size in part.shape)] = part
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(file, Zstd(level=_ZSTD_LEVEL, checksum=True).encode(whole), overwrite=True)

    def _chunks(self) -> Iterator[tuple[tuple[int, ...], Slices]]:
        sizes = zip(self._shape, self._steps, strict=True)
        for index in product(*(range(-(-size // step)) for size, step in sizes)):
            yield index, tuple(slice(at * step, (at + 1) * step) for at, step in zip(index, self._steps, strict=True))


def _describe_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return the metadata of a Zarr 3 array, ready for JSON."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(_chunk_shape(shape))}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [
            {"name": "bytes"} | ({"configuration": {"endian": "little"}} if dtype.itemsize > 1 else {}),
            {"name": "zstd", "configuration": {"level": _ZSTD_LEVEL, "checksum": True}},
        ],
        "attributes": {},
        "dimension_names": ["c", "z", "y", "x"][-len(shape) :],
    }


def _chunk_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    sizes = (*(1,) * (len(shape) - 3), *_CHUNK)
    return tuple(max(1, min(size, step)) for size, step in zip(shape, sizes, strict=True))


def _checksum(part: npt.NDArray[Any]) -> int | None:
    """Return the checksum of voxels; None if all are 0."""
    return zlib.crc32(part.tobytes()) if part.any() else None

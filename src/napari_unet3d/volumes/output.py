"""Creating a volume on disk, box by box, that appears whole or not at all.

The suffix decides the format: `.tif` (which ImageJ opens where the numbers allow it), `.ome.tif`, `.zarr`
(OME-Zarr 0.5). Boxes are in voxels (z, y, x); nothing here knows what the numbers mean.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from napari_unet3d import atomic
from napari_unet3d.errors import OutputError, shown
from napari_unet3d.volumes.arrays import Box, box_shape, normalize_key
from napari_unet3d.volumes.calibration import normalize_unit

Kind = Literal["labels", "image"]
DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32")


@dataclass(frozen=True)
class OutputSpec:
    """What is to be written: checked once, and the same for every format."""

    target: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    voxel_size: tuple[float, float, float]
    unit: str
    translate: tuple[float, float, float]
    kind: Kind
    class_names: tuple[str, ...]
    overwrite: bool

    @property
    def nbytes(self) -> int:
        """Return the bytes of all voxels, not compressed."""
        return math.prod(self.shape) * self.dtype.itemsize


class Output(ABC):
    """A volume that is being written; a context manager that leaves nothing behind without `commit`.

    Boxes are written and read back by one thread at a time. Voxels that are never written are 0.

    Parameters
    ----------
    spec
        What is to be written.

    Examples
    --------
    ::

        with create_output("labels.tif", volume.shape, "uint8", voxel_size=volume.voxel_size,
                           unit=volume.unit) as output:
            output[0:8, 0:64, 0:64] = labels
            output.commit()
    """

    def __init__(self, spec: OutputSpec) -> None:
        self._spec = spec
        self._is_open = True
        with atomic.writing(spec.target, spec.nbytes):
            self._partial = atomic.claim_partial(spec.target)
        try:
            with atomic.writing(spec.target, spec.nbytes):
                self._begin(self._partial)
        except BaseException:
            self.discard()
            raise

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (z, y, x) or (z, y, x, c)."""
        return self._spec.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the number type on disk."""
        return self._spec.dtype

    @property
    def writing_bytes(self) -> int:
        """Return the bytes that a write takes beyond the box: chunks that are changed in a part of them."""
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def __setitem__(self, box: Any, values: npt.ArrayLike) -> None:
        """Write a box given as slices along (z, y, x[, c]), or fewer: the rest is whole."""
        part = self._box(box)
        numbers = np.asarray(values)
        cast = numbers.astype(self.dtype, copy=False)
        if self.dtype.kind in "ui" and numbers.dtype != self.dtype and not np.array_equal(cast, numbers):
            raise ValueError(f"values of type {numbers.dtype} do not fit {self.dtype}, the type of the output")
        cast = np.broadcast_to(cast, box_shape(part))
        if cast.size:
            with atomic.writing(self._spec.target, self._spec.nbytes):
                self._write(part, cast)

    def __getitem__(self, box: Any) -> npt.NDArray[Any]:
        """Read back a box that was written."""
        part = self._box(box)
        if 0 in box_shape(part):
            return np.empty(box_shape(part), self.dtype)
        with atomic.writing(self._spec.target, self._spec.nbytes):
            return self._read(part)

    def commit(self) -> Path:
        """Put what was written in its place and return where that is.

        Raises
        ------
        OutputError
            If the disk is full, the folder is gone, or the target exists now and may not be replaced. In the last
            case what was written is kept beside it, and the message says where.
        """
        self._check_open()
        target = self._spec.target
        try:
            with atomic.writing(target, self._spec.nbytes):
                self._finish()
                atomic.put_in_place(self._partial, target, overwrite=self._spec.overwrite)
                self._is_open = False
        except BaseException:
            self.discard()
            raise
        return target

    def discard(self) -> None:
        """Remove what was begun. Does nothing after `commit`."""
        if self._is_open:
            self._is_open = False
            self._abandon()
            atomic.release_partial(self._partial)

    def _box(self, key: Any) -> Box:
        self._check_open()
        parts = key if isinstance(key, tuple) else (key,)
        if any(not isinstance(part, slice) or part.step not in (None, 1) for part in parts if part is not Ellipsis):
            raise TypeError(f"a box of slices without steps is needed, not {key!r}")
        return normalize_key(key, self.shape)[0]

    def _check_open(self) -> None:
        if not self._is_open:
            raise ValueError(f"the output {shown(self._spec.target)} is closed")

    @abstractmethod
    def _begin(self, path: Path) -> None:
        """Create the file or folder at `path`."""

    @abstractmethod
    def _write(self, box: Box, values: npt.NDArray[Any]) -> None:
        """Write numbers of the right type and shape."""

    @abstractmethod
    def _read(self, box: Box) -> npt.NDArray[Any]:
        """Read a box."""

    @abstractmethod
    def _finish(self) -> None:
        """Bring everything onto the disk and close it."""

    @abstractmethod
    def _abandon(self) -> None:
        """Close what is open; what was written is removed after this."""


def create_output(
    path: str | os.PathLike[str],
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    *,
    voxel_size: Sequence[float],
    unit: str,
    translate: Sequence[float] = (0.0, 0.0, 0.0),
    kind: Kind = "labels",
    class_names: Sequence[str] = (),
    overwrite: bool = False,
) -> Output:
    """Begin a volume on disk and return it, ready for boxes.

    Parameters
    ----------
    path
        Where it will be. `.tif` or `.tiff`: a TIFF for ImageJ if `dtype` is uint8, uint16 or float32, else
        an OME-TIFF. `.ome.tif`: an OME-TIFF. `.zarr`: OME-Zarr 0.5, the array is "0".
    shape
        (z, y, x) or (z, y, x, c), in voxels.
    dtype
        uint8, uint16, uint32, int8, int16, int32 or float32.
    voxel_size, unit, translate
        As in `Volume`.
    kind
        "labels" for class indices or instances, "image" for intensities and probabilities.
    class_names
        The name of each label from 0 on; kept by OME-Zarr.
    overwrite
        Replace an existing file or zarr at `commit`; the old one is kept until then.

    Raises
    ------
    OutputError
        If it cannot be written there: the name, the folder, the disk, or a target that exists.
    """
    spec = _check(path, shape, dtype, voxel_size, unit, translate, kind, class_names, overwrite)
    if spec.target.suffix.lower() == ".zarr":
        from napari_unet3d.volumes.zarr_output import ZarrOutput

        return ZarrOutput(spec)
    from napari_unet3d.volumes.tiff_output import TiffOutput

    return TiffOutput(spec)


def _check(
    path: str | os.PathLike[str],
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    voxel_size: Sequence[float],
    unit: str,
    translate: Sequence[float],
    kind: Kind,
    class_names: Sequence[str],
    overwrite: bool,
) -> OutputSpec:
    target = Path(os.path.abspath(path))
    sizes = tuple(int(size) for size in shape)
    number_type = np.dtype(dtype).newbyteorder("=")
    z, y, x = (float(size) for size in voxel_size)
    if len(sizes) not in (3, 4) or min(sizes) < 1:
        raise ValueError(f"the shape of an output is (z, y, x) or (z, y, x, c), each at least 1, not {sizes}")
    if not all(math.isfinite(size) and size > 0 for size in (z, y, x)):
        raise ValueError(f"a voxel size is finite and positive, not {tuple(voxel_size)}")
    if kind not in ("labels", "image") or (kind == "labels" and (number_type.kind == "f" or len(sizes) == 4)):
        raise ValueError(f"{kind=} does not go with {number_type} of shape {sizes}: labels are (z, y, x) integers")
    if number_type.name not in DTYPES:
        raise OutputError(f"{shown(path)} cannot hold {number_type}; the types that work are {', '.join(DTYPES)}.")
    _check_place(target, overwrite)
    name, factor = normalize_unit(unit)
    oz, oy, ox = (float(offset) * factor for offset in translate)
    return OutputSpec(
        target,
        sizes,
        number_type,
        (z * factor, y * factor, x * factor),
        name,
        (oz, oy, ox),
        kind,
        tuple(class_names),
        overwrite,
    )


def _check_place(target: Path, overwrite: bool) -> None:
    suffix = target.suffix.lower()
    name = shown(target)
    if suffix not in (".tif", ".tiff", ".zarr"):
        raise OutputError(
            f"{name}: {suffix or 'no suffix'} is no format that can be written; "
            "end the name in .tif, .ome.tif or .zarr."
        )
    if not os.path.isdir(target.parent):
        raise OutputError(f"The folder {shown(target.parent)} does not exist; create it, or choose another one.")
    with atomic.writing(target, 0):
        atomic.tidy(target)
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise OutputError(atomic.exists_already(target))
    with atomic.writing(target, 0):
        is_other_folder = (
            os.path.isdir(target) and not target.is_symlink() and not (suffix == ".zarr" and _is_zarr(target))
        )
    if is_other_folder:
        # Overwriting removes all that a folder holds: only what was a zarr may go that way.
        raise OutputError(f"{name} is a folder that is no zarr, and is not overwritten; choose another name.")


def _is_zarr(folder: Path) -> bool:
    markers = ("zarr.json", ".zgroup", ".zarray")
    return any((folder / marker).is_file() for marker in markers) or not any(folder.iterdir())

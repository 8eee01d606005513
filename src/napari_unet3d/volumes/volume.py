"""What a volume is: an array (z, y, x[, c]) and what is known of the size and place of its voxels. No files here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from napari_unet3d.core.boxes import Box
from napari_unet3d.volumes.space.calibration import UNCALIBRATED, Calibration, calibrate

_LABELS_NAME = re.compile(r"(?<![a-z])(labels?|masks?|seg[a-z]*|annotations?|instances?)(?![a-z])")


class VolumeData(Protocol):
    """What the data of a volume can do: give a box as a NumPy array, and say how big it is."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (z, y, x) or (z, y, x, c)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the number type of what a read gives, in native byte order."""

    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D image with its voxel size.

    Parameters
    ----------
    data
        (z, y, x) or (z, y, x, c); ``data[slice, slice, slice]`` gives a NumPy array in native byte
        order. Lazy where the file allows it: nothing is read before it is asked for.
    calibration
        Size and position of the voxels, as far as they are known.
    name
        Stem of the file name, for layers.
    path
        The path that the user passed.
    notes
        What was converted or looks wrong, one sentence each.
    """

    data: VolumeData
    calibration: Calibration = UNCALIBRATED
    name: str = ""
    path: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def from_array(
        cls,
        data: VolumeData,
        voxel_size: tuple[float, float, float] | None = None,
        unit: str = "um",
        translate: tuple[float, float, float] | None = None,
        *,
        name: str = "",
    ) -> Volume:
        """Return a volume from an array (z, y, x[, c]) and what is known of its voxels.

        Parameters
        ----------
        data
            The numbers; they are not copied.
        voxel_size
            (z, y, x), in `unit`; None where it is not known.
        unit
            A length, in any spelling; "pixel" where there is none.
        translate
            (z, y, x) of the centre of the first voxel, in `unit`; None where it is not known.
        name
            Name of the volume, for layers.
        """
        sizes = {} if voxel_size is None else dict(zip("zyx", voxel_size, strict=True))
        positions = None if translate is None else dict(zip("zyx", translate, strict=True))
        return cls(data, calibrate(sizes, unit, positions), name=name)

    def part(self, data: VolumeData, box: Box) -> Volume:
        """Return what was made of a box of the volume, with its voxel size and where the box lies.

        Parameters
        ----------
        data
            (z, y, x) or (z, y, x, c) of the shape of the box.
        box
            In voxels of the volume.
        """
        corner = [start for start, _ in box]
        return Volume(data, self.calibration.moved(corner), name=self.name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        """Return all voxels, as NumPy asks for them."""
        return np.asarray(self.data[(slice(None),) * 3], dtype)

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Return (z, y, x), in `unit`; 1 along an axis whose size is not known."""
        return self.calibration.voxel_size

    @property
    def unit(self) -> str:
        """Return "um", "nm", "mm", or "pixel" where no length is known."""
        return self.calibration.unit

    @property
    def translate(self) -> tuple[float, float, float]:
        """Return (z, y, x) of the centre of the first voxel, in `unit`; 0 where it is not known."""
        return self.calibration.translate

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (z, y, x), in voxels, without the channels."""
        z, y, x = self.data.shape[:3]
        return z, y, x

    @property
    def n_channels(self) -> int:
        """Return the number of values per voxel."""
        return self.data.shape[3] if len(self.data.shape) == 4 else 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the number type that a read gives."""
        return np.dtype(self.data.dtype)

    @property
    def nbytes(self) -> int:
        """Return the bytes of the whole volume in memory."""
        return math.prod(self.data.shape) * self.dtype.itemsize

    @property
    def is_lazy(self) -> bool:
        """Return whether the voxels are still on disk."""
        return not isinstance(self.data, np.ndarray)


def is_labels_name(name: str) -> bool:
    """Return whether a name is one that people give to labels.

    Examples
    --------
    >>> is_labels_name("z3_mask.tif"), is_labels_name("unmasked.tif")
    (True, False)
    """
    return _LABELS_NAME.search(name.lower()) is not None


@dataclass(frozen=True)
class ArrayInfo:
    """An array inside an HDF5 file or a zarr group."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def is_integral(self) -> bool:
        """Return whether its numbers are whole, so that they can be labels."""
        return np.dtype(self.dtype).kind in "bui"

    @property
    def is_volume(self) -> bool:
        """Return whether it may be a volume: numbers, with three axes or with channels or time besides."""
        is_number = self.dtype.lstrip("<>|=")[:1] in "buif" and not self.dtype.startswith("bytes")
        return is_number and len(self.shape) >= 3 and sum(size > 1 for size in self.shape) <= 5

    @property
    def looks_like_labels(self) -> bool:
        """Return whether it holds labels by its name and its type."""
        return self.is_integral and is_labels_name(self.name)

    def __str__(self) -> str:
        return f"{self.name} {' x '.join(map(str, self.shape))} {self.dtype}"


def likely_array(arrays: Iterable[ArrayInfo], *, is_labels: bool = False) -> ArrayInfo | None:
    """Return which of several arrays is most likely meant: the largest volume with, or without, a name of labels."""
    volumes = [info for info in arrays if info.is_volume]
    return max(volumes, key=lambda info: (info.looks_like_labels == is_labels, math.prod(info.shape)), default=None)

"""Planes as one array on disk, wherever each of them lies: in one file, in several, or one per file.

A plane reads a part of itself; `PlaneStack` counts them along the axes that a file names, or along z.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from napari_unet3d.errors import VolumeError, shown
from napari_unet3d.volumes.arrays import DecodedCache, LazyArray, Slices, box_shape

Fingerprint = tuple[int, int]


class Plane(Protocol):
    """One plane of a stack."""

    @property
    def path(self) -> Path:
        """Return the file that it is in."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Return size and time of that file when it was looked at."""

    @property
    def piece_bytes(self) -> int:
        """Return the bytes of the largest piece of it that has to be decoded whole."""

    def read(self, file: BinaryIO, box: Slices, cache: DecodedCache) -> npt.NDArray[Any]:
        """Return a part of it, with the axes of a plane."""


class PlaneStack(LazyArray):
    """Planes of one shape and number type.

    Parameters
    ----------
    lead
        The shape of the axes that count planes; () for a single one.
    planes
        In order, the last of those axes fastest.
    shape
        Of a plane.
    dtype
        The number type in the files, with its byte order.
    """

    def __init__(
        self, lead: tuple[int, ...], planes: Sequence[Plane], shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        super().__init__((*lead, *shape), dtype)
        self._lead = lead
        self._planes = planes
        self._stored_dtype = dtype
        self._cache = DecodedCache()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the number type in the files, with its byte order."""
        return self._stored_dtype

    @property
    def piece_bytes(self) -> int:
        """Return the bytes of the largest strip, tile or slice that has to be decoded whole."""
        return max((plane.piece_bytes for plane in self._planes), default=0)

    def keep_at_most(self, n_bytes: int) -> None:
        """Keep so many bytes of decoded pieces between reads, or one piece if that is more."""
        self._cache.keep_at_most(n_bytes)

    def read(self, box: Slices) -> npt.NDArray[Any]:
        """Return a box of planes; only the files that hold them are opened, each once for planes that follow."""
        n_lead = len(self._lead)
        counted = list(product(*(range(part.start, part.stop) for part in box[:n_lead])))
        result = np.empty((len(counted), *box_shape(box[n_lead:])), self._dtype)
        file: BinaryIO | None = None
        opened: Path | None = None
        try:
            for at, index in enumerate(counted):
                plane = self._planes[int(np.ravel_multi_index(index, self._lead)) if self._lead else 0]
                if file is None or plane.path != opened:
                    if file is not None:
                        file.close()
                    file, opened = _open_unchanged(plane), plane.path
                result[at] = plane.read(file, box[n_lead:], self._cache)
        finally:
            if file is not None:
                file.close()
        return result.reshape(box_shape(box))


def _open_unchanged(plane: Plane) -> BinaryIO:
    try:
        file = open(plane.path, "rb")  # noqa: SIM115 - it is closed by whoever reads on
    except OSError as error:
        raise VolumeError(f"{shown(plane.path)} cannot be read: {error}.") from error
    status = os.fstat(file.fileno())
    if (status.st_size, status.st_mtime_ns) != plane.fingerprint:
        file.close()
        raise VolumeError(f"{shown(plane.path)} was changed after it was opened; open it again.")
    return file

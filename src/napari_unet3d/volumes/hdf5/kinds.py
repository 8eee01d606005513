"""Programs that keep volumes in HDF5 in a way of their own, told by their marks.

BigDataViewer keeps unsigned numbers as signed ones, MATLAB has its own order of axes. Imaris, whose arrays are
padded to whole chunks and say elsewhere how large they are, is in `imaris`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.volumes.arrays import LazyArray, Slices
from napari_unet3d.volumes.hdf5.chunks import Hdf5Array
from napari_unet3d.volumes.volume import ArrayInfo

_BDV_CELLS = re.compile(r"/t\d{5,}/s\d{2,}/\d+/cells")


@dataclass(frozen=True, eq=False)
class Understood:
    """An array as its writer meant it.

    Parameters
    ----------
    data
        Its numbers.
    axes
        The letters of its axes; None if the writer has no order of its own.
    notes
        What was converted, a sentence each.
    """

    data: LazyArray
    axes: str | None = None
    notes: tuple[str, ...] = ()


def understand(data: Hdf5Array, array: Any) -> Understood:
    """Return an array as its writer meant it, told by the marks that the writer leaves."""
    is_cells = _BDV_CELLS.fullmatch(str(array.name)) is not None
    if is_cells and data.dtype.newbyteorder("=") == np.int16:
        note = "BigDataViewer keeps unsigned 16-bit numbers as signed ones; they are read as unsigned."
        return Understood(_Unsigned(data), notes=(note,))
    if "MATLAB_class" in array.attrs and len(data.shape) >= 3:
        note = "MATLAB keeps (rows, columns, slices); the array is read as z, x, y."
        return Understood(data, "?" * (len(data.shape) - 3) + "zxy", (note,))
    return Understood(data)


def own_arrays(arrays: list[ArrayInfo]) -> list[ArrayInfo]:
    """Return the arrays without BigDataViewer's smaller copies, and without what MATLAB keeps for itself."""
    arrays = [info for info in arrays if not info.name.startswith("/#")]
    cells = [info for info in arrays if _BDV_CELLS.fullmatch(info.name)]
    return [info for info in cells if info.name.endswith("/0/cells")] if cells else arrays


class _Unsigned(LazyArray):
    """Signed numbers read as the unsigned ones that have the same bits."""

    def __init__(self, source: Hdf5Array) -> None:
        super().__init__(source.shape, np.uint16)
        self._source = source

    @property
    def piece_bytes(self) -> int:
        """Return the bytes of a chunk."""
        return self._source.piece_bytes

    def keep_at_most(self, n_bytes: int) -> None:
        """Keep so many bytes of decoded chunks between reads, or one chunk if that is more."""
        self._source.keep_at_most(n_bytes)

    def read(self, box: Slices) -> npt.NDArray[Any]:
        """Return a box."""
        return self._source.read(box).astype(np.int16, copy=False).view(np.uint16)

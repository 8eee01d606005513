"""A volume as it is being written by another process, to be looked at meanwhile and after."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.errors import VolumeError, shown
from napari_unet3d.volumes.arrays import LazyArray, box_shape
from napari_unet3d.volumes.outputs.base import OutputSpec
from napari_unet3d.volumes.reading import read_volume

View = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


class BeingWritten(LazyArray):
    """What an output holds so far; what is not there yet is 0.

    Nothing is held open between reads: whoever writes it may rename it at any time.

    Parameters
    ----------
    spec
        What is being written.
    unfinished
        Where it lies until it is complete, or what it will be made from.
    view
        From a box of `unfinished` to what is shown of it; None shows it as it is.

    Attributes
    ----------
    is_finished
        It lies in its place.
    """

    def __init__(self, spec: OutputSpec, unfinished: Path, view: View | None = None) -> None:
        super().__init__(spec.shape, spec.dtype)
        self.is_finished = False
        self._spec, self._view = spec, view
        self._path: Path | None = unfinished
        # Where the numbers of a TIFF begin and of what type they are, or the array of a Zarr, once there is one.
        self._found: Any = None

    def finish(self) -> None:
        """Look in its place from now on."""
        self.is_finished, self._path, self._found, self._view = True, self._spec.target, None, None

    def give_up(self) -> None:
        """Show nothing any more, unless it is finished: somebody else may write under the same name."""
        if not self.is_finished:
            self._path = None

    def read(self, box: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Return the numbers inside a box.

        Raises
        ------
        VolumeError
            If it is finished, and cannot be read.
        """
        if self._path is None:
            return np.zeros(box_shape(box), self.dtype)
        try:
            read = self._read_zarr if self._path.is_dir() else self._read_tiff
            values = read(self._path, box)
            seen = values if self._view is None else self._view(values)
            return seen.astype(self.dtype, copy=False)
        except Exception as error:
            # It is not begun yet, is being put in its place, or was given up: libraries differ in what they raise.
            if self.is_finished:
                why = f"{type(error).__name__}: {error}"
                raise VolumeError(f"{shown(self._spec.target)} cannot be read any more: {why}") from error
            return np.zeros(box_shape(box), self.dtype)

    def _read_tiff(self, path: Path, box: tuple[slice, ...]) -> npt.NDArray[Any]:
        from napari_unet3d.volumes.outputs.tiff import find_numbers, read_path

        if self._found is None:
            # Of a file in the making the header may be there in part.
            complete = self.is_finished or os.path.getsize(path) >= self._spec.nbytes
            self._found = find_numbers(path) if complete else None
        if self._found is None:
            return np.zeros(box_shape(box), self.dtype)
        offset, dtype = self._found
        return read_path(path, offset, box, self.shape, dtype)

    def _read_zarr(self, path: Path, box: tuple[slice, ...]) -> npt.NDArray[Any]:
        from napari_unet3d.volumes.outputs.zarr import open_array, read_box

        if self.is_finished:
            # A chunk that is not there is not empty any more.
            if self._found is None:
                self._found = read_volume(path, axes="zyx").data
            return np.asarray(self._found[box])
        if self._found is None:
            self._found = open_array(path)
        return read_box(self._found, box)

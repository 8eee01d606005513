"""A volume on disk that is written box by box and appears whole or not at all; what is common to all formats.

Boxes are in voxels (z, y, x); nothing here knows what the numbers mean.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from napari_unet3d import atomic
from napari_unet3d.errors import OutputError, shown
from napari_unet3d.volumes.arrays import Slices, box_shape, normalize_key

Kind = Literal["labels", "image"]
DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32")


@dataclass(frozen=True)
class OutputSpec:
    """What is to be written: checked once, and the same for every format.

    Attributes
    ----------
    made_by
        Text that goes along, where the format has a place for it: how it was made.
    blocks
        Shape (z, y, x) of the boxes that are written at once, side by side from the first voxel on: what lies in files
        of its own is laid out so that no two of them share a file. None where that is not known.
    """

    target: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    voxel_size: tuple[float, float, float]
    unit: str
    translate: tuple[float, float, float]
    kind: Kind
    class_names: tuple[str, ...]
    overwrite: bool
    made_by: str = ""
    blocks: tuple[int, int, int] | None = None

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
    unfinished
        A hidden name that somebody else has claimed, where it lies until it is complete; what is written there stays
        without `commit`, and whoever has claimed it removes it. None claims one.
    goes_on
        What was written under that name before is gone on with; otherwise it is begun again.
    is_shared
        Other processes write to it at the same time, each to files of its own.

    Examples
    --------
    ::

        with create_output("labels.tif", volume.shape, "uint8", voxel_size=volume.voxel_size,
                           unit=volume.unit) as output:
            output[0:8, 0:64, 0:64] = labels
            output.commit()
    """

    def __init__(
        self, spec: OutputSpec, unfinished: Path | None = None, *, goes_on: bool = False, is_shared: bool = False
    ) -> None:
        self._spec, self._is_shared = spec, is_shared
        self._is_open = True
        self._is_ours = unfinished is None
        with atomic.writing(spec.target, spec.nbytes):
            self._partial = atomic.claim_partial(spec.target) if unfinished is None else unfinished
        if goes_on:
            self._go_on()
            return
        try:
            with atomic.writing(spec.target, spec.nbytes):
                atomic.remove(self._partial)
                self._begin(self._partial)
        except BaseException:
            self.discard()
            atomic.remove(self._partial)
            raise

    def _go_on(self) -> None:
        if not os.path.lexists(self._partial):
            raise OutputError(gone(self._spec.target, self._partial))
        with atomic.writing(self._spec.target, self._spec.nbytes):
            self._resume(self._partial)

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

    @property
    def file_shape(self) -> tuple[int, int, int]:
        """Return the shape (z, y, x) of what is written in one piece, counted from the first voxel; 1 where any is."""
        return (1, 1, 1)

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

    def sync(self) -> None:
        """Bring onto the disk what was written since the last time: it survives the process, and a power cut."""
        self._check_open()
        with atomic.writing(self._spec.target, self._spec.nbytes):
            self._sync()

    def make_levels(self) -> Iterator[tuple[int, int]]:
        """Make smaller copies of what was written, where the format has them; yields how many parts are done, of all.

        Made again from the beginning wherever it was stopped.
        """
        self._check_open()
        with atomic.writing(self._spec.target, self._spec.nbytes):
            yield from self._make_levels()

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
        """Remove what was begun, or close what somebody else has claimed. Does nothing after `commit`."""
        if self._is_open:
            self._is_open = False
            self._abandon()
            if self._is_ours:
                atomic.release_partial(self._partial)

    def expect(self, box: Any) -> None:
        """Say that a box was written before, by whoever began what is gone on with: it must be there at the end."""
        self._mark(self._box(box))

    def _box(self, key: Any) -> Slices:
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
    def _resume(self, path: Path) -> None:
        """Open the file or folder that was begun at `path`."""

    def _mark(self, box: Slices) -> None:  # noqa: B027 - a format without chunks has nothing to note
        """Note what must be there at the end, where the format can tell."""

    @abstractmethod
    def _write(self, box: Slices, values: npt.NDArray[Any]) -> None:
        """Write numbers of the right type and shape."""

    @abstractmethod
    def _read(self, box: Slices) -> npt.NDArray[Any]:
        """Read a box."""

    def _make_levels(self) -> Iterator[tuple[int, int]]:
        yield from ()

    @abstractmethod
    def _sync(self) -> None:
        """Bring onto the disk what was written since the last time."""

    @abstractmethod
    def _finish(self) -> None:
        """Bring everything onto the disk and close it."""

    @abstractmethod
    def _abandon(self) -> None:
        """Close what is open; what was written is removed after this."""


def gone(target: Path, partial: Path) -> str:
    """Return the sentence for an output of which something was lost while it was written."""
    return (
        f"{shown(target)} is not complete: what was written to {shown(partial)} is no longer there. "
        "Was the folder moved, or the disk removed? Segment again."
    )

"""Shared memory lent to the worker, to carry boxes of voxels there and back; made and freed on this side."""

from __future__ import annotations

import math
import os
import shutil
import sys
import threading
from contextlib import suppress
from typing import Any

import numpy as np
from appose import NDArray

from napari_unet3d.errors import OutOfMemoryError

_SHARED_MEMORY = "/dev/shm"


class Loans:
    """Shared memory that is lent out, by the number of its exchange. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lent: dict[int, tuple[NDArray, Any, tuple[slice, ...]]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._lent)

    def lend(self, number: int, array: Any, box: tuple[slice, ...], *, fill: bool) -> NDArray:
        """Return shared memory of the size of a box.

        Parameters
        ----------
        number
            The number of the exchange.
        array
            What is read or written.
        box
            One slice per axis.
        fill
            Copy the voxels of the box into the memory.

        Raises
        ------
        OutOfMemoryError
            If there is no shared memory left.
        """
        shape = [part.stop - part.start for part in box]
        n_bytes = math.prod(shape) * array.dtype.itemsize
        _check_room(n_bytes)
        memory = NDArray(array.dtype.name, shape)
        with self._lock:
            self._lent[number] = memory, array, box
        try:
            _reserve(memory, n_bytes)
            if fill:
                memory.ndarray()[...] = np.asarray(array[box])
        except BaseException:
            self.free(number)
            raise
        return memory

    def empty(self, number: int) -> None:
        """Copy what the worker wrote into its box, and free the memory."""
        with self._lock:
            memory, array, box = self._lent[number]
        try:
            array[box] = memory.ndarray()
        finally:
            self.free(number)

    def free(self, number: int) -> None:
        """Give the memory of an exchange back to the system."""
        with self._lock:
            lent = self._lent.pop(number, None)
        if lent is not None:
            # An array that keeps what is written into it holds the memory until it lets go.
            with suppress(BufferError):
                lent[0].shm.close()
            with suppress(OSError):
                lent[0].shm.unlink()

    def free_all(self) -> None:
        """Give everything back when a run has ended, however it ended."""
        for number in list(self._lent):
            self.free(number)


def _check_room(n_bytes: int) -> None:
    if sys.platform == "linux":
        free = shutil.disk_usage(_SHARED_MEMORY).free
        if free < n_bytes:
            raise OutOfMemoryError(_no_room(n_bytes, free))


def _reserve(memory: NDArray, n_bytes: int) -> None:
    """Take the memory now: Linux hands out what is not there, and kills whoever writes to it."""
    if sys.platform != "linux":
        return
    try:
        descriptor = os.open(f"{_SHARED_MEMORY}/{memory.shm.name}", os.O_RDWR)
        try:
            os.posix_fallocate(descriptor, 0, max(1, n_bytes))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OutOfMemoryError(_no_room(n_bytes, shutil.disk_usage(_SHARED_MEMORY).free)) from error


def _no_room(n_bytes: int, free: int) -> str:
    return (
        f"Shared memory ({_SHARED_MEMORY}) has {free >> 20:,} MiB left; {-(-n_bytes >> 20):,} MiB are needed. "
        "Free some, or give the container more of it (docker run --shm-size)."
    )

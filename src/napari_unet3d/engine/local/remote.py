"""The worker's side of a job: it runs here, and reads and writes arrays that stay with whoever asked for it.

A box crosses in a block of shared memory that the other side makes, fills or empties, and frees, so that
nothing is left behind however this process ends.
"""

from __future__ import annotations

import itertools
import math
import threading
import traceback
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.engine.local import wire
from napari_unet3d.errors import Unet3dError
from napari_unet3d.tasks.driving import drive
from napari_unet3d.tasks.events import Event
from napari_unet3d.tasks.jobs.kinds import AnyJob, job_from_json
from napari_unet3d.tasks.jobs.segment import SegmentJob
from napari_unet3d.volumes.arrays import LazyArray, box_shape, normalize_key

if TYPE_CHECKING:
    from appose import NDArray
    from appose.python_worker import Task

_numbers = itertools.count()
# By number: what to do with the block when it comes.
_expected: dict[int, _Exchange] = {}


class _Exchange:
    """A box on its way: what shall be written, or None to read."""

    def __init__(self, task: Task, values: npt.NDArray[Any] | None) -> None:
        self.task = task
        self.values = values
        self.done: Future[npt.NDArray[Any] | None] = Future()


class RemoteArray(LazyArray):
    """An array of the process that asked for the job.

    Parameters
    ----------
    task
        The task that it belongs to.
    name
        What both sides call it.
    shape
        The size along each axis.
    dtype
        Its number type.
    """

    def __init__(self, task: Task, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        super().__init__(shape, dtype)
        self._task = task
        self._name = name

    def read(self, box: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Return the numbers inside a box."""
        shape = box_shape(box)
        values = np.empty(shape, self.dtype)
        for piece in wire.pieces(box, self._bytes_per_plane(shape)):
            start = box[0].start
            values[piece[0].start - start : piece[0].stop - start] = self._exchange(wire.READ, piece, None)
        return values

    def __setitem__(self, key: Any, values: npt.NDArray[Any]) -> None:
        box, _ = normalize_key(key, self.shape)
        shape = box_shape(box)
        values = np.broadcast_to(np.asarray(values), shape)
        for piece in wire.pieces(box, self._bytes_per_plane(shape)):
            start = box[0].start
            part = values[piece[0].start - start : piece[0].stop - start]
            self._exchange(wire.WRITE, piece, part.astype(self.dtype, copy=False))

    def _bytes_per_plane(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape[1:]) * self.dtype.itemsize

    def _exchange(self, kind: str, box: tuple[slice, ...], values: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
        number = next(_numbers)
        _expected[number] = exchange = _Exchange(self._task, values)
        bounds = [[part.start, part.stop] for part in box]
        self._task.update(info={"kind": kind, "number": number, "array": self._name, "box": bounds})
        return exchange.done.result()


def deliver(number: int, block: NDArray | None, error: dict[str, str] | None) -> None:
    """Take the block for an exchange: copy it, or fill it and say so. Called by the other side."""
    exchange = _expected.pop(number)
    try:
        if error is not None:
            raise wire.error_from_wire(error)
        read = _copy(exchange, block, number)
    except BaseException as failure:  # noqa: BLE001 - whoever waits for the block raises it
        exchange.done.set_exception(failure)
    else:
        exchange.done.set_result(read)


def _copy(exchange: _Exchange, block: NDArray | None, number: int) -> npt.NDArray[Any] | None:
    if block is None:
        raise ValueError(f"nothing came for exchange {number}")
    try:
        if exchange.values is None:
            return np.array(block.ndarray())
        block.ndarray()[...] = exchange.values
    finally:
        block.shm.close()
    # Said before the writer goes on, so that no event about this box can overtake it.
    exchange.task.update(info={"kind": wire.WRITTEN, "number": number})
    return None


def _begin(job: AnyJob, arrays: dict[str, RemoteArray], stack: ExitStack) -> Generator[Event, None, Any]:
    if not isinstance(job, SegmentJob) or job.cluster is None:
        return job.perform(arrays)
    # Most of the time nobody needs what this imports.
    from napari_unet3d.engine.cluster.computer import open_computer

    computer = stack.enter_context(open_computer(cluster=job.cluster, device=job.spec.device))
    return job.perform(arrays, computer)


# TensorFlow is not asked for two things at a time.
_one_at_a_time = threading.Lock()


def run(task: Task, job: str, arrays: dict[str, Any]) -> dict[str, Any]:
    """Do a job, and return its result, its error, or that it was stopped. Called by the other side.

    Parameters
    ----------
    task
        Takes the events, and says whether to stop.
    job
        The job as JSON.
    arrays
        Shape and number type of every array by name.
    """
    there = {name: RemoteArray(task, name, tuple(shape), dtype) for name, (shape, dtype) in arrays.items()}
    with _one_at_a_time, ExitStack() as stack:
        try:
            events = _begin(job_from_json(job), there, stack)
            result = drive(
                events,
                lambda event: task.update(info=wire.event_to_wire(event)),
                until=lambda: bool(task.cancel_requested),
            )
            events.close()
        except Unet3dError as error:
            traceback.print_exc()
            return {"error": wire.error_to_wire(error)}
        return {"stopped": True} if result is None else {"result": result.model_dump_json()}

"""One job on its way to the worker and back: its state, its events, its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from threading import Event as Flag
from typing import Any

import numpy.typing as npt

from napari_unet3d.engine.base import Run, State
from napari_unet3d.errors import Unet3dError
from napari_unet3d.tasks.events import Event
from napari_unet3d.tasks.jobs.kinds import AnyJob, JobResult

# A window can look at the clock between two hundreds.
_MOST_AT_ONCE = 100


class LocalRun(Run):
    """A job that was given to the engine of this machine.

    Parameters
    ----------
    job
        What is to be done.
    arrays
        What it reads and writes, by name: anything with a shape, a dtype and slices. They are read and written by a
        thread of the engine, in this process.
    on_cancel
        Called when it shall stop; by the engine.

    Attributes
    ----------
    wants_stop, is_given_up
        Whether it shall stop, and whether its worker is ended on purpose; for the engine.
    """

    def __init__(self, job: AnyJob, arrays: Mapping[str, Any], on_cancel: Callable[[LocalRun], None]) -> None:
        self.job = job
        self.arrays: dict[str, npt.NDArray[Any]] = dict(arrays)
        self.state: State = "queued"
        self.result: JobResult | None = None
        self.error: Unet3dError | None = None
        self.has_ended = Flag()
        self.wants_stop = Flag()
        self.is_given_up = False
        self._on_cancel = on_cancel
        self._events: SimpleQueue[Event | None] = SimpleQueue()
        self._is_drained = False

    def cancel(self) -> None:
        """Ask it to stop: at once if it is queued, or else at its next event."""
        self.wants_stop.set()
        self._on_cancel(self)

    def take(self, timeout: float | None) -> list[Event] | None:
        """Return the events that have come, waiting up to `timeout` seconds for the first; None after its end.

        Raises
        ------
        Unet3dError
            If it failed, once all events were taken.
        """
        taken: list[Event] = []
        while not self._is_drained and len(taken) < _MOST_AT_ONCE:
            try:
                event = self._events.get(timeout=timeout) if not taken else self._events.get_nowait()
            except Empty:
                return taken
            if event is None:
                self._is_drained = True
            else:
                taken.append(event)
        if taken:
            return taken
        if self.error is not None:
            raise self.error
        return None

    def put(self, event: Event) -> None:
        """Add an event; for the engine."""
        self._events.put(event)

    def end(self, state: State, *, result: JobResult | None = None, error: Unet3dError | None = None) -> None:
        """Set how it ended; for the engine."""
        self.state, self.result, self.error = state, result, error
        self.arrays.clear()
        self.has_ended.set()
        self._events.put(None)

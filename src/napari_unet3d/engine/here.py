"""The engine without a worker: a job is done in this process, by the thread that takes its events."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from threading import Event as Flag
from typing import Any

from napari_unet3d.engine.base import Engine, Run, State
from napari_unet3d.errors import EngineError, Unet3dError
from napari_unet3d.tasks.events import Event
from napari_unet3d.tasks.jobs.kinds import AnyJob, JobResult


class HereRun(Run):
    """A job that goes on a step with every `take`, which returns no sooner than the step is done.

    Parameters
    ----------
    job
        What is to be done.
    arrays
        What it reads and writes, by name.
    """

    def __init__(self, job: AnyJob, arrays: Mapping[str, Any]) -> None:
        self.job = job
        self.state: State = "queued"
        self.result: JobResult | None = None
        self.error: Unet3dError | None = None
        self.has_ended = Flag()
        self._wants_stop = False
        self._events = job.perform(arrays)

    def cancel(self) -> None:
        """Stop it before its next step."""
        self._wants_stop = True
        if self.state == "queued":
            self._end("stopped")

    def take(self, timeout: float | None) -> list[Event] | None:
        """Do a step and return its event; None after the end. `timeout` is of no account: nobody else does the work.

        Raises
        ------
        Unet3dError
            If it failed.
        """
        if self.error is not None:
            raise self.error
        if self.has_ended.is_set():
            return None
        if self._wants_stop:
            self._events.close()
            self._end("stopped")
            return None
        self.state = "running"
        try:
            return [next(self._events)]
        except StopIteration as end:
            self.result = end.value
            self._end("done")
            return None
        except Unet3dError as error:
            self.error = error
            self._end("failed")
            raise
        except Exception as error:
            self.error = EngineError(f"An unexpected error: {type(error).__name__}: {error}", traceback.format_exc())
            self._end("failed")
            raise self.error from error

    def _end(self, state: State) -> None:
        self.state = state
        self.has_ended.set()


class HereEngine(Engine):
    """Does each job in this process, step by step as its events are taken: for scripts, notebooks and tests."""

    def submit(self, job: AnyJob, arrays: Mapping[str, Any] | None = None) -> HereRun:
        """Take a job; nothing is done before its events are asked for."""
        return HereRun(job, arrays or {})

    def n_before(self, run: Run) -> int:
        """Return 0: nothing waits."""
        return 0

    def stop_now(self, run: Run) -> None:
        """Stop a run before its next step."""
        run.cancel()

    def end(self) -> None:
        """Nothing is held."""

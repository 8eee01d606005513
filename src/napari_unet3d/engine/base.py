"""What an engine is, wherever its jobs run: jobs go in, runs come out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from threading import Event as Flag
from typing import Any, Literal, Protocol

from napari_unet3d.errors import Unet3dError
from napari_unet3d.tasks.events import Event
from napari_unet3d.tasks.jobs.kinds import AnyJob, JobResult

State = Literal["queued", "running", "done", "stopped", "failed"]


class Run(Protocol):
    """A job that was given to an engine.

    Attributes
    ----------
    job
        The job.
    state
        `queued`, `running`, and then `done`, `stopped` or `failed`.
    result
        What it returned, once it is `done`.
    error
        The error, if it `failed`.
    has_ended
        An event that is set at its end.
    """

    job: AnyJob
    state: State
    result: JobResult | None
    error: Unet3dError | None
    has_ended: Flag

    def cancel(self) -> None:
        """Ask it to stop: at once if it is queued, or else at its next event."""

    def take(self, timeout: float | None) -> list[Event] | None:
        """Return the events that have come, waiting up to `timeout` seconds for the first; None after its end.

        Raises
        ------
        Unet3dError
            If it failed, once all events were taken.
        """

    def events(self) -> Iterator[Event]:
        """Yield its events until it ends; waits for them. For one consumer.

        Raises
        ------
        Unet3dError
            If it failed.
        """
        while (events := self.take(None)) is not None:
            yield from events

    def wait(self) -> JobResult | None:
        """Wait for its end and return its result, None if it was stopped; its events are dropped.

        Raises
        ------
        Unet3dError
            If it failed.
        """
        for _ in self.events():
            pass
        return self.result


class Engine(Protocol):
    """A place where jobs run, in the order in which they come."""

    def submit(self, job: AnyJob, arrays: Mapping[str, Any] | None = None) -> Run:
        """Take a job and return at once.

        Parameters
        ----------
        job
            What is to be done.
        arrays
            What it reads and writes, by name: anything with a shape, a dtype and slices.
        """

    def n_before(self, run: Run) -> int:
        """Return how many jobs come before a run; 0 once it has begun."""

    def stop_now(self, run: Run) -> None:
        """Stop a run at once, even if work is lost. Others go on after it."""

    def end(self) -> None:
        """Stop everything, and give back what it holds."""

"""A pool of futures for tasks that may fail: tried again, given up after a time, and listed if they fail for good.

It knows nothing of segmentation: a task is a function and one argument, and its result is yielded when it is there.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from napari_unet3d.errors import EngineError

# Seconds between two looks at what takes too long, and at whether anybody is there.
_LOOK = 1.0


@dataclass(frozen=True)
class Failed:
    """A task that could not be done."""

    task: Any
    reason: str


@dataclass(frozen=True)
class Done:
    """A task that is done."""

    task: Any
    result: Any


@dataclass
class _Attempt:
    task: Hashable
    number: int
    future: Any
    begun: float = field(default_factory=time.monotonic)


class Pool:
    """Tasks on the workers of a cluster, as many at a time as there are threads.

    Parameters
    ----------
    client
        Of dask.distributed.
    function
        Called with each task by a worker.
    tries
        How often a task is tried.
    seconds
        How long one may take; then it has failed, and its worker is started again. None waits for ever.
    patience
        How many seconds the scheduler may be out of reach.
    """

    def __init__(
        self,
        client: Any,
        function: Callable[[Any], Any],
        *,
        tries: int = 3,
        seconds: float | None = None,
        patience: float = 60.0,
    ) -> None:
        self._client, self._function = client, function
        self._tries, self._seconds, self._patience = tries, seconds, patience
        self._running: dict[str, _Attempt] = {}
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._seen = time.monotonic()

    def run(self, tasks: Sequence[Hashable]) -> Iterator[Done | Failed | None]:
        """Yield each task as it ends; None now and then while nothing does, which is a safe point to stop.

        Raises
        ------
        EngineError
            If the scheduler is gone.
        """
        waiting = [(task, 1) for task in reversed(tasks)]
        try:
            while waiting or self._running:
                while waiting and len(self._running) < max(1, self._n_threads()):
                    self._submit(*waiting.pop())
                try:
                    attempt = self._running.pop(self._ended.get(timeout=_LOOK), None)
                except queue.Empty:
                    yield None
                    attempt = self._take_late()
                if attempt is None:
                    continue
                if self._was_interrupted(attempt):
                    # That says nothing of the task.
                    waiting.append((attempt.task, attempt.number))
                    time.sleep(_LOOK)
                    continue
                reason = self._why_not(attempt)
                if reason is None:
                    yield Done(attempt.task, attempt.future.result())
                elif attempt.number < self._tries:
                    waiting.append((attempt.task, attempt.number + 1))
                else:
                    yield Failed(attempt.task, reason)
        finally:
            # Of a scheduler that is gone nothing needs to be taken back.
            with suppress(OSError):
                self._client.cancel([attempt.future for attempt in self._running.values()])

    def _submit(self, task: Hashable, number: int) -> None:
        # A key of its own: the same task may be tried again.
        future = self._client.submit(self._function, task, pure=False)
        self._running[future.key] = _Attempt(task, number, future)
        future.add_done_callback(lambda ended: self._ended.put(ended.key))

    def _n_threads(self) -> int:
        """Return how many threads there are; none while there are no workers, or nobody can say it."""
        try:
            n_threads = sum(map(int, self._client.nthreads().values()))
        except OSError as error:
            if time.monotonic() - self._seen > self._patience:
                raise EngineError("The scheduler of the cluster is gone.") from error
            return 0
        self._seen = time.monotonic()
        return n_threads

    def _take_late(self) -> _Attempt | None:
        """Return a task that takes too long, if there is one, after its worker was told to start again."""
        now = time.monotonic()
        if not self._n_threads():
            # Where there is no worker, nothing has begun.
            for attempt in self._running.values():
                attempt.begun = now
            return None
        if self._seconds is None:
            return None
        for key, attempt in self._running.items():
            if self._is_late(attempt) and not attempt.future.done():
                del self._running[key]
                with suppress(OSError):
                    self._stop(attempt.future)
                return attempt
        return None

    def _stop(self, future: Any) -> None:
        """End a task that does not end by itself: with the process that it is in."""
        workers = self._client.processing()
        stuck = [address for address, keys in workers.items() if future.key in map(str, keys)]
        future.cancel(force=True)
        if stuck:
            # Where no nanny is, nobody starts it again, and there is one worker less.
            self._client.restart_workers(stuck, timeout=30, raise_for_error=False)

    def _is_late(self, attempt: _Attempt) -> bool:
        return self._seconds is not None and time.monotonic() - attempt.begun > self._seconds

    def _was_interrupted(self, attempt: _Attempt) -> bool:
        """Return whether a task ended because the scheduler went, or dropped it."""
        return attempt.future.status in ("cancelled", "lost") and not self._is_late(attempt)

    def _why_not(self, attempt: _Attempt) -> str | None:
        """Return why a task is not done; None if it is."""
        if attempt.future.status == "finished":
            return None
        if attempt.future.status == "error":
            error = attempt.future.exception()
            return f"{type(error).__name__}: {error}"
        return f"it took more than {self._seconds:g} seconds"

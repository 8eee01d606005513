"""The one loop that carries a task out: it tells every event, and returns what the task returns."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar, overload

from napari_unet3d.tasks.events import Event

R = TypeVar("R")


@overload
def drive(events: Generator[Event, None, R], on_event: Callable[[Event], object] | None = None) -> R: ...


@overload
def drive(
    events: Generator[Event, None, R],
    on_event: Callable[[Event], object] | None = None,
    *,
    until: Callable[[], bool],
) -> R | None: ...


def drive(
    events: Generator[Event, None, R],
    on_event: Callable[[Event], object] | None = None,
    *,
    until: Callable[[], bool] | None = None,
) -> R | None:
    """Run a task to its end.

    Parameters
    ----------
    events
        The generator of the task.
    on_event
        Called with every event.
    until
        Asked before every step whether to stop there. The task is left at its last event then: close it.

    Returns
    -------
    object
        What the task returned; None where it was stopped.

    Raises
    ------
    Exception
        What the task or `on_event` raises.

    Examples
    --------
    >>> def count():
    ...     yield from "ab"
    ...     return 2
    >>> drive(count(), print)
    a
    b
    2
    """
    while until is None or not until():
        try:
            event = next(events)
        except StopIteration as end:
            result: R = end.value
            return result
        if on_event is not None:
            on_event(event)
    return None

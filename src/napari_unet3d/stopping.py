"""What Ctrl-C, a job scheduler and a terminal that goes away ask for: to stop, with nothing half-written.

A signal becomes a `KeyboardInterrupt`, but not in the midst of what must not be left in the middle.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def interrupt_on_signals() -> None:
    """Let a job scheduler and a terminal that goes away stop the work as Ctrl-C does.

    A signal that is ignored stays ignored: `nohup` asks for that.
    """
    for number in _heard():
        signal.signal(number, signal.default_int_handler)


@contextmanager
def answer_signals(handler: Callable[..., Any]) -> Iterator[None]:
    """Call `handler` when one of the signals comes, until the block ends."""
    before = {number: signal.signal(number, handler) for number in _heard()}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Let signals wait until the block has ended. Other threads than the main one never get any."""
    came: list[int] = []
    try:
        with answer_signals(lambda number, _: came.append(number)):
            yield
    finally:
        if came:
            signal.raise_signal(came[0])


@contextmanager
def interrupt_once() -> Iterator[None]:
    """Let the first signal interrupt the block; more of them do not disturb what is done then."""
    is_asked = False

    def interrupt(*_: object) -> None:
        nonlocal is_asked
        if not is_asked:
            is_asked = True
            raise KeyboardInterrupt

    with answer_signals(interrupt):
        yield


def is_interrupt(error: BaseException) -> bool:
    """Return whether an error is a signal that came: as it was raised, or as C code that it met reports it."""
    return isinstance(error, KeyboardInterrupt) or (
        isinstance(error, SystemError) and isinstance(error.__cause__, KeyboardInterrupt)
    )


def ignore_signals() -> None:
    """Hear no signal any more: all is done, and the process is about to end."""
    for number in _heard():
        signal.signal(number, signal.SIG_IGN)


def _heard() -> list[int]:
    """Return the signals that something happens on; only the main thread may change what that is."""
    if threading.current_thread() is not threading.main_thread():
        return []
    # None: the handler is not Python's, and could not be set again.
    return [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]

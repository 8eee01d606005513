"""Work beside the window: a function in a thread of its own, and a function that is called once, a little later."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

__all__ = ["Aside", "Every", "Later"]

_POLL_MS = 15


def _timer(milliseconds: int, parent: QWidget | None, method: Callable[[], None]) -> QTimer:
    """Return a timer that calls a method, and does not hold its object.

    A method, and no function: PySide6 holds that in a circle that Python cannot free, and PyQt6 may call it when
    Python has freed what it needs.
    """
    timer = QTimer(parent)
    timer.setInterval(milliseconds)
    timer.timeout.connect(method)
    return timer


class Aside:
    """Calls a function in a thread, and takes what it returns in the thread of the window.

    Only the last call counts: what an earlier one returns is dropped, and so is everything once the widget is gone.
    The threads are its own: Qt's pool has as many as the processor has cores, and other plugins wait in it too.

    Parameters
    ----------
    parent
        The widget that it belongs to and ends with; None where whoever holds it says when it ends.
    is_kept
        Whether the program waits for the thread before it ends.
    """

    def __init__(self, parent: QWidget | None = None, *, is_kept: bool = False) -> None:
        self._is_kept = is_kept
        self._last = 0
        self._take: Callable[[Any], None] | None = None
        self._returned: SimpleQueue[tuple[int, bool, Any]] = SimpleQueue()
        self._timer = _timer(_POLL_MS, parent, self._poll)

    def __call__(self, call: Callable[..., Any], *arguments: Any, take: Callable[[Any], None]) -> None:
        """Call a function in a thread; it returns no exception, and raises none that a user can cause."""
        self._last += 1
        self._take = take
        # The thread holds the queue alone: the timer must not end in it with the last who holds this.
        arguments = (self._returned, self._last, call, arguments)
        Thread(target=_call, args=arguments, name="unet3d-aside", daemon=not self._is_kept).start()
        self._timer.start()

    def _poll(self) -> None:
        while not self._returned.empty():
            number, has_returned, result = self._returned.get()
            if number == self._last and self._take is not None:
                self._timer.stop()
                take, self._take = self._take, None
                if not has_returned:
                    raise result
                take(result)


def _call(
    returned: SimpleQueue[tuple[int, bool, Any]], number: int, call: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    try:
        returned.put((number, True, call(*arguments)))
    except BaseException as error:  # noqa: BLE001 - raised in the thread of the window
        returned.put((number, False, error))


class Later:
    """Calls a function once, some time after many reasons to; in the thread of the window.

    Parameters
    ----------
    call
        What is called.
    milliseconds
        How long after.
    parent
        Ends with it; None where whoever holds it says when it ends.
    """

    def __init__(self, call: Callable[[], None], milliseconds: int, parent: QWidget | None = None) -> None:
        self._wanted = call
        self._timer = _timer(milliseconds, parent, self._call)
        self._timer.setSingleShot(True)

    def _call(self) -> None:
        self._wanted()

    def __call__(self, *_: Any) -> None:
        """Call the function later, or still later."""
        self._timer.start()

    def soon(self) -> None:
        """Call the function later, but no later than an earlier reason has said; for what changes all the time."""
        if not self._timer.isActive():
            self._timer.start()

    def cancel(self) -> None:
        """Do not call it, unless there is another reason to."""
        self._timer.stop()


class Every:
    """Calls a function again and again, as long as a widget and this are there; in the thread of the window.

    Parameters
    ----------
    call
        What is called.
    milliseconds
        How often.
    parent
        Ends with it.
    """

    def __init__(self, call: Callable[[], None], milliseconds: int, parent: QWidget) -> None:
        self._wanted = call
        self._timer = _timer(milliseconds, parent, self._call)
        self._timer.start()

    def _call(self) -> None:
        self._wanted()

"""What napari itself shows of a run: a bar among its activities, and a question before the window is closed on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

from napari_unet3d.widgets.host.plain import disable_markup

if TYPE_CHECKING:
    from napari.components import ViewerModel

__all__ = ["Activity"]

_NAME = "3D U-Net"


class Activity:
    """A run as napari shows it.

    Parameters
    ----------
    viewer
        Its viewer.
    cancel
        A method, called when napari wants the run stopped, as its window is closed.
    """

    def __init__(self, viewer: ViewerModel, cancel: Callable[[], None]) -> None:
        # A viewer without a window has nobody to ask.
        self._window: Any = getattr(viewer, "window", None)
        # napari keeps what it was told for as long as its window is there; the run and its arrays shall not stay.
        self._cancel = WeakMethod(cancel)
        self._bar: Any = None
        self._number: Any = None

    def begin(self, what: str) -> None:
        """Show that something is being done, `what`."""
        from napari.utils import progress
        from napari.utils.task_status import Status

        self.end()
        what = disable_markup(what)
        self._bar = progress(total=0, desc=f"{_NAME}: {what}")
        # napari has no public way to say this yet; without it the window closes unasked.
        if register := getattr(self._window, "_register_task_status", None):
            self._number = register(_NAME, Status.BUSY, what, cancel_callback=partial(_called, self._cancel))

    def show(self, done: int, total: int) -> None:
        """Show how far it is."""
        if self._bar is None or not total:
            return
        if self._bar.total != total:
            self._bar.reset(total)
        self._bar.update(done - self._bar.n)

    def end(self) -> None:
        """Show that nothing is done any more."""
        from napari.utils.task_status import Status

        if self._bar is not None:
            self._bar.close()
        if self._number is not None:
            self._window._update_task_status(self._number, Status.COMPLETED)
        self._bar = self._number = None


def _called(method: WeakMethod[Callable[[], None]]) -> None:
    if (call := method()) is not None:
        call()

"""A run as the window follows it: how far it is, what it says, and how it ended; a kind of run adds what it draws.

It belongs to the window and not to a panel: the dock widget may be closed meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_unet3d.errors import Unet3dError
from napari_unet3d.tasks.events import Event, Note, Started
from napari_unet3d.widgets.host.activity import Activity

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_unet3d.engine import Engine, Run
    from napari_unet3d.tasks.jobs.kinds import AnyJob

# Seconds: what has come by then is heard and drawn, and the rest at the next look.
_LONGEST_HEARING = 0.005

State = Literal["queued", "running", "stopping", "stopped", "done", "failed"]


class FollowedRun:
    """Work of an engine that a window follows.

    Parameters
    ----------
    viewer
        Where it is shown.
    engine
        Where it is done.

    Attributes
    ----------
    poll_ms
        Milliseconds between two looks at what has come: at most ten redraws per second, however many events there are.
    state
        How far it is.
    error
        Why it failed.
    notes
        What the user should know.
    """

    changed = Signal()
    noted = Signal(str)
    told = Signal(str)
    poll_ms: ClassVar[int] = 100

    def __init__(self, viewer: ViewerModel, engine: Engine) -> None:
        self.viewer, self.engine = viewer, engine
        self.state: State = "queued"
        self.error: Unet3dError | None = None
        self.notes: list[str] = []
        self._run: Run | None = None
        self._is_closed = False
        self._activity = Activity(viewer, self.cancel)
        self._timer = QTimer()
        self._timer.setInterval(self.poll_ms)
        self._timer.timeout.connect(self._poll)

    @property
    def is_active(self) -> bool:
        """Return whether it is being done or waits for its turn."""
        return self.state in ("queued", "running", "stopping") and self._run is not None

    @property
    def n_before(self) -> int:
        """Return how many jobs the engine does before this one."""
        return 0 if self._run is None else self.engine.n_before(self._run)

    def cancel(self) -> None:
        """Stop at the next safe point; what is done is kept."""
        if self.state in ("queued", "running") and self._run is not None:
            self.state = "stopping"
            self._run.cancel()
            self.changed.emit()

    def stop_now(self) -> None:
        """Stop at once, by ending the worker if it must be; what it is at is lost."""
        if self.is_active and self._run is not None:
            self.state = "stopping"
            self.engine.stop_now(self._run)
            self.changed.emit()

    def close(self) -> None:
        """Stop for good, as the window is closed: nothing is shown any more."""
        self._is_closed = True
        if self._run is not None:
            self._run.cancel()
        self._timer.stop()
        self._activity.end()

    def _submit(self, job: AnyJob, arrays: Mapping[str, Any], what: str = "") -> None:
        """Give a job to the engine; napari shows `what` among its activities, if it is said."""
        self.state, self.error = "queued", None
        self._run = self.engine.submit(job, arrays)
        if what:
            self._activity.begin(what)
        self._timer.start()
        self.changed.emit()

    def _poll(self) -> None:
        """Take what has come from the engine; in the thread of the window."""
        run = self._run
        if run is None or self._is_closed:
            self._timer.stop()
            return
        self._look()
        has_news, until = False, time.perf_counter() + _LONGEST_HEARING
        try:
            while isinstance(came := _take(run), list) and came:
                has_news = True
                self._hear(came)
                if time.perf_counter() > until:
                    break
            if has_news:
                self._show()
                self._activity.show(*self._progress())
            if isinstance(came, tuple):
                self._end(*came)
        finally:
            # Whatever a layer raises, the buttons come back.
            if has_news or not self.is_active:
                self.changed.emit()

    def _hear(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case Note():
                    self._note(event.text, is_warning=event.is_warning)
                case Started():
                    self.state = "running" if self.state == "queued" else self.state
            self._on_event(event)

    def _note(self, sentence: str, *, is_warning: bool = True) -> None:
        self.notes.append(sentence)
        (self.noted if is_warning else self.told).emit(sentence)

    def _end(self, state: State, error: Unet3dError | None) -> None:
        self.state, self.error = state, error
        self._timer.stop()
        self._activity.end()
        self._on_end()

    def _look(self) -> None:
        """Do what is to be done before every look; for a kind of run."""

    def _on_event(self, event: Event) -> None:
        """Note what an event says; for a kind of run."""

    def _show(self) -> None:
        """Draw what a few events have changed; for a kind of run."""

    def _progress(self) -> tuple[int, int]:
        """Return how much of how much is done; for a kind of run."""
        return 0, 0

    def _on_end(self) -> None:
        """Draw how it ended; for a kind of run."""


def _take(run: Run) -> list[Event] | tuple[State, Unet3dError | None]:
    """Return what has come from a run, or how it ended."""
    try:
        events = run.take(0)
    except Unet3dError as error:
        return "failed", error
    if events is None:
        return ("done" if run.state == "done" else "stopped"), None
    return events

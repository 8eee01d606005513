"""What every run of a window does, whatever it draws; without a worker."""

from __future__ import annotations

import pytest

from napari_unet3d.engine import HereEngine
from napari_unet3d.errors import SpecError
from napari_unet3d.tasks.events import Note, Progress, Started
from napari_unet3d.tasks.jobs.base import Job
from napari_unet3d.widgets.runs.follow import FollowedRun


class Counting(Job):
    kind: str = "counting"
    n: int = 3
    fails: bool = False

    def perform(self, arrays):
        yield Started(self.n, (1, 1, 1), "here", 1)
        yield Note("It has begun.")
        for number in range(1, self.n + 1):
            yield Progress("counting", number, self.n)
        if self.fails:
            raise SpecError("Not this one.")
        return self


class Following(FollowedRun):
    """Keeps what the kinds of runs are told."""

    def __init__(self, viewer):
        super().__init__(viewer, HereEngine())
        self.seen, self.ends, self.n_shown = [], [], 0

    def begin(self, **fields):
        self._submit(Counting(**fields), {}, "It counts")

    def _on_event(self, event):
        self.seen.append(event)

    def _show(self):
        self.n_shown += 1

    def _on_end(self):
        self.ends.append(self.state)


@pytest.fixture
def run(viewer, qtbot):
    run = Following(viewer)
    yield run
    run.close()


def test_a_run_is_followed_to_its_end(run, qtbot):
    told, said = [], []
    run.changed.connect(lambda: told.append(run.state))
    run.noted.connect(said.append)
    assert not run.is_active
    run.begin()
    assert (run.state, run.is_active) == ("queued", True)
    qtbot.waitUntil(lambda: not run.is_active)
    # What has come until a look is told and drawn at once.
    assert (told[0], told[-1], run.ends) == ("queued", "done", ["done"])
    assert run.n_shown in range(1, 6)
    assert len(told) <= run.n_shown + 2
    assert said == run.notes == ["It has begun."]
    assert [event.done for event in run.seen if isinstance(event, Progress)] == [1, 2, 3]
    assert run._run.result == run._run.job
    # Once more, from its end.
    run.begin(n=1)
    qtbot.waitUntil(lambda: not run.is_active)
    assert run.ends == ["done", "done"]


def test_a_run_that_is_cancelled_is_stopping_until_it_has_stopped(run, qtbot):
    run.begin(n=10**9)
    qtbot.waitUntil(lambda: run.state == "running")
    run.cancel()
    assert (run.state, run.is_active) == ("stopping", True)
    qtbot.waitUntil(lambda: not run.is_active)
    assert run.ends == ["stopped"]
    assert run.error is None
    run.cancel()
    run.stop_now()
    assert run.state == "stopped"


def test_a_run_that_fails_says_why_until_it_is_begun_again(run, qtbot):
    run.begin(fails=True)
    qtbot.waitUntil(lambda: not run.is_active)
    assert run.ends == ["failed"]
    assert isinstance(run.error, SpecError)
    run.begin()
    assert run.error is None


def test_what_a_drawing_raises_leaves_no_button_disabled(run, qtbot, capture_errors):
    told = []
    run.changed.connect(lambda: told.append(run.state))
    run._show = lambda: 1 / 0
    run.begin(n=1)
    qtbot.waitUntil(lambda: not run.is_active)
    assert told[-1] == "done"
    assert {kind for kind, *_ in capture_errors} == {ZeroDivisionError}


@pytest.fixture
def capture_errors(qtbot):
    with qtbot.capture_exceptions() as errors:
        yield errors


def test_after_its_window_nothing_is_told(run, qtbot):
    run.begin(n=10**9)
    qtbot.waitUntil(lambda: run.state == "running")
    run.close()
    told = []
    run.changed.connect(lambda: told.append(run.state))
    qtbot.wait(250)
    assert told == []


def test_it_looks_at_most_ten_times_a_second():
    assert FollowedRun.poll_ms >= 100

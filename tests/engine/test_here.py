"""The engine without a worker keeps the promises of a run."""

from __future__ import annotations

import pytest

from napari_unet3d.engine import Engine, HereEngine, LocalEngine, Run
from napari_unet3d.errors import EngineError, SpecError
from napari_unet3d.tasks.events import Progress
from napari_unet3d.tasks.jobs.base import Job


class Counting(Job):
    """Writes 1, 2, .. into an array, and may fail at one of them."""

    kind: str = "counting"
    n: int = 3
    fails_at: int = 0
    unforeseen: bool = False

    def perform(self, arrays):
        for number in range(1, self.n + 1):
            if number == self.fails_at:
                raise ZeroDivisionError("by zero") if self.unforeseen else SpecError("Not this one.")
            arrays["result"].append(number)
            yield Progress("counting", number, self.n)
        return self


def submitted(**fields) -> tuple[Run, list[int]]:
    written: list[int] = []
    return HereEngine().submit(Counting(**fields), {"result": written}), written


def test_a_run_goes_a_step_with_every_look_and_ends_with_its_result():
    run, written = submitted()
    assert (run.state, written) == ("queued", [])
    assert run.take(0) == [Progress("counting", 1, 3)]
    assert (run.state, written) == ("running", [1])
    assert [event.done for event in run.events()] == [2, 3]
    assert run.state == "done"
    assert run.has_ended.is_set()
    assert run.result == run.job
    assert run.take(0) is None
    assert run.wait() == run.job


def test_a_run_that_is_stopped_keeps_what_it_did_and_does_no_more():
    run, written = submitted()
    run.take(0)
    run.cancel()
    assert run.wait() is None
    assert (run.state, written) == ("stopped", [1])
    waiting, written = submitted()
    HereEngine().stop_now(waiting)
    assert waiting.has_ended.is_set()
    assert waiting.wait() is None
    assert (waiting.state, written) == ("stopped", [])


@pytest.mark.parametrize(("unforeseen", "kind"), [(False, SpecError), (True, EngineError)])
def test_a_run_that_fails_says_why_as_often_as_it_is_asked(unforeseen, kind):
    run, written = submitted(fails_at=2, unforeseen=unforeseen)
    assert run.take(0) is not None
    for _ in range(2):
        with pytest.raises(kind):
            run.take(0)
    assert (run.state, written) == ("failed", [1])
    assert isinstance(run.error, kind)


@pytest.mark.parametrize("engine", [HereEngine, LocalEngine])
def test_both_engines_are_engines(engine):
    assert Engine in engine.__mro__
    assert {"submit", "n_before", "stop_now", "end"} <= vars(engine).keys()

"""Promise 4: no slot of a panel takes longer than 50 ms while a worker floods the window with events."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import psutil
import pytest
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QApplication

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.heads.classes import Classes
from napari_unet3d.engine.local import engine as local
from napari_unet3d.tasks.train.kept.history import Curves
from napari_unet3d.widgets.bricks.loss_plot import LossPlot
from napari_unet3d.widgets.plugin import workbench as workbenches
from napari_unet3d.widgets.plugin.workbench import Workbench
from tests.support.balls import balls

LIMIT = 0.050
SECONDS = 4.0
LONG_MS = 120_000

# What the worker does in place of a job: it tells of it as fast as it can, until it is told to stop.
_FLOOD = """
import itertools
from napari_unet3d.core.boxes import Box
from napari_unet3d.engine.local import wire
from napari_unet3d.tasks import events

def flood():
    yield events.Started(10**6, (12, 12, 12), "cpu", 2**20)
    for n in itertools.count(1):
        yield from {news}

for event in flood():
    if task.cancel_requested:
        break
    task.update(info=wire.event_to_wire(event))
{{"stopped": True}}
"""
TILES = """(
    events.TileDone(Box(*((at, at + 4) for at in (n // 225 * 4 % 60, n // 15 * 4 % 60, n * 4 % 60))), n, 10**6, 9.0),
)"""
STEPS = """(
    [events.StepDone(n, 10**6, 1 / n, 1e-3, 999.0, 9.0, 0.0)]
    + [events.HeldOut(0, Box((n, n + 9), (0, 64), (0, 64)), 9)] * (n < 9)
    + [events.Validated(n, 1 / n, {"dice": (0.5, 0.5), "iou": (0.5, 0.5)}, (99, 99), False)] * (n % 20 == 0)
    + [events.Previewed(n, Box((0, 8), (0, 8), (0, 8)))] * (n % 20 == 0)
    + [events.Checkpointed(n)] * (n % 20 == 0)
)"""


@dataclass(frozen=True)
class Delivery:
    """How long something took: on the clock, and on the processor; in seconds."""

    wall: float
    busy: float


class Stopwatch(QObject):
    """Measures how long the thread of the window is with each timer, drawing and message that it takes up.

    They come one after the other, so one ends at the latest where the next begins.
    """

    _TAKEN_UP = (QEvent.Type.Timer, QEvent.Type.UpdateRequest, QEvent.Type.MetaCall)

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Delivery] = []
        self._began: tuple[float, float] | None = None

    def lap(self) -> None:
        """End what is being measured, and begin with the next."""
        now = time.perf_counter(), time.thread_time()
        if self._began is not None:
            self.taken.append(Delivery(now[0] - self._began[0], now[1] - self._began[1]))
        self._began = now

    def watch(self, seconds: float) -> list[Delivery]:
        """Let the window work for so long, and return what was measured."""
        app, end = QApplication.instance(), time.perf_counter() + seconds
        app.installEventFilter(self)
        try:
            while time.perf_counter() < end:
                self._began = None
                self.lap()
                QApplication.processEvents()
                self.lap()
                time.sleep(0.002)
        finally:
            app.removeEventFilter(self)
        return self.taken

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() in self._TAKEN_UP:
            self.lap()
        return False


def how_loaded() -> float:
    """Return how much longer than on the processor such work takes on the clock now: 1 where nothing else runs."""

    def work() -> None:
        end = time.thread_time() + LIMIT / 2
        while time.thread_time() < end:
            pass

    watch = Stopwatch()
    for _ in range(40):
        watch.lap()
        work()
    stretched = float(np.percentile([one.wall / one.busy for one in watch.taken], 99))
    # What runs beside comes and goes; what waited for a processor in the last minute counts too.
    return max(1.0, stretched, psutil.getloadavg()[0] / (os.cpu_count() or 1))


@pytest.fixture(autouse=True)
def _no_garbage_is_collected() -> Iterator[None]:
    """To look through all that a whole room of tests has made takes Python 0.3 s, whatever slot it falls into."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def workbench(session, viewer, qtbot, models_folder, monkeypatch) -> Workbench:
    """Return the workbench on a screen, with all that a run needs."""
    monkeypatch.setattr(workbenches, "session_of", lambda _: session)
    image, painted = balls()
    session.image = viewer.add_image(image, name="cells")
    session.labels = viewer.add_labels(painted, name="painted")
    session.annotation.say(session.labels, Meanings.painted(("background", "ball")))
    session.choose_model(models_folder / "small.unet3d")
    workbench = Workbench(viewer)
    qtbot.addWidget(workbench)
    with qtbot.waitExposed(workbench):
        workbench.show()
    return workbench


def flooded(qtbot, run) -> list[Delivery]:
    """Return how long the window was with each thing while a run told so much, and stop the run."""
    qtbot.waitUntil(lambda: run.state == "running", timeout=LONG_MS)
    taken = Stopwatch().watch(SECONDS)
    run.cancel()
    qtbot.waitUntil(lambda: not run.is_active, timeout=LONG_MS)
    assert run.state == "stopped"
    return taken


def check(taken: list[Delivery], loaded: float) -> None:
    """Check that no slot took too long, where a busy machine may take longer on the clock."""
    busy, wall = (sorted(getattr(one, name) for one in taken)[::-1] for name in ("busy", "wall"))
    said = f"longest: {busy[:3]} on the processor, {wall[:3]} on the clock, at a load of {loaded:.2f}"
    # A processor that others share is slower too.
    assert busy[0] < LIMIT * loaded, said
    # On the clock it also waits for the thread that hears the flood, which is Python too.
    assert np.percentile(wall, 50) < LIMIT * loaded, said


def test_no_slot_waits_while_tiles_are_told_as_fast_as_they_can_be(workbench, qtbot, monkeypatch):
    monkeypatch.setattr(local, "_RUN_SCRIPT", _FLOOD.format(news=TILES))
    workbench.show_tab("Segment")
    panel, loaded = workbench.segment, how_loaded()
    qtbot.waitUntil(lambda: panel.start.enabled, timeout=LONG_MS)
    panel.start.native.click()
    run = workbench.session.segmentation
    check(flooded(qtbot, run), max(loaded, how_loaded()))
    assert run.n_done > 1000


def test_no_slot_waits_while_steps_are_told_as_fast_as_they_can_be(workbench, qtbot, monkeypatch):
    monkeypatch.setattr(local, "_RUN_SCRIPT", _FLOOD.format(news=STEPS))
    workbench.show_tab("Train")
    panel, loaded = workbench.train, how_loaded()
    panel.form.blocks.value, panel.form.filters.value = 0, 2
    qtbot.waitUntil(lambda: panel.start.enabled and panel.spec.network.blocks == 0, timeout=LONG_MS)
    panel.start.native.click()
    run = workbench.session.training
    check(flooded(qtbot, run), max(loaded, how_loaded()))
    assert run.step > 1000


@pytest.mark.parametrize("n", [1000, 200_000])
def test_curves_of_any_length_are_drawn_in_time(qtbot, n):
    curves = Curves(Classes(names=("background", "ball")))
    curves.steps, curves.losses = list(range(1, n + 1)), list(1 / np.arange(1, n + 1))
    plot = LossPlot()
    qtbot.addWidget(plot)
    with qtbot.waitExposed(plot):
        plot.show()
    plot.show_curves(curves)
    QApplication.processEvents()
    drawn = []
    for _ in range(5):
        watch = Stopwatch()
        watch.lap()
        plot.show_curves(curves)
        watch.lap()
        QApplication.processEvents()
        watch.lap()
        drawn.append([one.busy for one in watch.taken])
    # The same five times: the least is what it takes, the rest is what else the processor does.
    assert np.min(drawn, axis=0).max() < LIMIT

"""Does the window wait while a volume is segmented, or while a network is trained?

A timer of 10 ms moves to the next slice whenever it fires, and notes how late it was: with the worker idle, and while
it segments (or trains, with `--train`: curves and the live preview run), in turns. And: how long until the dock widget
is there, and does that import Keras?

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/window.py [--train]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import napari
import numpy as np
from contest import clean_environment
from qtpy.QtCore import QEventLoop, Qt, QTimer
from qtpy.QtWidgets import QApplication

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.augment.presets import PRESETS
from napari_unet3d.core.tiles.plan import plan_tiles
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.tasks.train.spec import TrainSpec
from napari_unet3d.widgets.layers.volumes import layer_volume
from napari_unet3d.widgets.runs.models import list_models
from napari_unet3d.widgets.runs.pairs import Pair
from napari_unet3d.widgets.runs.results import Choices
from napari_unet3d.widgets.runs.segmentation import Segmentation
from napari_unet3d.widgets.runs.session import Session, session_of
from napari_unet3d.widgets.runs.training import Training

PERIOD_MS = 10
ROUNDS = 4
SECONDS = 15.0
AT_MOST = 1.5
OPEN_SECONDS = 0.5
SHAPE = (303, 303, 303)
AUGMENTED = PRESETS["anisotropic stack"]

OPEN = """
import sys, time
import napari
viewer = napari.Viewer()
begun = time.perf_counter()
viewer.window.add_plugin_dock_widget("napari-unet3d")
seconds = time.perf_counter() - begun
print(seconds, int("keras" in sys.modules or "tensorflow" in sys.modules))
from napari_unet3d.widgets.runs.session import end_session
end_session(viewer)
viewer.close()
"""


def live(until: float) -> None:
    """Let the window live until a moment."""
    while time.perf_counter() < until:
        QApplication.processEvents()
        time.sleep(0.0005)


def lateness(viewer: napari.Viewer, seconds: float) -> list[float]:
    """Return by how many milliseconds each tick of the timer was late, a slice change a tick."""
    late: list[float] = []
    last = [time.perf_counter()]
    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)

    def tick() -> None:
        now = time.perf_counter()
        late.append(max(0.0, 1000 * (now - last[0]) - PERIOD_MS))
        last[0] = now
        viewer.dims.set_current_step(0, len(late) % SHAPE[0])

    timer.timeout.connect(tick)
    timer.start(PERIOD_MS)
    # A loop of Qt, which sleeps while there is nothing, as in `napari.run`.
    loop = QEventLoop()
    QTimer.singleShot(int(1000 * seconds), loop.quit)
    loop.exec()
    timer.stop()
    return late[5:]


def summary(late: list[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(late, [50, 95, 99])
    return {"p50": p50, "p95": p95, "p99": p99, "max": max(late), "ticks": len(late)}


def show(name: str, figures: dict[str, float]) -> None:
    words = ", ".join(f"{key} {value:.1f}" for key, value in figures.items() if key != "ticks")
    print(f"{name:<12} {words} ms late, {figures['ticks']:.0f} ticks", flush=True)


def measure_opening() -> None:
    seconds = []
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", OPEN], env=clean_environment(), capture_output=True, text=True, check=True
        )
        taken, has_keras = done.stdout.split()[-2:]
        seconds.append(float(taken))
        assert has_keras == "0", "opening the widget imports Keras"
    verdict = "reached" if np.median(seconds) < OPEN_SECONDS else "NOT REACHED"
    print(
        f"open the widget: median {np.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f} over 5), "
        f"no Keras; less than {OPEN_SECONDS} s: {verdict}",
        flush=True,
    )


class Segmenting:
    """A segmentation in tiles of about a second, so that news come all the time."""

    def __init__(self, viewer: napari.Viewer, session: Session, layer: Any) -> None:
        (model, *_) = list_models(Path("none"))
        session.choose_model(model)
        self.tile = plan_tiles(SHAPE, session.network, memory=1 << 30).input_shape
        choices = Choices(model, session.card, PredictSpec(tile_shape=self.tile))
        # The labels layer is there in both cases: drawing it is not what is asked about.
        self.run = Segmentation(viewer, session.engine, layer_volume(layer), choices)
        session.begin(self.run)

    def start(self) -> None:
        self.run._done.clear()
        self.run.state = "stopped"
        self.run.start()

    def stop(self) -> None:
        self.run.cancel()

    def has_begun(self) -> bool:
        return self.run.n_done >= 1

    def meanwhile(self) -> str:
        return f"segmented {self.run.n_done} of {self.run.n_tiles} tiles of {self.tile}"


class Learning:
    """A training run on three painted slices, its curves drawn and its preview made."""

    def __init__(self, viewer: napari.Viewer, session: Session, layer: Any) -> None:
        painted = np.zeros(SHAPE, np.uint8)
        painted[30::100] = 1 + (layer.data[30::100] > 1500)
        labels = viewer.add_labels(painted)
        meanings = Meanings.painted(("background", "bright"))
        spec = TrainSpec(
            patch=(44, 124, 124),
            network=NetworkSpec(blocks=1),
            class_names=meanings.class_names,
            steps=100_000,
            augment=AUGMENTED,
        )
        pair = Pair(layer_volume(layer), labels, meanings)
        folder = Path(tempfile.mkdtemp()) / "run"
        self.run = Training(viewer, session.engine, [pair], spec, folder)
        session.training = self.run
        session.training_changed.emit()
        self._from = 0

    def start(self) -> None:
        self._from = self.run.step
        self.run.begin()

    def stop(self) -> None:
        self.run.cancel()

    def has_begun(self) -> bool:
        return self.run.step >= self._from + 2 and self.run.previewed is not None

    def meanwhile(self) -> str:
        return f"{self.run.step - self._from} steps"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--train", action="store_true")
    arguments = parser.parse_args()
    measure_opening()
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    image = np.random.default_rng(0).integers(0, 3000, SHAPE).astype(np.uint16)
    layer = viewer.add_image(image, contrast_limits=(0, 3000))
    _, workbench = viewer.window.add_plugin_dock_widget("napari-unet3d")
    workbench.show_tab("Train" if arguments.train else "Segment")
    session = session_of(viewer)
    while session.engine.state in ("starting", "busy"):
        live(time.perf_counter() + 0.1)
    idle: list[list[float]] = []
    busy: list[list[float]] = []
    work = Learning(viewer, session, layer) if arguments.train else Segmenting(viewer, session, layer)
    for _ in range(arguments.rounds):
        live(time.perf_counter() + 1.0)
        idle.append(lateness(viewer, arguments.seconds))
        work.start()
        while not work.has_begun():
            live(time.perf_counter() + 0.1)
            assert work.run.error is None, work.run.error
        busy.append(lateness(viewer, arguments.seconds))
        print(f"({work.meanwhile()} meanwhile)", flush=True)
        work.stop()
        while work.run.is_active:
            live(time.perf_counter() + 0.1)
    what = "training" if arguments.train else "segmenting"
    show("idle", summary([ms for part in idle for ms in part]))
    show(what, summary([ms for part in busy for ms in part]))
    # The period counts: a tick that comes 1 ms late instead of 0.1 ms is not ten times worse.
    ratios = [
        (PERIOD_MS + np.percentile(b, 99)) / (PERIOD_MS + np.percentile(a, 99)) for a, b in zip(idle, busy, strict=True)
    ]
    plain = [np.percentile(b, 99) / np.percentile(a, 99) for a, b in zip(idle, busy, strict=True)]
    verdict = "reached" if np.median(plain) <= AT_MOST else "NOT REACHED"
    print(
        f"p99 of the lateness, {what} over idle: median {np.median(plain):.2f} ({min(plain):.2f} to "
        f"{max(plain):.2f} over {len(plain)} rounds); at most {AT_MOST}: {verdict}. "
        f"Of the whole period: {np.median(ratios):.2f}"
    )
    viewer.close()


if __name__ == "__main__":
    main()

"""How long from Start to the first tile in the window, and for how long does the window stand still meanwhile?

The window is opened, the demo model chosen and Start clicked, as a person would; a timer of 10 ms notes its longest
gap. Once with a worker that is ready, as after a look at the image.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/first_tile.py [--size 303]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import napari
import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication

from napari_unet3d.sample_data import synthetic_neurons
from napari_unet3d.widgets.runs.session import end_session, session_of

PERIOD_MS = 10
MOST_SECONDS = 900.0


class Gaps:
    """The longest time between two ticks of a timer, in seconds."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start(PERIOD_MS)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.longest, self._last = max(self.longest, now - self._last), now

    def restart(self) -> None:
        """Forget what was until now."""
        self.longest, self._last = 0.0, time.perf_counter()


def live(until: Callable[[], bool]) -> None:
    """Let the window live until something holds."""
    end = time.monotonic() + MOST_SECONDS
    while not until():
        if time.monotonic() > end:
            raise TimeoutError("it took longer than a quarter of an hour")
        QApplication.processEvents()
        time.sleep(0.001)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=0, help="voxels along every axis; 0 takes the sample")
    size = parser.parse_args().size
    sample = synthetic_neurons()
    image = sample.image
    if size:
        image = np.tile(image, [-(-size // n) for n in image.shape])[:size, :size, :size]
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    viewer.add_image(np.ascontiguousarray(image), scale=sample.voxel_size, units=(sample.unit,) * 3, name="image")
    gaps = Gaps()
    _, workbench = viewer.window.add_plugin_dock_widget("napari-unet3d")
    workbench.show_tab("Segment")
    panel, session = workbench.segment, session_of(viewer)
    live(lambda: bool(panel.start.enabled) and session.engine.state == "ready")
    print(f"to a ready window: longest gap {gaps.longest:.2f} s")
    print(f"load of the machine: {os.getloadavg()[0]:.1f}\n{panel.state.planned.sentence}", flush=True)
    gaps.restart()
    begun = time.perf_counter()
    panel.start.native.click()
    run = session.segmentation
    live(lambda: run.n_tiles > 0 or not run.is_active)
    print(f"planned after {time.perf_counter() - begun:.1f} s", flush=True)
    live(lambda: run.share > 0 or not run.is_active)
    first = time.perf_counter() - begun
    print(f"first tile after {first:.1f} s, of {run.n_tiles}; longest gap {gaps.longest:.2f} s", flush=True)
    live(lambda: not run.is_active)
    print(f"{run.state} after {time.perf_counter() - begun:.1f} s; load {os.getloadavg()[0]:.1f}", flush=True)
    end_session(viewer)
    viewer.close()


if __name__ == "__main__":
    main()

"""How long from a click on Next in the tab Augment until the patch is shown, without a window that draws?

    QT_QPA_PLATFORM=offscreen python benchmarks/preview.py [--rounds 9]

The image lies in memory, 220 x 300 x 300 uint16 with labels of its shape, so its voxels cross into the worker. What the
screen takes to draw comes on top; after a change of a parameter also the 60 ms in which further changes are waited for.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication

from napari_unet3d.engine import LocalEngine
from napari_unet3d.widgets.host.preferences import Preferences
from napari_unet3d.widgets.panels.augment.tab import AugmentPanel
from napari_unet3d.widgets.runs.session import Session

TARGET_MS = 150


def shown_after(session: Session, panel: AugmentPanel) -> tuple[float, float]:
    """Return after how many seconds a patch was shown first, and when it was complete."""
    preview, moments = session.preview, []
    show = preview._show_arrays

    def noted() -> None:
        show()
        moments.append(time.perf_counter())

    preview._show_arrays = noted
    begun = time.perf_counter()
    panel.show_next()
    while preview.is_active:
        QApplication.processEvents()
        time.sleep(0.001)
    preview._show_arrays = show
    if preview.error is not None:
        raise SystemExit(str(preview.error))
    return moments[0] - begun, moments[-1] - begun


def main() -> None:
    """Print a line a patch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    application = QApplication([])
    with tempfile.TemporaryDirectory() as folder:
        engines = [LocalEngine(log=Path(folder) / f"{name}.log", gives_way=name == "main") for name in ("main", "side")]
        viewer: Any = ViewerModel()
        session = Session(viewer, engines[0], Preferences(Path(folder), warm_start=False), engines[1])
        image = np.random.default_rng(0).gamma(2, 300, (220, 300, 300)).astype(np.uint16)
        viewer.add_image(image)
        viewer.add_labels((image > 900).astype(np.uint8))
        panel = AugmentPanel(session)
        for size in (132, 220):
            panel.size.value = size
            shown_after(session, panel)
            times = [shown_after(session, panel) for _ in range(rounds)]
            first, whole = (sorted(1000 * seconds for seconds in column) for column in zip(*times, strict=True))
            verdict = "reached" if statistics.median(first) < TARGET_MS else "NOT REACHED"
            print(
                f"patch {size}: shown after {statistics.median(first):.0f} ms ({first[0]:.0f} to {first[-1]:.0f}), all "
                f"of it after {statistics.median(whole):.0f} ms; first below {TARGET_MS} ms: {verdict}"
            )
        session.close()
        for engine in engines:
            engine.end()
    application.quit()


if __name__ == "__main__":
    main()

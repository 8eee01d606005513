"""What was opened is freed when it is closed: with the window, and with the dock alone."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication, QDockWidget

from napari_unet3d.widgets.host.preferences import Preferences
from napari_unet3d.widgets.layers.warming import warm_labels
from napari_unet3d.widgets.plugin.workbench import Workbench
from napari_unet3d.widgets.runs import session as sessions

N_TIMES = 5
MEBIBYTE = 1 << 20
LONG_MS = 120_000


@pytest.fixture(autouse=True)
def _sessions_of_the_program(engine, previewer, models_folder, tmp_path, monkeypatch) -> Iterator[None]:
    """Let windows have the workers of these tests, which do not end with the last of them."""
    monkeypatch.setattr("napari_unet3d.tasks.speeds.user_cache_path", lambda *_, **__: tmp_path)
    monkeypatch.setattr(sessions, "read_preferences", lambda: Preferences(models_folder, warm_start=False))
    monkeypatch.setattr(sessions, "shared_engine", lambda _: engine)
    monkeypatch.setattr(sessions, "shared_previewer", lambda: previewer)


def filled() -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_image(np.random.default_rng(0).integers(0, 3000, (40, 61, 92)).astype(np.uint16), name="neurons")
    viewer.add_labels(np.zeros((40, 61, 92), np.uint8), name="painted")
    return viewer


def docked(viewer: ViewerModel) -> tuple[QDockWidget, Workbench]:
    dock, workbench = QDockWidget(), Workbench(viewer)
    dock.setWidget(workbench)
    dock.show()
    QApplication.processEvents()
    return dock, workbench


def undock(dock: QDockWidget) -> None:
    """Close a dock as napari does."""
    dock.widget().setParent(None)
    dock.deleteLater()


def parts(workbench: Workbench) -> list[weakref.ref]:
    panels = (workbench.data, workbench.sizes, workbench.augment, workbench.train, workbench.segment)
    return [weakref.ref(part) for part in (workbench, workbench.strip, *panels)]


def alive(refs: list[weakref.ref]) -> list[str]:
    """Return what is still there once Qt and Python have freed what they can."""
    for _ in range(3):
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
        QApplication.processEvents()
        gc.collect()
    return sorted(type(found).__name__ for ref in refs if (found := ref()) is not None)


def opened_and_closed() -> list[weakref.ref]:
    viewer = filled()
    dock, workbench = docked(viewer)
    dock.deleteLater()
    sessions.end_session(viewer)
    return [*parts(workbench), *map(weakref.ref, (viewer, workbench.session, *viewer.layers))]


def held_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def test_a_closed_window_leaves_nothing_and_memory_does_not_grow(qtbot):
    assert alive(opened_and_closed()) == []
    # What is compiled once a program stays, and is no leak.
    warm_labels().join()
    before = held_bytes()
    for _ in range(N_TIMES):
        assert alive(opened_and_closed()) == []
    assert held_bytes() - before < 3 * N_TIMES * MEBIBYTE


def test_a_dock_that_is_closed_and_opened_again_leaves_the_session_alone(qtbot):
    viewer = filled()
    refs = []
    for _ in range(N_TIMES):
        dock, workbench = docked(viewer)
        session = workbench.session
        refs += parts(workbench)
        undock(dock)
        del dock, workbench
    assert alive(refs) == []
    assert sessions.session_of(viewer) is session
    sessions.end_session(viewer)


def segmented(qtbot, models_folder) -> list[weakref.ref]:
    viewer = filled()
    dock, workbench = docked(viewer)
    session, panel = workbench.session, workbench.segment
    session.choose_model(models_folder / "small.unet3d")
    qtbot.waitUntil(lambda: panel.start.enabled, timeout=LONG_MS)
    panel.start.native.click()
    run = session.segmentation
    qtbot.waitUntil(lambda: not run.is_active, timeout=LONG_MS)
    assert run.state == "done"
    dock.deleteLater()
    sessions.end_session(viewer)
    return [*parts(workbench), *map(weakref.ref, (viewer, session, run, run.layer, run.layer.data))]


def test_a_window_that_has_segmented_leaves_nothing_of_its_run(qtbot, models_folder):
    assert alive(segmented(qtbot, models_folder)) == []

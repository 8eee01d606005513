"""Nothing that was painted is lost: not when napari is killed, not when its window or the dock is closed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
import tifffile
from qtpy.QtWidgets import QApplication

from napari_unet3d.tasks.projects.annotation import KeptAnnotation
from napari_unet3d.tasks.projects.folder import Project
from napari_unet3d.widgets.plugin.workbench import Workbench

pytestmark = pytest.mark.viewer

LONG_MS = 120_000
VOXELS = np.random.default_rng(0).integers(0, 99, (20, 60, 60)).astype(np.uint16)

# A person paints stroke after stroke, and says which ones the window has called saved.
_PAINTS = """
import sys
from pathlib import Path

import napari

from napari_unet3d.widgets.host.preferences import Preferences
from napari_unet3d.widgets.runs import session as sessions

image, own = sys.argv[1:]
sessions.read_preferences = lambda: Preferences(Path(own) / "models", warm_start=False)
viewer = napari.Viewer()
_, workbench = viewer.window.add_plugin_dock_widget("napari-unet3d")
panel = workbench.data
panel.open_path(image)
state = {"stroke": 0}


def saved():
    if state["stroke"]:
        print(f"saved {state['stroke']}", flush=True)
    state["stroke"] += 1
    z = 2 * state["stroke"] - 1
    workbench.session.labels.paint((z, 30, 30), 2)


def begin():
    panel.new_annotation()
    workbench.session.project.changed.connect(lambda: panel._saved.value.startswith("Saved") and saved())
    saved()


from qtpy.QtCore import QTimer

timer = QTimer()
timer.timeout.connect(lambda: workbench.session.image is not None and (timer.stop(), begin()))
timer.start(50)
napari.run()
"""


def on_disk(folder: Path) -> np.ndarray:
    project = Project.open(folder)
    assert project.record.latest is not None
    return KeptAnnotation(project.annotations / project.record.latest.file).load()


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, VOXELS)
    return path


@pytest.mark.skipif(os.name == "nt", reason="a process cannot be killed without a word")
def test_napari_is_killed_between_two_strokes_and_all_but_the_last_seconds_are_there(
    make_napari_viewer, qtbot, image, tmp_path
):
    words = [sys.executable, "-c", _PAINTS, str(image), str(tmp_path / "own")]
    said = []
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as window:
        assert window.stdout is not None
        # A window that says nothing is not waited for for ever.
        watchdog = Timer(LONG_MS / 1000, window.kill)
        watchdog.start()
        for line in window.stdout:
            said.append(line.strip())
            if said[-1] == "saved 3":
                window.send_signal(signal.SIGKILL)
                break
        watchdog.cancel()
        assert window.wait() == -signal.SIGKILL
    assert said[-1] == "saved 3"
    found = on_disk(tmp_path / "cells.tif.unet3d-project")
    assert all(found[z].any() for z in (1, 3, 5))
    # And a new window offers it.
    viewer = make_napari_viewer(show=True)
    _, workbench = viewer.window.add_plugin_dock_widget("napari-unet3d")
    workbench.data.open_path(str(image))
    qtbot.waitUntil(lambda: workbench.data.resume.visible, timeout=LONG_MS)
    workbench.data.resume.native.click()
    qtbot.waitUntil(lambda: workbench.session.labels is not None, timeout=LONG_MS)
    np.testing.assert_array_equal(workbench.session.labels.data, found)


def reopened(viewer, dock) -> Workbench:
    viewer.window.remove_dock_widget(dock)
    QApplication.processEvents()
    return viewer.window.add_plugin_dock_widget("napari-unet3d")[1]


def is_as_it_was(workbench) -> bool:
    assert workbench._tabs.tabText(workbench._tabs.currentIndex()) == "Train"
    assert workbench.train.form.steps.value == 321
    assert workbench.segment.form.clean_up.value
    assert workbench.data.class_names.value == "background, axon, soma"
    return True


def test_a_dock_that_is_closed_comes_back_as_it_was_and_so_does_a_project(make_napari_viewer, qtbot, image, tmp_path):
    viewer = make_napari_viewer(show=True)
    dock, workbench = viewer.window.add_plugin_dock_widget("napari-unet3d")
    workbench.data.open_path(str(image))
    qtbot.waitUntil(lambda: workbench.session.image is not None, timeout=LONG_MS)
    workbench.data.class_names.value = "background, axon, soma"
    workbench.data.class_names.native.editingFinished.emit()
    workbench.data.new_annotation()
    workbench.session.labels.paint((3, 30, 30), 3)
    workbench.train.form.steps.value = 321
    workbench.segment.form.clean_up.value = True
    workbench.show_tab("Train")
    workbench = reopened(viewer, dock)
    assert is_as_it_was(workbench)
    # The window closes a moment after the last stroke, and another one goes on.
    viewer.close()
    QApplication.processEvents()
    viewer = make_napari_viewer(show=True)
    _, workbench = viewer.window.add_plugin_dock_widget("napari-unet3d")
    (button,) = workbench.data.recent.buttons
    button.native.click()
    qtbot.waitUntil(lambda: workbench.session.labels is not None, timeout=LONG_MS)
    assert is_as_it_was(workbench)
    assert (workbench.session.labels.data[3] == 3).any()
    assert workbench.session.runs_folder == tmp_path / "cells.tif.unet3d-project" / "runs"

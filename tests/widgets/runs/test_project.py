"""What is painted in a window is on the disk a moment later, and is there again with its image."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.tasks.projects.annotation import KeptAnnotation
from napari_unet3d.tasks.projects.folder import Project
from napari_unet3d.widgets.host.preferences import Preferences
from napari_unet3d.widgets.panels.data.tab import DataPanel
from napari_unet3d.widgets.runs import kept_layer
from napari_unet3d.widgets.runs.last_writing import wait_for_writing
from napari_unet3d.widgets.runs.session import Session

LONG_MS = 30_000
VOXELS = np.random.default_rng(0).integers(0, 99, (20, 30, 40)).astype(np.uint16)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, VOXELS)
    return path


@pytest.fixture
def preferences(tmp_path):
    return Preferences(tmp_path / "own" / "models", warm_start=False)


@pytest.fixture
def new_window(qtbot, engine, previewer, preferences):
    """Return what opens a window: its session and its tab Data. The last one is closed first."""
    opened = []

    def open_it(path=None) -> DataPanel:
        close_it()
        fresh = Session(ViewerModel(), engine, preferences, previewer)
        panel = DataPanel(fresh)
        qtbot.addWidget(panel.native)
        opened.append(fresh)
        if path is not None:
            panel.open_path(str(path))
            qtbot.waitUntil(lambda: fresh.image is not None, timeout=LONG_MS)
        return panel

    def close_it() -> None:
        while opened:
            opened.pop().close()

    yield open_it
    close_it()


def is_saved(panel) -> bool:
    return panel._session.project.saved_line(panel._session.labels)[0].startswith("Saved")


def on_disk(folder) -> np.ndarray:
    project = Project.open(folder)
    assert project.record.latest is not None
    return KeptAnnotation(project.annotations / project.record.latest.file).load()


def paint(panel, at, value) -> None:
    panel._session.labels.paint(at, value)


def test_a_stroke_is_on_the_disk_a_moment_later_and_so_is_its_undoing(qtbot, new_window, image):
    panel, folder = new_window(image), image.parent / "cells.tif.unet3d-project"
    panel.new_annotation()
    assert not folder.exists()  # nothing is painted yet
    paint(panel, (3, 10, 10), 2)
    qtbot.waitUntil(lambda: is_saved(panel), timeout=LONG_MS)
    labels = panel._session.labels
    np.testing.assert_array_equal(on_disk(folder), labels.data)
    assert on_disk(folder).any()
    assert panel._saved.value == "Saved just now in cells.tif.unet3d-project"
    labels.undo()
    qtbot.waitUntil(lambda: not on_disk(folder).any(), timeout=LONG_MS)
    labels.redo()
    qtbot.waitUntil(lambda: bool(on_disk(folder).any()), timeout=LONG_MS)


def test_what_was_painted_is_offered_with_its_image_and_comes_back_as_it_was(qtbot, new_window, image):
    panel = new_window(image)
    panel.class_names.value = "background, axon, soma"
    panel.class_names.native.editingFinished.emit()
    panel.new_annotation()
    paint(panel, (3, 10, 10), 3)
    painted = panel._session.labels.data.copy()
    panel = new_window(image)  # a moment later: the window that was closed has saved
    qtbot.waitUntil(lambda: panel.resume.visible or panel._session.project.offered is not None, timeout=LONG_MS)
    assert panel.resume.text.startswith("Go on with your annotation of ")
    assert panel.resume.native.styleSheet()
    assert not panel.annotate.native.styleSheet()
    panel.resume.native.click()
    qtbot.waitUntil(lambda: panel._session.labels is not None, timeout=LONG_MS)
    labels = panel._session.labels
    np.testing.assert_array_equal(labels.data, painted)
    assert panel._session.annotation.of(labels).meanings == Meanings.painted(("background", "axon", "soma"))
    assert panel.class_names.value == "background, axon, soma"
    assert labels.mode == "paint"
    assert panel._session.project.offered is None
    # It is the same annotation that is painted further.
    paint(panel, (9, 20, 20), 2)
    folder = image.parent / "cells.tif.unet3d-project"
    qtbot.waitUntil(lambda: bool((on_disk(folder) == 2).any()), timeout=LONG_MS)
    assert len(list((folder / "annotation").iterdir())) == 1


def test_an_empty_window_offers_the_last_project(qtbot, new_window, image):
    panel = new_window(image)
    panel.new_annotation()
    paint(panel, (3, 10, 10), 2)
    panel = new_window()
    qtbot.waitUntil(lambda: panel.recent.has_any, timeout=LONG_MS)
    assert panel.recent.visible or not panel.recent.native.isHidden()
    (button,) = panel.recent.buttons
    assert button.text.startswith("Go on with cells.tif, ")
    button.native.click()
    qtbot.waitUntil(lambda: panel._session.labels is not None, timeout=LONG_MS)
    assert panel._session.image is not None
    assert (panel._session.labels.data == 2).any()


def test_labels_that_were_opened_are_kept_only_when_they_are_changed(qtbot, new_window, image):
    panel = new_window(image)
    session = panel._session
    layer = session.viewer.add_labels(np.ones((20, 30, 40), np.int32))
    session.labels = layer
    qtbot.waitUntil(lambda: bool(session.annotation.of(layer).counts), timeout=LONG_MS)
    session.project.flush()
    assert not list(image.parent.glob("*.unet3d-project"))
    layer.data[0, 0, 0] = 5
    layer.data = layer.data
    qtbot.waitUntil(lambda: is_saved(panel), timeout=LONG_MS)
    np.testing.assert_array_equal(on_disk(image.parent / "cells.tif.unet3d-project"), layer.data)


def test_a_layer_that_is_deleted_is_saved_before(new_window, image):
    panel = new_window(image)
    panel.new_annotation()
    paint(panel, (3, 10, 10), 2)
    panel._session.viewer.layers.remove(panel._session.labels)
    assert on_disk(image.parent / "cells.tif.unet3d-project").any()


def test_what_cannot_be_saved_is_said_until_it_can_be(qtbot, new_window, image):
    panel, folder = new_window(image), image.parent / "cells.tif.unet3d-project"
    panel.new_annotation()
    paint(panel, (3, 10, 10), 2)
    qtbot.waitUntil(lambda: is_saved(panel), timeout=LONG_MS)
    kept = folder / "annotation"
    kept.rename(folder / "moved")
    kept.write_text("in the way")
    paint(panel, (9, 10, 10), 2)
    qtbot.waitUntil(lambda: panel._saved.value.startswith("Not saved: "), timeout=LONG_MS)
    kept.unlink()
    panel._session.project.flush()
    # All of it is written again, where it was.
    np.testing.assert_array_equal(on_disk(folder), panel._session.labels.data)
    assert panel._saved.value.startswith("Saved just now")


def test_two_windows_do_not_write_the_same_annotation(qtbot, new_window, image, engine, previewer, preferences):
    panel = new_window(image)
    panel.new_annotation()
    paint(panel, (3, 10, 10), 2)
    panel._session.project.flush()
    other = Session(ViewerModel(), engine, preferences, previewer)
    try:
        second = DataPanel(other)
        qtbot.addWidget(second.native)
        second.open_path(str(image))
        qtbot.waitUntil(lambda: other.project.offered is not None, timeout=LONG_MS)
        with notification_manager:
            before = len(notification_manager.records)
            second.go_on()
            qtbot.waitUntil(lambda: len(notification_manager.records) > before, timeout=LONG_MS)
        assert second._session.project.offered is not None
        assert "open in another window" in notification_manager.records[before].message
        second.new_annotation()
        other.labels.paint((5, 5, 5), 1)
        other.project.flush()
        assert on_disk(image.parent / "cells.tif 2.unet3d-project").any()
        assert not (on_disk(image.parent / "cells.tif.unet3d-project") == 1).any()
    finally:
        other.close()


def test_projects_lie_where_the_user_wants_them(qtbot, engine, previewer, preferences, image, tmp_path):
    wanted = replace(preferences, projects_folder=tmp_path / "elsewhere")
    for round_ in range(2):
        session = Session(ViewerModel(), engine, wanted, previewer)
        panel = DataPanel(session)
        qtbot.addWidget(panel.native)
        panel.open_path(str(image))
        qtbot.waitUntil(lambda session=session: session.image is not None, timeout=LONG_MS)
        if round_ == 0:
            panel.new_annotation()
            paint(panel, (3, 10, 10), 2)
        else:
            qtbot.waitUntil(lambda session=session: session.project.offered is not None, timeout=LONG_MS)
        session.close()
    assert on_disk(tmp_path / "elsewhere" / "cells.tif.unet3d-project").any()
    assert not list(image.parent.glob("*.unet3d-project"))


def test_a_second_annotation_lies_beside_the_first_and_both_come_back(qtbot, new_window, image):
    panel = new_window(image)
    panel.new_annotation()
    paint(panel, (3, 10, 10), 2)
    panel = new_window(image)
    qtbot.waitUntil(lambda: panel._session.project.offered is not None, timeout=LONG_MS)
    # Nobody goes on with the first one.
    panel.new_annotation()
    paint(panel, (9, 10, 10), 1)
    qtbot.waitUntil(lambda: is_saved(panel), timeout=LONG_MS)
    folder = image.parent / "cells.tif.unet3d-project"
    assert [path.name for path in image.parent.glob("*.unet3d-project")] == [folder.name]
    assert len(Project.open(folder).record.annotations) == 2
    # It can still be gone on with, and nothing that was painted since is lost.
    panel.go_on()
    qtbot.waitUntil(lambda: len(panel._session.viewer.layers) == 3, timeout=LONG_MS)
    assert len(Project.open(folder).record.annotations) == 2
    panel = new_window(image)
    qtbot.waitUntil(lambda: panel._session.project.offered is not None, timeout=LONG_MS)
    panel.go_on()
    qtbot.waitUntil(lambda: len(panel._session.viewer.layers) == 3, timeout=LONG_MS)
    first, second = (layer.data for layer in list(panel._session.viewer.layers)[1:])
    assert {int(first[3].max()), int(second[9].max())} == {2, 1}
    assert panel._session.labels.data is second


def test_what_was_painted_before_anybody_looked_is_saved_too(new_window, image):
    panel = new_window(image)
    viewer = panel._session.viewer
    panel.new_annotation()
    other = viewer.add_labels(np.zeros(VOXELS.shape, np.uint8), name="not chosen")
    panel._session.labels = viewer.layers[1]
    other.paint((5, 5, 5), 3)
    panel._session.close()
    records = Project.open(image.parent / "cells.tif.unet3d-project").record.annotations
    assert [record.name for record in records] == ["not chosen"]


def test_the_image_and_its_annotation_may_go_in_any_order(new_window, image):
    panel = new_window(image)
    panel.new_annotation()
    paint(panel, (3, 10, 10), 2)
    panel._session.viewer.layers.clear()
    assert on_disk(image.parent / "cells.tif.unet3d-project").any()


def test_names_that_are_changed_later_come_back(qtbot, new_window, image):
    panel = new_window(image)
    panel.new_annotation()
    paint(panel, (3, 10, 10), 2)
    qtbot.waitUntil(lambda: is_saved(panel), timeout=LONG_MS)
    panel.class_names.value = "background, axon"
    panel.class_names.native.editingFinished.emit()
    folder = image.parent / "cells.tif.unet3d-project"

    def names() -> tuple[str, ...]:
        latest = Project.open(folder).record.latest
        return () if latest is None or latest.meanings is None else latest.meanings.class_names

    qtbot.waitUntil(lambda: names() == ("background", "axon"), timeout=LONG_MS)


def test_what_another_window_painted_since_is_not_forgotten(qtbot, new_window, image, engine, previewer, preferences):
    panel = new_window(image)
    panel.new_annotation()
    paint(panel, (3, 10, 10), 2)
    panel = new_window(image)
    qtbot.waitUntil(lambda: panel._session.project.offered is not None, timeout=LONG_MS)
    # Meanwhile another window goes on, and paints in a layer of its own.
    other = Session(ViewerModel(), engine, preferences, previewer)
    second = DataPanel(other)
    qtbot.addWidget(second.native)
    second.open_path(str(image))
    qtbot.waitUntil(lambda: other.project.offered is not None, timeout=LONG_MS)
    second.new_annotation()
    other.labels.paint((9, 5, 5), 1)
    other.close()
    panel.go_on()
    qtbot.waitUntil(lambda: len(panel._session.viewer.layers) == 3, timeout=LONG_MS)
    panel._session.project.keep_settings(waits=True)
    assert len(Project.open(image.parent / "cells.tif.unet3d-project").record.annotations) == 2


def test_what_could_not_be_saved_to_the_end_is_saved_in_the_own_folder(qtbot, new_window, image, preferences):
    panel, folder = new_window(image), image.parent / "cells.tif.unet3d-project"
    panel.new_annotation()
    paint(panel, (3, 10, 10), 2)
    qtbot.waitUntil(lambda: is_saved(panel), timeout=LONG_MS)
    kept = folder / "annotation"
    kept.rename(folder / "moved")
    kept.write_text("in the way")
    paint(panel, (9, 10, 10), 2)
    painted = panel._session.labels.data.copy()
    with notification_manager:
        panel._session.viewer.layers.remove(panel._session.labels)
    np.testing.assert_array_equal(on_disk(preferences.own_folder / "projects" / "cells.tif.unet3d-project"), painted)


_ENDS = """
import sys
from pathlib import Path

import napari
from napari_unet3d.widgets.host.preferences import Preferences
from napari_unet3d.widgets.runs import session as sessions
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication
import tifffile

application = QApplication([])
sessions.read_preferences = lambda: Preferences(Path(sys.argv[1]) / "models", warm_start=False)
viewer = ViewerModel()
session = sessions.session_of(viewer)
session.image = viewer.add_image(tifffile.imread(sys.argv[2]))
labels = viewer.add_labels(session.image.data.astype("uint8") * 0)
labels.paint((3, 10, 10), 2)
# And the program ends, without a word to the window.
"""


def test_a_program_that_just_ends_saves_what_was_painted(image, tmp_path):
    words = [sys.executable, "-W", "ignore", "-c", _ENDS, str(tmp_path / "own"), str(image)]
    subprocess.run(words, check=True, timeout=120, env={**os.environ, "QT_QPA_PLATFORM": "offscreen"})
    (project,) = (tmp_path / "own" / "projects").glob("*.unet3d-project")
    assert on_disk(project).any()


def test_an_image_that_was_renamed_is_offered_its_project_which_learns_the_new_name(qtbot, new_window, image):
    panel = new_window(image)
    panel.new_annotation()
    paint(panel, (3, 10, 10), 2)
    new_window()  # the first one is closed
    renamed = image.with_name("brain, left.tif")
    image.rename(renamed)
    panel = new_window(renamed)
    qtbot.waitUntil(lambda: panel._session.project.offered is not None, timeout=LONG_MS)
    panel.resume.native.click()
    qtbot.waitUntil(lambda: panel._session.labels is not None, timeout=LONG_MS)
    paint(panel, (9, 20, 20), 1)
    qtbot.waitUntil(lambda: is_saved(panel), timeout=LONG_MS)
    (folder,) = image.parent.glob("*.unet3d-project")
    qtbot.waitUntil(lambda: bool((on_disk(folder) == 1).any()), timeout=LONG_MS)
    assert Project.open(folder).record.image.path == str(renamed)


# The names of files that this process opens in the thread of the window, while somebody asks.
_opened: list[str] = []
_is_asked = [False]


def _hear(event: str, arguments: tuple) -> None:
    if event == "open" and _is_asked[0] and threading.current_thread() is threading.main_thread():
        _opened.append(str(arguments[0]))


sys.addaudithook(_hear)


def test_no_project_is_read_or_written_in_the_thread_of_the_window(qtbot, new_window, image):
    panel = new_window(image)
    panel.new_annotation()
    paint(panel, (3, 10, 10), 2)
    panel = new_window()
    _opened.clear()
    _is_asked[0] = True
    try:
        panel = new_window(image)
        qtbot.waitUntil(lambda: panel.recent.has_any, timeout=LONG_MS)
        qtbot.waitUntil(lambda: panel._session.project.offered is not None, timeout=LONG_MS)
        panel.resume.native.click()
        qtbot.waitUntil(lambda: panel._session.labels is not None, timeout=LONG_MS)
        keeper = panel._session.project
        keeper.settings["tab"] = "Train"
        keeper.keep_settings()
        folder = image.parent / "cells.tif.unet3d-project"
        qtbot.waitUntil(lambda: keeper.project_of(panel._session.image).record.settings == {"tab": "Train"})
    finally:
        _is_asked[0] = False
    assert Project.open(folder).record.settings == {"tab": "Train"}
    assert [name for name in _opened if "project" in name or name.endswith("recent.json")] == []


@pytest.fixture
def all_is_large(monkeypatch):
    monkeypatch.setattr(kept_layer, "LARGE_BYTES", 0)


def test_a_window_that_closes_does_not_wait_for_a_large_mask(new_window, image, all_is_large):
    panel, folder = new_window(image), image.parent / "cells.tif.unet3d-project"
    mask = np.ones(VOXELS.shape, np.int32)
    session = panel._session
    session.labels = session.viewer.add_labels(mask)
    session.labels.paint((3, 10, 10), 2)
    kept = session.project._kept[session.labels]
    with kept.writing:  # a disk that takes its time
        session.close()
        assert not folder.exists()
    wait_for_writing()
    np.testing.assert_array_equal(on_disk(folder), mask)
    # And others may have it.
    project = Project.open(folder)
    assert project.take()
    project.release()


def test_start_makes_the_project_and_does_not_wait_for_a_large_mask(qtbot, new_window, image, all_is_large):
    panel, folder = new_window(image), image.parent / "cells.tif.unet3d-project"
    session = panel._session
    session.labels = session.viewer.add_labels(np.ones(VOXELS.shape, np.int32))
    session.labels.paint((3, 10, 10), 2)
    with session.project._kept[session.labels].writing:
        session.project.begin(session.image)
        assert session.runs_folder == folder / "runs"
        assert not (folder / "annotation").exists()
    qtbot.waitUntil(lambda: is_saved(panel), timeout=LONG_MS)
    np.testing.assert_array_equal(on_disk(folder), session.labels.data)


def test_a_large_layer_that_is_deleted_is_saved_all_the_same(new_window, image, all_is_large):
    panel = new_window(image)
    panel.new_annotation()
    paint(panel, (3, 10, 10), 2)
    panel._session.viewer.layers.remove(panel._session.labels)
    wait_for_writing()
    assert on_disk(image.parent / "cells.tif.unet3d-project").any()


def test_a_program_that_ends_right_after_its_window_saves_what_is_large(image, tmp_path):
    script = (
        _ENDS
        + """
from napari_unet3d.widgets.runs import kept_layer

kept_layer.LARGE_BYTES = 0
sessions.end_session(viewer)
"""
    )
    words = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path / "own"), str(image)]
    subprocess.run(words, check=True, timeout=120, env={**os.environ, "QT_QPA_PLATFORM": "offscreen"})
    (project,) = (tmp_path / "own" / "projects").glob("*.unet3d-project")
    assert on_disk(project).any()


# A person opens an image from a disk that cannot be written to, goes on, and paints.
_READ_ONLY = """
import os
import sys
import time
from pathlib import Path

import tifffile
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication

from napari_unet3d.engine import LocalEngine
from napari_unet3d.widgets.host.preferences import Preferences
from napari_unet3d.widgets.panels.data.tab import DataPanel
from napari_unet3d.widgets.runs.session import Session

application = QApplication([])
image, own = sys.argv[1:]


def wait(until):
    end = time.monotonic() + 30
    while not until() and time.monotonic() < end:
        application.processEvents()
        time.sleep(0.01)
    assert until()


session = Session(ViewerModel(), LocalEngine(), Preferences(Path(own) / "models", warm_start=False))
panel = DataPanel(session)
metadata = {"napari-unet3d": {"path": image}}
session.image = session.viewer.add_image(tifffile.imread(image), name="cells", metadata=metadata)
wait(lambda: session.project.offered is not None)
panel.go_on()
wait(lambda: session.labels is not None)
assert session.labels.data[3, 10, 10] == 2
session.labels.paint((9, 20, 20), 1)
wait(lambda: session.project.saved_line(session.labels)[0].startswith("Saved"))
print(session.project.saved_line(session.labels)[0])
for record in notification_manager.records:
    print(record.message)
session.close()
"""


def _who_is_kept_out() -> list[str]:
    """Return the words before those of a program that the bits of a folder bind, also where root runs the tests."""
    if os.getuid():
        return []
    rights = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"]


@pytest.mark.skipif(
    os.name == "nt" or (os.getuid() == 0 and shutil.which("setpriv") is None),
    reason="a folder cannot be made read-only here",
)
def test_a_project_that_cannot_be_written_to_is_opened_and_what_is_painted_goes_elsewhere(new_window, image, tmp_path):
    panel, folder = new_window(image), image.parent / "cells.tif.unet3d-project"
    panel.new_annotation()
    paint(panel, (3, 10, 10), 2)
    new_window()  # the first one is closed
    before = on_disk(folder)
    home = tmp_path / "home"
    home.mkdir()
    locked = [path for path in (folder, *folder.rglob("*")) if path.is_dir()]
    for path in [*locked, image.parent]:
        path.chmod(0o555)
    words = [*_who_is_kept_out(), sys.executable, "-W", "ignore", "-c", _READ_ONLY, str(image), str(home)]
    there = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    try:
        ran = subprocess.run(words, timeout=120, env=there, capture_output=True, text=True, check=False)
    finally:
        for path in [image.parent, *locked]:
            path.chmod(0o755)
    assert ran.returncode == 0, ran.stderr
    assert "cells.tif.unet3d-project lies where nothing can be written." in ran.stdout
    assert "open in another window" not in ran.stdout
    np.testing.assert_array_equal(on_disk(folder), before)
    (other,) = home.rglob("*.unet3d-project")
    found = on_disk(other)
    assert (found[3, 10, 10], found[9, 20, 20]) == (2, 1)

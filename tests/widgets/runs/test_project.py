"""What is painted in a window is on the disk a moment later, and is there again with its image."""

from __future__ import annotations

import os
import subprocess
import sys
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
    panel._session.project.keep_settings()
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

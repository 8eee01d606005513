"""The keys of the workbench, pressed in a real window."""

from __future__ import annotations

import numpy as np
import pytest
from napari.utils.action_manager import action_manager
from napari.utils.shortcuts import default_shortcuts
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_unet3d.widgets.host import keys
from tests.support.balls import balls

pytestmark = pytest.mark.viewer

LONG_MS = 60_000
IMAGE, PAINTED = balls()


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer(show=True)


@pytest.fixture
def workbench(viewer, qtbot):
    _, workbench = viewer.window.add_plugin_dock_widget("napari-unet3d")
    workbench.session.image = viewer.add_image(IMAGE, name="cells")
    workbench.data.class_names.value = "background, ball, other"
    workbench.data.new_annotation()
    labels = workbench.session.labels
    labels.data_setitem(tuple(np.argwhere(PAINTED[8] == 1).T[[0, 0, 1]] * np.array([[0], [1], [1]])), 1)
    qtbot.waitUntil(lambda: workbench.session.annotation.of(labels).survey is not None, timeout=LONG_MS)
    return workbench


def press(qtbot, viewer, key, modifier=Qt.KeyboardModifier.NoModifier, widget=None) -> None:
    qtbot.keyClick(widget or viewer.window._qt_viewer.canvas.native, key, modifier)


def test_n_takes_one_class_after_the_other_with_the_brush(qtbot, viewer, workbench):
    labels = workbench.session.labels
    labels.selected_label, labels.mode = 1, "pan_zoom"
    taken = []
    for _ in range(3):
        press(qtbot, viewer, Qt.Key.Key_N)
        taken.append((labels.selected_label, labels.mode))
    assert taken == [(2, "paint"), (3, "paint"), (1, "paint")]
    assert viewer.status["coordinates"] if isinstance(viewer.status, dict) else "background" in viewer.status


def test_what_is_typed_into_a_field_is_text(qtbot, viewer, workbench):
    labels, names = workbench.session.labels, workbench.data.class_names.native
    workbench.show_tab("Data")
    labels.selected_label = 1
    QApplication.setActiveWindow(viewer.window._qt_window)
    names.setFocus()
    qtbot.waitUntil(names.hasFocus)
    names.clear()
    press(qtbot, viewer, Qt.Key.Key_N, widget=names)
    # Which a field passes on to the window.
    press(qtbot, viewer, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier, widget=names)
    workbench.show_tab("Train")
    steps = workbench.train.form.steps.native
    steps.setFocus()
    qtbot.waitUntil(lambda: keys.is_typing())
    press(qtbot, viewer, Qt.Key.Key_N, widget=steps)
    press(qtbot, viewer, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier, widget=steps)
    assert names.text() == "n"
    assert labels.selected_label == 1
    assert workbench.session.training is None


def test_ctrl_enter_starts_in_the_tab_that_is_shown_and_shift_c_corrects_its_result(qtbot, viewer, workbench):
    workbench.show_tab("Data")
    control = Qt.KeyboardModifier.ControlModifier
    press(qtbot, viewer, Qt.Key.Key_Return, control)
    assert workbench.session.segmentation is None
    workbench.show_tab("Segment")
    qtbot.waitUntil(lambda: bool(workbench.segment.start.enabled), timeout=LONG_MS)
    press(qtbot, viewer, Qt.Key.Key_Return, control)
    run = workbench.session.segmentation
    assert run is not None
    qtbot.waitUntil(lambda: not run.is_active, timeout=LONG_MS)
    labels = workbench.session.labels
    workbench.data.class_names.value = ", ".join(run.choices.card.class_names)
    workbench.data.class_names.native.editingFinished.emit()
    before = np.count_nonzero(labels.data)
    press(qtbot, viewer, Qt.Key.Key_C, Qt.KeyboardModifier.ShiftModifier)
    assert np.count_nonzero(labels.data) > before
    assert viewer.layers.selection.active.name == labels.name


def test_napari_lists_the_keys_and_none_of_them_is_its_own(viewer, workbench):
    ours = {name: {str(key) for key in action_manager._shortcuts[name]} for name in (key.name for key in keys.ALL)}
    assert ours == {key.name: {key.keys} for key in keys.ALL}
    assert all(action_manager._actions[key.name].description == key.does for key in keys.ALL)
    theirs = {str(key) for shortcuts in default_shortcuts.values() for key in shortcuts}
    assert not theirs & set().union(*ours.values())

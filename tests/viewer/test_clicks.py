"""How many clicks the work takes, from an empty napari to a saved result, and for a round of corrections."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QTabBar

from napari_unet3d.volumes import read_volume
from tests.support.balls import balls

pytestmark = pytest.mark.viewer

LONG_MS = 240_000
IMAGE, PAINTED = balls()
# Opening the workbench in the menu Plugins.
MENU = 2
# In a dialog: the file, and the button.
DIALOG = 2


class Person:
    """Clicks, and counts."""

    def __init__(self, qtbot, workbench) -> None:
        self._qtbot, self._workbench = qtbot, workbench
        self.clicks = MENU

    def click(self, button) -> None:
        self._qtbot.waitUntil(lambda: button.native.isEnabled() and button.native.isVisible(), timeout=LONG_MS)
        self._qtbot.mouseClick(button.native, Qt.MouseButton.LeftButton)
        self.clicks += 1

    def turn_to(self, name) -> None:
        bar = self._workbench.findChild(QTabBar)
        index = next(at for at in range(bar.count()) if bar.tabText(at) == name)
        self._qtbot.mouseClick(bar, Qt.MouseButton.LeftButton, pos=bar.tabRect(index).center())
        assert bar.currentIndex() == index
        self.clicks += 1


def strokes(labels, value) -> None:
    """Paint a label on three slices, as a person who knows what is there."""
    for z in (8, 30, 52):
        places = np.argwhere(PAINTED[z] == value)
        labels.data_setitem((np.full(len(places), z), *places.T), value)


def test_from_an_empty_napari_to_a_saved_result_and_a_round_of_corrections(
    make_napari_viewer, qtbot, tmp_path, monkeypatch
):
    tifffile.imwrite(
        tmp_path / "cells.tif",
        IMAGE,
        imagej=True,
        resolution=(5, 5),
        metadata={"axes": "ZYX", "spacing": 0.5, "unit": "um"},
    )
    viewer = make_napari_viewer(show=True)
    _, workbench = viewer.window.add_plugin_dock_widget("napari-unet3d")
    session, person = workbench.session, Person(qtbot, workbench)
    session.preferences = replace(session.preferences, models_folder=tmp_path / "models")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (str(tmp_path / "cells.tif"), ""))
    person.click(workbench.data.open)
    person.clicks += DIALOG
    qtbot.waitUntil(lambda: session.image is not None, timeout=LONG_MS)
    person.click(workbench.data.annotate)
    strokes(session.labels, 2)
    qtbot.waitUntil(lambda: len(workbench.data.meanings._table) == 3, timeout=LONG_MS)
    swatch = next(row[0] for row in workbench.data.meanings._table if row[1].value == "1")
    person.click(swatch)
    assert session.labels.selected_label == 1
    strokes(session.labels, 1)
    # Small and short, so that the test is; a person clicks nothing of this.
    workbench.train.form.blocks.value, workbench.train.form.filters.value = 0, 4
    workbench.train.form.steps.value, workbench.train.form.every.value = 30, 10
    person.turn_to("Train")
    qtbot.waitUntil(lambda: workbench.train.spec is not None and workbench.train.spec.steps == 30, timeout=LONG_MS)
    person.click(workbench.train.start)
    qtbot.waitUntil(lambda: session.training.state == "done", timeout=LONG_MS)
    person.click(workbench.train.segment)
    person.click(workbench.segment.start)
    qtbot.waitUntil(lambda: session.segmentation.state == "done", timeout=LONG_MS)
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *_, **__: (str(tmp_path / "cells, segmented.ome.tif"), "")
    )
    person.click(workbench.segment.save)
    person.clicks += DIALOG - 1  # the name is there already
    qtbot.waitUntil(lambda: (tmp_path / "cells, segmented.ome.tif").is_file(), timeout=LONG_MS)
    qtbot.waitUntil(lambda: not session.saving.is_active, timeout=LONG_MS)
    saved = read_volume(tmp_path / "cells, segmented.ome.tif")
    np.testing.assert_array_equal(saved.data[:, :, :], session.segmentation.layer.data)
    assert person.clicks <= 14, person.clicks

    person.clicks, first = 0, session.training
    viewer.dims.set_current_step(0, 20)
    before = np.count_nonzero(session.labels.data)
    person.click(workbench.segment.correct)
    assert np.count_nonzero(session.labels.data) > before
    session.labels.paint((20, 5, 5), 1)
    person.turn_to("Train")
    qtbot.waitUntil(lambda: workbench.train.train_on.text.endswith("new voxels"), timeout=LONG_MS)
    person.click(workbench.train.train_on)
    qtbot.waitUntil(lambda: session.training is not first and session.training.state == "done", timeout=LONG_MS)
    person.click(workbench.train.segment)
    person.click(workbench.segment.start)
    qtbot.waitUntil(lambda: session.segmentation.state == "done", timeout=LONG_MS)
    assert session.segmentation.choices.model.parent == session.training.folder
    assert person.clicks <= 5, person.clicks

"""The annotation is saved as a file of its own, by clicks on the tab Data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.volumes import create_output, read_volume
from napari_unet3d.widgets.panels.data.tab import DataPanel
from napari_unet3d.widgets.panels.segment.tab import SegmentPanel
from tests.support.dialogs import answer, chosen_in_the_dialog

LONG_MS = 30_000
SHAPE = (8, 40, 50)


@pytest.fixture
def panel(qtbot, session, viewer):
    image = np.random.default_rng(0).integers(0, 99, SHAPE).astype(np.uint16)
    session.image = viewer.add_image(image, name="cells", scale=(0.3, 0.2, 0.1), units=("um",) * 3)
    panel = DataPanel(session)
    qtbot.addWidget(panel.native)
    return panel


def painted(panel) -> np.ndarray:
    """Paint a quarter of two slices as object, and the rest as background."""
    panel.annotate.native.click()
    labels = panel._session.labels
    labels.data[[2, 5]] = 1
    labels.data[[2, 5], :20, :25] = 2
    return labels.data.copy()


def saved(qtbot, panel) -> str:
    panel.saving.save.native.click()
    qtbot.waitUntil(lambda: not panel._session.saving.is_active, timeout=LONG_MS)
    return panel.saving._said.value


def test_without_labels_there_is_nothing_to_save(panel):
    assert not panel.saving.visible
    painted(panel)
    assert not panel.saving.native.isHidden()
    assert panel.saving.save.enabled


@pytest.mark.parametrize("suffix", [".ome.tif", ".zarr"])
def test_an_annotation_is_saved_and_says_where_and_how_much_it_is(
    qtbot, monkeypatch, panel, session, folders, tmp_path, suffix
):
    labels = painted(panel)
    path = tmp_path / f"mine{suffix}"
    kind = f"{'OME-TIFF' if suffix == '.ome.tif' else 'OME-Zarr'} (*{suffix})"
    begun = chosen_in_the_dialog(monkeypatch, path, kind)
    assert saved(qtbot, panel) == f"Saved (2 slices annotated, 25 % object): {path}"
    assert Path(begun[0]).name == "cells, annotation.ome.tif"
    found = read_volume(path)
    np.testing.assert_array_equal(found.data[:, :, :], labels)
    assert found.voxel_size == pytest.approx((0.3, 0.2, 0.1))
    # Once more: it asks, and Cancel leaves what is there.
    session.labels.data[:] = 0
    asked = answer("Cancel")
    saved(qtbot, panel)
    assert asked
    np.testing.assert_array_equal(read_volume(path).data[:, :, :], labels)
    answer("Replace")
    assert saved(qtbot, panel) == f"Saved (nothing annotated): {path}"
    assert not read_volume(path).data[:, :, :].any()


def test_a_complete_mask_is_told_as_what_it_is(qtbot, monkeypatch, panel, session, viewer, folders, tmp_path):
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, :10] = 7
    session.labels = viewer.add_labels(mask, scale=(0.3, 0.2, 0.1), units=("um",) * 3)
    session.annotation.say(session.labels, Meanings.everything_above_zero(("background", "axon")))
    chosen_in_the_dialog(monkeypatch, tmp_path / "mask.ome.tif")
    assert saved(qtbot, panel) == f"Saved (all slices annotated, 25 % axon): {tmp_path / 'mask.ome.tif'}"


def test_what_cannot_be_saved_is_said_where_the_button_is(qtbot, monkeypatch, panel, folders, tmp_path):
    painted(panel)
    chosen_in_the_dialog(monkeypatch, tmp_path / "gone" / "mine.ome.tif")
    assert saved(qtbot, panel).startswith("Not saved. The folder")
    assert panel.saving.save.enabled


def test_the_image_is_not_written_over(qtbot, monkeypatch, panel, session, folders, tmp_path):
    path = tmp_path / "image.zarr"
    with create_output(path, SHAPE, "uint16", voxel_size=(0.3, 0.2, 0.1), unit="um", kind="image") as output:
        output[:, :, :] = np.ones(SHAPE, np.uint16)
        output.commit()
    monkeypatch.setattr("napari_unet3d.widgets.layers.volumes.LOADED_BYTES", 0)
    panel.open_path(str(path))
    qtbot.waitUntil(lambda: session.image.name == "image", timeout=LONG_MS)
    painted(panel)
    chosen_in_the_dialog(monkeypatch, path, "OME-Zarr (*.zarr)")
    answer("Replace")
    saved(qtbot, panel)
    assert read_volume(path).data[:, :, :].all()


def test_a_saved_annotation_is_no_saved_result(qtbot, monkeypatch, panel, session, folders, tmp_path):
    segment = SegmentPanel(session)
    qtbot.addWidget(segment.native)
    painted(panel)
    chosen_in_the_dialog(monkeypatch, tmp_path / "mine.ome.tif")
    saved(qtbot, panel)
    assert segment._saved.value == ""

"""Painting with help, by clicks on the tab Data."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from napari.utils.interactions import mouse_press_callbacks, mouse_release_callbacks

from napari_unet3d.widgets.panels.data.tab import DataPanel

# A bright ball in noise.
BALL = np.sqrt(sum((at - half) ** 2 for at, half in zip(np.indices((20, 60, 60)), (10, 30, 30), strict=True))) < 9
IMAGE = (np.random.default_rng(0).normal(100, 4, BALL.shape) + 90 * BALL).astype(np.uint16)


@pytest.fixture
def panel(qtbot, session, viewer):
    session.image = viewer.add_image(IMAGE, scale=(0.3, 0.1, 0.1), units=("um",) * 3)
    panel = DataPanel(session)
    qtbot.addWidget(panel.native)
    panel.new_annotation()
    return panel


def click(layer, voxel) -> None:
    """Press and release the mouse over a voxel, as napari passes it on."""
    event = SimpleNamespace(position=tuple(layer.data_to_world(voxel)), type="mouse_press", is_dragging=False)
    mouse_press_callbacks(layer, event)
    event.type = "mouse_release"
    mouse_release_callbacks(layer, event)


def test_a_click_fills_the_object_in_the_slice_and_undo_takes_it_back(panel, session):
    labels, rows = session.labels, panel.help
    rows.alike.native.click()
    assert labels.mode == "pan_zoom"
    click(labels, (10, 30, 30))
    filled = labels.data == 2
    assert not filled[:10].any()
    assert not filled[11:].any()
    assert (filled & BALL)[10].sum() > 0.95 * BALL[10].sum()
    assert not (filled & ~BALL).any()
    assert rows._said.value == f"{filled.sum():,} voxels painted."
    labels.undo()
    assert not labels.data.any()
    rows.alike.native.click()
    assert labels.mode == "paint"
    assert panel.help._on_press not in labels.mouse_drag_callbacks


def test_in_3d_the_whole_object_is_filled(panel, session):
    panel.help.in_3d.value = True
    panel.help.fill((10, 30, 30))
    filled = session.labels.data == 2
    assert (filled & BALL).sum() > 0.95 * BALL.sum()
    assert not (filled & ~BALL).any()


def test_the_slider_fills_the_last_region_again_and_nothing_that_was_painted_since(panel, session):
    labels = session.labels
    panel.help.fill((10, 30, 30))
    usual = (labels.data == 2).sum()
    panel.help.looseness.value = 0.2
    less = (labels.data == 2).sum()
    assert 0 < less < usual
    panel.help.looseness.value = 1
    assert (labels.data == 2).sum() == usual
    labels.paint((3, 5, 5), 1)
    painted = labels.data.copy()
    panel.help.looseness.value = 0.2
    np.testing.assert_array_equal(labels.data, painted)


def test_what_is_painted_already_stays(panel, session):
    labels = session.labels
    labels.data[10, 28:33, 28:33] = 1
    panel.help.fill((10, 30, 30))
    assert (labels.data[10, 28:33, 28:33] == 1).all()
    assert (labels.data == 2).any()


def test_an_object_on_two_slices_is_painted_between_them(panel, session, viewer):
    labels = session.labels
    labels.data[6, 20:30, 20:30] = 2
    labels.data[12, 20:30, 24:34] = 2
    labels.data[9, 0, 0] = 1
    viewer.dims.set_point(0, 9 * 0.3)
    before = labels.data.copy()
    panel.help.between.native.click()
    filled = labels.data == 2
    assert all(80 <= filled[z].sum() <= 120 for z in range(7, 12))
    assert not filled[:6].any()
    assert not filled[13:].any()
    assert labels.data[9, 0, 0] == 1
    # It moves along: the middle lies in the middle.
    assert np.argwhere(filled[9])[:, 1].mean() == pytest.approx((24.5 + 28.5) / 2, abs=0.6)
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)


@pytest.mark.parametrize("z", [3, 6, 15])
def test_what_is_missing_for_that_is_said(panel, session, viewer, z):
    session.labels.data[6, 20:30, 20:30] = 2
    viewer.dims.set_point(0, z * 0.3)
    panel.help.between.native.click()
    assert "one slice before and one after" in panel.help._said.value
    assert (session.labels.data == 2).sum() == 100


def test_labels_that_lie_elsewhere_are_refused_in_words(panel, session, viewer):
    session.labels = viewer.add_labels(np.zeros((4, 5, 6), np.uint8), name="small")
    panel.help.fill((1, 1, 1))
    assert panel.help._said.value == "'small' does not have the voxels of the image."


def test_another_layer_takes_the_click_off(panel, session, viewer):
    first = session.labels
    panel.help.alike.native.click()
    panel.new_annotation()
    assert not panel.help.alike.native.isChecked()
    click(first, (10, 30, 30))
    assert not first.data.any()


def test_the_slider_takes_no_stroke_of_a_person_back_however_many_there_are(panel, session):
    labels = session.labels
    for n in range(100):  # as many as napari remembers
        labels.paint((1, n % 60, 3), 1)
    panel.help.fill((10, 30, 30))
    labels.paint((3, 50, 50), 1)
    painted = labels.data.copy()
    panel.help.looseness.value = 0.2
    np.testing.assert_array_equal(labels.data, painted)

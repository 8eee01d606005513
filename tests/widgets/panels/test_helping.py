"""Painting with help, by clicks on the tab Data."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from napari.utils.interactions import (
    mouse_move_callbacks,
    mouse_press_callbacks,
    mouse_release_callbacks,
    mouse_wheel_callbacks,
)

from napari_unet3d.widgets.panels.data.tab import DataPanel
from napari_unet3d.widgets.runs.annotating import correct_annotation

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


def turn(viewer, steps, *modifiers) -> SimpleNamespace:
    """Turn the wheel over the canvas, as napari passes it on."""
    native = SimpleNamespace(inverted=lambda: False)
    event = SimpleNamespace(type="mouse_wheel", modifiers=modifiers, delta=(0, steps), native=native, handled=False)
    mouse_wheel_callbacks(viewer, event)
    return event


def drag(layer, *voxels) -> None:
    """Press the mouse over a voxel, move it over others, and release it."""
    event = SimpleNamespace(
        position=tuple(layer.data_to_world(voxels[0])),
        type="mouse_press",
        button=1,
        is_dragging=False,
        view_direction=None,
        dims_displayed=[1, 2],
    )
    mouse_press_callbacks(layer, event)
    event.type, event.is_dragging = "mouse_move", True
    for voxel in voxels[1:]:
        event.position = tuple(layer.data_to_world(voxel))
        mouse_move_callbacks(layer, event)
    event.type = "mouse_release"
    mouse_release_callbacks(layer, event)


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


def test_the_wheel_takes_less_or_more_and_turns_to_no_other_slice(panel, session, viewer):
    labels, rows = session.labels, panel.help
    session.viewer.dims.set_point(0, 3.0)
    rows.alike.native.click()
    click(labels, (10, 30, 30))
    usual = (labels.data == 2).sum()
    point, zoom, active = viewer.dims.point, viewer.scene.camera.zoom, viewer.layers.selection.active
    assert turn(viewer, -1, "Shift").handled
    for _ in range(20):
        turn(viewer, -1, "Shift")
    assert rows.looseness.value == pytest.approx(rows.looseness.min)
    less = (labels.data == 2).sum()
    for _ in range(40):
        turn(viewer, 1, "Shift")
    assert less < usual < (labels.data == 2).sum()
    assert (viewer.dims.point, viewer.scene.camera.zoom, viewer.layers.selection.active) == (point, zoom, active)
    # Without Shift, and once the fill is off, the wheel is napari's.
    value = rows.looseness.value
    turn(viewer, -1, "Control")
    assert viewer.dims.point != point
    rows.alike.native.click()
    turn(viewer, -1, "Shift")
    assert rows.looseness.value == value


@pytest.fixture
def found(session, viewer):
    """Return what a network has found: a ball, one voxel smaller than it is."""
    classes = (np.sqrt(sum((at - n) ** 2 for at, n in zip(np.indices(BALL.shape), (10, 30, 30), strict=True))) < 8) + 0
    layer = viewer.add_labels(classes.astype(np.uint8), name="found", scale=(0.3, 0.1, 0.1), units=("um",) * 3)
    choices = SimpleNamespace(shows_classes=True, card=SimpleNamespace(class_names=("background", "object")))
    session.segmentation = SimpleNamespace(layer=layer, choices=choices, is_active=False, close=lambda: None)
    yield layer
    session.segmentation = None


def test_the_brush_paints_what_was_found_under_it_and_one_undo_takes_a_stroke_back(panel, session, found):
    labels = session.labels
    labels.brush_size, labels.selected_label = 9, 1
    panel.help.accept.native.click()
    labels.brush_size = 9
    assert labels.mode == "paint"
    assert panel.help._said.value == "The brush paints what 'found' says."
    drag(labels, (10, 30, 10), (10, 30, 30), (10, 40, 30))
    painted = labels.data != 0
    np.testing.assert_array_equal(labels.data[painted], found.data[painted] + 1)
    assert {1, 2} <= set(labels.data[10].ravel())
    assert not painted[:10].any()
    assert not painted[11:].any()
    # From (30, 10) to (30, 30) and down to (40, 30), nine voxels wide.
    ys, xs = np.nonzero(painted[10])
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (26, 44, 6, 34)
    assert painted[10, 30, 10:31].all()
    assert painted[10, 30:41, 30].all()
    labels.undo()
    assert not labels.data.any()
    # Off again, it paints the label in hand.
    panel.help.accept.native.click()
    drag(labels, (10, 30, 30))
    assert set(np.unique(labels.data)) == {0, 1}


def test_the_accepting_brush_comes_back_after_the_view_was_moved(panel, session, found):
    labels = session.labels
    panel.help.accept.native.click()
    labels.mode = "pan_zoom"
    drag(labels, (10, 30, 30))
    assert not labels.data.any()
    labels.mode = "paint"
    labels.selected_label = 1
    drag(labels, (10, 30, 30))
    assert (labels.data[10, 29:32, 29:32] == 2).all()
    assert not (labels.data == 1).any()


def test_without_anything_to_accept_that_is_said(panel, session, found):
    found.visible = False
    panel.help.accept.native.click()
    assert not panel.help.accept.native.isChecked()
    assert "nothing to accept" in panel.help._said.value
    drag(session.labels, (10, 30, 30))
    assert (session.labels.data == 2).any()


def test_labels_that_are_preserved_are_not_accepted_over(panel, session, found):
    labels = session.labels
    labels.data[10, 25:35, 25:35] = 1
    panel.help.accept.native.click()
    labels.preserve_labels, labels.brush_size = True, 20
    drag(labels, (10, 30, 38))
    assert (labels.data[10, 25:35, 25:35] == 1).all()
    assert (labels.data[10, 30, 35:37] == 2).all()


def test_a_class_that_the_annotation_lacks_is_told_before_anything_is_painted(panel, session, found):
    session.segmentation.choices.card.class_names = ("background", "soma")
    panel.help.accept.native.click()
    assert panel.help._said.value == (
        "The brush paints what 'found' says. Not soma, as the annotation has no such class: give it the same name."
    )


def test_what_is_corrected_lies_under_nothing_else_that_was_found(panel, session, viewer, found):
    live = viewer.add_labels(found.data.copy(), name="as learnt so far", scale=(0.3, 0.1, 0.1), units=("um",) * 3)
    session.training = SimpleNamespace(layer=live, is_active=False, close=lambda: None)
    for layer in (session.labels, found, live):
        layer.corner_pixels = np.array([[0, 0, 0], [19, 59, 59]])
    correct_annotation(session, found, ("background", "object"))
    assert np.count_nonzero(session.labels.data) == 60 * 60
    assert (found.visible, live.visible, session.labels.visible) == (False, False, True)
    session.training = None

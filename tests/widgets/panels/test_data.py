from __future__ import annotations

import numpy as np
import pytest
import tifffile
from napari.utils.notifications import notification_manager

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.volumes import create_output
from napari_unet3d.widgets.panels.data.tab import DataPanel

LONG_MS = 30_000


@pytest.fixture
def panel(qtbot, session):
    panel = DataPanel(session)
    qtbot.addWidget(panel.native)
    return panel


def counted(qtbot, panel, n: int) -> None:
    notes, session = panel._session.annotation, panel._session
    qtbot.waitUntil(lambda: len(notes.of(session.labels).counts) == n, timeout=LONG_MS)


def rows(panel) -> list[tuple[str, str, str]]:
    """Return what the table of values says: value, voxels, meaning."""
    return [tuple(widget.value for widget in row[1:]) for row in panel.meanings._table]


def test_without_an_image_the_panel_says_what_to_do(panel):
    assert panel._facts.value == "Open a volume, or choose an image layer."
    assert not panel.annotate.enabled


def test_the_next_sensible_step_is_highlighted(panel, viewer):
    def highlighted() -> list[str]:
        buttons = (panel.open, panel.open_folder, panel.annotate)
        return [button.native.text() for button in buttons if button.native.styleSheet()]

    assert highlighted() == ["Open file..."]
    viewer.add_image(np.zeros((3, 4, 5)))
    assert highlighted() == ["New annotation"]
    panel.new_annotation()
    assert highlighted() == []


def test_the_facts_of_an_image_are_shown(qtbot, panel, viewer):
    image = np.full((3, 4, 5), 222, np.uint16)
    image[1, 1, 1] = 21_181
    viewer.add_image(image, scale=(0.18, 0.1, 0.1), units=("um",) * 3)
    assert panel._facts.value == "3 x 4 x 5 voxels (z, y, x)\nuint16, 120 B, in memory"
    assert [box.value for box in panel.voxel_size] == [0.18, 0.1, 0.1]
    assert panel.unit.value == "um"
    qtbot.waitUntil(lambda: panel._range.value == "values 222 .. 21,181", timeout=LONG_MS)
    assert panel._notes.value == ""


@pytest.mark.parametrize(
    ("image", "warning"),
    [
        (np.array([[[np.nan, 1], [2, np.inf]]], np.float32), "2 values are NaN or infinite."),
        (np.full((2, 2, 2), 7, np.uint8), "Every voxel is 7: there is nothing to see."),
    ],
)
def test_what_looks_wrong_is_said(qtbot, panel, viewer, image, warning):
    viewer.add_image(image, contrast_limits=(0, 1), scale=(1, 1, 1), units=("um",) * 3)
    qtbot.waitUntil(lambda: warning in panel._notes.value, timeout=LONG_MS)


def test_a_voxel_size_that_is_typed_reaches_the_layer_and_what_is_made_from_it(panel, viewer, session):
    layer = viewer.add_image(np.zeros((2, 3, 4)))
    assert "no unit" in panel._notes.value
    for box, size in zip(panel.voxel_size, (0.3, 0.2, 0.1), strict=True):
        box.value = size
    panel.unit.value = "um"
    assert tuple(layer.scale) == (0.3, 0.2, 0.1)
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    assert session.volume().volume.voxel_size == (0.3, 0.2, 0.1)
    assert "no unit" not in panel._notes.value
    panel.new_annotation()
    assert tuple(viewer.layers[-1].scale) == (0.3, 0.2, 0.1)
    assert viewer.layers[-1].units == layer.units


def test_a_voxel_size_that_is_not_typed_is_kept_to_the_last_digit(panel, viewer):
    layer = viewer.add_image(np.zeros((2, 3, 4)), scale=(0.123456789, 1 / 3, 0.1))
    panel.unit.value = "um"
    panel.voxel_size[2].value = 0.2
    assert tuple(layer.scale) == (0.123456789, 1 / 3, 0.2)


def test_the_voxel_size_of_a_layer_with_channels_is_that_of_space(panel, viewer):
    layer = viewer.add_image(np.zeros((2, 3, 4, 5)), scale=(1, 3, 2, 1), axis_labels=("c", "z", "y", "x"))
    assert [box.value for box in panel.voxel_size] == [3, 2, 1]
    panel.voxel_size[0].value = 5
    assert tuple(layer.scale) == (1, 5, 2, 1)
    assert "channel 0 of 0 .. 1, as shown" in panel._facts.value


def test_an_annotation_lies_over_the_image_and_the_brush_is_ready(panel, viewer, session):
    image = viewer.add_image(
        np.zeros((6, 80, 90)), scale=(0.3, 0.2, 0.1), translate=(1, 2, 3), rotate=(10, 0, 0), units=("nm",) * 3
    )
    panel.class_names.value = "background, axon, edge"
    panel.annotate.native.click()
    layer = viewer.layers[-1]
    assert layer.data.shape == image.data.shape
    assert layer.data.dtype == np.uint8
    assert layer.data_to_world((5, 7, 9)) == pytest.approx(image.data_to_world((5, 7, 9)))
    assert layer.units == image.units
    assert (layer.mode, layer.selected_label) == ("paint", 2)
    assert viewer.layers.selection.active is layer
    assert session.labels is layer
    assert list(layer.features["class"]) == ["unlabelled", "background", "axon", "edge"]
    assert panel.meanings.value is None or panel.meanings.value.of(0) is None


def test_the_values_of_an_annotation_are_counted_as_they_are_painted(qtbot, panel, viewer):
    viewer.add_image(np.zeros((4, 10, 10)))
    panel.new_annotation()
    layer = viewer.layers[-1]
    counted(qtbot, panel, 1)
    layer.data_setitem((np.array([0, 0]), np.array([1, 2]), np.array([1, 1])), 1)
    layer.data_setitem((np.array([0]), np.array([5]), np.array([5])), 2)
    counted(qtbot, panel, 3)
    assert rows(panel) == [("0", "397", "ignore"), ("1", "2", "background"), ("2", "1", "object")]
    assert panel.meanings._warning.value == ""


def test_values_that_a_mask_should_not_have_are_marked_and_one_click_makes_it_binary(qtbot, panel, viewer):
    mask = np.zeros((2, 5, 5), np.uint8)
    mask[0, 0] = [0, 1, 1, 2, 3]
    layer = viewer.add_labels(mask.copy())
    counted(qtbot, panel, 4)
    assert rows(panel) == [
        ("0", "46", "ignore"),
        ("1", "2", "object"),
        ("! 2", "1", "ignore"),
        ("! 3", "1", "ignore"),
    ]
    assert panel.meanings._warning.value == "These values have no meaning yet, so their voxels do not count: 2, 3."
    panel.meanings.above_zero.native.click()
    assert [meaning for _, _, meaning in rows(panel)] == ["background", "object", "object", "object"]
    assert panel.meanings._warning.value == ""
    assert panel.meanings.value == Meanings.everything_above_zero(("background", "object"))
    np.testing.assert_array_equal(layer.data, mask)


def test_a_value_can_be_given_another_meaning_by_itself(qtbot, panel, viewer):
    viewer.add_labels(np.array([[[0, 1, 4]]], np.uint8))
    panel.class_names.value = "background, axon"
    counted(qtbot, panel, 3)
    panel.meanings.sparse.native.click()
    # The legend has 2 as well, the number to paint axons with.
    assert rows(panel) == [
        ("0", "1", "ignore"),
        ("1", "1", "background"),
        ("2", "0", "axon"),
        ("! 4", "1", "ignore"),
    ]
    panel.meanings._table[3][3].value = "axon"
    assert panel.meanings.value.of(4) == 1
    assert panel.meanings._warning.value == ""


def test_objects_with_numbers_are_recognised(qtbot, panel, viewer):
    viewer.add_labels(np.arange(64).reshape(4, 4, 4))
    counted(qtbot, panel, 64)
    assert panel.meanings._head.value == "64 values: numbered objects, or not labels at all."
    assert panel.meanings.value.of(63) == 1


def test_the_choice_of_a_layer_is_the_layer_and_not_its_name(panel, viewer, session):
    first, second = viewer.add_image(np.zeros((2, 3, 4)), name="a"), viewer.add_image(np.zeros((5, 3, 4)), name="b")
    assert session.image is first
    session.image = second
    first.name, second.name = "b", "a"
    assert session.image is second
    assert panel.image.value is second
    assert "5 x 3 x 4" in panel._facts.value
    viewer.layers.remove(second)
    assert session.image is first
    viewer.layers.remove(first)
    assert session.image is None


def test_a_volume_is_opened_from_a_path_with_its_voxel_size(qtbot, panel, viewer, session, tmp_path):
    path = tmp_path / "volume.tif"
    with create_output(path, (3, 4, 5), "uint16", voxel_size=(0.3, 0.2, 0.1), unit="um", kind="image") as output:
        output[:, :, :] = np.arange(60).reshape(3, 4, 5)
        output.commit()
    panel.open_path(str(path))
    qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=LONG_MS)
    layer = viewer.layers[0]
    assert session.image is layer
    assert tuple(layer.scale) == pytest.approx((0.3, 0.2, 0.1))
    assert layer.data[2, 3, 4] == 59


def test_a_sample_folder_is_opened_as_image_and_labels(qtbot, panel, viewer, session, tmp_path):
    for part, dtype in (("image", np.uint16), ("mask", np.uint8)):
        (tmp_path / part).mkdir()
        for z in range(3):
            tifffile.imwrite(tmp_path / part / f"slice_{z}.tif", np.full((4, 5), z, dtype))
    panel.open_path(str(tmp_path))
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=LONG_MS)
    assert session.image.data.shape == session.labels.data.shape == (3, 4, 5)
    counted(qtbot, panel, 3)


def test_a_file_that_cannot_be_read_is_one_notice(qtbot, panel, viewer, tmp_path):
    (tmp_path / "page.tif").write_bytes(b"<!DOCTYPE html><html>not found</html>")
    n_notices = len(notification_manager.records)
    panel.open_path(str(tmp_path / "page.tif"))
    qtbot.waitUntil(lambda: len(notification_manager.records) > n_notices, timeout=LONG_MS)
    (notice,) = notification_manager.records[n_notices:]
    assert "is a web page, not a TIFF" in notice.message
    assert not viewer.layers
    assert panel._facts.value == "Open a volume, or choose an image layer."


def test_a_panel_that_is_opened_again_keeps_what_was_chosen(qtbot, panel, viewer, session):
    first, second = viewer.add_image(np.zeros((2, 3, 4))), viewer.add_image(np.zeros((5, 3, 4)))
    session.image = first
    viewer.layers.selection.active = second
    again = DataPanel(session)
    qtbot.addWidget(again.native)
    assert session.image is first
    assert again.image.value is first


def test_what_is_changed_elsewhere_is_seen_here(panel, viewer):
    layer = viewer.add_image(np.zeros((2, 3, 4), np.uint8))
    layer.scale = (3, 2, 1)
    assert [box.value for box in panel.voxel_size] == [3, 2, 1]
    layer.data = np.zeros((7, 3, 4), np.uint8)
    assert panel._facts.value.startswith("7 x 3 x 4")


def test_a_voxel_size_of_zero_cannot_be_typed(panel, viewer):
    layer = viewer.add_image(np.zeros((2, 3, 4)))
    panel.voxel_size[0].native.setValue(0)
    assert layer.scale[0] > 0


def test_the_name_of_a_class_can_be_typed_anew(qtbot, panel, viewer):
    viewer.add_labels(np.array([[[0, 1, 2]]], np.uint8))
    panel.class_names.native.setText("background, axon, soma")
    panel.class_names.native.editingFinished.emit()
    counted(qtbot, panel, 3)
    assert [meaning for _, _, meaning in rows(panel)] == ["ignore", "axon", "soma"]
    for text in ("background, axon, som", "background, axon, ", "background, axon, cell"):
        panel.class_names.native.setText(text)
    panel.class_names.native.editingFinished.emit()
    assert [meaning for _, _, meaning in rows(panel)] == ["ignore", "axon", "cell"]


def test_zeros_of_a_foreign_layer_are_no_background_until_somebody_says_so(qtbot, panel, viewer, session):
    viewer.add_labels(np.array([[[0, 0, 1]]], np.uint8))
    counted(qtbot, panel, 2)
    assert rows(panel) == [("0", "2", "ignore"), ("1", "1", "object")]
    known = session.annotation.of(session.labels)
    assert known.question == panel.meanings._question.value
    assert "Is 0 background here" in known.question
    assert not panel.meanings._answers.native.isHidden()
    panel.meanings.background.native.click()
    assert rows(panel) == [("0", "2", "background"), ("1", "1", "object")]
    assert session.annotation.of(session.labels).question == ""
    assert panel.meanings._answers.native.isHidden()


def test_that_zeros_are_unlabelled_is_an_answer_too(qtbot, panel, viewer, session):
    viewer.add_labels(np.array([[[0, 0, 1]]], np.uint8))
    counted(qtbot, panel, 2)
    panel.meanings.unlabelled.native.click()
    known = session.annotation.of(session.labels)
    assert (known.question, known.meanings.of(0), known.is_said) == ("", None, True)


def test_another_layer_and_back_keeps_the_names_and_the_meanings_of_each(qtbot, panel, viewer, session):
    first = viewer.add_labels(np.array([[[0, 1, 2]]], np.uint8), name="A")
    counted(qtbot, panel, 3)
    panel.class_names.native.setText("ground, axon")
    panel.class_names.native.editingFinished.emit()
    panel.meanings.sparse.native.click()
    second = viewer.add_labels(np.array([[[0, 3, 3, 4]]], np.uint8), name="B")
    session.labels = second
    counted(qtbot, panel, 3)
    panel.class_names.native.setText("dark, bright")
    panel.class_names.native.editingFinished.emit()
    panel.meanings.above_zero.native.click()
    session.labels = first
    assert panel.class_names.value == "ground, axon"
    assert panel.meanings.value == Meanings.painted(("ground", "axon"))
    assert rows(panel) == [("0", "1", "ignore"), ("1", "1", "ground"), ("2", "1", "axon")]
    session.labels = second
    assert panel.class_names.value == "dark, bright"
    assert panel.meanings.value == Meanings.everything_above_zero(("dark", "bright"))


def test_a_dock_that_is_opened_again_shows_what_was_said(qtbot, panel, viewer, session):
    viewer.add_labels(np.array([[[0, 1, 2]]], np.uint8))
    counted(qtbot, panel, 3)
    panel.class_names.native.setText("ground, axon")
    panel.class_names.native.editingFinished.emit()
    panel.meanings.sparse.native.click()
    shown = rows(panel)
    again = DataPanel(session)
    qtbot.addWidget(again.native)
    assert rows(again) == shown
    assert again.class_names.value == "ground, axon"


def test_a_class_that_is_added_later_is_the_next_value_and_can_be_seen(qtbot, panel, viewer):
    viewer.add_image(np.zeros((4, 30, 30)))
    panel.new_annotation()
    labels = panel._session.labels
    labels.paint((1, 10, 10), 2)
    panel.class_names.value = "background, object, soma"
    panel.class_names.native.editingFinished.emit()
    counted(qtbot, panel, 2)
    assert panel.meanings.value == Meanings.painted(("background", "object", "soma"))
    assert list(labels.features["class"]) == ["unlabelled", "background", "object", "soma"]
    assert len(np.unique(labels.colormap.map(np.array([1, 2, 3])), axis=0)) == 3
    # Its row takes it in hand.
    labels.mode = "pan_zoom"
    row = next(row for row in panel.meanings._table if row[1].value == "3")
    row[0].native.click()
    assert (labels.selected_label, labels.mode) == (3, "paint")


def test_when_the_annotation_goes_nothing_takes_its_place(panel, viewer, session):
    viewer.add_image(np.zeros((4, 5, 6)))
    viewer.add_labels(np.ones((4, 5, 6), int), name="other")
    panel.new_annotation()
    ours = session.labels
    viewer.layers.remove(ours)
    assert session.labels is None
    assert panel.labels_layer.value is None


def test_an_empty_window_offers_the_sample(qtbot, panel, session):
    panel.sample.native.click()
    qtbot.waitUntil(lambda: session.image is not None, timeout=LONG_MS)
    assert session.image.name == "neurons"
    assert not panel.sample.visible

"""The dock widget in a real window, with a real worker."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest
from napari.settings import get_settings
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLineEdit,
    QScrollArea,
    QTableView,
)

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.boxes import Box
from napari_unet3d.engine.local.engine import LocalEngine
from napari_unet3d.network.store import save_model
from napari_unet3d.sample_data import synthetic_neurons
from napari_unet3d.tasks.train.kept.run_folder import RunFolder
from napari_unet3d.volumes import create_output, read_volume
from napari_unet3d.widgets.layers.view import refresh_boxes
from napari_unet3d.widgets.plugin.workbench import Workbench
from napari_unet3d.widgets.runs.models import list_models
from tests.support.balls import balls
from tests.support.models import random_model

pytestmark = pytest.mark.viewer

LONG_MS = 240_000
CONTROLS = (QAbstractButton, QComboBox, QAbstractSpinBox, QLineEdit)


def opened(viewer) -> Workbench:
    _, workbench = viewer.window.add_plugin_dock_widget("napari-unet3d")
    return workbench


def click(qtbot, button) -> None:
    qtbot.waitUntil(lambda: button.native.isEnabled(), timeout=LONG_MS)
    qtbot.mouseClick(button.native, Qt.MouseButton.LeftButton)


def ended(qtbot, workbench) -> None:
    run = workbench.session.segmentation
    qtbot.waitUntil(lambda: not run.is_active, timeout=LONG_MS)


@pytest.fixture
def noisy(tmp_path):
    """Return a small model and a volume with many tiles."""
    folder = tmp_path / "models"
    folder.mkdir()
    save_model(random_model(blocks=1, filters=2), folder / "small.unet3d")
    return np.random.default_rng(0).integers(0, 3000, (60, 90, 100)).astype(np.uint16)


def with_small_tiles(qtbot, viewer, volume) -> Workbench:
    viewer.add_image(volume, scale=(0.3, 0.2, 0.1), units=("um",) * 3)
    workbench = opened(viewer)
    workbench.show_tab("Segment")
    workbench.segment.form.memory.value = 0.0125
    qtbot.waitUntil(lambda: workbench.segment.plan is not None and len(workbench.segment.plan) > 20, timeout=LONG_MS)
    return workbench


def test_from_the_sample_to_labels_by_clicks_alone_with_the_bytes_of_the_command(make_napari_viewer, qtbot, tmp_path):
    viewer = make_napari_viewer(show=True)
    viewer.open_sample("napari-unet3d", "neurons")
    workbench = opened(viewer)
    workbench.show_tab("Segment")
    panel = workbench.segment
    panel.model.choice.native.setCurrentIndex(panel.model.choice.native.findText("demo-neuron"))
    # Small enough for several tiles, so that there is something to cancel.
    panel.form.memory.value = 0.35
    qtbot.waitUntil(lambda: panel.plan is not None and len(panel.plan) > 4, timeout=LONG_MS)
    click(qtbot, panel.start)
    layer = viewer.layers[-1]
    assert layer.name == "neurons, segmented"
    run = workbench.session.segmentation
    qtbot.waitUntil(lambda: run.n_done >= 1, timeout=LONG_MS)
    click(qtbot, panel.cancel)
    ended(qtbot, workbench)
    assert run.state == "stopped"
    qtbot.waitUntil(lambda: panel.start.native.text().startswith("Go on"), timeout=LONG_MS)
    click(qtbot, panel.start)
    ended(qtbot, workbench)
    assert run.state == "done"
    sample = synthetic_neurons()
    image, labels = tmp_path / "image.tif", tmp_path / "labels.tif"
    with create_output(
        image, sample.image.shape, sample.image.dtype, voxel_size=sample.voxel_size, unit="um", kind="image"
    ) as output:
        output[:, :, :] = sample.image
        output.commit()
    (model,) = list_models(tmp_path / "none")
    words = [sys.executable, "-m", "napari_unet3d", "predict", image, "--model", model, "--output", labels]
    subprocess.run(words, check=True, capture_output=True)
    np.testing.assert_array_equal(layer.data, read_volume(labels).data[:, :, :])
    assert layer.data.any()
    assert not {"keras", "tensorflow"} & set(sys.modules)
    assert not [notice for notice in notification_manager.records if notice.severity.value == "error"]


def test_a_window_that_is_closed_meanwhile_closes_at_once_and_ends_the_worker(make_napari_viewer, qtbot, noisy):
    viewer = make_napari_viewer(show=True)
    workbench = with_small_tiles(qtbot, viewer, noisy)
    click(qtbot, workbench.segment.start)
    run = workbench.session.segmentation
    qtbot.waitUntil(lambda: run.n_done >= 1, timeout=LONG_MS)
    pid = workbench.session.engine.pid
    with qtbot.captureExceptions() as exceptions:
        begun = time.monotonic()
        viewer.close()
        QApplication.processEvents()
        # Two seconds are promised; a busy machine gets five.
        assert time.monotonic() - begun < 5
        qtbot.waitUntil(lambda: not psutil.pid_exists(pid), timeout=5000)
        qtbot.wait(300)
    assert not exceptions


def test_a_dock_widget_that_is_closed_and_opened_again_shows_the_run_that_went_on(make_napari_viewer, qtbot, noisy):
    viewer = make_napari_viewer(show=True)
    workbench = with_small_tiles(qtbot, viewer, noisy)
    session = workbench.session
    click(qtbot, workbench.segment.start)
    run = session.segmentation
    qtbot.waitUntil(lambda: run.n_done >= 1, timeout=LONG_MS)
    dock = workbench.parent()
    with qtbot.captureExceptions() as exceptions:
        viewer.window.remove_dock_widget(dock)
        workbench.deleteLater()
        seen = run.n_done
        qtbot.waitUntil(lambda: run.n_done > seen or not run.is_active, timeout=LONG_MS)
    assert not exceptions
    again = opened(viewer)
    assert again is not workbench
    assert again.session is session
    assert again.segment._state.value
    assert again.segment.image.value is session.image
    ended(qtbot, again)
    assert run.state == "done"
    qtbot.waitUntil(lambda: again.segment._state.value.startswith("Done"), timeout=LONG_MS)


def test_it_opens_once_in_a_window_and_windows_are_independent(make_napari_viewer, qtbot, noisy):
    first, second = make_napari_viewer(show=True), make_napari_viewer(show=True)
    workbench = opened(first)
    assert opened(first) is workbench
    other = opened(second)
    assert other is not workbench
    assert other.session is not workbench.session
    assert other.session.engine is workbench.session.engine
    layer = first.add_image(noisy)
    assert workbench.session.image is layer
    assert other.session.image is None
    second.close()
    QApplication.processEvents()
    assert workbench.session.image is layer


def test_what_is_refreshed_in_parts_looks_as_if_all_were(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    rng = np.random.default_rng(0)
    layer = viewer.add_labels(np.zeros((8, 60, 70), np.uint8))
    for ndisplay in (2, 3):
        viewer.dims.ndisplay = ndisplay
        boxes = [Box((0, 8), (y, y + 20), (x, x + 35)) for y in (0, 20, 40) for x in (0, 35)]
        for box in boxes:
            layer.data[box.slices] = rng.integers(0, 5, box.shape)
            refresh_boxes(layer, [box])
        in_parts = viewer.screenshot(flash=False)
        layer.refresh()
        np.testing.assert_array_equal(in_parts, viewer.screenshot(flash=False))
        assert in_parts[..., :3].any()


def test_a_box_that_is_not_in_the_shown_slice_redraws_nothing(make_napari_viewer):
    viewer = make_napari_viewer()
    layer = viewer.add_labels(np.zeros((8, 60, 70), np.uint8))
    viewer.dims.set_current_step(0, 3)
    told = []
    layer.events.labels_update.connect(told.append)
    refresh_boxes(layer, [Box((4, 8), (0, 60), (0, 70))])
    assert not told
    refresh_boxes(layer, [Box((3, 8), (0, 60), (0, 70)), Box((0, 4), (0, 9), (0, 9))])
    assert len(told) == 1


def test_the_picture_stays_when_the_voxel_size_is_typed(make_napari_viewer, qtbot, noisy):
    viewer = make_napari_viewer(show=True)
    viewer.add_image(noisy)
    data = opened(viewer).data
    viewer.dims.set_current_step(0, 47)
    viewer.dims.axis_labels = ("", "", "")
    before = viewer.screenshot(flash=False, canvas_only=True)
    data.unit.value = "um"
    for box in data.voxel_size:
        box.value = 0.2
    after = viewer.screenshot(flash=False, canvas_only=True)
    assert viewer.dims.current_step[0] == 47
    # Half a pixel of the canvas may be drawn otherwise.
    assert np.mean(np.abs(after.astype(float) - before)) < 0.05 * np.mean(before[..., :3])
    data.voxel_size[0].value = 0.6
    assert viewer.dims.current_step[0] == 47
    assert viewer.screenshot(flash=False, canvas_only=True)[..., :3].mean() > 0.5 * before[..., :3].mean()


def test_what_is_in_view_follows_the_camera(make_napari_viewer, qtbot, noisy):
    viewer = make_napari_viewer(show=True)
    workbench = with_small_tiles(qtbot, viewer, noisy)
    workbench.segment.form.region_kind.value = "in view"
    whole = workbench.segment.form.spec.region
    assert whole.y == (0, 90)
    viewer.scene.camera.zoom *= 4
    # What is seen is known once it was drawn; then the plan follows.
    viewer.screenshot(flash=False)
    qtbot.waitUntil(lambda: workbench.segment.plan.region.n_voxels < whole.n_voxels / 4, timeout=LONG_MS)
    part = workbench.segment.plan.region
    assert part.z == whole.z
    assert part == workbench.segment.form.spec.region


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_nothing_is_cut_off_on_a_small_screen(make_napari_viewer, qtbot, noisy, theme, tmp_path):
    get_settings().appearance.theme = theme
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    workbench = with_small_tiles(qtbot, viewer, noisy)
    workbench.data.new_annotation()
    for name in ("Data", "Sizes", "Segment"):
        workbench.show_tab(name)
        qtbot.wait(100)
        area = workbench.findChildren(QScrollArea)
        (shown,) = [found for found in area if found.isVisible() and found.parent().parent() is workbench._tabs]
        assert shown.widget().minimumSizeHint().width() <= shown.viewport().width(), name
    assert workbench.width() < 500
    assert viewer.window._qt_window.width() == 1280


def test_every_control_says_what_it_does_and_can_be_reached_with_the_keyboard(make_napari_viewer, qtbot, noisy):
    viewer = make_napari_viewer(show=True)
    workbench = with_small_tiles(qtbot, viewer, noisy)
    for panel in (workbench.data, workbench.sizes, workbench.segment):
        for control in (found for kind in CONTROLS for found in panel.native.findChildren(kind)):
            # Parts of a control, and the corner of a table.
            if control.objectName() == "qt_spinbox_lineedit" or isinstance(
                control.parent(), QComboBox | QLineEdit | QTableView
            ):
                continue
            where = f"{type(control).__name__} {getattr(control, 'text', lambda: '')()!r} of {type(panel).__name__}"
            assert control.focusPolicy() != Qt.FocusPolicy.NoFocus, where
            tips = {control.toolTip(), control.parent().toolTip()}
            assert any(tips) or control.parent().inherits("QCollapsible"), where


def test_the_strip_shows_the_engine_and_free_memory_ends_it(make_napari_viewer, qtbot, noisy):
    viewer = make_napari_viewer(show=True)
    workbench = with_small_tiles(qtbot, viewer, noisy)
    engine: LocalEngine = workbench.session.engine
    assert workbench.strip.text.startswith("not started | CPU, ")
    assert not workbench.strip.free.isEnabled()
    workbench.session.warm()
    # Now, and not at its next look: by then the worker may have started.
    workbench.strip.update_text()
    assert workbench.strip.text.startswith("starting")
    qtbot.waitUntil(lambda: workbench.strip.text.startswith("ready"), timeout=LONG_MS)
    pid = engine.pid
    click_free = workbench.strip.free
    qtbot.waitUntil(click_free.isEnabled, timeout=LONG_MS)
    qtbot.mouseClick(click_free, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not psutil.pid_exists(pid), timeout=5000)
    assert workbench.strip.text.startswith("not started")


def test_augmentation_is_previewed_in_2d_and_3d_while_the_window_lives(make_napari_viewer_proxy, qtbot):
    viewer = make_napari_viewer_proxy(show=True)
    workbench = opened(viewer)
    sample = synthetic_neurons(seed=1, shape=(48, 110, 110))
    viewer.add_image(sample.image, name="neurons", scale=(0.18, 0.1, 0.1), units=("um",) * 3)
    viewer.add_labels(sample.mask.astype(np.uint8), name="mask", scale=(0.18, 0.1, 0.1), units=("um",) * 3)
    workbench.show_tab("Augment")
    panel, session = workbench.augment, workbench.session
    panel.size.value = 100
    panel.arrows.value = panel.grid.value = True
    click(qtbot, panel.preview)
    qtbot.waitUntil(lambda: not session.preview.is_active, timeout=LONG_MS)
    assert session.preview.error is None
    names = [layer.name for layer in viewer.layers]
    for shown in ("augmented", "augmented labels", "deformed grid", "displacement", "network output"):
        assert f"neurons, {shown}" in names
    augmented = viewer.layers["neurons, augmented"]
    np.testing.assert_allclose(augmented.scale, (0.18, 0.1, 0.1))
    viewer.layers["neurons"].visible = viewer.layers["mask"].visible = False
    for n_dims in (2, 3):
        viewer.dims.ndisplay = n_dims
        picture = viewer.screenshot(canvas_only=True, flash=False)
        assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 50
    pid = session.preview.engine.pid
    click(qtbot, panel.next)
    qtbot.waitUntil(lambda: not session.preview.is_active, timeout=LONG_MS)
    viewer.close()
    qtbot.waitUntil(lambda: not psutil.pid_exists(pid), timeout=LONG_MS)


def test_paint_train_stop_segment_correct_and_train_on_by_clicks(make_napari_viewer, qtbot, tmp_path):
    viewer = make_napari_viewer(show=True)
    image, painted = balls()
    viewer.add_image(image, name="balls", scale=(0.5, 0.2, 0.2), units=("um",) * 3)
    workbench = opened(viewer)
    session = workbench.session
    session.preferences = replace(session.preferences, models_folder=tmp_path / "models")
    workbench.show_tab("Data")
    workbench.data.class_names.value = "background, ball"
    click(qtbot, workbench.data.annotate)
    annotation = session.labels
    # Strokes of a brush of one slice each, as a person makes them.
    for z in (8, 30, 52):
        annotation.data_setitem(_in(z, 1, painted), 1)
        annotation.data_setitem(_in(z, 2, painted), 2)
    qtbot.waitUntil(lambda: len(session.annotation.of(session.labels).counts) == 3, timeout=LONG_MS)
    workbench.show_tab("Train")
    panel = workbench.train
    panel.form.blocks.value, panel.form.filters.value = 0, 4
    panel.form.steps.value, panel.form.every.value = 30, 10
    qtbot.waitUntil(lambda: panel.spec is not None and panel.spec.steps == 30, timeout=LONG_MS)
    click(qtbot, panel.start)
    first = session.training
    qtbot.waitUntil(lambda: first.previewed is not None and first.step >= 5, timeout=LONG_MS)
    qtbot.waitUntil(lambda: not first.is_active, timeout=LONG_MS)
    assert (first.state, first.error) == ("done", None)
    assert len(panel.plot.loss.listDataItems()[0].getData()[0]) == 30
    assert first.curves.scored[-1].voxels[0] > 0
    assert first.layer in viewer.layers
    panel.form.steps.value = 4000
    qtbot.waitUntil(lambda: panel.spec is not None and panel.spec.steps == 4000, timeout=LONG_MS)
    click(qtbot, panel.start)
    second = session.training
    qtbot.waitUntil(lambda: second.step >= 3 and second.previewed is not None, timeout=LONG_MS)
    click(qtbot, panel.stop)
    qtbot.waitUntil(lambda: not second.is_active, timeout=LONG_MS)
    assert second.state == "stopped"
    click(qtbot, panel.segment)
    assert session.model == second.best
    click(qtbot, workbench.segment.start)
    ended(qtbot, workbench)
    assert session.segmentation.state == "done"
    workbench.show_tab("Train")
    viewer.dims.set_point(0, second.previewed.z[0] * 0.5)
    before = annotation.data.copy()
    click(qtbot, panel.correct)
    assert (annotation.data != before).any()
    click(qtbot, panel.train_on)
    third = session.training
    assert third is not second
    qtbot.waitUntil(lambda: third.step >= 2, timeout=LONG_MS)
    click(qtbot, panel.stop)
    qtbot.waitUntil(lambda: not third.is_active, timeout=LONG_MS)
    assert third.start_model == second.best
    assert not {"keras", "tensorflow"} & set(sys.modules)
    assert not [notice for notice in notification_manager.records if notice.severity.value == "error"]


def test_a_window_that_is_closed_while_it_trains_keeps_the_last_step(make_napari_viewer, qtbot, tmp_path):
    viewer = make_napari_viewer(show=True)
    image, painted = balls()
    viewer.add_image(image, name="balls")
    viewer.add_labels(painted, name="painted")
    workbench = opened(viewer)
    session, panel = workbench.session, workbench.train
    session.preferences = replace(session.preferences, models_folder=tmp_path / "models")
    workbench.data.meanings.value = Meanings.painted(("background", "ball"))
    workbench.show_tab("Train")
    panel.form.blocks.value, panel.form.filters.value = 0, 4
    panel.form.steps.value, panel.form.every.value = 5000, 5000
    qtbot.waitUntil(lambda: panel.spec is not None and panel.spec.steps == 5000, timeout=LONG_MS)
    click(qtbot, panel.start)
    run = session.training
    qtbot.waitUntil(lambda: run.step >= 4, timeout=LONG_MS)
    pid = session.engine.pid
    with qtbot.captureExceptions() as exceptions:
        begun = time.monotonic()
        viewer.close()
        QApplication.processEvents()
        # Two seconds are promised; a busy machine gets five.
        assert time.monotonic() - begun < 5
        # After it has kept what was learnt.
        qtbot.waitUntil(lambda: not psutil.pid_exists(pid), timeout=30_000)
    assert not exceptions
    with RunFolder(run.folder) as folder:
        train_state = folder.load_checkpoint().train_state
    assert train_state.step >= 4


def _in(z, value, painted):
    """Return where a value is in a slice, as the indices of a stroke."""
    y, x = np.nonzero(painted[z] == value)
    return np.full(len(y), z), y, x


def test_a_box_is_drawn_and_its_slices_are_typed_with_all_that_is_offered_at_once(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.open_sample("napari-unet3d", "neurons")
    workbench = opened(viewer)
    workbench.show_tab("Segment")
    form = workbench.segment.form
    offered = [form.output.native.itemText(n) for n in range(form.output.native.count())]
    assert offered == ["labels", "probability of background", "probability of neurite"]
    click(qtbot, form.draw)
    viewer.layers["region"].add_rectangles(np.array([[48, 20, 30], [48, 20, 90], [48, 60, 90], [48, 60, 30]]))
    first, last = form.box.first[0].native, form.box.last[0].native
    qtbot.waitUntil(first.isVisible, timeout=LONG_MS)
    for field, number in ((first, 40), (last, 55)):
        field.selectAll()
        qtbot.keyClicks(field.lineEdit(), str(number))
        qtbot.keyClick(field.lineEdit(), Qt.Key.Key_Return)
    region = Box((40, 56), (20, 60), (30, 90))
    qtbot.waitUntil(lambda: workbench.segment.plan is not None and workbench.segment.plan.region == region)
    for z, is_shown in ((40, True), (55, True), (56, False), (48, True)):
        viewer.dims.set_current_step(0, z)
        assert bool(len(viewer.layers["region"].data)) == is_shown
    form.device.value = "cpu"
    dock = workbench.parent()
    dock.setFloating(True)
    QApplication.processEvents()
    dock.setFloating(False)
    assert form.device.value == "cpu"
    assert form.output.native.count() == 3


def test_the_dock_is_wide_enough_and_what_is_saved_is_said(make_napari_viewer, qtbot, noisy, tmp_path, monkeypatch):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(900, 700)
    workbench = with_small_tiles(qtbot, viewer, noisy)
    assert workbench.width() >= 360
    click(qtbot, workbench.segment.start)
    ended(qtbot, workbench)
    qtbot.waitUntil(workbench.segment.save.native.isVisible, timeout=LONG_MS)
    path = tmp_path / "mine.ome.tif"
    monkeypatch.setattr(
        "qtpy.QtWidgets.QFileDialog.getSaveFileName", lambda *_, **__: (str(path), "OME-TIFF (*.ome.tif)")
    )
    click(qtbot, workbench.segment.save)
    qtbot.waitUntil(lambda: not workbench.session.saving.is_active, timeout=LONG_MS)
    assert str(path) in workbench.segment._saved.value
    layer = workbench.session.segmentation.layer
    np.testing.assert_array_equal(read_volume(path).data[:, :, :], layer.data)


def test_augment_shows_what_train_does_and_train_takes_what_is_set_there(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.open_sample("napari-unet3d", "neurons")
    workbench = opened(viewer)
    session = workbench.session
    session.labels = viewer.layers["neurons, true mask"]
    qtbot.waitUntil(lambda: session.annotation.of(session.labels).meanings is not None, timeout=LONG_MS)
    workbench.show_tab("Augment")
    augment, train = workbench.augment, workbench.train
    assert augment.form.spec == train.spec.augment
    assert augment.request().frame.shape == train.spec.patch
    click(qtbot, augment.compare)
    qtbot.waitUntil(lambda: not session.preview.is_active, timeout=LONG_MS)
    shown = session.preview.layers["image"] if "image" in session.preview.layers else viewer.layers[-1]
    assert shown in viewer.layers
    click(qtbot, augment.remove_all)
    assert not session.preview.layers
    augment.form.parts["elastic"].sliders[0].slider.value = 9
    workbench.show_tab("Train")
    assert train.form.preset.native.currentText() == "as set in Augment"
    qtbot.waitUntil(lambda: train.spec.augment.elastic.sigma == 9, timeout=LONG_MS)

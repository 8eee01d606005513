from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from napari.layers import Labels
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.objects.clean_up import Cleanup
from napari_unet3d.engine import LocalEngine
from napari_unet3d.network.machine.devices import Device, select_device
from napari_unet3d.network.store import load_model, save_model
from napari_unet3d.tasks.events import TileDone
from napari_unet3d.tasks.jobs.files import read_job
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes import create_output, read_volume
from napari_unet3d.volumes.space.calibration import Calibration
from napari_unet3d.widgets.host.preferences import Preferences
from napari_unet3d.widgets.layers.volumes import add_layer, layer_data
from napari_unet3d.widgets.panels.segment.tab import SegmentPanel
from napari_unet3d.widgets.panels.segment.text import voxel_size_warning
from napari_unet3d.widgets.runs.session import Session
from tests.support.dialogs import answer, chosen_in_the_dialog
from tests.support.models import random_model
from tests.support.segmenting import segment
from tests.tasks.train.test_command import command

LONG_MS = 120_000


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3000, (40, 61, 92)).astype(np.uint16)


@pytest.fixture
def image(viewer, volume):
    return viewer.add_image(volume, name="neurons", scale=(0.3, 0.2, 0.1), translate=(5, 6, 7), units=("um",) * 3)


@pytest.fixture
def panel(qtbot, session, models_folder):
    panel = SegmentPanel(session)
    qtbot.addWidget(panel.native)
    session.choose_model(models_folder / "small.unet3d")
    panel.update_plan()
    return panel


def small_tiles(panel: SegmentPanel) -> None:
    """Allow so little memory that there are many tiles."""
    panel.form.memory.value = 0.0125
    panel.update_plan()


def ended(qtbot, session: Session) -> None:
    qtbot.waitUntil(lambda: session.segmentation is not None and not session.segmentation.is_active, timeout=LONG_MS)


def test_without_an_image_start_is_disabled_and_says_why(panel):
    assert not panel.start.enabled
    assert panel.state.planned.sentence == "Open a volume, or choose an image layer."
    assert not panel.cancel.enabled


@pytest.mark.parametrize(
    ("data", "keywords", "reason"),
    [
        (np.zeros((9, 9)), {}, "is 2D"),
        (np.zeros((9, 9, 9, 3), np.uint8), {"rgb": True}, "is a colour (RGB) image"),
        (np.zeros((2, 2, 9, 9, 9)), {}, "has 5 axes"),
    ],
)
def test_a_layer_that_is_no_volume_disables_start_and_says_why(panel, viewer, data, keywords, reason):
    viewer.add_image(data, **keywords)
    panel.update_plan()
    assert not panel.start.enabled
    assert reason in panel.state.planned.sentence


def test_without_a_model_or_with_one_for_other_channels_start_says_so(panel, session, image, models_folder):
    session.choose_model(models_folder / "two.unet3d")
    panel.update_plan()
    assert "takes images with 2 channels; the image has 1 channel" in panel.state.planned.sentence
    session.choose_model(None)
    panel.update_plan()
    assert panel.state.planned.sentence == "Choose a model, or browse to one."
    assert not panel.start.enabled


def test_what_is_missing_on_this_machine_is_one_line_and_the_panel_is_there(panel, session, image):
    session.problem = "TensorFlow is not installed here, so nothing can be computed: pip install tensorflow"
    panel.update_plan()
    assert panel.state.planned.sentence == session.problem
    assert not panel.start.enabled


def test_a_gpu_that_the_worker_has_not_named_yet_is_waited_for(panel, session, image):
    session.devices = None
    session.devices_changed.emit()
    panel.update_plan()
    assert "Asking the worker which devices" in panel.state.planned.sentence
    assert not panel.start.enabled
    session.devices = [Device("gpu:0", "H100", mixed_precision=True), Device("cpu", "CPU, 2 threads")]
    session.devices_changed.emit()
    panel.form.device.value = "cpu"
    panel.update_plan()
    assert panel.start.enabled
    assert "on CPU, 2 threads" in panel.state.planned.sentence


@pytest.mark.parametrize(
    "spec",
    [
        PredictSpec(),
        PredictSpec(output="probabilities", memory_bytes=3 << 30),
        PredictSpec(region=Box((1, 9), (2, 30), (3, 40)), nonfinite="background"),
        PredictSpec(precision="bfloat16"),
        PredictSpec(device="cpu", cleanup=Cleanup(high=0.9, low=0.3, min_voxels=17, instances=True)),
        PredictSpec(cleanup=Cleanup(high=0.5, low=0.5, min_voxels=0, instances=True)),
    ],
)
def test_a_spec_that_is_set_is_read_back(panel, image, spec):
    panel.form.spec = spec
    assert panel.form.spec == spec


def test_fast_is_offered_where_the_device_gains_by_it(panel, session, image, qtbot):
    panel.native.show()
    panel.form._more_part.open()
    slow, quick = Device("cpu", "CPU, 2 threads"), Device("gpu:0", "H100", has_bfloat16=True)
    session.devices = [slow]
    session.devices_changed.emit()
    assert not panel.form.precision.visible
    session.devices = [slow, quick]
    session.devices_changed.emit()
    panel.form.device.value = "gpu:0"
    assert panel.form.precision.visible
    panel.form.precision.value = "fast"
    assert panel.form.spec.precision == "bfloat16"
    panel.form.device.value = "cpu"
    # It was chosen: that is seen and can be taken back, and until then Start says why not.
    assert panel.form.precision.visible
    panel.update_plan()
    assert "cpu (CPU, 2 threads) has no instructions for bfloat16" in panel.state.planned.sentence
    assert not panel.start.enabled
    panel.form.precision.value = "exact"
    assert not panel.form.precision.visible
    panel.update_plan()
    assert panel.start.enabled


@pytest.mark.skipif(not select_device("cpu").has_bfloat16, reason="this CPU does not multiply bfloat16 numbers")
def test_a_fast_run_says_so_in_its_plan_and_in_its_layer(qtbot, panel, session, image):
    panel.form.precision.value = "fast"
    panel.update_plan()
    assert panel.plan.bytes_per_value == 2
    assert "bfloat16" in panel.state.planned.sentence
    panel.start.native.click()
    ended(qtbot, session)
    run = session.segmentation
    assert run.state == "done"
    assert run.layer.metadata["napari-unet3d"]["spec"]["precision"] == "bfloat16"


def test_the_plan_is_what_start_does(qtbot, panel, session, image):
    small_tiles(panel)
    assert f"{len(panel.plan)} tiles of" in panel.state.planned.sentence
    panel.start.native.click()
    ended(qtbot, session)
    run = session.segmentation
    assert run.n_tiles == run.n_done == len(panel.plan)
    assert run._done[-1][0] == panel.plan.input_shape


def test_start_adds_a_layer_at_once_that_lies_where_the_image_lies_and_fills_with_the_bytes_of_the_command(
    qtbot, panel, session, viewer, image, volume, models_folder
):
    small_tiles(panel)
    panel.start.native.click()
    layer = viewer.layers[-1]
    assert isinstance(layer, Labels)
    assert layer.data.dtype == np.uint8
    assert not layer.data.any()
    assert not panel.start.enabled
    assert panel.cancel.enabled
    for name in ("scale", "translate"):
        np.testing.assert_array_equal(getattr(layer, name), getattr(image, name))
    assert layer.units == image.units
    assert tuple(layer.axis_labels) == ("z", "y", "x")
    assert list(layer.features["class"]) == ["background", "class 1"]
    # Neither its name nor the selection is what it is found by.
    layer.name = "renamed"
    viewer.layers.selection.active = image
    ended(qtbot, session)
    assert session.segmentation.state == "done"
    np.testing.assert_array_equal(layer.data, segment(volume, load_model(models_folder / "small.unet3d")))
    assert layer.data.any()
    assert panel.start.enabled
    assert panel.state.progress == "Done: 'renamed'."


def test_cancel_keeps_what_is_done_says_how_much_and_start_goes_on_in_the_same_layer(
    qtbot, panel, session, viewer, image, volume, models_folder
):
    small_tiles(panel)
    panel.start.native.click()
    run = session.segmentation
    qtbot.waitUntil(lambda: run.n_done >= 2, timeout=LONG_MS)
    panel.cancel.native.click()
    assert run.state == "stopping"
    ended(qtbot, session)
    assert run.state == "stopped"
    assert 0 < run.share < 1
    panel.update_plan()
    assert f"Stopped: {run.share:.0%} of the region is done" in panel.state.progress
    assert panel.start.native.text() == f"Go on ({run.share:.0%} done)"
    expected = segment(volume, load_model(models_folder / "small.unet3d"))
    for _, boxes in run._done:
        for box in boxes:
            np.testing.assert_array_equal(run.layer.data[box.slices], expected[box.slices])
    n_layers, n_before = len(viewer.layers), sum(len(boxes) for _, boxes in run._done)
    panel.start.native.click()
    ended(qtbot, session)
    assert len(viewer.layers) == n_layers
    assert run.state == "done"
    assert n_before + len(run._done[-1][1]) == len(panel.plan)
    np.testing.assert_array_equal(run.layer.data, expected)


def test_other_choices_after_a_stop_make_a_layer_of_their_own(qtbot, panel, session, viewer, image):
    small_tiles(panel)
    panel.start.native.click()
    qtbot.waitUntil(lambda: session.segmentation.n_done >= 1, timeout=LONG_MS)
    panel.cancel.native.click()
    ended(qtbot, session)
    first = session.segmentation
    panel.update_plan()
    assert panel.anew.native.isEnabled()
    panel.form.instances.value = True
    panel.update_plan()
    assert panel.start.native.text() == "Start"
    panel.start.native.click()
    assert session.segmentation is not first
    assert session.segmentation.layer is not first.layer
    ended(qtbot, session)


def test_a_worker_that_is_killed_gives_one_notice_and_the_buttons_back_and_start_goes_on(
    qtbot, panel, session, image, volume, models_folder
):
    small_tiles(panel)
    panel.start.native.click()
    run = session.segmentation
    qtbot.waitUntil(lambda: run.n_done >= 2, timeout=LONG_MS)
    n_notices = len(notification_manager.records)
    os.kill(session.engine.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    ended(qtbot, session)
    qtbot.waitUntil(lambda: panel.start.enabled, timeout=LONG_MS)
    (notice,) = notification_manager.records[n_notices:]
    assert "The worker process ended: it was killed" in notice.message
    assert str(session.engine.log) in notice.message
    assert notice.severity.value == "error"
    assert not panel.cancel.enabled
    panel.start.native.click()
    ended(qtbot, session)
    assert run.state == "done"
    np.testing.assert_array_equal(run.layer.data, segment(volume, load_model(models_folder / "small.unet3d")))


def stopped(qtbot, panel, session) -> None:
    """Start, and stop after the first tiles."""
    small_tiles(panel)
    panel.start.native.click()
    qtbot.waitUntil(lambda: session.segmentation.n_done >= 1, timeout=LONG_MS)
    panel.cancel.native.click()
    ended(qtbot, session)
    assert session.segmentation.state == "stopped"
    panel.update_plan()
    assert panel.start.native.text().startswith("Go on")


CHANGES = {
    "another region": lambda panel, image: setattr(panel.form.region_kind, "value", "in view"),
    "instances": lambda panel, image: setattr(panel.form.instances, "value", True),
    "other voxels": lambda panel, image: setattr(image, "data", image.data[:, :, :-8] + 1),
    "another place": lambda panel, image: setattr(image, "scale", (1, 2, 3)),
    "a file": lambda panel, image: setattr(panel.form.place, "value", Path("elsewhere.zarr")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_was_begun_goes_on_only_if_it_is_still_what_is_asked_for(qtbot, panel, session, image, change):
    stopped(qtbot, panel, session)
    change(panel, image)
    qtbot.waitUntil(lambda: panel.start.native.text() == "Start", timeout=LONG_MS)


def test_another_amount_of_memory_goes_on_with_other_tiles(qtbot, panel, session, image, volume, models_folder):
    stopped(qtbot, panel, session)
    panel.form.memory.value = 0.1
    panel.update_plan()
    assert panel.start.native.text().startswith("Go on")
    panel.start.native.click()
    ended(qtbot, session)
    run = session.segmentation
    assert len({shape for shape, _ in run._done}) == 2
    np.testing.assert_array_equal(run.layer.data, segment(volume, load_model(models_folder / "small.unet3d")))


def test_a_model_that_was_written_anew_begins_anew(qtbot, panel, session, image, tmp_path):
    path = save_model(random_model(blocks=1, filters=2, seed=1), tmp_path / "mine.unet3d")
    session.choose_model(path)
    stopped(qtbot, panel, session)
    save_model(random_model(blocks=1, filters=2, classes=3, seed=2), path, overwrite=True)
    panel.update_plan()
    assert panel.start.native.text() == "Start"
    assert session.card.network.classes == 3
    assert "3 classes" in panel.model.card.value
    # A run that was stopped before is refused by the worker too, however it is continued.
    session.segmentation.start()
    ended(qtbot, session)
    assert "has changed since you chose it" in str(session.segmentation.error)


def test_a_damaged_model_is_said_and_another_one_works(qtbot, panel, session, image, tmp_path, models_folder):
    path = save_model(random_model(blocks=1, filters=2), tmp_path / "mine.unet3d")
    (path / "weights.safetensors").write_bytes(b"damaged")
    session.choose_model(path)
    panel.update_plan()
    panel.start.native.click()
    ended(qtbot, session)
    assert session.segmentation.state == "failed"
    session.choose_model(models_folder / "small.unet3d")
    panel.update_plan()
    assert panel.start.enabled
    panel.start.native.click()
    ended(qtbot, session)
    assert session.segmentation.state == "done"


def test_a_worker_that_dies_while_it_gets_warm_is_a_notice_and_start_works(qtbot, panel, session, image):
    session.engine.end()
    session.warm()
    qtbot.waitUntil(lambda: session.engine.pid is not None, timeout=LONG_MS)
    failures = []
    session.failed.connect(failures.append)
    qtbot.waitUntil(lambda: session.engine.running is not None and session.engine.running.state == "running")
    os.kill(session.engine.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    qtbot.waitUntil(session._warming.has_ended.is_set, timeout=LONG_MS)
    qtbot.waitUntil(lambda: session.poll() or bool(failures), timeout=LONG_MS)
    assert session.problem == ""
    panel.update_plan()
    panel.start.native.click()
    ended(qtbot, session)
    assert session.segmentation.state == "done"


def test_a_tensorflow_that_cannot_be_imported_is_one_line_and_the_panel_is_there(
    qtbot, viewer, image, models_folder, tmp_path, monkeypatch
):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('libcudart is broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    engine = LocalEngine(log=tmp_path / "worker.log", gives_way=False)
    session = Session(viewer, engine, Preferences(models_folder, warm_start=False))
    panel = SegmentPanel(session)
    qtbot.addWidget(panel.native)
    assert session.problem == ""
    session.warm()
    qtbot.waitUntil(lambda: session.poll() or bool(session.problem), timeout=LONG_MS)
    qtbot.waitUntil(lambda: panel.state.planned.sentence == session.problem, timeout=LONG_MS)
    assert "TensorFlow cannot be imported (libcudart is broken)" in session.problem
    assert "pip install" in session.problem
    assert not panel.start.enabled
    session.close()
    engine.end()


def test_an_error_is_a_notice_of_one_sentence_and_start_works_again(qtbot, panel, session, viewer):
    voxels = np.random.default_rng(3).random((40, 61, 92), np.float32)
    voxels[1, 2, 3] = np.nan
    viewer.add_image(voxels, contrast_limits=(0, 1))
    panel.update_plan()
    n_notices = len(notification_manager.records)
    panel.start.native.click()
    ended(qtbot, session)
    assert session.segmentation.state == "failed"
    (notice,) = notification_manager.records[n_notices:]
    assert notice.message.startswith("The volume holds NaN, infinity")
    assert "Traceback" not in notice.message
    assert "Not finished: 0% is done" in panel.state.progress
    panel.form.nonfinite.value = "background"
    panel.update_plan()
    panel.start.native.click()
    ended(qtbot, session)
    assert session.segmentation.state == "done"


def test_a_region_becomes_a_layer_of_its_size_in_its_place(qtbot, panel, session, viewer, image, volume, models_folder):
    region = Box((3, 22), (5, 41), (7, 30))
    panel.form.spec = PredictSpec(region=region)
    panel.update_plan()
    panel.start.native.click()
    ended(qtbot, session)
    layer = viewer.layers[-1]
    assert layer.data.shape == region.shape
    assert layer.data_to_world((0, 0, 0)) == pytest.approx(image.data_to_world((3, 5, 7)))
    expected = segment(volume, load_model(models_folder / "small.unet3d"))
    np.testing.assert_array_equal(layer.data, expected[region.slices])


def test_a_region_that_leaves_the_volume_is_said_before_start(panel, image):
    panel.form.spec = PredictSpec(region=Box((0, 99), (0, 61), (0, 92)))
    panel.update_plan()
    assert "0:99,0:61,0:92 (z, y, x) is empty or leaves the volume" in panel.state.planned.sentence
    assert not panel.start.enabled
    # The field ends with the volume, and what is typed counts.
    panel.form.box.first[0].native.setValue(3)
    assert panel.form.spec.region == Box((3, 40), (0, 61), (0, 92))


def type_into(qtbot, field, number):
    field.native.selectAll()
    qtbot.keyClicks(field.native.lineEdit(), str(number))
    qtbot.keyClick(field.native.lineEdit(), Qt.Key.Key_Return)


def rectangle(viewer):
    (shown,) = viewer.layers["region"].data
    return shown.min(0).tolist(), shown.max(0).tolist()


def test_a_box_is_typed_as_the_slider_counts_and_shown_where_it_meets_the_slice(qtbot, panel, viewer, image):
    viewer.layers.selection.active = image
    viewer.dims.set_current_step(0, 10)
    panel.form.region_kind.value = "box"
    assert panel.form.spec.region == Box.whole((40, 61, 92))
    assert len(viewer.layers) == 1
    type_into(qtbot, panel.form.box.last[1], 29)
    type_into(qtbot, panel.form.box.first[0], 8)
    type_into(qtbot, panel.form.box.last[0], 12)
    assert panel.form.spec.region == Box((8, 13), (0, 30), (0, 92))
    assert rectangle(viewer) == ([10, -0.5, -0.5], [10, 29.5, 91.5])
    assert viewer.layers.selection.active is image
    viewer.dims.set_current_step(0, 12)
    assert rectangle(viewer)[0][0] == 12
    viewer.dims.set_current_step(0, 13)
    assert not len(viewer.layers["region"].data)
    viewer.dims.set_current_step(0, 8)
    assert rectangle(viewer)[0][0] == 8
    assert panel.form.spec.region == Box((8, 13), (0, 30), (0, 92))
    panel.form.region_kind.value = "all"
    assert not viewer.layers["region"].visible


def test_the_rows_follow_what_is_drawn_and_keep_the_slices(qtbot, panel, viewer, image):
    viewer.dims.set_current_step(0, 10)
    panel.form.region_kind.value = "box"
    type_into(qtbot, panel.form.box.first[0], 8)
    panel.form.draw.native.click()
    viewer.layers["region"].add_rectangles(np.array([[10, 4.2, 7], [10, 4.2, 30], [10, 20, 30], [10, 20, 7]]))
    assert panel.form.spec.region == Box((8, 40), (4, 20), (7, 30))
    assert [field.value for field in (*panel.form.box.first, *panel.form.box.last)] == [8, 4, 7, 39, 19, 29]
    # In another slice there is one rectangle, that of the box.
    viewer.dims.set_current_step(0, 20)
    assert rectangle(viewer) == ([20, 3.5, 6.5], [20, 19.5, 29.5])
    # Where the box is not, a rectangle begins a new one.
    viewer.dims.set_current_step(0, 2)
    viewer.layers["region"].add_rectangles(np.array([[2, 4, 7], [2, 4, 30], [2, 20, 30], [2, 20, 7]]))
    assert panel.form.spec.region == Box((0, 40), (4, 20), (7, 30))


def test_a_last_slice_before_the_first_takes_it_along(qtbot, panel, image):
    panel.form.region_kind.value = "box"
    type_into(qtbot, panel.form.box.first[0], 30)
    type_into(qtbot, panel.form.box.last[0], 20)
    assert panel.form.spec.region.z == (20, 21)
    type_into(qtbot, panel.form.box.first[0], 25)
    assert panel.form.spec.region.z == (25, 26)


def test_the_box_of_another_image_ends_with_this_one(panel, session, viewer, image):
    panel.form.region_kind.value = "box"
    session.image = viewer.add_image(np.zeros((20, 90, 30), np.uint8))
    assert panel.form.spec.region == Box.whole((20, 90, 30))
    panel.form.box.first[1].native.setValue(80)
    session.image = image
    assert panel.form.spec.region.y == (60, 61)


def test_what_is_in_view_is_a_slab_around_the_shown_slice(panel, viewer, image):
    viewer.dims.set_current_step(0, 13)
    panel.form.region_kind.value = "in view"
    # A network with one block: tiles lie on multiples of 4.
    assert panel.form.spec.region == Box((8, 20), (0, 61), (0, 92))


def test_a_rectangle_that_is_drawn_becomes_the_region(panel, viewer, image):
    panel.form.draw.native.click()
    shapes = viewer.layers[-1]
    assert shapes.mode == "add_rectangle"
    np.testing.assert_array_equal(shapes.scale, image.scale)
    shapes.add_rectangles(np.array([[13, 4.2, 7], [13, 4.2, 30], [13, 20, 30], [13, 20, 7]]))
    assert panel.form.spec.region == Box((0, 40), (4, 20), (7, 30))
    assert panel.form.region_kind.value == "box"


def test_the_probability_of_a_class_becomes_an_image(qtbot, panel, session, viewer, image, volume, models_folder):
    panel.form.output.value = "probability of class 1"
    panel.update_plan()
    panel.start.native.click()
    ended(qtbot, session)
    layer = viewer.layers[-1]
    assert layer._type_string == "image"
    assert layer.name == "neurons, probability of class 1"
    np.testing.assert_array_equal(layer.scale, image.scale)
    spec = PredictSpec(output="probabilities")
    expected = segment(volume, load_model(models_folder / "small.unet3d"), spec=spec)
    np.testing.assert_array_equal(layer.data, expected[..., 1])


def test_numbered_objects_fill_as_classes_and_end_as_instances(
    qtbot, panel, session, viewer, image, volume, models_folder
):
    spec = PredictSpec(cleanup=Cleanup(high=0.5, low=0.5, min_voxels=0, instances=True))
    panel.form.spec = spec
    small_tiles(panel)
    panel.start.native.click()
    ended(qtbot, session)
    layer = viewer.layers[-1]
    expected = segment(volume, load_model(models_folder / "small.unet3d"), spec=spec)
    assert expected.max() > 1
    np.testing.assert_array_equal(layer.data, expected)
    assert layer.features["voxels"][1:].tolist() == np.bincount(expected.ravel())[1:].tolist()


@pytest.mark.parametrize("suffix", [".zarr", ".tif", ".ome.tif"])
def test_a_single_slice_can_be_written_to_a_file(qtbot, panel, session, viewer, image, tmp_path, suffix):
    panel.form.spec = PredictSpec(region=Box((5, 6), (0, 61), (0, 92)))
    panel.form.place.value = tmp_path / f"slice{suffix}"
    panel.update_plan()
    panel.start.native.click()
    ended(qtbot, session)
    assert session.segmentation.state == "done"
    assert np.asarray(viewer.layers[-1].data[0]).shape == (61, 92)
    assert not viewer.layers[-1].editable


def test_a_stopped_run_gives_its_file_up_when_it_is_begun_anew(qtbot, panel, session, viewer, image, tmp_path):
    panel.form.place.value = tmp_path / "result.zarr"
    stopped(qtbot, panel, session)
    first = session.segmentation
    asked = answer("Begin again")
    panel.anew.native.click()
    assert len(asked) == 1
    assert session.segmentation is not first
    ended(qtbot, session)
    assert session.segmentation.state == "done"
    assert [path.name for path in tmp_path.iterdir() if "result" in path.name] == ["result.zarr"]


def test_the_probability_of_a_narrow_region_is_no_colour_image(qtbot, panel, session, viewer, image):
    panel.form.output.value = "probability of class 1"
    panel.form.spec = panel.form.spec.model_copy(update={"region": Box((0, 40), (0, 61), (4, 7))})
    panel.update_plan()
    panel.start.native.click()
    ended(qtbot, session)
    assert viewer.layers[-1].data.shape == (40, 61, 3)
    assert not viewer.layers[-1].rgb


def test_what_somebody_puts_in_place_of_the_result_stays_and_the_result_is_shown_too(
    qtbot, panel, session, viewer, image, volume, models_folder
):
    small_tiles(panel)
    panel.start.native.click()
    qtbot.waitUntil(lambda: session.segmentation.n_done >= 1, timeout=LONG_MS)
    theirs = session.segmentation.layer
    theirs.data = theirs.data.astype(np.int32)
    ended(qtbot, session)
    assert session.segmentation.layer is not theirs
    expected = segment(volume, load_model(models_folder / "small.unet3d"))
    np.testing.assert_array_equal(session.segmentation.layer.data, expected)


def test_all_stays_all_when_another_slice_is_shown(panel, viewer, image):
    panel.form.draw.native.click()
    viewer.layers["region"].add_rectangles(np.array([[20, 5, 10], [20, 5, 40], [20, 30, 40], [20, 30, 10]]))
    assert panel.form.region_kind.value == "box"
    panel.form.region_kind.value = "all"
    viewer.dims.set_current_step(0, 7)
    viewer.layers["region"].refresh()
    assert panel.form.region_kind.value == "all"
    viewer.layers["region"].add_rectangles(np.array([[7, 5, 10], [7, 5, 50], [7, 30, 50], [7, 30, 10]]))
    assert panel.form.region_kind.value == "box"


def test_a_box_that_was_drawn_over_another_image_is_not_taken_for_this_one(panel, session, viewer, image):
    panel.form.draw.native.click()
    first = viewer.layers[-1]
    first.add_rectangles(np.array([[0, 4, 7], [0, 4, 30], [0, 20, 30], [0, 20, 7]]))
    other = viewer.add_image(np.zeros((40, 61, 92), np.uint8), scale=(1, 2, 3))
    session.image = other
    panel.form.draw.native.click()
    second = viewer.layers[-1]
    assert second is not first
    assert first not in viewer.layers
    np.testing.assert_array_equal(second.scale, other.scale)


@pytest.mark.parametrize("suffix", [".zarr", ".tif"])
def test_a_result_can_be_written_to_a_file_and_is_shown_from_there(
    qtbot, panel, session, viewer, image, volume, models_folder, tmp_path, suffix
):
    path = tmp_path / f"result{suffix}"
    panel.form.place.value = path
    small_tiles(panel)
    panel.start.native.click()
    layer = viewer.layers[-1]
    assert not path.exists()
    ended(qtbot, session)
    assert session.segmentation.state == "done"
    written = read_volume(path)
    expected = segment(volume, load_model(models_folder / "small.unet3d"))
    np.testing.assert_array_equal(written.data[:, :, :], expected)
    np.testing.assert_array_equal(np.asarray(layer.data[:, :, :]), expected)
    assert written.voxel_size == pytest.approx((0.3, 0.2, 0.1))
    assert written.translate == pytest.approx((5, 6, 7), abs=1e-6) or suffix == ".tif"


def test_a_file_that_exists_is_asked_about(qtbot, panel, session, viewer, image, tmp_path, volume, models_folder):
    path = tmp_path / "there.tif"
    path.write_bytes(b"mine")
    panel.form.place.value = path
    panel.update_plan()
    assert "there.tif exists; Start asks before it is replaced" in panel.state.planned.sentence
    n_layers = len(viewer.layers)
    asked = answer("Cancel")
    panel.start.native.click()
    assert asked == ["there.tif exists already. Replace it?"]
    assert len(viewer.layers) == n_layers
    assert session.segmentation is None
    assert path.read_bytes() == b"mine"
    answer("Replace")
    panel.start.native.click()
    assert path.read_bytes() == b"mine"
    ended(qtbot, session)
    expected = segment(volume, load_model(models_folder / "small.unet3d"))
    np.testing.assert_array_equal(read_volume(path).data[:, :, :], expected)
    assert str(path) in panel._state.value
    assert panel.save.native.isHidden()


@pytest.mark.parametrize(
    ("name", "said"),
    [("result.png", "is not a format"), ("nowhere/result.tif", "does not exist"), ("neurons.ome.tif", "overwrite")],
)
def test_a_file_that_cannot_be_written_is_said_in_the_plan_line(panel, session, viewer, volume, tmp_path, name, said):
    source = tmp_path / "neurons.ome.tif"
    with create_output(source, volume.shape, "uint16", voxel_size=(0.3, 0.2, 0.1), unit="um", kind="image") as output:
        output.commit()
    session.image = add_layer(viewer, layer_data(read_volume(source)))
    panel.form.place.value = tmp_path / name
    panel.update_plan()
    assert said in panel.state.planned.sentence
    assert "--" not in panel.state.planned.sentence
    assert not panel.start.enabled
    panel.form.place.keep.native.click()
    panel.update_plan()
    assert panel.start.enabled


def test_save_to_asks_for_a_file_in_the_folder_of_last_time(monkeypatch, panel, image, folders, tmp_path):
    (tmp_path / "results").mkdir()
    begun = chosen_in_the_dialog(monkeypatch, tmp_path / "results" / "mine", "OME-Zarr (*.zarr)")
    panel.form.place.save_to.native.click()
    assert begun == [str(tmp_path / "neurons, segmented.ome.tif")]
    assert panel.choices().path == tmp_path / "results" / "mine.zarr"
    assert panel.form.place._text.value == "mine.zarr"
    panel.form.place.save_to.native.click()
    assert Path(begun[1]).parent == tmp_path / "results"


def test_a_large_result_proposes_a_file_and_may_stay_in_memory(panel, session, viewer, folders, tmp_path):
    large = da.zeros((1300, 1000, 1000), chunks=500, dtype=np.uint8)
    session.image = viewer.add_image(large, contrast_limits=(0, 1), multiscale=False, name="a/b")
    panel.update_plan()
    assert panel.choices().path == tmp_path / "a_b segmented.zarr"
    assert panel.form.place._text.value == "a_b segmented.zarr, as it is large"
    (tmp_path / "a_b segmented.zarr").mkdir()
    panel.form.place.keep.native.click()
    panel.update_plan()
    assert panel.choices().path is None
    session.image = viewer.add_image(np.zeros((9, 9, 9), np.uint8))
    panel.form.place.value = None
    panel.update_plan()
    assert panel.choices().path is None


@pytest.mark.parametrize("suffix", [".ome.tif", ".zarr"])
def test_a_result_is_saved_by_clicks_and_says_where_and_what_was_found(
    qtbot, monkeypatch, panel, session, image, folders, tmp_path, suffix
):
    panel.update_plan()
    assert panel.save.native.isHidden()
    panel.start.native.click()
    assert panel.save.native.isHidden()
    ended(qtbot, session)
    assert not panel.save.native.isHidden()
    layer = session.segmentation.layer
    path = tmp_path / f"mine{suffix}"
    kind = f"{'OME-TIFF' if suffix == '.ome.tif' else 'OME-Zarr'} (*{suffix})"
    begun = chosen_in_the_dialog(monkeypatch, path, kind)
    panel.save.native.click()
    qtbot.waitUntil(lambda: not session.saving.is_active, timeout=LONG_MS)
    assert Path(begun[0]).name == "neurons, segmented.ome.tif"
    share = 100 * np.mean(layer.data == 1)
    assert panel._saved.value == f"Saved ({share:.2g} % class 1): {path}"
    saved = read_volume(path)
    np.testing.assert_array_equal(saved.data[:, :, :], layer.data)
    assert saved.voxel_size == pytest.approx((0.3, 0.2, 0.1))
    # Once more: it asks, and Cancel leaves what is there.
    before = layer.data.copy()
    layer.data[:] = 0
    asked = answer("Cancel")
    panel.save.native.click()
    assert asked
    np.testing.assert_array_equal(read_volume(path).data[:, :, :], before)
    answer("Replace")
    panel.save.native.click()
    qtbot.waitUntil(lambda: not session.saving.is_active, timeout=LONG_MS)
    assert "no class 1" in panel._saved.value
    assert not read_volume(path).data[:, :, :].any()


def test_what_cannot_be_saved_is_said_where_the_button_is(qtbot, monkeypatch, panel, session, image, folders, tmp_path):
    panel.update_plan()
    panel.start.native.click()
    ended(qtbot, session)
    chosen_in_the_dialog(monkeypatch, tmp_path / "gone" / "mine.ome.tif")
    panel.save.native.click()
    qtbot.waitUntil(lambda: not session.saving.is_active, timeout=LONG_MS)
    assert panel._saved.value.startswith("Not saved. The folder")
    assert panel.save.enabled


def test_a_result_too_large_for_the_memory_is_said_before_start(panel, viewer):
    # Of which the slice that is shown takes little.
    huge = da.zeros((2_000_000, 40_000, 800), chunks=4096, dtype=np.uint8)
    viewer.add_image(huge, contrast_limits=(0, 1), multiscale=False)
    panel.form.place.keep.native.click()
    panel.update_plan()
    assert "The result takes 59,604.6 GiB of memory" in panel.state.planned.sentence
    assert not panel.start.enabled


def test_a_dask_layer_is_segmented_without_loading_it(qtbot, panel, session, viewer, volume, models_folder):
    largest = []

    def block(values: np.ndarray) -> np.ndarray:
        largest.append(values.size)
        return values

    array = da.from_array(volume, chunks=(8, 61, 92)).map_blocks(block, dtype=volume.dtype, meta=volume[:0])
    viewer.add_image(array, contrast_limits=(0, 1))
    small_tiles(panel)
    panel.start.native.click()
    ended(qtbot, session)
    np.testing.assert_array_equal(viewer.layers[-1].data, segment(volume, load_model(models_folder / "small.unet3d")))
    assert max(largest) <= 8 * 61 * 92


def test_a_multiscale_layer_is_segmented_at_the_chosen_level(qtbot, panel, session, viewer, volume, models_folder):
    image = viewer.add_image([volume, volume[::2, ::2, ::2]], multiscale=True, scale=(2, 1, 1))
    assert panel.form.level.choices == (0, 1)
    told = [panel.form.level.native.itemText(n) for n in range(panel.form.level.native.count())]
    assert told[0].startswith("all voxels, ")
    assert told[1].startswith("every 2nd voxel, ")
    panel.form.level.value = 1
    panel.update_plan()
    panel.start.native.click()
    ended(qtbot, session)
    layer = viewer.layers[-1]
    expected = segment(volume[::2, ::2, ::2], load_model(models_folder / "small.unet3d"))
    np.testing.assert_array_equal(layer.data, expected)
    np.testing.assert_array_equal(layer.scale, image.scale * (40 / 20, 61 / 31, 92 / 46))


def test_channels_reach_a_network_that_wants_them(qtbot, panel, session, viewer, models_folder):
    image = np.random.default_rng(2).integers(0, 999, (2, 20, 24, 28)).astype(np.uint16)
    viewer.add_image(
        image, scale=(1, 0.3, 0.2, 0.1), axis_labels=("c", "z", "y", "x"), units=("pixel", "um", "um", "um")
    )
    session.choose_model(models_folder / "two.unet3d")
    panel.update_plan()
    panel.start.native.click()
    ended(qtbot, session)
    layer = viewer.layers[-1]
    expected = segment(np.moveaxis(image, 0, -1), load_model(models_folder / "two.unet3d"))
    np.testing.assert_array_equal(layer.data, expected)
    assert tuple(layer.scale) == (0.3, 0.2, 0.1)
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 3


def test_an_image_that_is_removed_meanwhile_gives_one_notice_and_the_run_goes_on(qtbot, panel, session, viewer, image):
    small_tiles(panel)
    panel.start.native.click()
    qtbot.waitUntil(lambda: session.segmentation.n_done >= 1, timeout=LONG_MS)
    n_notices = len(notification_manager.records)
    viewer.layers.remove(image)
    ended(qtbot, session)
    assert session.segmentation.state == "done"
    assert [n.message for n in notification_manager.records[n_notices:]] == [
        "'neurons' is gone; the run goes on with what it had."
    ]


def test_a_result_that_is_removed_meanwhile_stops_the_run_with_one_notice(qtbot, panel, session, viewer, image):
    small_tiles(panel)
    panel.start.native.click()
    qtbot.waitUntil(lambda: session.segmentation.n_done >= 1, timeout=LONG_MS)
    n_notices = len(notification_manager.records)
    viewer.layers.remove(session.segmentation.layer)
    ended(qtbot, session)
    assert session.segmentation.state == "stopped"
    assert len(notification_manager.records) == n_notices + 1
    panel.update_plan()
    assert panel.start.native.text() == "Start"


def test_stop_now_stops_the_own_run_alone(qtbot, panel, session, engine, image, models_folder, volume):
    from napari.components import ViewerModel

    other_viewer = ViewerModel()
    other_viewer.add_image(volume)
    other = Session(other_viewer, engine, Preferences(models_folder, warm_start=False))
    other_panel = SegmentPanel(other)
    qtbot.addWidget(other_panel.native)
    other.choose_model(models_folder / "small.unet3d")
    other_panel.update_plan()
    small_tiles(panel)
    panel.start.native.click()
    qtbot.waitUntil(lambda: session.segmentation.n_done >= 1, timeout=LONG_MS)
    other_panel.start.native.click()
    other.segmentation.stop_now()
    session.segmentation.stop_now()
    other_panel.update_plan()
    ended(qtbot, session)
    ended(qtbot, other)
    assert (session.segmentation.state, other.segmentation.state) == ("stopped", "stopped")
    # And the other way round: what waits goes on when the one before it is stopped at once.
    session.segmentation.start()
    other.segmentation.start()
    qtbot.waitUntil(lambda: session.segmentation.state == "running", timeout=LONG_MS)
    session.segmentation.stop_now()
    ended(qtbot, other)
    assert other.segmentation.state == "done"
    other.close()


def test_a_second_click_on_cancel_does_not_end_the_worker(qtbot, panel, session, image):
    small_tiles(panel)
    panel.start.native.click()
    qtbot.waitUntil(lambda: session.segmentation.n_done >= 1, timeout=LONG_MS)
    pid = session.engine.pid
    panel.cancel.native.click()
    assert not panel.cancel.native.isEnabled()
    panel.cancel.native.click()
    ended(qtbot, session)
    assert session.engine.pid == pid


def test_two_windows_share_the_worker_and_the_second_waits_its_turn(
    qtbot, panel, session, engine, image, models_folder, volume
):
    from napari.components import ViewerModel

    other_viewer = ViewerModel()
    other_viewer.add_image(volume)
    other = Session(other_viewer, engine, Preferences(models_folder, warm_start=False))
    other_panel = SegmentPanel(other)
    qtbot.addWidget(other_panel.native)
    other.choose_model(models_folder / "small.unet3d")
    other_panel.update_plan()
    small_tiles(panel)
    panel.start.native.click()
    other_panel.start.native.click()
    assert other.segmentation.n_before >= 1
    assert other_panel.state.progress == f"Waiting. Runs ahead: {other.segmentation.n_before}."
    ended(qtbot, session)
    ended(qtbot, other)
    assert (session.segmentation.state, other.segmentation.state) == ("done", "done")
    np.testing.assert_array_equal(session.segmentation.layer.data, other.segmentation.layer.data)
    other.close()


def test_voxels_unlike_those_of_the_model_are_said_with_the_factor(panel, session, image):
    from napari_unet3d.widgets.runs.models import list_models

    session.choose_model(list_models(Path("nowhere"))[0])
    panel.update_plan()
    assert "a factor of 1.67 x 2 x 1" in panel.state.planned.warning
    image.units = ("pixel",) * 3
    panel.update_plan()
    assert "The voxel size of the image is not known" in panel.state.planned.warning


def test_a_thousand_tiles_a_second_are_told_ten_times_a_second(qtbot, panel, session, viewer, image):
    """The events of a real run, played at full speed through the real thread into the real layer."""
    from napari_unet3d.engine.local.run import LocalRun
    from napari_unet3d.tasks.events import Started
    from napari_unet3d.tasks.jobs.warm import WarmJob, WarmResult
    from napari_unet3d.widgets.runs.segmentation import Segmentation

    redraws = []
    run = LocalRun(WarmJob(), {}, lambda _: None)

    class Engine:
        queue, log = (), "log"

        def submit(self, job, arrays):
            return run

    shown = Segmentation(viewer, Engine(), session.volume(), panel.choices())
    shown.layer.events.labels_update.connect(lambda event: redraws.append(event))
    shown.changed.connect(lambda: redraws.append("told"))
    shown.start()
    box = Box((0, 40), (0, 4), (0, 4))
    run.put(Started(3000, (60, 60, 60), "CPU", 1))
    import threading
    import time

    def play():
        for second in range(3):
            for n in range(1000):
                run.put(TileDone(box, 1000 * second + n + 1, 3000, 0.0))
                if n % 100 == 99:
                    time.sleep(0.1)
        run.end("done", result=WarmResult(devices=()))

    thread = threading.Thread(target=play)
    begun = time.monotonic()
    thread.start()
    qtbot.waitUntil(lambda: shown.state == "done", timeout=LONG_MS)
    seconds = time.monotonic() - begun
    thread.join()
    assert shown.n_done == 3000
    told = sum(event == "told" for event in redraws)
    assert 2 <= told <= 10 * seconds + 3
    assert len(redraws) - told <= told + 1
    shown.close()


@pytest.mark.parametrize("is_on_disk", [True, False])
def test_a_saved_job_gives_the_bytes_of_the_window(panel, session, viewer, volume, qtbot, tmp_path, is_on_disk):
    source = tmp_path / "neurons.ome.tif"
    with create_output(source, volume.shape, "uint16", voxel_size=(0.3, 0.2, 0.1), unit="um", kind="image") as output:
        output[:, :, :] = volume
        output.commit()
    # Of a file, the window may know the size of a voxel better.
    layer = add_layer(viewer, layer_data(read_volume(source))) if is_on_disk else viewer.add_image(volume)
    layer.scale, layer.units = (0.6, 0.2, 0.1), ("um",) * 3
    session.image = layer
    panel.form.spec = PredictSpec(region=Box((4, 30), (0, 61), (0, 92)))
    panel.update_plan()
    panel.start.native.click()
    ended(qtbot, session)
    panel.save_job(tmp_path / "night.json")
    written = sorted(path.name for path in tmp_path.glob("n*"))
    images = ["neurons.ome.tif", *([] if is_on_disk else ["night-image.ome.tif"])]
    assert written == [*images, "night-model.unet3d", "night.json"]
    assert read_job(tmp_path / "night.json").job.spec.memory_bytes is None
    assert command("run", tmp_path / "night.json") == 0
    found = read_volume(tmp_path / "night.ome.tif")
    np.testing.assert_array_equal(found.data[:, :, :], session.segmentation.layer.data)
    assert found.voxel_size == pytest.approx((0.6, 0.2, 0.1))
    assert found.translate[0] == pytest.approx(4 * 0.6)


def test_a_job_that_could_not_start_is_not_saved(panel, session, tmp_path):
    seen = len(notification_manager.records)
    panel.save_job(tmp_path / "job.json")
    assert [record.message for record in notification_manager.records[seen:]] == [
        "Open a volume, or choose an image layer."
    ]
    assert not (tmp_path / "job.json").exists()


def test_what_is_offered_stays_when_layers_come_and_go(panel, session, viewer, image, models_folder):
    offered = [getattr(panel.form, name).choices for name in ("output", "device", "emphasized")]
    assert "probability of class 1" in offered[0]
    assert offered[2] == ("class 1",)
    panel.form.output.value = "probability of class 1"
    viewer.add_image(np.zeros((3, 4, 5)))
    panel.reset_choices()
    assert [getattr(panel.form, name).choices for name in ("output", "device", "emphasized")] == offered
    assert panel.form.output.value == "probability of class 1"


def test_the_slider_asks_for_more_of_the_class_beside_it(panel, session, models_folder):
    form = panel.form
    form.emphasis.value = 1.5
    assert form.spec.emphasis == (0.0, 1.5)
    form.emphasis.value = 0
    assert form.spec.emphasis == ()
    form.emphasis.value = -2
    session.choose_model(models_folder / "two.unet3d")
    assert form.emphasized.choices == session.card.class_names[1:]
    # Another model with as many classes is asked alike; with more classes, nothing was asked of them.
    assert form.spec.emphasis == ((0.0, -2.0) if len(session.card.class_names) == 2 else ())


def previewed(qtbot, session: Session) -> Labels:
    qtbot.waitUntil(lambda: session.emphasis.layer is not None and not session.emphasis.is_active, timeout=LONG_MS)
    return session.emphasis.layer


def test_the_slider_shows_at_once_what_start_would_find(qtbot, panel, session, viewer, image):
    viewer.dims.set_current_step(0, 20)
    selected = viewer.layers.selection.active
    panel.form.emphasis.value = 1.5
    layer = previewed(qtbot, session)
    assert viewer.layers.selection.active is selected
    assert not layer.editable
    starts = np.rint((layer.translate - image.translate) / image.scale).astype(int)
    box = Box(*((int(start), int(start) + n) for start, n in zip(starts, layer.data.shape, strict=True)))
    assert starts[0] <= 20 < starts[0] + layer.data.shape[0]
    first = np.array(layer.data)
    # The worker is asked once: from then on the slider alone decides.
    n_jobs = id(session.emphasis._run)
    panel.form.emphasis.value = 6
    qtbot.waitUntil(lambda: layer.data.mean() > first.mean(), timeout=LONG_MS)
    panel.form.emphasis.value = -6
    qtbot.waitUntil(lambda: layer.data.mean() < first.mean(), timeout=LONG_MS)
    panel.form.emphasis.value = 1.5
    qtbot.waitUntil(lambda: np.array_equal(layer.data, first), timeout=LONG_MS)
    assert id(session.emphasis._run) == n_jobs
    panel.start.changed.emit(True)
    assert layer not in viewer.layers
    ended(qtbot, session)
    np.testing.assert_array_equal(session.segmentation.layer.data[box.slices], first)


def test_the_preview_follows_the_view_and_hides_the_result_meanwhile(qtbot, panel, session, viewer, image):
    panel.start.changed.emit(True)
    ended(qtbot, session)
    result = session.segmentation.layer
    panel.form.emphasis.value = 1
    layer = previewed(qtbot, session)
    assert not result.visible
    before = layer.translate[0]
    viewer.dims.set_current_step(0, 38 if before < 10 else 0)
    qtbot.waitUntil(lambda: layer.translate[0] != before, timeout=LONG_MS)
    viewer.layers.remove(layer)
    assert result.visible
    viewer.dims.set_current_step(0, 20)
    assert session.emphasis.layer is None


def test_while_a_run_goes_on_the_slider_waits(qtbot, panel, session, viewer, image):
    small_tiles(panel)
    panel.start.changed.emit(True)
    assert session.is_busy
    panel._preview()
    assert session.emphasis.layer is None
    assert not session.emphasis.is_active
    panel.cancel.changed.emit(True)
    ended(qtbot, session)


def test_a_preview_that_fails_says_why_and_is_tried_again(qtbot, panel, session, viewer, image, tmp_path):
    path = tmp_path / "model.unet3d"
    save_model(random_model(blocks=1, filters=2), path)
    session.choose_model(path)
    weights = path / "weights.safetensors"
    kept = weights.read_bytes()
    weights.unlink()
    n = len(notification_manager.records)
    panel.form.emphasis.value = 2
    qtbot.waitUntil(lambda: session.emphasis.state == "failed", timeout=LONG_MS)
    assert len(notification_manager.records) > n
    weights.write_bytes(kept)
    panel.form.emphasis.value = 3
    previewed(qtbot, session)


def test_a_result_becomes_annotation_to_correct_by_one_click(qtbot, panel, session, viewer, image):
    panel.update_plan()
    assert panel.correct.native.isHidden()
    panel.start.native.click()
    ended(qtbot, session)
    result = session.segmentation.layer
    z = image.data.shape[0] // 2
    viewer.dims.set_current_step(0, z)
    for layer in (image, result):
        layer.corner_pixels = np.array([[0, 0, 0], [n - 1 for n in layer.data.shape]])
    assert session.labels is None
    assert not panel.correct.native.isHidden()
    panel.correct.native.click()
    # There was no annotation: one is begun, with the classes of the model.
    assert session.labels is not None
    assert session.annotation.of(session.labels).meanings.class_names == session.card.class_names
    expected = np.zeros_like(session.labels.data)
    expected[z] = result.data[z] + 1
    np.testing.assert_array_equal(session.labels.data, expected)
    assert (session.labels.mode, result.visible) == ("paint", False)
    panel.form.output.value = panel.form.output.choices[-1]
    panel.update_plan()
    panel.start.native.click()
    ended(qtbot, session)
    assert panel.correct.native.isHidden()  # probabilities are no classes


def test_what_is_good_to_know_is_no_warning(qtbot, panel, session, image):
    panel.form.spec = PredictSpec(emphasis=(0.0, 1.0))
    panel.update_plan()
    with notification_manager:
        before = len(notification_manager.records)
        panel.start.native.click()
        ended(qtbot, session)
    told = [notice for notice in notification_manager.records[before:] if "Class shares assumed" in notice.message]
    assert [notice.severity.value for notice in told] == ["info"]


def test_models_that_look_alike_can_all_be_chosen(panel, session, models_folder, tmp_path):
    session.preferences = replace(session.preferences, models_folder=tmp_path / "own" / "models")
    runs = [session.runs_folder / f"cells 2026-11-28 14.02.0{n}" for n in range(3)]
    for run in runs:
        shutil.copytree(models_folder / "small.unet3d", run / "best.unet3d")
        (run / "run.json").write_text("{}")
        os.utime(run / "best.unet3d" / "model.json", (1000, 1000))
    for run in runs:
        session.choose_model(run / "best.unet3d")
        assert panel.model.choice.value == run / "best.unet3d"
    labels = [panel.model.choice.native.itemText(at) for at in range(panel.model.choice.native.count())]
    assert len(set(labels)) == len(labels)
    assert sum(label.startswith("cells, ") for label in labels) == 3


def test_of_a_result_that_was_removed_nothing_is_said(qtbot, panel, session, viewer, image):
    panel.update_plan()
    panel.start.native.click()
    ended(qtbot, session)
    assert panel._state.value.startswith("Done")
    viewer.layers.remove(session.segmentation.layer)
    panel.update_plan()
    assert panel._state.value == ""
    assert panel.save.native.isHidden()


def test_an_image_without_a_unit_is_no_surprise_to_a_model_that_was_trained_on_one(panel, session, image):
    volume = session.volume().volume
    unknown = replace(volume, calibration=Calibration((1.0, 1.0, 1.0)))
    trained = panel.choices().card
    assert trained.voxel_size is None
    trained = trained.model_copy(update={"voxel_size": (1.0, 1.0, 1.0), "unit": "pixel"})
    assert voxel_size_warning(unknown, trained) == ""
    assert "is not known" in voxel_size_warning(unknown, trained.model_copy(update={"unit": "um"}))

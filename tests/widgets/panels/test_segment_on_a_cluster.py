"""The window hands a segmentation to a Dask cluster, and shows the blocks as they are done."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_unet3d.network.store import load_model
from napari_unet3d.tasks.segment.work.ledger import boxes_done, is_in_use
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes import create_output, read_volume
from napari_unet3d.widgets.layers.volumes import add_layer, layer_data
from napari_unet3d.widgets.panels.segment.tab import SegmentPanel
from tests.support.dask_cluster import cluster, wait_for
from tests.support.segmenting import segment

pytest.importorskip("distributed")
LONG_MS = 240_000
VOLUME = np.random.default_rng(0).integers(0, 3000, (40, 61, 92)).astype(np.uint16)
SPEC = PredictSpec(tile_shape=(60, 60, 60), device="cpu")


@pytest.fixture
def panel(qtbot, session, viewer, models_folder, tmp_path):
    path = tmp_path / "neurons.zarr"
    with create_output(path, VOLUME.shape, "uint16", voxel_size=(0.3, 0.2, 0.1), unit="um", kind="image") as output:
        output[:, :, :] = VOLUME
        output.commit()
    session.preferences = replace(session.preferences, cluster=str(tmp_path / "scheduler.json"))
    panel = SegmentPanel(session)
    qtbot.addWidget(panel.native)
    session.image = add_layer(viewer, layer_data(read_volume(path)))
    session.choose_model(models_folder / "small.unet3d")
    panel.form.spec = SPEC
    panel.form.place.value = tmp_path / "result.zarr"
    panel.form.on_cluster.value = True
    panel.update_plan()
    return panel


def test_without_a_cluster_nothing_is_said_of_one(qtbot, session):
    panel = SegmentPanel(session)
    qtbot.addWidget(panel.native)
    assert panel.form.on_cluster.native.isHidden()


def test_what_a_cluster_cannot_read_or_write_is_said_before_start(panel, session, viewer, tmp_path):
    assert panel.start.enabled
    assert panel.state.planned.sentence.startswith(f"The workers of {tmp_path / 'scheduler.json'} segment it")
    panel.form.place.value = tmp_path / "result.tif"
    panel.update_plan()
    assert "choose it with Save to..." in panel.state.planned.sentence
    assert not panel.start.enabled
    panel.form.place.value = tmp_path / "result.zarr"
    session.image = viewer.add_image(VOLUME)
    panel.update_plan()
    assert "choose an image that lies on a disk" in panel.state.planned.sentence


def test_a_cluster_that_does_not_answer_is_one_notice_and_start_is_there_again(qtbot, panel, session):
    panel.start.native.click()
    qtbot.waitUntil(lambda: not session.segmentation.is_active, timeout=LONG_MS)
    assert "does not exist" in str(session.segmentation.error)
    assert panel.start.enabled


def test_blocks_are_shown_as_they_are_done_and_a_cancelled_run_goes_on(qtbot, panel, session, models_folder, tmp_path):
    want = segment(VOLUME, load_model(models_folder / "small.unet3d"), spec=SPEC)
    with cluster(tmp_path, 1) as (file, _):
        wait_for(file, 1)
        panel.start.native.click()
        run = session.segmentation
        qtbot.waitUntil(lambda: run.n_done >= 2 or not run.is_active, timeout=LONG_MS)
        assert run.is_active, run.error
        run.cancel()
        qtbot.waitUntil(lambda: not run.is_active, timeout=LONG_MS)
        assert run.state == "stopped"
        qtbot.waitUntil(lambda: not is_in_use(run.result.path), timeout=LONG_MS)
        boxes = boxes_done(run.result.path)
        assert 2 <= len(boxes) < 40
        for box in boxes:
            np.testing.assert_array_equal(np.asarray(run.layer.data[box.slices]), want[box.slices])
        qtbot.waitUntil(lambda: panel.start.text.startswith("Go on"), timeout=LONG_MS)
        panel.start.native.click()
        qtbot.waitUntil(lambda: not run.is_active, timeout=LONG_MS)
        assert session.segmentation is run
        assert run.state == "done", run.error
    np.testing.assert_array_equal(read_volume(tmp_path / "result.zarr").data[:, :, :], want)
    np.testing.assert_array_equal(np.asarray(run.layer.data[:, :, :]), want)

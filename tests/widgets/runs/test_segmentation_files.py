"""A result for a file is written by the worker: the window only looks at it."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.objects.clean_up import Cleanup
from napari_unet3d.network.store import load_model, read_card
from napari_unet3d.tasks.segment.work.ledger import boxes_done
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes import create_output, read_volume
from napari_unet3d.widgets.layers.volumes import add_layer, layer_data, layer_volume
from napari_unet3d.widgets.runs.results import Choices
from napari_unet3d.widgets.runs.segmentation import Segmentation
from tests.support.segmenting import segment

LONG_MS = 120_000
SHAPE = (40, 61, 92)
N_TILES = 40
TILES = PredictSpec(tile_shape=(60, 60, 60), device="cpu")
CLEANED = TILES.model_copy(update={"cleanup": Cleanup(high=0.6, low=0.5, min_voxels=5)})
NUMBERED = TILES.model_copy(update={"cleanup": Cleanup(high=0.5, low=0.5, min_voxels=0, instances=True)})


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3000, SHAPE).astype(np.uint16)


@pytest.fixture(scope="module")
def on_disk(volume, tmp_path_factory):
    path = tmp_path_factory.mktemp("volume") / "neurons.ome.tif"
    with create_output(path, SHAPE, "uint16", voxel_size=(0.3, 0.2, 0.1), unit="um", kind="image") as output:
        output[:, :, :] = volume
        output.commit()
    return path


@pytest.fixture
def begin(viewer, engine, models_folder, on_disk):
    """Return a function that starts a segmentation of the volume on disk into a file."""
    runs = []

    def begin(path, spec=TILES, image=None, goes_on=False, **choices):
        layer = image or add_layer(viewer, layer_data(read_volume(on_disk)))
        model = models_folder / "small.unet3d"
        chosen = Choices(model, read_card(model)[0], spec, path=path, **choices)
        run = Segmentation(viewer, engine, layer_volume(layer), chosen, goes_on=goes_on)
        runs.append(run)
        run.start()
        return run

    yield begin
    for run in runs:
        run.close()


@pytest.fixture
def passed(engine, monkeypatch):
    """Return the boxes that pass between worker and window, each with what is done to it and its bytes."""
    lend, boxes = engine.loans.lend, []

    def counted(number, array, box, *, fill):
        n_bytes = int(np.prod([part.stop - part.start for part in box])) * array.dtype.itemsize
        boxes.append(("to the worker" if fill else "to the window", n_bytes))
        return lend(number, array, box, fill=fill)

    monkeypatch.setattr(engine.loans, "lend", counted)
    return boxes


def finished(qtbot, run, state="done"):
    qtbot.waitUntil(lambda: not run.is_active, timeout=LONG_MS)
    assert run.state == state, run.error


def totals_of(run):
    """Return a set that hears how many tiles a run is about to compute."""
    totals = set()
    run.changed.connect(lambda: totals.add(run.n_tiles) if run.phase == "segmenting" else None)
    return totals


def expected(volume, models_folder, spec):
    return segment(volume, load_model(models_folder / "small.unet3d"), spec=spec)


@pytest.mark.parametrize("spec", [TILES, CLEANED, NUMBERED], ids=["labels", "cleaned", "numbered"])
@pytest.mark.parametrize("suffix", [".zarr", ".tif"])
def test_no_voxel_passes_through_the_window_but_what_is_shown(
    qtbot, begin, passed, volume, models_folder, tmp_path, spec, suffix
):
    path = tmp_path / f"result{suffix}"
    run = begin(path, spec)
    shown, read = [], run.result.shown.read

    def looked(box):
        shown.append(tuple(part.stop - part.start for part in box))
        return read(box)

    run.result.shown.read = looked
    finished(qtbot, run)
    # The volume is read, the result is written, and clean-up keeps its evidence, all by the worker.
    assert passed == []
    assert run.result.arrays == {}
    assert shown
    # What is shown is a slice, as often as something changed in it.
    assert {size[0] for size in shown} == {1}
    want = expected(volume, models_folder, spec)
    assert want.any()
    np.testing.assert_array_equal(read_volume(path).data[:, :, :], want)
    np.testing.assert_array_equal(np.asarray(run.layer.data[:, :, :]), want)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_of_a_volume_that_lies_in_the_window_only_that_is_sent(qtbot, begin, passed, viewer, volume, tmp_path):
    run = begin(tmp_path / "result.zarr", image=viewer.add_image(volume))
    finished(qtbot, run)
    assert {where for where, _ in passed} == {"to the worker"}


@pytest.mark.parametrize("suffix", [".zarr", ".tif"])
def test_a_worker_that_is_killed_costs_a_tile_and_the_file_ends_with_the_same_bytes(
    qtbot, begin, volume, models_folder, tmp_path, suffix
):
    path = tmp_path / f"result{suffix}"
    run = begin(path, CLEANED)
    qtbot.waitUntil(lambda: run.n_done >= 3, timeout=LONG_MS)
    os.kill(run.engine.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    finished(qtbot, run, "failed")
    assert [found.name for found in tmp_path.iterdir()] == [f"result{suffix}.unfinished"]
    n_kept = len(boxes_done(path))
    assert n_kept >= 3
    totals = totals_of(run)
    run.start()
    finished(qtbot, run)
    # Those that were done are not computed again.
    assert N_TILES - n_kept in totals
    np.testing.assert_array_equal(read_volume(path).data[:, :, :], expected(volume, models_folder, CLEANED))
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_what_is_done_is_shown_tile_by_tile_and_stays_when_it_is_cancelled(
    qtbot, begin, volume, models_folder, tmp_path
):
    run = begin(tmp_path / "result.tif")
    qtbot.waitUntil(lambda: run.n_done >= 2, timeout=LONG_MS)
    run.cancel()
    finished(qtbot, run, "stopped")
    want = expected(volume, models_folder, TILES)
    boxes = boxes_done(tmp_path / "result.tif")
    assert len(boxes) >= 2
    for box in boxes:
        np.testing.assert_array_equal(np.asarray(run.layer.data[box.slices]), want[box.slices])
    assert not (tmp_path / "result.tif").exists()
    run.start()
    finished(qtbot, run)
    np.testing.assert_array_equal(np.asarray(run.layer.data[:, :, :]), want)


def test_a_file_that_was_removed_meanwhile_is_not_gone_on_with(qtbot, begin, tmp_path):
    run = begin(tmp_path / "result.tif")
    qtbot.waitUntil(lambda: run.n_done >= 1, timeout=LONG_MS)
    run.cancel()
    finished(qtbot, run, "stopped")
    (tmp_path / "result.tif.unfinished" / "result.tif").unlink()
    run.start()
    finished(qtbot, run, "failed")
    assert "no longer there" in str(run.error)


@pytest.mark.parametrize("spec", [TILES, NUMBERED], ids=["labels", "numbered"])
def test_what_is_done_outlives_the_window_and_another_one_goes_on_with_it(
    qtbot, begin, volume, models_folder, tmp_path, spec
):
    path = tmp_path / "result.zarr"
    run = begin(path, spec)
    qtbot.waitUntil(lambda: run.n_done >= 2, timeout=LONG_MS)
    run.close()
    qtbot.waitUntil(lambda: run._run.has_ended.is_set(), timeout=LONG_MS)
    boxes = boxes_done(path)
    assert len(boxes) >= 2
    want = expected(volume, models_folder, spec)
    other = begin(path, spec, goes_on=True)
    totals = totals_of(other)
    # What is there is shown before anything is computed.
    np.testing.assert_array_equal(np.asarray(other.layer.data[boxes[0].slices]) > 0, want[boxes[0].slices] > 0)
    assert other.share >= sum(box.n_voxels for box in boxes) / volume.size
    finished(qtbot, other)
    assert N_TILES - len(boxes) in totals
    assert N_TILES not in totals
    np.testing.assert_array_equal(np.asarray(other.layer.data[:, :, :]), want)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_the_probability_of_a_class_in_a_region_is_written_where_it_lies(qtbot, begin, volume, models_folder, tmp_path):
    spec = PredictSpec(output="probabilities", region=Box((3, 22), (5, 41), (7, 30)), device="cpu")
    run = begin(tmp_path / "result.ome.tif", spec, shown_class=1)
    finished(qtbot, run)
    found = read_volume(tmp_path / "result.ome.tif")
    np.testing.assert_array_equal(found.data[:, :, :], expected(volume, models_folder, spec)[..., 1])
    assert found.voxel_size == pytest.approx((0.3, 0.2, 0.1))
    assert found.translate == pytest.approx((3 * 0.3, 5 * 0.2, 7 * 0.1))

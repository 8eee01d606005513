"""A job that says where its result goes writes it itself, stops, and goes on to the same bytes."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet3d.core.normalize import Normalization
from napari_unet3d.core.objects.clean_up import Cleanup
from napari_unet3d.engine import HereEngine
from napari_unet3d.errors import OutputError
from napari_unet3d.network.store import load_model, save_model
from napari_unet3d.tasks.events import Progress, Started, TileDone
from napari_unet3d.tasks.jobs.kinds import job_from_json
from napari_unet3d.tasks.jobs.places import ImageCalibration
from napari_unet3d.tasks.jobs.segment import SegmentJob
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes import read_volume
from tests.support.models import random_model
from tests.support.segmenting import segment

VOLUME = np.random.default_rng(3).integers(0, 3000, (20, 31, 42)).astype(np.uint16)
SPEC = PredictSpec(
    tile_shape=(40, 40, 40), device="cpu", cleanup=Cleanup(high=0.57, low=0.52, min_voxels=3, instances=True)
)
SPACE = ImageCalibration(voxel_size=(0.3, 0.2, 0.1), unit="um", translate=(1.0, 2.0, 3.0))
N_TILES = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(
        random_model(blocks=0, filters=2, normalization=Normalization(kind="zscore")),
        tmp_path_factory.mktemp("model") / "m.unet3d",
    )


@pytest.fixture(scope="module")
def want(model):
    labels = segment(VOLUME, load_model(model), spec=SPEC)
    assert labels.max() > 1
    return labels


def run_of(job: SegmentJob):
    """Return a run of what arrives of a job in another process."""
    return HereEngine().submit(job_from_json(job.model_dump_json()), {"image": VOLUME})


def job_to(path, model, **fields):
    return SegmentJob(model=model, spec=SPEC, output=path, calibration=SPACE, **fields)


STOPS = {
    "at the third tile": lambda event: isinstance(event, TileDone) and event.done == 3,
    "before clean-up": lambda event: isinstance(event, TileDone) and event.done == event.total,
    "in clean-up": lambda event: isinstance(event, Progress) and event.done == 1,
    "after clean-up": lambda event: event == Progress("cleaning up", 2, 2),
}


@pytest.mark.parametrize("stops", STOPS.values(), ids=STOPS)
@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_a_file_is_there_whole_or_not_at_all_and_what_is_done_is_kept(model, want, tmp_path, suffix, stops):
    target = tmp_path / f"out{suffix}"
    run, n_done = run_of(job_to(target, model)), 0
    for event in run.events():
        n_done += isinstance(event, TileDone)
        if not isinstance(event, Started) and stops(event):
            run.cancel()
    assert run.state == "stopped"
    assert [path.name for path in tmp_path.iterdir()] == [f"{target.name}.unfinished"]
    with pytest.raises(OutputError, match="of a run that was stopped"):
        run_of(job_to(target, model)).wait()
    run = run_of(job_to(target, model, resume=True))
    n_again = sum(isinstance(event, TileDone) for event in run.events())
    # A tile may have been on the disk before anybody was told.
    assert n_done + n_again in (N_TILES, N_TILES - 1)
    found = read_volume(target)
    np.testing.assert_array_equal(found.data[:, :, :], want)
    assert found.voxel_size == pytest.approx(SPACE.voxel_size)
    assert found.translate == pytest.approx(SPACE.translate, abs=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    with pytest.raises(OutputError, match="exists already"):
        run_of(job_to(target, model)).wait()
    assert run_of(job_to(target, model, overwrite=True)).wait() is not None


def test_of_probabilities_one_class_is_kept_where_that_is_asked_for(model, tmp_path):
    spec = PredictSpec(output="probabilities", device="cpu")
    both = segment(VOLUME, load_model(model), spec=spec)
    job = SegmentJob(model=model, spec=spec, only_class=1, output=tmp_path / "one.tif", calibration=SPACE)
    run_of(job).wait()
    np.testing.assert_array_equal(read_volume(tmp_path / "one.tif").data[:, :, :], both[..., 1])
    result = np.zeros(VOLUME.shape, np.float32)
    HereEngine().submit(SegmentJob(model=model, spec=spec, only_class=1), {"image": VOLUME, "result": result}).wait()
    np.testing.assert_array_equal(result, both[..., 1])


def test_a_run_does_not_go_on_with_the_probabilities_of_another_class(model, tmp_path):
    spec = PredictSpec(output="probabilities", tile_shape=SPEC.tile_shape, device="cpu")
    job = SegmentJob(model=model, spec=spec, only_class=1, output=tmp_path / "one.zarr")
    run = run_of(job)
    for event in run.events():
        if isinstance(event, TileDone):
            run.cancel()
    with pytest.raises(OutputError, match="begun differently"):
        run_of(job.model_copy(update={"only_class": 0, "resume": True})).wait()


def test_a_job_for_a_cluster_names_files(model, tmp_path):
    with pytest.raises(ValueError, match="a cluster reads and writes files"):
        SegmentJob(model=model, output=tmp_path / "out.zarr", cluster="tcp://127.0.0.1:8786")

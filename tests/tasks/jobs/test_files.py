"""Jobs as files: what was saved is what is done, wherever the folder was moved to."""

from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import pytest
import tifffile

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.augment.draw import PatchFrame
from napari_unet3d.core.augment.presets import PRESETS
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.normalize import Normalization
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import SpecError
from napari_unet3d.network.store import load_model, save_model
from napari_unet3d.tasks.augment.patches import AugmentRequest
from napari_unet3d.tasks.jobs.augment import AugmentJob
from napari_unet3d.tasks.jobs.files import JobFile, output_of, read_job, write_job
from napari_unet3d.tasks.jobs.places import ImageCalibration
from napari_unet3d.tasks.jobs.segment import SegmentJob
from napari_unet3d.tasks.jobs.train import PairPlace, TrainJob
from napari_unet3d.tasks.on_disk import OnDisk
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.tasks.train.kept.run_folder import LAST
from napari_unet3d.tasks.train.spec import TrainSpec
from napari_unet3d.volumes import read_volume
from tests.support.models import random_model
from tests.tasks.train.test_command import command
from tests.tasks.train.test_train import IMAGE, LABELS


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a volume, its labels and a model."""
    folder = tmp_path / "project"
    folder.mkdir()
    tifffile.imwrite(folder / "image.tif", IMAGE)
    tifffile.imwrite(folder / "labels.tif", LABELS)
    save_model(random_model(blocks=0, filters=2, seed=3), folder / "model.unet3d")
    return folder


def segment_job(folder, **choices):
    spec = PredictSpec(region=Box((2, 20), (0, 30), (5, 40)))
    return SegmentJob(model=folder / "model.unet3d", image=OnDisk(path=str(folder / "image.tif")), spec=spec, **choices)


def test_a_segmentation_is_done_with_the_bytes_of_predict_after_its_folder_was_moved(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = JobFile(
        job=segment_job(folder),
        calibration=ImageCalibration(voxel_size=(0.4, 0.2, 0.1), translate=(1, 2, 3), unit="um"),
    )
    assert write_job(written, folder / "night.json") == folder / "night.json"
    assert read_job("project/night.json") == written
    moved = shutil.move(folder, tmp_path / "cluster")
    assert command("run", tmp_path / "cluster" / "night.json") == 0
    options = ["--region", "2:20,0:30,5:40", "--output", tmp_path / "expected.tif"]
    assert command("predict", f"{moved}/image.tif", "--model", f"{moved}/model.unet3d", *options) == 0
    found = read_volume(f"{moved}/night.ome.tif")
    np.testing.assert_array_equal(found.data[:, :, :], tifffile.imread(tmp_path / "expected.tif"))
    assert found.voxel_size == pytest.approx((0.4, 0.2, 0.1))
    assert found.translate == pytest.approx((1 + 2 * 0.4, 2, 3 + 5 * 0.1))
    # Once more it would be in its own way.
    assert command("run", tmp_path / "cluster" / "night.json") == 3
    assert command("run", tmp_path / "cluster" / "night.json", "--overwrite") == 0
    assert command("run", tmp_path / "cluster" / "night.json", "--output", tmp_path / "other.zarr") == 0


def test_a_model_that_was_replaced_is_refused(folder, capsys):
    write_job(JobFile(job=segment_job(folder, weights_sha256="0" * 64)), folder / "job.json")
    assert command("run", folder / "job.json") == 3
    assert "has changed since you chose it" in capsys.readouterr().err


def test_a_training_run_is_that_of_train_and_goes_on(folder, tmp_path):
    meanings = Meanings.painted(("background", "ball"))
    network = NetworkSpec(blocks=0, filters=2, classes=2)
    spec = TrainSpec(
        network=network, class_names=meanings.class_names, patch=(24, 24, 24), steps=3, validate_every=2, device="cpu"
    )
    places = {name: OnDisk(path=str(folder / f"{name}.tif")) for name in ("image", "labels")}
    job = TrainJob(spec=spec, pairs=(PairPlace(meanings=meanings, **places),), folder=folder / "run")
    path = write_job(JobFile(job=job), folder / "run.json")
    assert output_of(read_job(path), path) == folder / "run"
    assert command("run", path) == 0
    assert command("run", path, "--overwrite") == 3
    assert command("run", path, "--resume") == 0
    assert command("run", path, "--output", tmp_path / "again") == 0
    ours, theirs = (load_model(run / LAST).weights for run in (folder / "run", tmp_path / "again"))
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


def test_a_patch_is_that_of_augment(folder, tmp_path, capsys):
    frame = PatchFrame(shape=(24, 24, 24), halo=8, voxel_size=(1, 1, 1))
    preset = "isotropic light microscopy"
    scaled = Normalization(kind="background")
    request = AugmentRequest(augment=PRESETS[preset], frame=frame, seeds=(5,), normalization=scaled)
    places = {name: OnDisk(path=str(folder / f"{name}.tif")) for name in ("image", "labels")}
    write_job(JobFile(job=AugmentJob(request=request, **places), output=tmp_path / "a.tif"), folder / "job.json")
    assert command("run", folder / "job.json") == 0
    assert "seed 5" in capsys.readouterr().out
    options = ["--seed", 5, "--preset", preset, "--input", "24", "--blocks", 0, "--labels", folder / "labels.tif"]
    assert command("augment", folder / "image.tif", *options, "--output", tmp_path / "b.tif") == 0
    for name in ("{}.tif", "{}-labels.tif"):
        first, second = (tifffile.imread(tmp_path / name.format(letter)) for letter in "ab")
        assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "something"}, "is not a job: format: Input should be 'napari-unet3d job'"),
        ({"format_version": 2}, "is not a job: format_version: Input should be 1"),
        ({"job": {"kind": "cook"}}, "is not a job: job: Input tag 'cook'"),
        ({"more": 1}, "is not a job: more: Extra inputs are not permitted"),
    ],
)
def test_what_is_no_job_is_refused_in_one_line(folder, change, said, capsys):
    path = write_job(JobFile(job=segment_job(folder)), folder / "job.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert command("run", path) == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


@pytest.mark.parametrize("kind", ["segment", "train", "augment"])
def test_what_should_be_known_of_the_files_is_said(folder, capsys, kind):
    with h5py.File(folder / "image.h5", "w") as file:
        file["data"] = IMAGE.astype(np.float64)
    with h5py.File(folder / "labels.h5", "w") as file:
        file.create_dataset("data", LABELS.shape, LABELS.dtype, chunks=(1, *LABELS.shape[1:]))[:-1] = LABELS[:-1]
    places = {name: OnDisk(path=str(folder / f"{name}.h5")) for name in ("image", "labels")}
    meanings = Meanings.painted(("background", "ball"))
    network = NetworkSpec(blocks=0, filters=2, classes=2)
    spec = TrainSpec(network=network, class_names=meanings.class_names, patch=(24, 24, 24), steps=1, device="cpu")
    frame = PatchFrame(shape=(24, 24, 24), halo=8, voxel_size=(1, 1, 1))
    job = {
        "segment": SegmentJob(model=folder / "model.unet3d", image=places["image"]),
        "train": TrainJob(spec=spec, pairs=(PairPlace(meanings=meanings, **places),), folder=folder / "run"),
        "augment": AugmentJob(request=AugmentRequest(frame=frame, seeds=(5,)), **places),
    }[kind]
    calibration = None if kind == "train" else ImageCalibration(voxel_size=(1, 1, 1), unit="um")
    path = write_job(JobFile(job=job, output=folder / "out.tif", calibration=calibration), folder / "job.json")
    assert command("run", path) == 0
    said = capsys.readouterr().err
    assert said.count("float64 is read as float32") == 1
    assert said.count("chunks were not written") == (kind != "segment")
    # The job says it.
    assert "no voxel size" not in said


def test_what_lies_only_in_a_window_is_no_job_for_a_file(folder):
    with pytest.raises(ValueError, match="does not say where its volumes lie"):
        JobFile(job=SegmentJob(model=folder / "model.unet3d"))
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        read_job(folder / "none.json")


def test_a_segmentation_is_not_forced_to_go_on(folder, capsys):
    write_job(JobFile(job=segment_job(folder)), folder / "job.json")
    assert command("run", folder / "job.json", "--resume", "--force") == 3
    assert "--force is for training" in capsys.readouterr().err


WRITTEN_BEFORE = {
    "segment": """{"format": "napari-unet3d job", "format_version": 1, "job": {"kind": "segment", "model":
        "night-model.unet3d", "weights_sha256": "ab", "spec": {"output": "labels", "region": [[2, 20], [0, 30], [5, 9]],
        "memory_bytes": null, "device": "auto", "cleanup": null, "nonfinite": "refuse", "tile_shape": null}, "image":
        {"path": "image.tif", "axes": null, "dataset": null, "channel": null, "timepoint": null}, "focus": null,
        "done": []}, "output": null, "calibration": {"voxel_size": [0.4, 0.2, 0.1], "translate": [1.0, 2.0, 3.0],
        "unit": "um"}}""",
    "augment": """{"format": "napari-unet3d job", "format_version": 1, "job": {"kind": "augment", "request": {"frame":
        {"shape": [24, 24, 24], "halo": 8, "voxel_size": [1.0, 1.0, 1.0]}, "seeds": [5]}, "image": {"path":
        "image.tif"}, "labels": null}, "output": "a.tif", "calibration": null}""",
}


@pytest.mark.parametrize("kind", WRITTEN_BEFORE)
def test_a_job_that_an_earlier_version_wrote_is_read(kind, tmp_path):
    (tmp_path / "job.json").write_text(WRITTEN_BEFORE[kind])
    read = read_job(tmp_path / "job.json")
    assert read.job.kind == kind
    assert read.job.image.path == str(tmp_path / "image.tif")
    assert read_job(write_job(read, tmp_path / "again.json")) == read

"""Augmented patches from the task, the worker, the command and the sampler of training: the same bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from napari_unet3d.cli import main
from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.annotation.patches import AnnotatedSource, AnnotatedVolume
from napari_unet3d.core.annotation.targets import read_targets
from napari_unet3d.core.augment.choices import AugmentSpec
from napari_unet3d.core.augment.draw import PatchFrame, augment_image, augment_labels
from napari_unet3d.core.augment.presets import PRESETS
from napari_unet3d.core.augment.sampler import PatchSampler
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.normalize import Normalization, Scaling, measure
from napari_unet3d.engine import LocalEngine
from napari_unet3d.errors import VolumeError
from napari_unet3d.tasks.augment.patches import (
    GRID,
    PATCH,
    PATCH_LABELS,
    AugmentRequest,
    AugmentResult,
    augment,
    mosaic,
    source_of,
)
from napari_unet3d.tasks.driving import drive
from napari_unet3d.tasks.events import TileDone
from napari_unet3d.tasks.jobs.augment import AugmentJob
from napari_unet3d.volumes import read_volume

FRAME = PatchFrame(shape=(60, 60, 60), halo=20, voxel_size=(0.5, 0.25, 0.25))
SPEC = PRESETS["isotropic light microscopy"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Return an image and its labels, as files."""
    folder = tmp_path_factory.mktemp("pair")
    image = np.random.default_rng(0).gamma(2, 300, (50, 70, 64)).astype(np.uint16)
    metadata = {"axes": "ZYX", "spacing": 0.5, "unit": "um"}
    for name, voxels in (("image", image), ("labels", (image > 900).astype(np.uint8))):
        tifffile.imwrite(folder / f"{name}.tif", voxels, imagej=True, metadata=metadata, resolution=(4, 4))
    return folder / "image.tif", folder / "labels.tif"


def finished(events):
    """Return all events and the result."""
    seen = []
    result = drive(events, seen.append)
    return seen, result


def sinks(*names):
    shapes = {
        PATCH: (FRAME.shape, "float32"),
        PATCH_LABELS: (FRAME.output.shape, "uint8"),
        GRID: (FRAME.shape, "float32"),
    }
    return {name: np.zeros(*shapes[name]) for name in names}


@pytest.mark.parametrize("preset", ["as the original", "isotropic light microscopy", "electron microscopy"])
def test_command_worker_and_sampler_give_the_same_bytes_for_a_seed(pair, preset, tmp_path):
    seed = 17
    image, labels = (read_volume(path) for path in pair)
    request = AugmentRequest(augment=PRESETS[preset], frame=FRAME, seeds=(seed,))

    # The sampler that training uses, which comes to this seed as its third patch.
    made = sinks(PATCH, PATCH_LABELS)
    _, result = finished(augment(request, image.data, labels.data, made, threads=1))
    scaling = Scaling(*result.scaling)
    with PatchSampler(source_of(request, image.data, labels.data, scaling), seed=seed - 2, threads=2) as patches:
        trained = [next(patches) for _ in range(3)][-1]
    assert made[PATCH].tobytes() == trained.image.tobytes()
    assert made[PATCH_LABELS].tobytes() == trained.labels.tobytes()
    assert result.samples == (trained.sample,)

    # The command.
    words = ["augment", pair[0], "--labels", pair[1], "--output", tmp_path / "patch.tif", "--seed", seed]
    words += ["--preset", preset, "--blocks", "1", "--input", "60"]
    main_exits_with(0, words)
    assert tifffile.imread(tmp_path / "patch.tif").tobytes() == trained.image.tobytes()
    assert tifffile.imread(tmp_path / "patch-labels.tif").tobytes() == trained.labels.tobytes()
    record = json.loads((tmp_path / "patch.json").read_text())
    assert record["sample"] == json.loads(trained.sample.model_dump_json())

    # The worker, whose arrays lie in this process, as the window's do.
    engine = LocalEngine(log=tmp_path / "worker.log", gives_way=False)
    shown = sinks(PATCH, PATCH_LABELS)
    arrays = {"image": np.asarray(image.data[...]), "labels": np.asarray(labels.data[...]), **shown}
    try:
        job = AugmentJob(request=request.model_copy(update={"first": Box((10, 50), (5, 40), (0, 60))}))
        assert engine.submit(job, arrays).wait() == result.model_copy(
            update={"seconds": pytest.approx(0, abs=600), "preparing_seconds": pytest.approx(0, abs=600)}
        )
    finally:
        engine.end()
    assert shown[PATCH].tobytes() == trained.image.tobytes()
    assert shown[PATCH_LABELS].tobytes() == trained.labels.tobytes()


def main_exits_with(code, words):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    assert (stop.value.code or 0) == code


def test_what_is_looked_at_comes_first_and_then_the_whole():
    image = np.random.default_rng(0).integers(0, 900, (80, 80, 80)).astype(np.uint16)
    first = Box((20, 30), (10, 50), (20, 60))
    events, _ = finished(augment(AugmentRequest(augment=SPEC, frame=FRAME, first=first), image, None, sinks(PATCH)))
    boxes = [event.box for event in events if isinstance(event, TileDone)]
    assert boxes[0] == first
    covered = np.zeros(FRAME.shape, int)
    for box in boxes[1:]:
        covered[box.slices] += 1
    assert (covered == 1).all()


def test_what_is_looked_at_is_made_once_where_it_is_the_whole():
    image = np.random.default_rng(0).integers(0, 900, (80, 80, 80)).astype(np.uint16)
    request = AugmentRequest(augment=SPEC, frame=FRAME, first=Box.whole(FRAME.shape))
    events, _ = finished(augment(request, image, None, sinks(PATCH)))
    assert [event.box for event in events if isinstance(event, TileDone)] == [request.first]


def test_several_patches_lie_side_by_side_each_as_it_is_alone():
    rng = np.random.default_rng(0)
    image, labels = rng.integers(0, 900, (80, 80, 80)).astype(np.uint16), rng.integers(0, 3, (80, 80, 80), np.uint8)
    request = AugmentRequest(augment=SPEC, frame=FRAME, seeds=(4, 5, 6, 7, 8))
    shape, places = mosaic(5, FRAME.output.shape)
    made = {PATCH: np.zeros(shape, np.float32), PATCH_LABELS: np.zeros(shape, np.uint8)}
    _, result = finished(augment(request, image, labels, made))
    scaling = Scaling(*result.scaling)
    for sample, place in zip(result.samples, places, strict=True):
        expected = augment_image(sample, image, FRAME.output, scaling=scaling)
        np.testing.assert_array_equal(made[PATCH][place.slices], expected)
        np.testing.assert_array_equal(made[PATCH_LABELS][place.slices], augment_labels(sample, labels))
    assert [sample.seed for sample in result.samples] == [4, 5, 6, 7, 8]


def test_the_grid_is_deformed_like_the_image():
    image = np.zeros((80, 80, 80), np.uint8)
    made = sinks(GRID)
    finished(augment(AugmentRequest(frame=FRAME, corner=(5, 6, 7)), image, None, made))
    distance = max(FRAME.shape) // 8
    lines = np.arange(60) % distance == 0
    np.testing.assert_array_equal(made[GRID][30], (lines[:, None] | lines).astype(np.float32))
    bent = AugmentRequest(augment=AugmentSpec(elastic={"probability": 1}), frame=FRAME, corner=(5, 6, 7))
    finished(augment(bent, image, None, made))
    assert 0 < made[GRID].mean() < 0.5
    assert not np.array_equal(made[GRID][30], (lines[:, None] | lines))


@pytest.mark.parametrize(
    ("image", "labels", "words"),
    [
        (np.zeros((50, 50, 50), np.uint8), np.zeros((50, 50, 40), np.uint8), ["50 x 50 x 50", "50 x 50 x 40"]),
        (np.full((50, 50, 50), np.nan, np.float32), None, ["NaN"]),
    ],
)
def test_volumes_that_cannot_be_augmented_are_refused(image, labels, words):
    request = AugmentRequest(frame=FRAME, normalization=Normalization(kind="none"))
    with pytest.raises(VolumeError) as error:
        finished(augment(request, image, labels, sinks(PATCH)))
    assert all(word in str(error.value) for word in words)


def test_the_command_replays_a_record_and_carries_the_place(pair, tmp_path):
    first, second = tmp_path / "one.ome.tif", tmp_path / "two.zarr"
    common = ["augment", pair[0], "--labels", pair[1]]
    main_exits_with(0, [*common, "--output", first, "--blocks", "1", "--input", "52,60,60", "--at", "-3,4,5"])
    main_exits_with(0, [*common, "--output", second, "--replay", tmp_path / "one.json"])
    one, two = read_volume(first), read_volume(second)
    np.testing.assert_array_equal(one.data[...], two.data[...])
    assert one.shape == (52, 60, 60)
    for volume in (one, two):
        assert volume.voxel_size == pytest.approx((0.5, 0.25, 0.25))
    assert two.translate == pytest.approx((-1.5, 1.0, 1.25))
    labels = read_volume(tmp_path / "two-labels.zarr")
    assert labels.translate == pytest.approx((-1.5 + 10, 1.0 + 5, 1.25 + 5))
    assert labels.shape == (12, 20, 20)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--preset", "foo"], "'anisotropic stack'"),
        (["--input", "130"], "128 and 132"),
        (["--input", "1,2"], "neither a size nor z,y,x"),
        (["--spec", "missing.json"], "cannot be read"),
        (["--spec", "wrong.json"], "rotation.probability"),
        (["--replay", "wrong.json"], "no record of an augmented patch"),
        (["--preset", "nothing", "--spec", "wrong.json"], "pass one of them"),
        (["--output", "labels.tif", "--overwrite"], "the volume to read from"),
        (["--labels", "wide.tif"], "1 x 2 x 3"),
    ],
)
def test_bad_choices_are_one_line_and_leave_nothing(pair, words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("labels.tif", tifffile.imread(pair[1]))
    tifffile.imwrite("wide.tif", np.zeros((1, 2, 3), np.uint8), photometric="minisblack")
    (tmp_path / "wrong.json").write_text('{"rotation": {"probability": 7}}')
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    given = ["augment", pair[0], "--labels", "labels.tif", "--output", "out.tif", "--blocks", "1", "--input", "60"]
    main_exits_with(3, [*given, *words])
    assert sentence in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_exists_is_kept_unless_it_may_be_replaced(pair, tmp_path, capsys):
    words = ["augment", pair[0], "--output", tmp_path / "out.tif", "--blocks", "1", "--input", "60"]
    main_exits_with(0, words)
    before = (tmp_path / "out.tif").read_bytes()
    main_exits_with(3, [*words, "--seed", "1"])
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "out.tif").read_bytes() == before
    main_exits_with(0, [*words, "--seed", "1", "--overwrite"])
    assert (tmp_path / "out.tif").read_bytes() != before
    assert json.loads((tmp_path / "out.json").read_text())["sample"]["seed"] == 1


def test_training_does_the_same_to_the_patches_that_it_cuts_around_annotation(pair, tmp_path):
    image, labels = (read_volume(path) for path in pair)
    scaling = measure(Normalization(kind="background"), image.data)
    targets = read_targets(np.asarray(labels.data[:, :, :]), Meanings.indices(("background", "cell")))
    volume = AnnotatedVolume(image.data, targets, scaling, image.voxel_size)
    source = AnnotatedSource([volume], SPEC, FRAME)
    for seed in (0, 1, 2):
        patch = source.patch(seed)
        at = ",".join(map(str, patch.sample.corner))
        words = ["--labels", str(pair[1]), "--seed", str(seed), "--at", at, "--input", "60", "--blocks", "1"]
        assert run(pair[0], "--output", tmp_path / f"{seed}.tif", *words) == 0
        assert tifffile.imread(tmp_path / f"{seed}.tif").tobytes() == patch.image.tobytes()
        assert tifffile.imread(tmp_path / f"{seed}-labels.tif").tobytes() == patch.labels.tobytes()


def test_padding_far_below_everything_is_read_alike_by_who_measures_it_and_who_is_told(pair):
    image = np.asarray(read_volume(pair[0]).data[:, :, :]).astype(np.uint16) + 5000
    image[:, : image.shape[1] // 3] = 0
    request = AugmentRequest(augment=SPEC, frame=FRAME, corner=(0, -10, 0))
    first, again = sinks(PATCH), sinks(PATCH)
    _, result = finished(augment(request, image, None, first, threads=1))
    told = AugmentResult.model_validate_json(result.model_dump_json()).scaling
    finished(augment(request.model_copy(update={"scaling": told}), image, None, again, threads=1))
    assert first[PATCH].tobytes() == again[PATCH].tobytes()
    scaling = measure(request.normalization, image)
    assert scaling.read_as
    assert scaling == Scaling(*result.scaling, notes=scaling.notes)
    np.testing.assert_array_equal(first[PATCH], augment_image(result.samples[0], image, scaling=scaling))


def run(*words):
    with pytest.raises(SystemExit) as end:
        main(["augment", *map(str, words)])
    return end.value.code


def test_a_place_beyond_the_volume_is_refused(pair, tmp_path, capsys):
    for at in ("99999999,0,0", "3000000000,0,0", "0,-60,0"):
        assert run(pair[0], "--output", tmp_path / "far.tif", "--input", 60, "--blocks", 1, "--at", at) == 3
        assert "lies outside of the volume" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_record_of_another_image_is_refused(pair, tmp_path, capsys):
    small = ("--input", 60, "--blocks", 1)
    assert run(pair[0], "--output", tmp_path / "a.tif", *small) == 0
    tifffile.imwrite(tmp_path / "two.ome.tif", np.zeros((2, 50, 70, 64), np.uint16), metadata={"axes": "CZYX"})
    record = ("--replay", tmp_path / "a.json", "--output", tmp_path / "b.tif")
    assert run(tmp_path / "two.ome.tif", *record) == 3
    assert "50 x 70 x 64 x 2 voxels, uint16; the record was made from 50 x 70 x 64, uint16" in capsys.readouterr().err
    assert run(pair[0], *record, "--seed", 3) == 3
    assert "already holds --seed, --input and --at" in capsys.readouterr().err


def test_labels_of_an_earlier_patch_do_not_stay_beside_one_without(pair, tmp_path, capsys):
    words = ("--output", tmp_path / "a.OME.tif", "--input", 60, "--blocks", 1)
    assert run(pair[0], "--labels", pair[1], *words) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-labels.OME.tif", "a.OME.tif", "a.json"]
    assert run(pair[0], *words, "--overwrite") == 3
    assert "would be taken for the labels of this one" in capsys.readouterr().err


def test_labels_with_other_voxels_are_noted(pair, tmp_path, capsys):
    other = {"axes": "ZYX", "spacing": 2, "unit": "um"}
    tifffile.imwrite(tmp_path / "l.tif", tifffile.imread(pair[1]), imagej=True, metadata=other, resolution=(1, 1))
    words = ["--labels", tmp_path / "l.tif", "--output", tmp_path / "a.tif", "--input", "60", "--blocks", "1"]
    assert run(pair[0], *words) == 0
    assert "voxels of 0.5 x 0.25 x 0.25 um, the mask 50 x 70 x 64 voxels of 2 x 1 x 1 um" in capsys.readouterr().err

"""A run that was stopped, killed or starved of disk computes only what is missing, and ends with the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from yaozarrs import validate_zarr_store

from napari_unet3d import Volume
from napari_unet3d.cli.report import left_facts
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.normalize import Normalization
from napari_unet3d.core.objects.clean_up import Cleanup
from napari_unet3d.errors import EngineError, OutputError
from napari_unet3d.network.machine.devices import select_device
from napari_unet3d.network.store import save_model
from napari_unet3d.tasks.driving import drive
from napari_unet3d.tasks.events import Progress, Started, TileDone
from napari_unet3d.tasks.segment.blocks import BlockRun
from napari_unet3d.tasks.segment.files import check_apart, predict_file
from napari_unet3d.tasks.segment.work.ledger import Ledger, folder_of, n_done
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes import create_output, read_volume
from napari_unet3d.volumes.outputs.pyramid import reduce_box
from napari_unet3d.volumes.reading import list_arrays
from tests.support.models import random_model

ROOT = Path(__file__).parents[3]
POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
SPEC = PredictSpec(tile_shape=(40, 40, 40), device="cpu", prior=(0.9, 0.1))
OBJECTS = Cleanup(high=0.57, low=0.52, min_voxels=3, instances=True)
CLEANED = SPEC.model_copy(update={"cleanup": OBJECTS, "prior": "training"})
VOXELS = np.random.default_rng(3).integers(0, 3000, (40, 50, 60)).astype(np.uint16)


@pytest.fixture(scope="module")
def model():
    return random_model(blocks=0, filters=2, normalization=Normalization(kind="zscore"))


@pytest.fixture(scope="module")
def volume():
    return Volume.from_array(VOXELS, voxel_size=(2, 1, 1), unit="um")


def contents(path: Path) -> dict[str, bytes]:
    """Return all files of a result by their names in it."""
    files = [path] if path.is_file() else sorted(found for found in path.rglob("*") if found.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def stopped(run, when) -> list[Box]:
    """Close a run at the first event for which `when` is true; return the tiles that were done."""
    boxes = []
    for event in run:
        if isinstance(event, TileDone):
            boxes.append(event.box)
        if when(event):
            run.close()
            return boxes
    raise AssertionError("the run came to its end")


@POSIX
@pytest.mark.parametrize("cleaned", ["plain", "cleaned"])
@pytest.mark.parametrize("suffix", [".zarr", ".tif"])
def test_thirty_kills_cost_what_was_in_flight_and_not_a_byte(tmp_path, suffix, cleaned):
    whole, killed = tmp_path / "whole" / f"x{suffix}", tmp_path / "killed" / f"x{suffix}"
    found = {}
    for path, kills in ((whole, 0), (killed, 30)):
        path.parent.mkdir()
        words = [sys.executable, "-m", "tests.support.killing", path, 7, kills, cleaned]
        done = subprocess.run([*map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found[kills] = json.loads(done.stdout)
    assert contents(killed) == contents(whole)
    assert found[30]["left"] == [killed.name]
    assert found[30]["kills"] == 30
    attempts = found[30]["attempts"]
    everything = set(found[0]["attempts"][0]["computed"])
    assert {tile for attempt in attempts for tile in attempt["computed"]} == everything
    for attempt in attempts:
        assert len(set(attempt["computed"])) == len(attempt["computed"])
        assert not set(attempt["computed"]) & set(attempt["done before"])


@pytest.mark.parametrize("spec", [SPEC, CLEANED], ids=["plain", "cleaned"])
@pytest.mark.parametrize("name", ["a.zarr", "a.tif", "a.ome.tif"])
def test_a_stopped_run_goes_on_with_the_tiles_that_are_missing(tmp_path, volume, model, name, spec):
    whole, target = tmp_path / f"whole-{name}", tmp_path / name
    drive(predict_file(volume, model, spec, whole))
    first = stopped(
        predict_file(volume, model, spec, target), lambda event: isinstance(event, TileDone) and event.done == 3
    )
    assert n_done(target) >= 3
    assert not target.exists()
    events = list(predict_file(volume, model, spec, target, resume=True))
    again = [event.box for event in events if isinstance(event, TileDone)]
    assert not set(first) & set(again)
    assert next(event.total for event in events if isinstance(event, Started)) == len(again)
    if name == "a.zarr":
        # The name of the image stands in its metadata.
        for path in (whole, target):
            meta = path / "zarr.json"
            meta.write_text(meta.read_text().replace("whole-", ""))
    assert contents(target) == contents(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, whole.name])


@pytest.mark.parametrize("name", ["a.zarr", "a.tif"])
def test_a_run_that_was_stopped_in_clean_up_computes_no_tile_again(tmp_path, volume, model, name):
    target = tmp_path / name
    stopped(predict_file(volume, model, CLEANED, target), lambda event: isinstance(event, Progress) and event.done == 1)
    events = list(predict_file(volume, model, CLEANED, target, resume=True))
    assert not [event for event in events if isinstance(event, TileDone)]
    drive(predict_file(volume, model, CLEANED, tmp_path / "whole.tif"))
    np.testing.assert_array_equal(read_volume(target).data[...], read_volume(tmp_path / "whole.tif").data[...])


@pytest.mark.parametrize("suffix", [".zarr", ".tif"])
def test_a_run_goes_on_with_other_tiles_where_that_is_asked_for(tmp_path, volume, model, suffix):
    target = tmp_path / f"a{suffix}"
    stopped(predict_file(volume, model, SPEC, target), lambda event: isinstance(event, TileDone) and event.done == 5)
    other = SPEC.model_copy(update={"tile_shape": (48, 52, 44)})
    drive(predict_file(volume, model, other, target, resume=True))
    drive(predict_file(volume, model, SPEC, tmp_path / "whole.tif"))
    np.testing.assert_array_equal(read_volume(target).data[...], read_volume(tmp_path / "whole.tif").data[...])


def test_what_was_begun_differently_is_refused_with_the_difference(tmp_path, volume, model):
    target = tmp_path / "a.zarr"
    stopped(predict_file(volume, model, SPEC, target), lambda event: isinstance(event, TileDone))
    changed = VOXELS.copy()
    changed[20, 20, 20] += 1
    cases = (
        {}
        if not select_device("cpu").has_bfloat16
        else {
            "precision: float32, now bfloat16": (volume, model, SPEC.model_copy(update={"precision": "bfloat16"})),
        }
    )
    cases |= {
        "prior: .0.9, 0.1., now training": (volume, model, SPEC.model_copy(update={"prior": "training"})),
        "the model has changed": (volume, random_model(blocks=0, filters=2, seed=1), SPEC),
        r"the volume has changed \(other voxels\)": (Volume.from_array(changed, voxel_size=(2, 1, 1)), model, SPEC),
        "voxel_size: .2.0, 1.0, 1.0., now .3.0": (Volume.from_array(VOXELS, voxel_size=(3, 1, 1)), model, SPEC),
    }
    kept = contents(folder_of(target))
    for words, (other, chosen, spec) in cases.items():
        with pytest.raises(OutputError, match=words) as refused:
            drive(predict_file(other, chosen, spec, target, resume=True))
        assert "\n" not in str(refused.value)
    assert contents(folder_of(target)) == kept
    with pytest.raises(OutputError, match=r"finished tiles of a run that was stopped.*--resume.*--overwrite"):
        drive(predict_file(volume, model, SPEC, target))
    events = list(predict_file(volume, model, SPEC, target, overwrite=True))
    assert sum(isinstance(event, TileDone) for event in events) == next(
        e.total for e in events if isinstance(e, Started)
    )


def test_without_anything_to_go_on_with_a_run_begins(tmp_path, volume, model):
    drive(predict_file(volume, model, SPEC, tmp_path / "a.zarr", resume=True))
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_a_run_in_which_nothing_is_done_leaves_nothing(tmp_path, volume, model):
    stopped(predict_file(volume, model, SPEC, tmp_path / "a.zarr"), lambda event: isinstance(event, Started))
    assert list(tmp_path.iterdir()) == []


def test_two_runs_do_not_go_on_at_the_same_time(tmp_path, volume, model):
    target = tmp_path / "a.zarr"
    run = predict_file(volume, model, SPEC, target)
    while not isinstance(next(run), TileDone):
        pass
    with pytest.raises(OutputError, match="in use by a run on"):
        drive(predict_file(volume, model, SPEC, target, resume=True))
    run.close()


def test_a_line_that_was_cut_off_is_computed_again_and_a_result_that_is_gone_is_refused(tmp_path, volume, model):
    target = tmp_path / "a.zarr"
    stopped(predict_file(volume, model, SPEC, target), lambda event: isinstance(event, TileDone) and event.done == 4)
    ledger = folder_of(target) / "done.txt"
    n = n_done(target)
    ledger.write_bytes(ledger.read_bytes()[:-3])
    assert n_done(target) == n - 1
    events = list(predict_file(volume, model, SPEC, target, resume=True))
    total = next(event.total for event in events if isinstance(event, Started))
    assert total == sum(isinstance(event, TileDone) for event in events)
    drive(predict_file(volume, model, SPEC, tmp_path / "whole.tif"))
    np.testing.assert_array_equal(read_volume(target).data[...], read_volume(tmp_path / "whole.tif").data[...])
    other = tmp_path / "b.tif"
    stopped(predict_file(volume, model, SPEC, other), lambda event: isinstance(event, TileDone) and event.done == 2)
    (folder_of(other) / "result.tif").unlink()
    with pytest.raises(OutputError, match="no longer there"):
        drive(predict_file(volume, model, SPEC, other, resume=True))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_stops_a_run_and_with_more_room_it_goes_on(tmp_path, model):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        noise = Volume.from_array(np.random.default_rng(0).normal(0, 1, (64, 128, 128)).astype(np.float32))
        spec = PredictSpec(output="probabilities", tile_shape=(48, 80, 80), device="cpu")
        with pytest.raises(OutputError, match="does not fit on the disk"):
            drive(predict_file(noise, model, spec, disk / "a.zarr"))
        kept = n_done(disk / "a.zarr")
        assert kept
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        events = list(predict_file(noise, model, spec, disk / "a.zarr", resume=True))
        done = sum(isinstance(event, TileDone) for event in events)
        whole = list(predict_file(noise, model, spec, tmp_path / "whole.zarr"))
        assert done + kept == sum(isinstance(event, TileDone) for event in whole)
        found, want = (
            read_volume(path / name).data[...] for path, name in ((disk, "a.zarr"), (tmp_path, "whole.zarr"))
        )
        np.testing.assert_array_equal(found, want)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_labels_have_the_smallest_type_that_numbers_the_objects(tmp_path, volume, model):
    drive(predict_file(volume, model, CLEANED, tmp_path / "a.zarr"))
    labels = read_volume(tmp_path / "a.zarr", kind="labels").data[...]
    assert labels.dtype == np.min_scalar_type(labels.max())


@POSIX
@pytest.mark.parametrize("suffix", [".zarr", ".tif"])
def test_a_command_that_was_killed_or_stopped_says_how_to_go_on_and_does(tmp_path, model, suffix):
    folder = save_model(model, tmp_path / "m.unet3d")
    with create_output(
        tmp_path / "image.tif", (60, 80, 90), "uint16", voxel_size=(1, 1, 1), unit="um", kind="image"
    ) as out:
        out[...] = np.random.default_rng(0).integers(0, 3000, (60, 80, 90)).astype(np.uint16)
        out.commit()
    target = tmp_path / f"labels{suffix}"
    words = ["predict", tmp_path / "image.tif", "--model", folder, "--tile", "36", "--device", "cpu", "--output"]
    command = [sys.executable, "-m", "napari_unet3d", *map(str, words)]

    def begin(*more):
        return subprocess.Popen(
            [*command, str(target), *more],
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    for number, kill in ((3, signal.SIGKILL), (8, signal.SIGINT)):
        process = begin("--resume")
        while n_done(target) < number and process.poll() is None:
            pass
        process.send_signal(kill)
        said = process.communicate()[1]
        assert process.returncode == (130 if kill == signal.SIGINT else -kill)
        assert ("--resume goes on from there" in said) == (kill == signal.SIGINT)
    refused = begin()
    assert "Go on with it (--resume)" in refused.communicate()[1]
    last = begin("--resume")
    said = last.communicate()[1]
    assert (last.returncode, "tiles are done; the run goes on" in said) == (0, True)
    whole = tmp_path / f"whole{suffix}"
    drive(predict_file(read_volume(tmp_path / "image.tif"), model, PredictSpec(tile_shape=(36,) * 3), whole))
    np.testing.assert_array_equal(read_volume(target).data[...], read_volume(whole).data[...])


def test_a_ledger_says_what_was_recorded_also_to_another_process(tmp_path):
    boxes = [Box((0, 4), (8, 16), (0, 2)), Box((4, 8), (0, 8), (0, 2))]
    with Ledger(tmp_path / "a.zarr") as ledger:
        for box in boxes:
            ledger.record((44, 44, 44), box)
        code = "import sys, pathlib; from napari_unet3d.tasks.segment.work.ledger import n_done; "
        code += "print(n_done(pathlib.Path(sys.argv[1])))"
        words = [sys.executable, "-c", code, tmp_path / "a.zarr"]
        assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "2\n"
    assert left_facts(tmp_path) == {"unfinished here": "a.zarr (2 tiles done); predict --resume goes on"}
    with Ledger(tmp_path / "a.zarr") as again:
        assert [done.boxes for done in again.done] == [tuple(boxes)]


@pytest.mark.parametrize("spec", [SPEC, CLEANED, SPEC.model_copy(update={"output": "probabilities"})])
def test_a_long_result_has_smaller_copies_that_a_strict_validator_takes(tmp_path, model, spec):
    voxels = np.random.default_rng(0).integers(0, 3000, (20, 30, 300)).astype(np.uint16)
    volume = Volume.from_array(voxels, voxel_size=(1, 1, 1), unit="um")
    events = list(predict_file(volume, model, spec, tmp_path / "a.zarr"))
    assert any(isinstance(event, Progress) and event.what == "making smaller copies" for event in events)
    assert validate_zarr_store(str(tmp_path / "a.zarr")) is not None
    shapes = [info.shape[-3:] for info in list_arrays(tmp_path / "a.zarr")]
    assert shapes == [(20, 30, 300), (10, 15, 150)]
    kind = "image" if spec.output == "probabilities" else "labels"
    whole, small = (read_volume(tmp_path / "a.zarr", dataset=name, kind=kind).data[...] for name in ("0", "1"))
    assert whole.shape[:3] == shapes[0]
    factors = (2, 2, 2, 1)[: whole.ndim]
    np.testing.assert_array_equal(small, reduce_box(whole, factors, is_labels=kind == "labels"))


def test_a_block_of_a_run_that_was_stopped_is_not_written(tmp_path):
    store = tmp_path / "result.zarr"
    run, later = (
        BlockRun(key, None, SPEC, None, (1, 1, 1), (1, 1, 1), None, store)  # what is written is of no account here
        for key in ("one", "two")
    )
    with run.permit():
        run.check_permit()
        with pytest.raises(EngineError, match="stopped meanwhile"):
            later.check_permit()
    with pytest.raises(EngineError, match="stopped meanwhile"):
        run.check_permit()
    with later.permit(), pytest.raises(EngineError, match="stopped meanwhile"):
        run.check_permit()


def test_a_result_does_not_replace_the_file_that_holds_the_array_it_is_made_from(tmp_path):
    source = tmp_path / "image.zarr"
    source.mkdir()
    volume = Volume(np.zeros((2, 3, 4), np.uint8), path=f"{source}:1")
    for target in (source, tmp_path):
        with pytest.raises(OutputError, match="the volume to read from"):
            check_apart(volume, target)
    check_apart(volume, tmp_path / "other.zarr")

"""The command line as a user types it: real processes where exit codes and signals matter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tifffile

import napari_unet3d
from napari_unet3d.cli import main
from napari_unet3d.cli.choices import parse_bytes
from napari_unet3d.core.normalize import Normalization
from napari_unet3d.errors import SpecError
from napari_unet3d.network.store import load_model, save_model
from napari_unet3d.volumes import read_volume
from tests.support.models import random_model
from tests.support.segmenting import segment

PROGRAM = [sys.executable, "-m", "napari_unet3d"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def run(capsys):
    """Return a function that runs a command line and returns its exit code, output and error output."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    normalized = random_model(normalization=Normalization(kind="zscore"))
    return save_model(normalized, tmp_path_factory.mktemp("models") / "small.unet3d")


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a stack.tif"
    voxels = np.random.default_rng(3).gamma(2, 300, (20, 30, 40)).astype(np.uint16)
    metadata = {"axes": "ZYX", "spacing": 0.5, "unit": "um"}
    tifffile.imwrite(path, voxels, imagej=True, metadata=metadata, resolution=(4, 4))
    return path


def test_sizes_as_json_hold_the_published_facts(run):
    code, out, _ = run("sizes", "--json")
    answer = json.loads(out)
    assert code == 0
    assert set(answer) == {
        "blocks",
        "levels",
        "smallest",
        "filters",
        "classes",
        "channels",
        "parameters",
        "halo",
        "alignment",
        "sizes",
    }
    assert (answer["parameters"], answer["halo"], answer["alignment"]) == (1_192_610, [44] * 3, [8] * 3)
    by_input = {row["input"]: row for row in answer["sizes"]}
    assert list(by_input) == list(range(92, 509, 8))
    assert by_input[220]["output"] == [132] * 3
    assert by_input[220]["gflops"] == pytest.approx(409.8, abs=0.05)
    assert by_input[220]["memory_bytes"] > 1e9


def test_sizes_as_a_table_show_the_same_rows(run):
    code, out, _ = run("sizes", "--blocks", 1, "--max", 60)
    assert code == 0
    rows = [line.split() for line in out.splitlines()[4:]]
    assert [row[:3] for row in rows] == [[str(n), str(n - 40), "20"] for n in range(44, 61, 4)]


def test_sizes_below_the_smallest_say_what_the_smallest_is(run):
    assert "the smallest input is 92 x 92 x 92 (z, y, x)" in run("sizes", "--max", 60)[1]


def test_sizes_of_a_network_for_thick_slices_are_shown_per_axis(run):
    _, out, _ = run("sizes", "--flat-levels", 1, "--max", 100)
    assert "halo of 20 x 44 x 44 (z, y, x) voxels on each side" in out
    assert "Along z these sizes fit: 44, 48, 52, .." in out
    assert "Along y and x these sizes fit: 92, 100, 108, .." in out
    assert out.splitlines()[-1].split()[:4] == ["100", "60", "x", "12"]


def test_predict_writes_the_labels_with_the_voxel_size(run, model, image, tmp_path):
    code, out, _ = run("predict", image, "--model", model, "--output", tmp_path / "labels.tif")
    assert code == 0
    assert "20 x 30 x 40" in out
    labels = read_volume(tmp_path / "labels.tif")
    assert labels.voxel_size == pytest.approx((0.5, 0.25, 0.25))
    assert (labels.unit, labels.dtype) == ("um", np.uint8)
    np.testing.assert_array_equal(labels.data[:, :, :], segment(read_volume(image), load_model(model)))


def test_any_memory_and_any_format_give_the_same_labels(run, model, image, tmp_path):
    results = []
    for memory, name in [("8MiB", "a.zarr"), ("1GiB", "b.zarr"), ("8MiB", "c.ome.tif")]:
        assert run("predict", image, "--model", model, "--output", tmp_path / name, "--memory", memory)[0] == 0
        results.append(np.asarray(read_volume(tmp_path / name).data[:, :, :]))
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()


def test_probabilities_are_written_for_all_classes(run, model, image, tmp_path):
    out = tmp_path / "p.zarr"
    assert run("predict", image, "--model", model, "--output", out, "--probabilities")[0] == 0
    probabilities = read_volume(out)
    assert probabilities.data.shape == (20, 30, 40, 2)
    np.testing.assert_allclose(probabilities.data[:, :, :].sum(-1), 1, atol=1e-5)


def test_a_region_lies_where_it_was_in_the_volume(run, model, image, tmp_path):
    region = "5:15,:,10:30"
    assert run("predict", image, "--model", model, "--output", tmp_path / "r.zarr", "--region", region)[0] == 0
    part = read_volume(tmp_path / "r.zarr")
    assert part.translate == pytest.approx((2.5, 0, 2.5))
    whole = segment(read_volume(image), load_model(model))
    np.testing.assert_array_equal(part.data[:, :, :], whole[5:15, :, 10:30])


def test_instances_are_numbered_components(run, model, image, tmp_path):
    from scipy import ndimage

    assert run("predict", image, "--model", model, "--output", tmp_path / "i.zarr", "--instances")[0] == 0
    instances = read_volume(tmp_path / "i.zarr").data[:, :, :]
    labels = segment(read_volume(image), load_model(model))
    np.testing.assert_array_equal(instances > 0, labels > 0)
    assert instances.max() == ndimage.label(labels)[1]


def test_clean_up_removes_small_components(run, model, image, tmp_path):
    words = ("--clean-up", "--high", 0.6, "--low", 0.5, "--min-voxels", 50)
    assert run("predict", image, "--model", model, "--output", tmp_path / "c.tif", *words)[0] == 0
    from scipy import ndimage

    components, _ = ndimage.label(read_volume(tmp_path / "c.tif").data[:, :, :])
    sizes = np.bincount(components.ravel())[1:]
    assert sizes.size == 0 or sizes.min() >= 50


def test_plan_says_what_a_run_costs_and_after_a_run_how_long_it_takes(run, model, image, tmp_path):
    code, out, _ = run("plan", image, "--model", model, "--json")
    before = json.loads(out)
    assert code == 0
    assert before["shape"] == [20, 30, 40]
    assert before["seconds"] is None
    assert before["gflops_over_ideal"] == 1.0
    assert "not known before the first run" in run("plan", image, "--model", model)[1]
    assert "each writing 20 x 30 x 40" in run("plan", image, "--model", model)[1]
    run("predict", image, "--model", model, "--output", tmp_path / "labels.tif", "--memory", "4MiB")
    assert json.loads(run("plan", image, "--model", model, "--json")[1])["seconds"] >= 0
    assert "about" in run("plan", image, "--model", model)[1]
    budget = json.loads(run("plan", image, "--model", model, "--json", "--memory", "4MiB")[1])
    assert budget["memory_bytes"] <= 4 << 20
    assert budget["tiles"] > before["tiles"]


def test_an_existing_result_is_refused_until_it_may_be_replaced(run, model, image, tmp_path):
    out = tmp_path / "labels.tif"
    out.write_bytes(b"precious")
    code, _, err = run("predict", image, "--model", model, "--output", out)
    assert code == 3
    assert "--overwrite" in err
    assert out.read_bytes() == b"precious"
    assert run("predict", image, "--model", model, "--output", out, "--overwrite")[0] == 0
    assert read_volume(out).shape == (20, 30, 40)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--memory", "lots"], "'lots' is not an amount of memory"),
        (["--memory", "1KiB"], "too little: the smallest tile"),
        (["--region", "0:5"], "must have the form"),
        (["--region", "0:5,0:5,0:99"], "leaves the volume along x"),
        (["--device", "tpu"], "--device: 'tpu' is none of auto, cpu"),
        (["--min-voxels", "5"], "belong to --clean-up"),
        (["--memory", "0.5"], "less than a byte"),
        (["--device", "gpu:7"], "Device 'gpu:7' is not available"),
        (["--probabilities", "--clean-up"], "cannot be asked for together"),
        (["--clean-up", "--high", "0.1", "--low", "0.2"], "0.1"),
        (["--instances", "--connectivity", "7"], "connectivity"),
    ],
)
def test_choices_that_cannot_work_give_exit_code_3_and_one_line(run, model, image, tmp_path, words, message):
    code, out, err = run("predict", image, "--model", model, "--output", tmp_path / "x.zarr", *words)
    assert code == 3
    assert out == ""
    assert message in err
    assert next(line for line in err.splitlines() if not line.startswith("note: ")).startswith("error: ")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a stack.tif"]


def test_bad_input_and_bad_models_give_exit_code_3(run, model, image, tmp_path):
    assert run("predict", tmp_path / "no.tif", "--model", model, "--output", tmp_path / "x.tif")[0] == 3
    code, _, err = run("plan", image, "--model", tmp_path)
    assert (code, "holds no model.json" in err) == (3, True)
    two = save_model(random_model(channels=2), tmp_path / "two.unet3d")
    code, _, err = run("predict", image, "--model", two, "--output", tmp_path / "x.tif")
    assert (code, "2 channels; the image has 1 channel" in err) == (3, True)


def test_a_result_never_replaces_the_volume_it_is_made_from(run, model, image, tmp_path):
    before = image.read_bytes()
    code, _, err = run("predict", image, "--model", model, "--output", image, "--overwrite")
    assert (code, "the volume to read from" in err) == (3, True)
    assert image.read_bytes() == before


def test_the_demonstration_never_replaces_files_of_others(run, tmp_path):
    (tmp_path / "labels.tif").write_text("mine")
    code, _, err = run("demo", "--no-display", "--output", tmp_path)
    assert (code, "holds other files" in err) == (3, True)
    assert (tmp_path / "labels.tif").read_text() == "mine"


def test_the_version_is_said(run):
    assert run("--version")[1].strip() == napari_unet3d.__version__


def test_a_wrong_word_gives_exit_code_2(run):
    assert run("predict")[0] == 2
    assert run("segment")[0] == 2


def test_debug_shows_the_trace(tmp_path):
    words = ["plan", str(tmp_path / "no.tif"), "--model", "m"]
    plain = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, check=False)
    assert plain.returncode == 3
    assert "Traceback" not in plain.stderr
    traced = subprocess.run([*PROGRAM, *words, "--debug"], capture_output=True, text=True, check=False)
    assert "Traceback" in traced.stderr


def test_a_voxel_size_that_differs_from_the_models_is_said_with_the_factor(run, image, tmp_path):
    plain = random_model()
    card = plain.card.model_copy(update={"voxel_size": (0.25, 0.05, 0.05)})
    model = save_model(type(plain)(card, plain.weights), tmp_path / "fine.unet3d")
    err = run("predict", image, "--model", model, "--output", tmp_path / "x.tif")[2]
    assert "a factor of 2 x 5 x 5" in " ".join(err.split())


def test_import_model_writes_a_model_folder(run, shared_data, tmp_path):
    source = shared_data / "exllsm" / "neuron_2021.h5"
    code, out, _ = run("import-model", source, "--output", tmp_path / "neuron.unet3d", "--normalization", "background")
    assert (code, "298,418 parameters" in out) == (0, True)
    assert load_model(tmp_path / "neuron.unet3d").card.normalization.kind == "background"
    assert run("import-model", source, "--output", tmp_path / "neuron.unet3d")[0] == 3


def test_info_says_what_is_installed_and_what_is_used(run):
    code, out, _ = run("info", "--json")
    facts = json.loads(out)
    assert code == 0
    assert any(line.startswith("cpu: CPU") for line in facts["devices"])
    assert facts["CPU"] == "oneDNN is on for the CPU."
    assert "GiB free" in run("info")[1]


def test_info_counts_what_killed_runs_have_left_here(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "left here" not in run("info")[1]
    (tmp_path / ".a.zarr.partial-999999999").mkdir()
    (tmp_path / ".a.zarr.partial-999999999" / "chunk").write_bytes(b"0" * 1000)
    (tmp_path / ".b.tif.partial-999999999").write_bytes(b"0" * 1000)
    assert "2 unfinished files of runs that were killed" in json.loads(run("info", "--json")[1])["left here"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_run_that_is_stopped_leaves_nothing_half_written(model, tmp_path, name):
    image = tmp_path / "image.tif"
    tifffile.imwrite(
        image, np.random.default_rng(0).integers(0, 999, (200, 400, 400), np.uint16), photometric="minisblack"
    )
    out = tmp_path / "out"
    out.mkdir()
    words = ["predict", image, "--model", model, "--output", out / "labels.zarr", "--memory", "40MiB"]
    process = subprocess.Popen(
        [*PROGRAM, *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # A shell that runs the tests in the background makes them, and what they start, deaf to SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "tiles of" in line:
            break
    assert any(out.iterdir())
    process.send_signal(getattr(signal, name))
    rest = process.stderr.read()
    assert process.wait() == 130, "".join(lines) + rest
    is_kept = "--resume goes on from there" in rest
    assert is_kept or "Stopped. Nothing was written" in rest
    assert [path.name for path in out.iterdir()] == ["labels.zarr.unfinished"] * is_kept


TRAINING = ["--steps", "--batch", "--seed", "--patch", "--patience", "--validate-every", "--filters", "--learning-rate"]
TRAINING += ["--class-weights", "--validation", "--classes", "--blocks", "--dropout"]
LONG = [digit * length for digit in "91" for length in (20, 400, 5000)]


@pytest.mark.parametrize("number", LONG)
@pytest.mark.parametrize("command", ["sizes", "plan", "predict", "augment", "train"])
def test_no_number_is_too_long_to_be_refused(run, model, image, tmp_path, command, number):
    pair = ["--image", image, "--labels", image, "--classes", "0=background,*=object", "--output", tmp_path / "run"]
    options = {
        "sizes": ["--max", "--blocks", "--filters", "--classes", "--channels"],
        "plan": ["--memory", "--region", "--device"],
        "predict": ["--memory", "--region", "--high", "--min-voxels", "--connectivity"],
        "augment": ["--seed", "--input", "--at", "--blocks"],
        "train": [
            "--steps",
            "--batch",
            "--seed",
            "--patch",
            "--patience",
            "--validate-every",
            "--filters",
            "--learning-rate",
            "--class-weights",
            "--validation",
            "--classes",
            "--blocks",
            "--dropout",
        ],
    }[command]
    begin = {
        "sizes": [],
        "plan": [image, "--model", model],
        "predict": [image, "--model", model, "--output", tmp_path / "out.tif", "--clean-up"],
        "augment": [image, "--output", tmp_path / "patch.tif"],
        "train": [*pair, "--device", "cpu", "--blocks", "0", "--filters", "2", "--patch", "24", "--steps", "1"],
    }[command]
    for option in options:
        value = {"--region": f"0:{number},:,:", "--validation": f"{number}@0:1,0:1,0:1", "--classes": f"{number}=a,*=b"}
        code, _, err = run(command, *begin, option, value.get(option, number))
        refused = [line for line in err.splitlines() if "unexpected error" in line]
        assert not refused, (option, refused)
        assert "Traceback" not in err
        # Some fit what they are asked for, however long: a memory, a seed, a value that no voxel has.
        assert code in (0, 2, 3), option


def test_an_amount_of_memory_is_read_in_any_usual_form():
    assert parse_bytes("8GiB") == parse_bytes("8g") == 8 << 30
    assert parse_bytes("8GB") == 8_000_000_000
    with pytest.raises(SpecError):
        parse_bytes("0")

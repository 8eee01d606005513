"""The command `train` on files: what it writes, how it goes on, even after it was killed at any moment."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_unet3d.atomic import remove
from napari_unet3d.cli import main
from napari_unet3d.core.annotation.validation import KEPT
from napari_unet3d.core.normalize import LEAST_SPREAD, MOST_SPREAD
from napari_unet3d.errors import TrainingError
from napari_unet3d.network.store import load_model
from napari_unet3d.tasks.events import StepDone
from napari_unet3d.tasks.train.kept.run_folder import BEST, CHECKPOINT_FILE, HISTORY_FILE, LAST, RunFolder
from tests.tasks.train.test_train import IMAGE, LABELS, contents, in_folder, weights_of, with_changes

CLASSES = "0=ignore,1=background,2=ball"
SMALL = ["--blocks", "0", "--filters", "2", "--patch", "24", "--steps", "6", "--validate-every", "2", "--device", "cpu"]


@pytest.fixture
def files(tmp_path):
    space = {"imagej": True, "resolution": (10, 10), "metadata": {"spacing": 0.2, "unit": "um", "axes": "ZYX"}}
    tifffile.imwrite(tmp_path / "image.tif", IMAGE, **space)
    tifffile.imwrite(tmp_path / "labels.tif", LABELS, **space)
    return ["--image", str(tmp_path / "image.tif"), "--labels", str(tmp_path / "labels.tif")]


def command(*words):
    """Run the command line; return its exit code."""
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        return end.code or 0
    return 0


def test_a_run_leaves_models_a_history_and_a_table(tmp_path, files, capsys):
    run = tmp_path / "run"
    assert command("train", *files, "--classes", CLASSES, "--output", run, *SMALL) == 0
    out, err = capsys.readouterr()
    assert KEPT in err
    assert "ball" in out
    assert "4,096" not in out.split("ball")[0]
    for name in (BEST, LAST):
        card = load_model(run / name).card
        assert card.class_names == ("background", "ball")
        assert card.voxel_size == pytest.approx((0.2, 0.1, 0.1))
        assert card.normalization.kind == "background"
        assert LEAST_SPREAD <= card.normalization.spread <= MOST_SPREAD
    with RunFolder(run) as folder:
        rows = folder.history()
    assert [row["step"] for row in rows if row["kind"] == "step"] == list("123456")
    assert [row["step"] for row in rows if row["kind"] == "score"] == list("246")
    for row in rows:
        assert row["kind"] == "step" or all(int(row[f"voxels {name}"]) > 0 for name in ("background", "ball"))
    result = tmp_path / "segmented.tif"
    assert command("predict", tmp_path / "image.tif", "--model", run / LAST, "--output", result) == 0
    assert tifffile.imread(result).shape == IMAGE.shape


def test_a_model_of_a_run_is_the_start_of_another(tmp_path, files):
    assert command("train", *files, "--classes", CLASSES, "--output", tmp_path / "one", *SMALL) == 0
    more = ["--from", tmp_path / "one" / LAST, "--steps", "1", "--patch", "24", "--device", "cpu"]
    assert command("train", *files, "--classes", CLASSES, "--output", tmp_path / "two", *more) == 0
    with RunFolder(tmp_path / "two") as folder:
        spec = folder.record().spec
    assert spec.network.filters == 2
    assert spec.learning_rate == 5e-4
    assert command("train", *files, "--classes", CLASSES, "--output", tmp_path / "x", *more, "--filters", "4") == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), r"hold 0 (233,472 voxels), 1 ("),
        (("--classes", "0=ignore,1=background"), "names 1 class"),
        (("--classes", "axon"), "does not say what values mean"),
        (("--classes", "0=ignore,1=background,3=ball"), "mean no class: 2 ("),
        (("--classes", CLASSES, "--preset", "x-rays"), "There is no preset 'x-rays'"),
        (("--classes", CLASSES, "--blocks", "0", "--patch", "23"), "does not fit"),
        (("--classes", CLASSES, "--validation", "70:80,:,:"), "leaves the volume"),
        (("--classes", CLASSES, "--validation", "2@0:1,:,:"), "there is no image '2'"),
        (("--classes", CLASSES, "--class-weights", "1"), "1 class weights for 2 classes"),
        (("--classes", CLASSES, "--resume"), "holds no run to go on with"),
        (("--classes", CLASSES, "--learning-rate", "0"), "--learning-rate"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, files, capsys, words, said):
    assert command("train", *files, "--output", tmp_path / "run", *words) == 3
    err = capsys.readouterr().err
    assert said in err
    assert len([line for line in err.splitlines() if line.startswith("error:")]) == 1


def test_what_should_be_known_of_image_and_labels_is_said_once(tmp_path, files, capsys):
    with h5py.File(tmp_path / "labels.h5", "w") as file:
        file.create_dataset("data", LABELS.shape, LABELS.dtype, chunks=(1, *LABELS.shape[1:]))[:-1] = LABELS[:-1]
    tifffile.imwrite(tmp_path / "image.tif", IMAGE.astype(np.float64))
    pair = [*files[:-1], tmp_path / "labels.h5"]
    assert command("train", *pair, *SMALL, "--steps", "1", "--classes", CLASSES, "--output", tmp_path / "run") == 0
    said = capsys.readouterr().err
    for text in ("chunks were not written", "float64 is read as float32", "no voxel size"):
        assert said.count(text) == 1


def test_labels_of_another_size_are_refused_with_both(tmp_path, files, capsys):
    tifffile.imwrite(tmp_path / "small.tif", LABELS[:40])
    words = ["--image", files[1], "--labels", tmp_path / "small.tif", "--classes", CLASSES]
    assert command("train", *words, "--output", tmp_path / "run") == 3
    err = capsys.readouterr().err
    assert "60 x 64 x 64" in err
    assert "40 x 64 x 64" in err


# Ends the process, as a power cut would, at a call that writes: in the midst of a save, or between two.
_KILLED = """
import os, signal, sys
at, calls = int(sys.argv[1]), 0
def counted(module, name):
    real = getattr(module, name)
    def call(*arguments, **choices):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **choices)
    setattr(module, name, call)
from napari_unet3d import atomic
for module, name in ((os, "replace"), (os, "rename"), (os, "fsync"), (atomic, "exchange"), (atomic, "rename_new")):
    counted(module, name)
from napari_unet3d.cli import main
main(sys.argv[2:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_in_the_midst_of_saves_it_goes_on_to_the_same_bytes(tmp_path, files):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    words = ["train", *files, "--classes", CLASSES, *SMALL]
    assert command(*words, "--output", whole) == 0
    paths = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    # In the first save before the checkpoint, in a later one; then nothing happens to it.
    for number, at in enumerate((9, 14, 23)):
        resumed = ["--resume"] if number else []
        ended = subprocess.run(
            [sys.executable, "-c", _KILLED, str(at), *words, "--output", str(broken), *resumed],
            env=environment,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]
        assert (broken / "run.json").is_file()
    assert (broken / CHECKPOINT_FILE).is_file()
    assert command(*words, "--output", broken, "--resume") == 0
    assert contents(whole) == contents(broken)
    for name in (BEST, LAST):
        assert weights_of(whole / name) == weights_of(broken / name)
    assert not [path for path in broken.iterdir() if path.name.startswith(".")]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_waits_for_the_step_and_everything_is_kept(tmp_path, capsys, name):
    from napari_unet3d.cli.training_report import follow_training

    before = signal.getsignal(getattr(signal, name))

    def signalled():
        events = in_folder(tmp_path / "run", with_changes(steps=50, validate_every=50))
        try:
            for event in events:
                if isinstance(event, StepDone) and event.step == 3:
                    os.kill(os.getpid(), getattr(signal, name))
                yield event
        finally:
            events.close()

    with pytest.raises(SystemExit) as end:
        follow_training(signalled(), tmp_path / "run")
    assert end.value.code == 130
    assert "Stopped after 3 steps; all is kept" in capsys.readouterr().err
    with RunFolder(tmp_path / "run") as folder:
        assert folder.load_checkpoint().train_state.step == 3
    assert signal.getsignal(getattr(signal, name)) == before


def test_the_table_of_a_run_that_went_on_is_of_all_of_it(tmp_path, files, capsys):
    words = ["train", *files, "--classes", CLASSES, "--output", tmp_path / "run", *SMALL]
    assert command(*words) == 0
    whole = capsys.readouterr().out
    assert "best.unet3d and last.unet3d are models" in whole
    assert command(*words, "--resume") == 0
    again = capsys.readouterr().out
    assert [line for line in again.splitlines() if "waiting" not in line] == [
        line for line in whole.splitlines() if "waiting" not in line
    ]


def test_a_run_that_could_not_be_written_says_what_is_missing(tmp_path, capsys, monkeypatch):
    from napari_unet3d import atomic
    from napari_unet3d.cli.training_report import follow_training

    put = atomic.put_in_place

    def full_at_last(partial, target, *, overwrite):
        if target.name == LAST and (tmp_path / "run" / LAST).is_dir():
            raise OSError(28, "No space left on device")
        put(partial, target, overwrite=overwrite)

    monkeypatch.setattr(atomic, "put_in_place", full_at_last)
    with pytest.raises(SystemExit) as end:
        follow_training(in_folder(tmp_path / "run"), tmp_path / "run")
    assert end.value.code == 4
    assert "8 steps, of which those after 3 could not be written" in capsys.readouterr().out


_HOLDS = """
import sys
from napari_unet3d.tasks.train.kept.run_folder import RunFolder
with RunFolder(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_lock_holds_while_its_process_lives_whatever_the_file_says_and_not_longer(tmp_path):
    from napari_unet3d.tasks.run_lock import LOCK_FILE

    run = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDS, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        # What a clock that was set, another container, or nobody would have written.
        own = (run / LOCK_FILE).read_text()
        for text in (own, f"{holder.pid} 1 {own.split()[-1]}", "1 2 elsewhere", "a b c", "\udcff", ""):
            (run / LOCK_FILE).write_text(text, errors="surrogateescape")
            with pytest.raises(TrainingError, match="in use by a run"), RunFolder(run):
                pass
        with pytest.raises(TrainingError, match="in use"), RunFolder(run):
            pass
        holder.kill()
    for text in (own, "a b c", "\udcff", "9" * 5000, f"{'9' * 30} 1 {own.split()[-1]}", ""):
        (run / LOCK_FILE).write_text(text, errors="surrogateescape")
        with RunFolder(run):
            assert (run / LOCK_FILE).read_text().split()[0] == str(os.getpid())
    assert not list(run.iterdir())


def test_a_lock_of_another_machine_is_respected_because_not_all_disks_share_locks(tmp_path):
    from napari_unet3d.tasks.run_lock import LOCK_FILE

    (tmp_path / LOCK_FILE).write_text("1 2 another-machine")
    with (
        pytest.raises(TrainingError, match=r"on another-machine, process 1.*if it is gone, remove"),
        RunFolder(tmp_path),
    ):
        pass


@pytest.mark.parametrize("refusal", [NotImplementedError("no flock"), OSError(errno.ENOSYS, "no locks")])
def test_on_a_disk_without_locks_the_file_itself_is_one(tmp_path, monkeypatch, refusal):
    from napari_unet3d.tasks import run_lock

    class NoLocks(FileLock):
        def acquire(self, *_, **__):
            raise refusal

    monkeypatch.setattr(run_lock, "FileLock", NoLocks)
    with (
        RunFolder(tmp_path / "run"),
        pytest.raises(TrainingError, match="in use by a run"),
        RunFolder(tmp_path / "run"),
    ):
        pass
    with RunFolder(tmp_path / "run"):
        pass
    assert not list((tmp_path / "run").iterdir())


LOSSES = {
    "run.json": "run.json is gone from",
    CHECKPOINT_FILE: "The checkpoint in .* is gone. Training begins again at its first step",
    BEST: "The best model is lost: There is no model folder",
}


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """Return the folder of a run that has ended, and the words that made it."""
    folder = tmp_path_factory.mktemp("long")
    space = {"imagej": True, "resolution": (10, 10), "metadata": {"spacing": 0.2, "unit": "um", "axes": "ZYX"}}
    tifffile.imwrite(folder / "image.tif", IMAGE, **space)
    tifffile.imwrite(folder / "labels.tif", LABELS, **space)
    pair = ["--image", folder / "image.tif", "--labels", folder / "labels.tif"]
    words = ["train", *pair, "--classes", CLASSES, *SMALL, "--resume"]
    assert command(*words[:-1], "--output", folder / "run") == 0
    return folder / "run", words


@pytest.fixture
def copied(tmp_path, long_run):
    """Return a copy of the run, whose best model bears a mark, and how to go on with it."""
    run, words = long_run
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / BEST / "mark").write_text("")
    return tmp_path / "run", [*words, "--output", tmp_path / "run"]


@pytest.mark.parametrize("lost", LOSSES)
def test_a_run_that_lost_a_part_does_not_go_on_by_itself_and_says_what_is_lost(copied, capsys, lost):
    run, words = copied
    remove(run / lost)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert command(*words) == 3
    assert re.search(LOSSES[lost], capsys.readouterr().err)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert command(*words, "--force") == 0
    assert re.search(LOSSES[lost], capsys.readouterr().err)


def test_a_model_of_a_run_that_is_forced_to_begin_again_stays_until_there_is_a_better_one(copied, capsys):
    run, words = copied
    remove(run / CHECKPOINT_FILE)
    score = load_model(run / BEST).card.metrics["dice ball"]
    assert command(*words, "--force", "--steps", "2") == 0
    assert "The best model so far stays until there is a better one" in capsys.readouterr().err
    assert (run / BEST / "mark").is_file() or load_model(run / BEST).card.metrics["dice ball"] > score


def test_curves_of_a_run_that_begins_again_are_set_aside_and_never_replaced(copied, capsys):
    run, words = copied
    for name in ("history-1.csv", "history-2.csv"):
        before = (run / HISTORY_FILE).read_bytes()
        remove(run / CHECKPOINT_FILE)
        assert command(*words, "--force", "--steps", "2") == 0
        assert f"The curves so far are kept as {run / name}" in capsys.readouterr().err
        assert (run / name).read_bytes() == before
        assert [int(row["step"]) for row in RunFolder(run).history() if row["kind"] == "step"] == [1, 2]


def test_a_model_that_cannot_be_compared_is_set_aside_and_never_replaced(copied, capsys):
    run, words = copied
    remove(run / CHECKPOINT_FILE)
    assert command(*words, "--force", "--filters", "3") == 0
    assert "it is kept as" in capsys.readouterr().err
    assert (run / "best-1.unet3d" / "mark").is_file()
    assert load_model(run / BEST).spec.filters == 3


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_flipped_bit_in_a_checkpoint_goes_unnoticed(tmp_path, long_run, data):
    content = bytearray((long_run[0] / CHECKPOINT_FILE).read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    at = data.draw(st.integers(0, header - 1) | st.integers(header, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / CHECKPOINT_FILE).write_bytes(content)
    with contextlib.suppress(TrainingError):
        found = RunFolder(tmp_path).load_checkpoint()
        whole = RunFolder(long_run[0]).load_checkpoint()
        # Blanks of the header mean nothing.
        assert found.train_state == whole.train_state
        assert all(np.array_equal(found.state[name], whole.state[name]) for name in whole.state)


@pytest.mark.parametrize(
    "junk", [b"kind,step,loss\nstep,1,0.\xff\n", b"\0\0\0\n", b"kind,step,loss\nstep,1,x\n", b"a\nb\n"]
)
def test_junk_in_the_history_is_one_line_that_says_what_to_do(copied, capsys, junk):
    run, words = copied
    (run / HISTORY_FILE).write_bytes(junk)
    assert command(*words) == 3
    assert re.search(
        r"^error: .*history.csv cannot be read.*Remove or rename it", capsys.readouterr().err, re.MULTILINE
    )
    remove(run / HISTORY_FILE)
    assert command(*words) == 0
    assert "history.csv is gone" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"[" * 200_000, b"[]", b"\xff", b'{"format_version": 99}', b""])
def test_a_record_that_is_no_record_is_one_line(copied, capsys, content):
    run, words = copied
    (run / "run.json").write_bytes(content)
    assert command(*words) == 3
    assert capsys.readouterr().err.count("error: ") == 1


def test_a_history_that_is_nearly_all_hole_and_a_pipe_as_a_checkpoint_are_refused_at_once(copied, capsys):
    run, words = copied
    with open(run / HISTORY_FILE, "r+b") as file:
        file.truncate(2 << 30)
    assert command(*words) == 3
    assert "a line of more than" in capsys.readouterr().err
    remove(run / HISTORY_FILE)
    if hasattr(os, "mkfifo"):
        remove(run / CHECKPOINT_FILE)
        os.mkfifo(run / CHECKPOINT_FILE)
        assert command(*words) == 3
        assert "it is a pipe, a device or a folder, not a file" in capsys.readouterr().err


@pytest.mark.parametrize("weights", ["-1,1", "0,0", "nan,1"])
def test_class_weights_that_weigh_nothing_are_refused(tmp_path, files, capsys, weights):
    assert (
        command("train", *files, "--classes", CLASSES, *SMALL, "--output", tmp_path / "run", "--class-weights", weights)
        == 3
    )
    assert "each must be finite and at least 0, and one must be above 0" in capsys.readouterr().err


def test_a_batch_that_no_memory_holds_is_refused_by_arithmetic(tmp_path, files, capsys):
    words = ["train", *files, "--classes", CLASSES, *SMALL, "--output", tmp_path / "run", "--batch", "100000000"]
    assert command(*words) == 3
    said = capsys.readouterr().err
    assert "100,000,000 patches per step" in said
    possible = int(said.partition("may be used. ")[2].split()[0].replace(",", ""))
    assert 1 <= possible < 100_000_000

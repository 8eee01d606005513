"""The command in a terminal: what it prints is text, and a terminal that goes away, or two signals, cost nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_unet3d.cli import main, terminal
from napari_unet3d.cli.terminal import Screen, say, say_unforeseen
from napari_unet3d.errors import OutputError
from napari_unet3d.network.store import save_model
from napari_unet3d.stopping import is_interrupt
from napari_unet3d.tasks.train.kept.run_folder import CHECKPOINT_FILE, RunFolder
from tests.support.models import random_model
from tests.tasks.train.test_train import IMAGE, LABELS

HOSTILE = "[/x] [link=http://x]b[/link] \x1b[31m\x1b]0;title\x07 \x9b2J \u202egpj <b>c</b> :smile: \udcff"
PLAIN = r"[/x] [link=http://x]b[/link] \x1b[31m\x1b]0;title\x07 \x9b2J \u202egpj <b>c</b> :smile: \udcff"
PROGRAM = [sys.executable, "-m", "napari_unet3d"]
SMALL = ["--classes", "0=ignore,1=background,2=ball", "--blocks", "0", "--filters", "2", "--patch", "24"]
SMALL += ["--steps", "100000", "--validate-every", "100000", "--device", "cpu"]

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither pseudo-terminals nor these signals")


def test_what_is_printed_above_a_bar_and_elsewhere_is_text(capsys):
    with Screen() as screen:
        screen.say(HOSTILE)
    say(HOSTILE)
    say(HOSTILE, to_error=True)
    captured = capsys.readouterr()
    assert captured.out == PLAIN + "\n"
    assert captured.err == f"{PLAIN}\n{PLAIN}\n"


@pytest.mark.parametrize("command", ["predict", "train", "run", "import-model", HOSTILE, f"--{HOSTILE}"])
def test_no_command_obeys_the_name_of_a_file(capsys, tmp_path, command):
    name = tmp_path / HOSTILE
    words = {
        "predict": [name, "--model", name, "--output", tmp_path / "a.tif"],
        "train": ["--image", name, "--labels", name, "--output", tmp_path / "run"],
        "run": [name],
        "import-model": [name, "--output", tmp_path / "m.unet3d"],
    }.get(command, [])
    with pytest.raises(SystemExit) as end:
        main([command, *map(str, words)])
    assert end.value.code in (2, 3)
    said = "".join(capsys.readouterr())
    assert said.replace("\n", "").isprintable()
    assert "unexpected error" not in said


def test_a_class_that_a_file_names_is_shown_and_not_obeyed(capsys, tmp_path):
    for name, voxels in (("image", IMAGE), ("labels", LABELS)):
        tifffile.imwrite(tmp_path / f"{name}.tif", voxels, photometric="minisblack")
    words = [
        "train",
        "--image",
        tmp_path / "image.tif",
        "--labels",
        tmp_path / "labels.tif",
        "--output",
        tmp_path / "run",
    ]
    words += [*SMALL, "--steps", "2", "--validate-every", "1", "--classes", f"0=ignore,1=background,2={HOSTILE[:60]}"]
    with pytest.raises(SystemExit):
        main([str(word) for word in words])
    captured = capsys.readouterr()
    assert "[/x] [link=http://x]b[/link]" in captured.out
    assert "\x1b" not in captured.out + captured.err


@pytest.mark.parametrize(
    "error", [RuntimeError("a\nb \x1b[1m"), RecursionError(), MemoryError(), EOFError(), OSError(32, "x")]
)
def test_what_was_not_foreseen_is_one_line_with_a_log(capsys, tmp_path, monkeypatch, error):
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("napari_unet3d.logs.user_log_path", lambda *_, **__: tmp_path)
    monkeypatch.setattr("napari_unet3d.volumes.read_volume", fails)
    words = ["predict", "a.tif", "--model", "m", "--output", "b.tif"]
    for debug in ([], ["--debug"]):
        with pytest.raises(SystemExit) as end:
            main([*words, *debug])
        assert end.value.code == 1
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1 or debug
        assert ("Traceback" in said) == bool(debug)
        assert f"an unexpected error ({type(error).__name__}" in said
        (log,) = tmp_path.glob("command-*.log")
        assert str(log) in said
        assert type(error).__name__ in log.read_text()


def test_a_log_folder_that_cannot_be_written_is_no_second_error(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("napari_unet3d.logs.user_log_path", lambda *_, **__: tmp_path / "file" / "logs")
    say_unforeseen(RuntimeError("why"), with_trace=False)
    said = capsys.readouterr().err
    log = Path(said.partition("are in ")[2].partition(";")[0])
    assert "RuntimeError: why" in log.read_text()


@on_posix
def test_a_result_that_cannot_be_printed_is_an_error_and_a_reader_that_left_is_none():
    full = Path("/dev/full")
    if full.exists():
        with full.open("w") as nowhere:
            ended = subprocess.run([*PROGRAM, "sizes"], stdout=nowhere, stderr=subprocess.PIPE, text=True, check=False)
        assert ended.returncode == 3
        assert "cannot be printed: No space left" in ended.stderr
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run([*PROGRAM, "sizes"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.fixture
def training(tmp_path):
    """Return the words of a training run that does not end by itself."""
    for name, voxels in (("image", IMAGE), ("labels", LABELS)):
        tifffile.imwrite(tmp_path / f"{name}.tif", voxels, photometric="minisblack")
    words = ["train", "--image", tmp_path / "image.tif", "--labels", tmp_path / "labels.tif", *SMALL]
    return [*map(str, words), "--output", str(tmp_path / "run")]


@pytest.fixture
def segmenting(tmp_path):
    """Return the words of a segmentation that takes a while."""
    tifffile.imwrite(tmp_path / "image.tif", np.zeros((200, 400, 400), np.uint16), photometric="minisblack")
    model = save_model(random_model(), tmp_path / "m.unet3d")
    (tmp_path / "out").mkdir()
    words = ["predict", tmp_path / "image.tif", "--model", model, "--output", tmp_path / "out" / "o.zarr"]
    return [*map(str, words), "--memory", "40MiB", "--nonfinite", "background"]


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, words: list[str]) -> None:
        import pty

        self.text = b""
        self.pid, self.descriptor = pty.fork()
        if not self.pid:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            os.execv(sys.executable, [*PROGRAM, *words])

    def read_until(self, word: bytes, times: int = 1) -> None:
        """Read what it prints until it has printed a word so often."""
        while self.text.count(word) < times:
            self.text += os.read(self.descriptor, 1 << 16)

    def read_all(self) -> None:
        """Read until it closes the terminal."""
        try:
            while part := os.read(self.descriptor, 1 << 16):
                self.text += part
        except OSError:
            return

    def leave(self) -> None:
        """Close the terminal, as a window or a connection is closed."""
        os.close(self.descriptor)

    def wait(self) -> int:
        """Return its exit code."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@on_posix
def test_a_terminal_that_is_closed_while_training_costs_nothing_that_was_learnt(training, tmp_path):
    program = Terminal(training)
    program.read_until(b"steps/s", 5)
    program.leave()
    assert program.wait() == 130
    with RunFolder(tmp_path / "run") as folder:
        assert folder.load_checkpoint().train_state.step > 0
    assert sorted(os.listdir(tmp_path / "run")) == ["checkpoint.safetensors", "history.csv", "last.unet3d", "run.json"]


@on_posix
def test_a_terminal_that_is_closed_while_segmenting_leaves_nothing_behind(segmenting, tmp_path):
    program = Terminal(segmenting)
    program.read_until(b"tiles of")
    program.leave()
    assert program.wait() == 130
    assert os.listdir(tmp_path / "out") == []


@on_posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGTERM"])
def test_a_second_signal_does_not_disturb_the_saving_after_the_first(training, tmp_path, name):
    program = Terminal(training)
    program.read_until(b"steps/s", 5)
    number = getattr(signal, name)
    os.kill(program.pid, number)
    program.read_until(b"Stopping; the run is being saved.")
    for _ in range(20):
        os.kill(program.pid, number)
    program.read_all()
    assert program.wait() == 130
    assert b"all is kept in" in program.text
    assert b"Traceback" not in program.text
    with RunFolder(tmp_path / "run") as folder:
        assert f"Stopped after {folder.load_checkpoint().train_state.step:,} steps".encode() in program.text


@on_posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGTERM"])
def test_two_signals_while_segmenting_leave_what_is_done_and_nothing_else(segmenting, tmp_path, name):
    program = Terminal(segmenting)
    program.read_until(b"tiles of")
    for _ in range(2):
        os.kill(program.pid, getattr(signal, name))
    program.read_all()
    assert program.wait() == 130
    is_kept = b"--resume goes on from there" in program.text
    assert is_kept or b"Stopped. Nothing was written" in program.text
    assert b"Traceback" not in program.text
    assert os.listdir(tmp_path / "out") == ["o.zarr.unfinished"] * is_kept


@on_posix
def test_a_signal_that_nohup_ignores_stays_ignored(training, tmp_path):
    words = [*training, "--steps", "3"]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            [*PROGRAM, *words], stderr=log, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
        )
        while not (tmp_path / "run" / CHECKPOINT_FILE).exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGHUP)
        assert process.wait() == 0


@on_posix
def test_training_that_cannot_be_written_goes_on_and_does_not_end_as_if_it_had_been(training, tmp_path):
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    words = [*training, "--filters", "8", "--steps", "4", "--validate-every", "2"]
    ended = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, check=False, preexec_fn=limit)
    assert ended.returncode == 4, ended.stderr
    assert ended.stderr.count("could not be written and goes on in memory") == 3
    assert "4 steps, of which those after 0 could not be written" in ended.stdout


def test_a_full_disk_under_a_result_is_not_silent(monkeypatch, capsys):
    class Full:
        encoding = "utf-8"

        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

        def fileno(self) -> int:
            raise OSError

    monkeypatch.setattr(terminal.sys, "stdout", Full())
    with pytest.raises(OutputError, match="No space left"):
        say("a result")


_WARNS = f"""
import logging, sys, warnings
from napari_unet3d import cli
sys.argv[1:] = ["--version"]
try:
    cli.main()
except SystemExit:
    warnings.warn({HOSTILE!r})
    logging.getLogger("tifffile").error({HOSTILE!r})
"""


def test_what_libraries_warn_of_is_text_too():
    ended = subprocess.run([sys.executable, "-c", _WARNS], capture_output=True, text=True, check=True)
    assert ended.stderr.splitlines() == [f"UserWarning: {PLAIN}", PLAIN]


@on_posix
def test_a_signal_while_the_old_result_is_removed_leaves_the_new_one_and_says_so(tmp_path):
    from napari_unet3d.volumes import create_output, read_volume

    tifffile.imwrite(tmp_path / "image.tif", np.zeros((30, 40, 50), np.uint8), photometric="minisblack")
    model = save_model(random_model(blocks=0, filters=2), tmp_path / "m.unet3d")
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "o.zarr"
    with create_output(target, (3, 4, 5), np.uint8, voxel_size=(1, 1, 1), unit="um") as output:
        output.commit()
    words = ["predict", tmp_path / "image.tif", "--model", model, "--output", target, "--overwrite", "--device", "cpu"]
    ended = subprocess.run(
        [sys.executable, "-c", _SIGNALLED, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 130, ended.stderr
    assert "Stopped. The result was complete" in ended.stderr
    assert read_volume(target).shape == (30, 40, 50)
    assert os.listdir(tmp_path / "out") == ["o.zarr"]


# The signal comes when the old zarr is removed, which is after the names were swapped.
_SIGNALLED = """
import os, signal, sys
def seen(event, arguments):
    if event == "shutil.rmtree":
        os.kill(os.getpid(), signal.SIGTERM)
sys.addaudithook(seen)
from napari_unet3d.cli import main
main(sys.argv[1:])
"""


# The administrator may read everything, but for these.
_AS_ANYBODY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]


@pytest.mark.skipif(sys.platform != "linux", reason="there is no setpriv")
def test_folders_that_may_not_be_read_are_said_and_no_surprise(tmp_path):
    model = save_model(random_model(blocks=0, filters=2), tmp_path / "m.unet3d")
    tifffile.imwrite(tmp_path / "image.tif", np.zeros((30, 40, 50), np.uint8), photometric="minisblack")
    (tmp_path / "closed").mkdir()
    shutil.copytree(model, tmp_path / "closed" / "m.unet3d")
    commands = [["predict", "image.tif", "--model", "closed/m.unet3d", "--output", "o.tif"]]
    commands += [["predict", "closed/i.tif", "--model", "m.unet3d", "--output", "o.tif"]]
    commands += [["predict", "image.tif", "--model", "m.unet3d", "--output", "closed/o.tif"]]
    commands += [["run", "closed/job.json"], ["import-model", "closed/a.h5", "--output", "m2"]]
    commands += [["train", "--image", "image.tif", "--labels", "image.tif", "--output", "closed/run", "--resume"]]
    is_root = os.getuid() == 0
    if is_root:
        os.chown(tmp_path / "closed", 65534, 65534)
    os.chmod(tmp_path / "closed", 0)
    try:
        for words in commands:
            program = [*(_AS_ANYBODY if is_root else []), *PROGRAM, *words]
            ended = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert ended.returncode == 3, (words, ended.stderr)
            assert ended.stderr.count("error: ") == 1
    finally:
        os.chmod(tmp_path / "closed", 0o755)


def test_a_signal_that_meets_c_code_is_a_signal():
    """What CPython makes of a signal that comes while a function in C has its result already."""
    reported = SystemError("returned a result with an exception set")
    reported.__cause__ = KeyboardInterrupt()
    assert is_interrupt(reported)
    assert is_interrupt(KeyboardInterrupt())
    assert not is_interrupt(SystemError("something else"))

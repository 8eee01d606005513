"""What must cost a job at most, and never the engine: the next job works."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from napari_unet3d.engine import LocalEngine
from napari_unet3d.engine.local import loans
from napari_unet3d.errors import EngineError, OutOfMemoryError, OutputError, VolumeError
from napari_unet3d.tasks.jobs.segment import SegmentJob
from napari_unet3d.tasks.specs import PredictSpec

SPEC = PredictSpec(tile_shape=(60, 60, 60), device="cpu")
SHAPE = (30, 41, 52)
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="shared memory and pipes are files on Linux only")


class Raises:
    """An array that raises something when it is read or written."""

    shape, dtype = SHAPE, np.dtype(np.uint8)

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __getitem__(self, box: object) -> np.ndarray:
        raise self._error

    def __setitem__(self, box: object, values: object) -> None:
        raise self._error


def works(engine: LocalEngine, model: Path) -> bool:
    result = np.zeros(SHAPE, np.uint8)
    run = engine.submit(
        SegmentJob(model=model, spec=SPEC), {"image": np.arange(np.prod(SHAPE)).reshape(SHAPE), "result": result}
    )
    run.wait()
    return run.state == "done"


@pytest.mark.parametrize("error", [asyncio.CancelledError("gone"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
@pytest.mark.parametrize("name", ["image", "result"])
def test_an_array_that_raises_anything_fails_its_job_with_words(engine, model_folder, name, error):
    arrays = {"image": np.zeros(SHAPE, np.uint8), "result": np.zeros(SHAPE, np.uint8)} | {name: Raises(error)}
    run = engine.submit(SegmentJob(model=model_folder, spec=SPEC), arrays)
    with pytest.raises(VolumeError if name == "image" else OutputError, match=f"The {name} .*{type(error).__name__}"):
        run.wait()
    assert len(engine.loans) == 0
    assert works(engine, model_folder)


class Speechless(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise ValueError("nothing to say")


class Shapeless(Raises):
    """An array that does not even say its shape."""

    @property
    def shape(self) -> tuple[int, ...]:
        raise self._error


class Keeps:
    """An array that keeps what is written into it, instead of copying it."""

    shape, dtype = SHAPE, np.dtype(np.uint8)

    def __init__(self) -> None:
        self.kept: list[np.ndarray] = []

    def __setitem__(self, box: object, values: np.ndarray) -> None:
        self.kept.append(values)


@pytest.mark.parametrize("kind", [Raises, Shapeless])
@pytest.mark.parametrize("error", [Speechless(), RuntimeError("broken")])
def test_an_array_whose_errors_have_errors_fails_its_job_and_the_worker_stays(engine, model_folder, kind, error):
    assert works(engine, model_folder)
    pid = engine.pid
    arrays = {"image": kind(error), "result": np.zeros(SHAPE, np.uint8)}
    with pytest.raises(VolumeError, match=f"The image cannot be reached: {type(error).__name__}"):
        engine.submit(SegmentJob(model=model_folder, spec=SPEC), arrays).wait()
    assert works(engine, model_folder)
    assert engine.pid == pid


def test_an_array_that_keeps_what_is_lent_to_it_does_not_end_the_engine(engine, model_folder):
    assert works(engine, model_folder)
    keeps = Keeps()
    run = engine.submit(
        SegmentJob(model=model_folder, spec=SPEC), {"image": np.zeros(SHAPE, np.uint8), "result": keeps}
    )
    run.wait()
    assert run.state == "done"
    assert keeps.kept
    assert len(engine.loans) == 0
    assert works(engine, model_folder)
    keeps.kept.clear()


@on_linux
@pytest.mark.parametrize("log", ["/dev/full", "/proc/1/nothing/worker.log"])
def test_a_worker_that_cannot_write_its_log_works(model_folder, monkeypatch, log):
    # No folder can be written, not even a temporary one.
    def refuse(_):
        raise OSError("no room")

    monkeypatch.setattr("napari_unet3d.engine.local.engine.log_file", refuse)
    engine = LocalEngine(log=Path(log), gives_way=False)
    try:
        assert works(engine, model_folder)
    finally:
        engine.end()


def test_what_is_printed_into_a_full_disk_is_lost_and_nothing_else(tmp_path):
    script = (
        "from napari_unet3d.engine.local.worker import claim_standard_output; import sys, os;"
        "channel = claim_standard_output(sys.argv[1]);"
        "print('lost'); print('\\udc80', file=sys.stderr, flush=True); sys.stdout.flush(); sys.stderr.isatty();"
        "print(sys.stdout.fileno(), file=channel, flush=True)"
    )
    log = "/dev/full" if sys.platform == "linux" else str(tmp_path / "nowhere" / "log")
    done = subprocess.run([sys.executable, "-c", script, log], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
    written = tmp_path / "log"
    subprocess.run([sys.executable, "-c", script, str(written)], check=True, capture_output=True)
    assert written.read_text() == "lost\n\\udc80\n"


def test_a_log_folder_that_cannot_be_written_is_replaced_by_another_one(tmp_path, model_folder):
    (tmp_path / "file").write_text("")
    engine = LocalEngine(log=tmp_path / "file" / "logs" / "worker.log", gives_way=False)
    try:
        assert works(engine, model_folder)
        assert engine.log.is_file()
        assert engine.log.name == "worker.log"
    finally:
        engine.end()


@on_linux
@pytest.mark.parametrize("is_busy", [True, False])
def test_bytes_that_are_no_text_on_the_pipe_cost_one_job_at_most(engine, model_folder, is_busy):
    assert works(engine, model_folder)
    begun = Blocked()
    run = engine.submit(
        SegmentJob(model=model_folder, spec=SPEC), {"image": begun, "result": np.zeros(SHAPE, np.uint8)}
    )
    if is_busy:
        assert begun.is_read.wait(60)
        say_junk(engine)
        begun.may_go_on.set()
        with pytest.raises(EngineError, match="sent a message that cannot be read"):
            run.wait()
    else:
        begun.may_go_on.set()
        run.wait()
        say_junk(engine)
        engine._service._stdout_thread.join(60)
    assert works(engine, model_folder)


class Blocked:
    """An image that waits until it may be read."""

    shape, dtype = SHAPE, np.dtype(np.uint8)

    def __init__(self) -> None:
        self.is_read, self.may_go_on = threading.Event(), threading.Event()

    def __getitem__(self, box: object) -> np.ndarray:
        self.is_read.set()
        self.may_go_on.wait(60)
        return np.zeros(SHAPE, np.uint8)[box]


def say_junk(engine: LocalEngine) -> None:
    """Write to the pipe of the worker, as a library that prints to the wrong place would."""
    pipe = os.readlink(f"/proc/self/fd/{engine._service._process.stdout.fileno()}")
    numbers = Path(f"/proc/{engine.pid}/fd")
    (channel,) = [number for number in numbers.iterdir() if os.readlink(number) == pipe]
    with open(channel, "wb") as opened:
        opened.write(b"\xff\xfe\x80\n")


@on_linux
def test_shared_memory_that_fills_up_after_the_look_is_an_error_and_no_signal(monkeypatch):
    shared = Path("/dev/shm")
    before = set(shared.iterdir())

    class Huge:
        shape, dtype = (shutil.disk_usage(shared).total + 4096,), np.dtype(np.uint8)

    # Another program takes the room between the look and the writing.
    monkeypatch.setattr(loans, "_check_room", lambda n_bytes: None)
    lent = loans.Loans()
    with pytest.raises(OutOfMemoryError, match="MiB left"):
        lent.lend(1, Huge(), (slice(0, Huge.shape[0]),), fill=False)
    assert len(lent) == 0
    assert set(shared.iterdir()) <= before

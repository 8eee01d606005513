"""What must cost a job at most, and never the engine: the next job works."""

from __future__ import annotations

import asyncio
import os
import shutil
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

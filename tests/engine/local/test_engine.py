from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.objects.clean_up import Cleanup
from napari_unet3d.core.tiles.coverage import DoneTiles
from napari_unet3d.engine import HereEngine, LocalEngine
from napari_unet3d.errors import EngineError, ModelError, OutputError, VolumeError
from napari_unet3d.network.store import save_model
from napari_unet3d.tasks.events import Progress, Started, TileDone
from napari_unet3d.tasks.jobs.segment import SegmentJob
from napari_unet3d.tasks.jobs.warm import WarmJob
from napari_unet3d.tasks.on_disk import OnDisk
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes import create_output
from tests.support.models import random_model

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3000, (30, 41, 52)).astype(np.uint16)


def arrays_for(volume: np.ndarray, spec: PredictSpec, classes: int = 2) -> dict[str, np.ndarray]:
    shape = spec.region.shape if spec.region else volume.shape[:3]
    last = (classes,) if spec.output == "probabilities" else ()
    arrays = {"image": volume, "result": np.zeros((*shape, *last), spec.dtype)}
    if spec.cleanup is not None:
        arrays["scratch"] = np.zeros(shape, np.uint8)
    return arrays


def here(job: SegmentJob, arrays: dict[str, np.ndarray]) -> list:
    return list(HereEngine().submit(job, arrays).events())


def wait_until(condition, seconds: float) -> bool:
    """Look until a condition holds that no signal tells of: the end of a foreign process."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


SPECS = {
    "labels": PredictSpec(tile_shape=(60, 60, 60)),
    "probabilities": PredictSpec(tile_shape=(60, 60, 64), output="probabilities"),
    "region": PredictSpec(region=Box((3, 22), (5, 41), (0, 33)), tile_shape=(52, 60, 60)),
    "clean-up": PredictSpec(tile_shape=(60, 60, 60), cleanup=Cleanup(high=0.6, low=0.4, min_voxels=20)),
    "instances": PredictSpec(tile_shape=(60, 60, 60), cleanup=Cleanup(high=0.5, low=0.5, min_voxels=0, instances=True)),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_job_gives_the_same_bytes_and_events_in_the_worker_as_in_process(engine, model_folder, volume, spec):
    job = SegmentJob(model=model_folder, spec=spec, focus=Box((20, 21), (0, 41), (0, 20)))
    ours, theirs = arrays_for(volume, spec), arrays_for(volume, spec)
    run = engine.submit(job, theirs)
    # The first of all runs also checks the device.
    events = [event for event in run.events() if event != Progress("checking the device", 0, 1)]
    assert run.state == "done"
    expected = here(job, ours)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert ours["result"].any()
    assert [type(event) for event in events] == [type(event) for event in expected]
    assert [e.box for e in events if isinstance(e, TileDone)] == [e.box for e in expected if isinstance(e, TileDone)]
    assert run.result.input_shape == spec.tile_shape


def test_several_channels_and_a_strided_view_reach_the_worker_unchanged(engine, tmp_path):
    model = save_model(random_model(blocks=1, filters=2, channels=2, classes=3), tmp_path / "two.unet3d")
    image = np.random.default_rng(1).normal(size=(2, 40, 50, 90)).astype(np.float32)
    view = np.moveaxis(image[..., ::2], 0, -1)
    spec = PredictSpec(tile_shape=(60, 60, 60))
    theirs, ours = arrays_for(view, spec), arrays_for(view, spec)
    engine.submit(SegmentJob(model=model, spec=spec), theirs).wait()
    here(SegmentJob(model=model, spec=spec), ours)
    assert ours["result"].tobytes() == theirs["result"].tobytes()


def test_a_volume_on_disk_is_read_by_the_worker_itself(engine, model_folder, volume, tmp_path):
    path = tmp_path / "volume.zarr"
    with create_output(path, volume.shape, volume.dtype, voxel_size=(1, 1, 1), unit="um", kind="image") as output:
        output[:, :, :] = volume
        output.commit()
    spec = SPECS["labels"]
    job = SegmentJob(model=model_folder, spec=spec, image=OnDisk(path=str(path)))
    theirs, ours = arrays_for(volume, spec), arrays_for(volume, spec)
    del theirs["image"]
    engine.submit(job, theirs).wait()
    here(SegmentJob(model=model_folder, spec=spec), ours)
    assert ours["result"].tobytes() == theirs["result"].tobytes()


def test_a_result_is_in_its_array_before_its_event_comes(engine, model_folder, volume):
    spec = SPECS["labels"]
    expected = arrays_for(volume, spec)
    here(SegmentJob(model=model_folder, spec=spec), expected)
    arrays = arrays_for(volume, spec)
    seen = arrays["result"]
    seen[...] = 99
    for event in engine.submit(SegmentJob(model=model_folder, spec=spec), arrays).events():
        if isinstance(event, TileDone):
            np.testing.assert_array_equal(seen[event.box.slices], expected["result"][event.box.slices])


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="shared memory can be counted on Linux only")
def test_shared_memory_is_freed(engine, model_folder, volume):
    before = set(os.listdir(SHARED_MEMORY))
    most = 0
    run = engine.submit(SegmentJob(model=model_folder, spec=SPECS["clean-up"]), arrays_for(volume, SPECS["clean-up"]))
    while (events := run.take(0.001)) is not None:
        most = max(most, len(set(os.listdir(SHARED_MEMORY)) - before))
        assert events is not None
    assert len(engine.loans) == 0
    assert set(os.listdir(SHARED_MEMORY)) <= before
    assert most > 0


def test_a_run_stops_at_its_next_event_keeps_what_is_done_and_goes_on_to_the_same_bytes(engine, model_folder, volume):
    spec = PredictSpec(tile_shape=(48, 48, 48))
    expected, arrays = arrays_for(volume, spec), arrays_for(volume, spec)
    here(SegmentJob(model=model_folder, spec=spec), expected)
    run = engine.submit(SegmentJob(model=model_folder, spec=spec), arrays)
    result, boxes, total = arrays["result"], [], 0
    for event in run.events():
        match event:
            case Started():
                total = event.total
            case TileDone():
                boxes.append(event.box)
                if len(boxes) == 1:
                    run.cancel()
    assert run.state == "stopped"
    assert 1 <= len(boxes) < total
    done = (DoneTiles((48, 48, 48), tuple(boxes)),)
    again = engine.submit(
        SegmentJob(model=model_folder, spec=spec, done=done), arrays | {"result": result, "image": volume}
    )
    tiles = [event.box for event in again.events() if isinstance(event, TileDone)]
    assert len(tiles) == total - len(boxes)
    assert result.tobytes() == expected["result"].tobytes()


def test_runs_wait_their_turn_in_order_and_can_be_withdrawn(engine, model_folder, volume):
    spec = SPECS["labels"]
    runs = [engine.submit(SegmentJob(model=model_folder, spec=spec), arrays_for(volume, spec)) for _ in range(3)]
    runs[2].cancel()
    assert runs[2].state == "stopped"
    assert runs[1].state == "queued"
    assert engine.queue[-1:] == [runs[1]]
    runs[0].wait()
    assert runs[1].wait() is not None
    assert (runs[0].state, runs[1].state) == ("done", "done")
    assert runs[2].wait() is None


def test_an_error_that_a_user_can_mend_arrives_as_what_it_is(engine, model_folder, volume, tmp_path):
    pid = engine.pid
    with pytest.raises(ModelError, match=r"There is no model folder .*nowhere"):
        engine.submit(SegmentJob(model=tmp_path / "nowhere"), arrays_for(volume, PredictSpec())).wait()
    infinite = volume.astype(np.float32)
    infinite[3, 4, 5] = np.inf
    with pytest.raises(VolumeError, match="1 voxels in"):
        engine.submit(SegmentJob(model=model_folder), arrays_for(infinite, PredictSpec())).wait()
    assert engine.pid == pid


class Damaged:
    """An image of another plugin whose file is gone."""

    shape, dtype = (30, 41, 52), np.dtype(np.uint8)

    def __getitem__(self, box):
        raise KeyError("chunk 7 is gone")


def test_an_image_that_cannot_be_read_ends_the_run_and_not_the_worker(engine, model_folder, volume):
    pid = engine.pid
    arrays = {"image": Damaged(), "result": np.zeros((30, 41, 52), np.uint8)}
    with pytest.raises(VolumeError, match="The image cannot be reached: KeyError: 'chunk 7 is gone'"):
        engine.submit(SegmentJob(model=model_folder), arrays).wait()
    assert engine.submit(WarmJob()).wait() is not None
    assert engine.pid == pid


class FullDisk:
    """A result on a disk that is full after a few tiles."""

    shape, dtype, room = (30, 41, 52), np.dtype(np.uint8), 3

    def __setitem__(self, box, values):
        if self.room == 0:
            raise OutputError("The disk is full.")
        self.room -= 1


def test_a_result_that_cannot_be_written_ends_the_run_and_not_the_worker(engine, model_folder, volume):
    pid = engine.pid
    run = engine.submit(
        SegmentJob(model=model_folder, spec=PredictSpec(tile_shape=(48, 48, 48))),
        {"image": volume, "result": FullDisk()},
    )
    with pytest.raises(OutputError, match="The disk is full"):
        run.wait()
    assert engine.submit(WarmJob()).wait() is not None
    assert engine.pid == pid
    assert len(engine.loans) == 0


def test_the_worker_is_warm_and_says_its_devices(engine):
    result = engine.submit(WarmJob()).wait()
    assert result.devices[-1].name == "cpu"
    assert engine.state == "ready"


def test_a_worker_gives_way_to_the_window_unless_it_is_told_not_to(engine, tmp_path):
    assert psutil.Process(engine.pid).nice() == psutil.Process().nice()
    engine = LocalEngine(log=tmp_path / "worker.log")
    # Whatever it is asked for, it has begun.
    with pytest.raises(ModelError):
        engine.submit(SegmentJob(model=tmp_path / "nowhere")).wait()
    nice = psutil.Process(engine.pid).nice()
    assert nice == psutil.BELOW_NORMAL_PRIORITY_CLASS if sys.platform == "win32" else nice > psutil.Process().nice()
    if sys.platform == "linux":
        assert os.sched_getscheduler(engine.pid) == os.SCHED_IDLE
    engine.end()


def test_what_the_worker_prints_goes_to_its_log(engine):
    task = engine._service.task(
        "import os, sys\nprint('from Python')\nos.system('echo from a child')\nprint('as an error', file=sys.stderr)"
    )
    task.wait_for()
    assert {"from Python", "from a child", "as an error"} <= set(engine.log.read_text().splitlines())
    assert engine._service.invalid_lines() == []


def test_a_killed_worker_is_told_with_the_reason_and_the_log_and_the_next_run_works(model_folder, volume, tmp_path):
    engine = LocalEngine(log=tmp_path / "worker.log", gives_way=False)
    spec = PredictSpec(tile_shape=(48, 48, 48))
    arrays = arrays_for(volume, spec)
    result = arrays["result"]
    run = engine.submit(SegmentJob(model=model_folder, spec=spec), arrays)
    boxes = []

    def kill_after_three_tiles():
        for event in run.events():
            if isinstance(event, TileDone):
                boxes.append(event.box)
            if len(boxes) == 3:
                os.kill(engine.pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)

    with pytest.raises(EngineError, match="was killed") as caught:
        kill_after_three_tiles()
    assert str(tmp_path / "worker.log") in str(caught.value)
    assert run.state == "failed"
    assert len(engine.loans) == 0
    done = (DoneTiles((48, 48, 48), tuple(boxes)),)
    engine.submit(SegmentJob(model=model_folder, spec=spec, done=done), {"image": volume, "result": result}).wait()
    expected = arrays_for(volume, spec)
    here(SegmentJob(model=model_folder, spec=spec), expected)
    assert result.tobytes() == expected["result"].tobytes()
    engine.end()


def test_a_message_that_nobody_understands_ends_the_run_and_the_next_one_works(
    model_folder, volume, tmp_path, monkeypatch
):
    from napari_unet3d.engine.local import wire

    engine = LocalEngine(log=tmp_path / "worker.log", gives_way=False)
    spec = SPECS["labels"]
    with monkeypatch.context() as broken:
        broken.setattr(wire, "event_from_wire", lambda message: 1 / 0)
        with pytest.raises(EngineError, match="could not be used: division by zero"):
            engine.submit(SegmentJob(model=model_folder, spec=spec), arrays_for(volume, spec)).wait()
    assert engine.submit(SegmentJob(model=model_folder, spec=spec), arrays_for(volume, spec)).wait() is not None
    engine.end()


@pytest.mark.parametrize("how", ["the block is gone", "it cannot be taken"])
def test_a_box_that_never_arrives_ends_the_run_and_the_next_one_works(how, model_folder, volume, tmp_path, monkeypatch):
    engine = LocalEngine(log=tmp_path / "worker.log", gives_way=False)
    lend = engine.loans.lend

    def broken(number, *arguments, **keywords):
        block = lend(number, *arguments, **keywords)
        if how == "the block is gone":
            # The worker cannot even decode the message that names it.
            engine.loans.free(number)
        return block if how == "the block is gone" else "no block"

    spec = SPECS["labels"]
    job = SegmentJob(model=model_folder, spec=spec)
    monkeypatch.setattr(engine.loans, "lend", broken)
    with pytest.raises(EngineError) as caught:
        engine.submit(job, arrays_for(volume, spec)).wait()
    assert "Traceback" in caught.value.details
    assert len(engine.loans) == 0
    monkeypatch.undo()
    assert engine.submit(job, arrays_for(volume, spec)).wait() is not None
    engine.end()


def test_to_cancel_what_has_ended_already_leaves_the_worker(engine):
    engine.submit(WarmJob()).wait()
    pid = engine.pid
    engine._service.task("pass").cancel()
    engine.submit(WarmJob()).wait()
    assert engine.pid == pid


def test_threads_of_the_worker_may_parse_at_the_same_time():
    code = """
import ast, sys, threading
from napari_unet3d.engine.local.appose_patches import parse_one_at_a_time
parse_one_at_a_time()
sys.setswitchinterval(1e-5)
class Garbage:
    def __init__(self): self.me = self
    def __del__(self):
        for _ in range(20): pass  # Python may let another thread go on here, in the midst of a parse
failed = []
def parse():
    for _ in range(5000):
        [Garbage() for _ in range(3)]
        try: ast.parse("from a import b\\nb.c(d, e, f)")
        except SystemError as error: failed.append(error)
threads = [threading.Thread(target=parse) for _ in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(failed))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0", done.stderr


def test_a_worker_that_died_while_idle_is_replaced_without_a_word(tmp_path):
    engine = LocalEngine(log=tmp_path / "worker.log", gives_way=False)
    engine.submit(WarmJob()).wait()
    for _ in range(3):
        pid = engine.pid
        os.kill(pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        assert engine.submit(WarmJob()).wait() is not None
        assert engine.pid != pid
    os.kill(engine.pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    assert wait_until(lambda: engine.state == "off", 5)
    engine.end()


def test_a_relative_path_is_that_of_whoever_asks(engine, model_folder, volume, tmp_path, monkeypatch):
    monkeypatch.chdir(model_folder.parent)
    with create_output("v.tif", volume.shape, volume.dtype, voxel_size=(1, 1, 1), unit="um", kind="image") as output:
        output[:, :, :] = volume
        output.commit()
    spec = SPECS["labels"]
    arrays = arrays_for(volume, spec)
    del arrays["image"]
    job = SegmentJob(model=Path(model_folder.name), spec=spec, image=OnDisk(path="v.tif"))
    assert engine.submit(job, arrays).wait() is not None


def test_a_current_folder_that_is_gone_does_not_matter(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    engine = LocalEngine(log=tmp_path / "worker.log", gives_way=False)
    (tmp_path / "gone").rmdir()
    assert engine.submit(WarmJob()).wait() is not None
    engine.end()


def test_ending_the_engine_stops_what_runs_and_what_waits_and_gives_the_memory_back(model_folder, volume, tmp_path):
    engine = LocalEngine(log=tmp_path / "worker.log", gives_way=False)
    spec = PredictSpec(tile_shape=(48, 48, 48))
    runs = [engine.submit(SegmentJob(model=model_folder, spec=spec), arrays_for(volume, spec)) for _ in range(2)]
    next(runs[0].events())
    pid = engine.pid
    assert engine.used_bytes > 0
    engine.end()
    assert runs[0].wait() is None
    assert [run.state for run in runs] == ["stopped", "stopped"]
    assert wait_until(lambda: not psutil.pid_exists(pid), 2)
    assert wait_until(lambda: engine.state == "off", 2)
    assert (engine.pid, engine.used_bytes) == (None, 0)


def test_a_worker_that_shall_end_softly_stays_for_whoever_came_meanwhile(model_folder, volume, tmp_path):
    engine = LocalEngine(log=tmp_path / "worker.log", gives_way=False)
    spec = SPECS["labels"]
    first = engine.submit(SegmentJob(model=model_folder, spec=spec), arrays_for(volume, spec))
    next(first.events())
    engine.end_softly(60)
    second = engine.submit(SegmentJob(model=model_folder, spec=spec), arrays_for(volume, spec))
    assert second.wait() is not None
    assert first.state == "stopped"
    engine.end_softly(60)
    assert wait_until(lambda: engine.state == "off", 10)


def test_the_worker_ends_when_nothing_comes_and_starts_again_when_something_does(tmp_path):
    engine = LocalEngine(idle_seconds=0.3, log=tmp_path / "worker.log", gives_way=False)
    assert engine.state == "off"
    engine.submit(WarmJob()).wait()
    pid = engine.pid
    assert wait_until(lambda: engine.state == "off", 5)
    assert wait_until(lambda: not psutil.pid_exists(pid), 5)
    assert engine.submit(WarmJob()).wait() is not None
    assert engine.pid != pid
    engine.end()


PARENT = """
import sys
from pathlib import Path
import numpy as np
from napari_unet3d.engine import LocalEngine
from napari_unet3d.tasks.jobs.segment import SegmentJob
from napari_unet3d.tasks.specs import PredictSpec
engine = LocalEngine(log=Path(sys.argv[1]) / "worker.log")
image, result = np.zeros((200, 200, 200), np.uint8), np.zeros((200, 200, 200), np.uint8)
spec = PredictSpec(tile_shape=(48, 48, 48))
run = engine.submit(SegmentJob(model=Path(sys.argv[2]), spec=spec), {"image": image, "result": result})
events = run.events()
next(events), next(events)
print(engine.pid, flush=True)
if sys.argv[3] == "returns":
    raise SystemExit
for event in events:
    pass
"""


@pytest.mark.parametrize("how", ["killed", "returns"])
def test_no_worker_outlives_the_program_that_started_it(how, model_folder, tmp_path):
    words = [sys.executable, "-c", PARENT, str(tmp_path), str(model_folder), how]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        if how == "killed":
            parent.kill()
        assert parent.wait(timeout=20) is not None
    assert wait_until(lambda: not psutil.pid_exists(pid), 5)


def test_logs_of_long_ago_are_removed_and_those_of_others_are_not(tmp_path):
    old, recent = tmp_path / "worker-1.log", tmp_path / "worker-2.log"
    for path in (old, recent):
        path.write_text("said")
    os.utime(old, (0, 0))
    engine = LocalEngine(log=tmp_path / "worker-3.log", gives_way=False)
    engine.submit(WarmJob()).wait()
    engine.end()
    assert not old.exists()
    assert recent.exists()


def test_an_engine_that_is_not_used_starts_nothing():
    before = threading.active_count()
    engine = LocalEngine()
    assert (engine.state, engine.pid, threading.active_count()) == ("off", None, before)
    engine.end()

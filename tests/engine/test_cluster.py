"""Blocks on several processes: the bytes of one, whatever becomes of the workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_unet3d.cli import main
from napari_unet3d.core.finite import NOT_FINITE
from napari_unet3d.core.normalize import sample_voxels
from napari_unet3d.core.objects.clean_up import Cleanup
from napari_unet3d.engine.cluster.computer import ClusterComputer
from napari_unet3d.engine.cluster.local import local_workers
from napari_unet3d.engine.cluster.pool import Done, Failed, Pool
from napari_unet3d.errors import EngineError
from napari_unet3d.network.store import save_model
from napari_unet3d.tasks.jobs.files import JobFile, write_job
from napari_unet3d.tasks.jobs.segment import SegmentJob
from napari_unet3d.tasks.on_disk import OnDisk
from napari_unet3d.tasks.segment.blocks import Workers, versions
from napari_unet3d.tasks.segment.work.ledger import folder_of, n_done
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes import read_volume
from tests.support import cluster_tasks
from tests.support.dask_cluster import cluster, wait_for
from tests.support.models import needs_bfloat16, random_model

pytest.importorskip("distributed")
ROOT = Path(__file__).parents[2]
SHAPE = (60, 120, 150)


def command(*words) -> int:
    with pytest.raises(SystemExit) as stop:
        main([*map(str, words)])
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    save_model(random_model(blocks=0, filters=2), folder / "m.unet3d")
    voxels = np.random.default_rng(0).normal(0, 1, SHAPE).astype(np.float32)
    zarr.create_array(folder / "image.zarr", data=voxels, chunks=(60, 60, 50), dimension_names=["z", "y", "x"])
    assert command(*predict(folder, folder / "here" / "o.zarr")) == 0
    return folder


def predict(folder, target, *more):
    target.parent.mkdir(exist_ok=True)
    words = ["predict", folder / "image.zarr", "--model", folder / "m.unet3d", "--output", target, "--device", "cpu"]
    return [*words, "--tile", "40", *more]


def contents(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_a_worker_that_is_killed_in_mid_run_costs_no_byte(place, tmp_path):
    with cluster(tmp_path, 2) as (file, _):
        pids = wait_for(file, 2)
        target = tmp_path / "there" / "o.zarr"
        words = predict(place, target, "--cluster", file, "--block-seconds", "120")
        run = subprocess.Popen([sys.executable, "-m", "napari_unet3d", *map(str, words)], stderr=subprocess.PIPE)
        while n_done(target) < 5:
            assert run.poll() is None, run.stderr.read()
        os.kill(next(iter(pids.values())), 9)
        assert n_done(target) < 60
        assert run.wait() == 0, run.stderr.read()
        run.stderr.close()
        assert contents(target) == contents(place / "here" / "o.zarr")
        assert [path.name for path in target.parent.iterdir()] == ["o.zarr"]

        # What one cannot compute is listed, all else is kept; when it is mended, the run goes on.
        numbers = np.arange(np.prod(SHAPE)).reshape(SHAPE)
        spared = np.setdiff1d(numbers.ravel(), sample_voxels(numbers, 1 << 20).ravel())
        at = tuple(int(n) for n in np.unravel_index(spared[len(spared) // 2], SHAPE))
        image = zarr.open_array(place / "image.zarr", mode="r+")
        before = image[at]
        image[at] = np.nan
        failed = subprocess.run(
            [
                sys.executable,
                "-m",
                "napari_unet3d",
                *map(str, predict(place, target, "--overwrite", "--cluster", file)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        image[at] = before
        assert failed.returncode == 4, failed.stderr
        lines = [line for line in failed.stderr.splitlines() if line.startswith("failed: ")]
        assert lines
        assert all(NOT_FINITE in line for line in lines)
        assert "--resume goes on from there" in failed.stderr
        assert n_done(target) > 50
        assert command(*predict(place, target, "--overwrite", "--resume", "--cluster", file)) == 0
        assert contents(target) == contents(place / "here" / "o.zarr")


def test_a_job_on_workers_of_this_machine_numbers_objects_as_one_process_does(place, tmp_path):
    objects = ["--clean-up", "--high", "0.6", "--low", "0.5", "--min-voxels", "3", "--instances"]
    here, there = tmp_path / "here" / "o.zarr", tmp_path / "there" / "o.zarr"
    assert command(*predict(place, here, *objects)) == 0
    cleanup = Cleanup(high=0.6, low=0.5, min_voxels=3, instances=True)
    spec = PredictSpec(cleanup=cleanup, tile_shape=(40, 40, 40), device="cpu")
    job = SegmentJob(model=place / "m.unet3d", image=OnDisk(path=str(place / "image.zarr")), spec=spec)
    there.parent.mkdir()
    write_job(JobFile(job=job, output=there), tmp_path / "job.json")
    assert command("run", tmp_path / "job.json", "--workers", "2") == 0
    assert contents(here) == contents(there)
    assert read_volume(here, kind="labels").data[...].max() > 1


def test_a_worker_of_another_version_is_refused_before_the_run(place, tmp_path, capsys):
    other = tmp_path / "other" / "napari_unet3d-99.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: napari-unet3d\nVersion: 99.0\n")
    path = os.pathsep.join([str(other.parent), str(ROOT / "src"), str(ROOT), *sys.path])
    with cluster(tmp_path, 1, PYTHONPATH=path) as (file, _):
        wait_for(file, 1)
        assert command(*predict(place, tmp_path / "a" / "o.zarr", "--cluster", file)) == 3
    assert "has other versions: napari-unet3d 99.0, here" in capsys.readouterr().err
    assert list((tmp_path / "a").iterdir()) == []


@needs_bfloat16
def test_workers_compute_in_bfloat16_what_one_process_does_and_one_without_it_is_refused(place, tmp_path, capsys):
    fast = ["--precision", "bfloat16"]
    here, there = tmp_path / "here" / "o.zarr", tmp_path / "there" / "o.zarr"
    assert command(*predict(place, here, *fast)) == 0
    with cluster(tmp_path, 1) as (file, _):
        wait_for(file, 1)
        assert command(*predict(place, there, *fast, "--cluster", file)) == 0
    assert contents(here) == contents(there)
    assert contents(here) != contents(place / "here" / "o.zarr")
    (tmp_path / "old").mkdir()
    with cluster(tmp_path / "old", 1, ONEDNN_MAX_CPU_ISA="AVX2") as (file, _):
        wait_for(file, 1)
        assert command(*predict(place, tmp_path / "a" / "o.zarr", *fast, "--cluster", file)) == 3
    said = capsys.readouterr().err
    assert "cannot do the work: Device cpu (CPU, " in said
    assert "has no instructions for bfloat16" in said
    assert list((tmp_path / "a").iterdir()) == []


@pytest.mark.parametrize(
    ("types", "words"),
    [(["float32", "float32"], ""), (["float32", "float16"], "different precisions: .* in float16, .* in float32")],
)
def test_workers_that_compute_in_different_types_are_refused(tmp_path, types, words):
    class Client:
        """Two workers that have looked around."""

        def run(self, *_):
            found = {"versions": versions(), "memory": 1000, "is_gpu": False, "problem": ""}
            return {f"tcp://10.0.0.{n}:1": {**found, "computes_in": kind} for n, kind in enumerate(types)}

    computer = ClusterComputer(Client())
    if words:
        with pytest.raises(EngineError, match=words):
            computer.look(None, tmp_path / "nonce")
    else:
        assert computer.look(None, tmp_path / "nonce") == Workers(1000, "float32")


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may hide a folder")
def test_a_worker_that_does_not_see_the_folder_is_refused_before_the_run(place, tmp_path, capsys):
    hidden = tmp_path / "a"
    hidden.mkdir()
    prefix = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs none "{hidden}" && exec "$@"', "sh"]
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no folder can be hidden here")
    with cluster(tmp_path, 1, prefix) as (file, _):
        wait_for(file, 1)
        assert command(*predict(place, hidden / "o.zarr", "--cluster", file)) == 3
    assert f"it does not see {folder_of(hidden / 'o.zarr')}" in capsys.readouterr().err


def test_what_several_workers_cannot_do_is_refused(place, tmp_path, capsys):
    cases = {
        "several workers write a .zarr": [tmp_path / "o.tif", "--workers", "1"],
        "pass one of them": [tmp_path / "o.zarr", "--workers", "1", "--cluster", "tcp://127.0.0.1:1"],
        "belongs to --workers or --cluster": [tmp_path / "o.zarr", "--block-seconds", "5"],
        "does not exist. A scheduler writes it": [tmp_path / "o.zarr", "--cluster", tmp_path / "no.json"],
    }
    for words, choices in cases.items():
        assert command(*predict(place, *choices)) == 3
        assert words in capsys.readouterr().err


def test_a_task_is_tried_again_given_up_after_a_time_and_listed_when_it_fails_for_good(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
    tasks = [("fine", ""), ("twice", str(tmp_path / "twice")), ("never", ""), ("stuck", ""), ("deadly", "")]
    with local_workers(2) as client:
        pool = Pool(client, cluster_tasks.perform, tries=3, seconds=4)
        ended = [found for found in pool.run(tasks) if found is not None]
    done = {found.task[0]: found.result for found in ended if isinstance(found, Done)}
    failed = {found.task[0]: found.reason for found in ended if isinstance(found, Failed)}
    assert done == {"fine": "fine", "twice": "twice"}
    assert (tmp_path / "twice").read_text() == "111"
    assert failed["never"] == "ValueError: never"
    assert "more than 4 seconds" in failed["stuck"]
    assert set(failed) == {"never", "stuck", "deadly"}


def test_a_scheduler_that_is_gone_ends_the_run_with_words(tmp_path):
    from distributed import Client

    with cluster(tmp_path, 1) as (file, _):
        wait_for(file, 1)
        address = json.loads(file.read_text())["address"]
        client = Client(address, set_as_default=False)
        running = Pool(client, cluster_tasks.perform, patience=1).run([("slow", "")])
        assert next(running) is None
    with pytest.raises(EngineError, match="The scheduler of the cluster is gone"):
        list(running)
    client.close(timeout=1)

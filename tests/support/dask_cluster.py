"""A scheduler and workers as processes of their own, for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psutil

from napari_unet3d.engine.cluster.local import worker_command
from tests.support import cluster_tasks

ROOT = Path(__file__).parents[2]


@contextmanager
def process(command, **choices):
    started = subprocess.Popen([*map(str, command)], stderr=subprocess.DEVNULL, **choices)
    try:
        yield started
    finally:
        for child in psutil.Process(started.pid).children(recursive=True):
            child.kill()
        started.kill()
        started.wait()


@contextmanager
def cluster(folder, n_workers, prefix=(), **environment):
    """Start a scheduler that writes a file, and workers for it; give the file and the processes of the workers."""
    file = folder / "scheduler.json"
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", 0, "--no-dashboard"]
    with process([*scheduler, "--host", "127.0.0.1", "--scheduler-file", file]) as boss:
        while not (file.exists() and file.read_text().strip()):
            assert boss.poll() is None
        address = json.loads(file.read_text())["address"]
        command = [*prefix, *worker_command(address, str(folder / "workers"))]
        paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "CUDA_VISIBLE_DEVICES": ""}
        workers = [process(command, env={**os.environ, **paths, **environment}) for _ in range(n_workers)]
        opened = []
        try:
            opened = [worker.__enter__() for worker in workers]
            yield file, opened
        finally:
            for worker in workers[: len(opened)]:
                worker.__exit__(None, None, None)


def wait_for(file, n_workers):
    from distributed import Client

    with Client(scheduler_file=str(file), set_as_default=False) as client:
        client.wait_for_workers(n_workers, timeout=120)
        return {address: info["pid"] for address, info in client.run(cluster_tasks.process).items()}

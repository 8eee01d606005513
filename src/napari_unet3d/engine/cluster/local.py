"""Workers on this machine, for `--workers N`: a scheduler in this process, and a process for each worker.

The cores are divided among the workers, and of several GPUs each worker gets one.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from napari_unet3d.errors import EngineError, shown

# A worker imports TensorFlow when it begins its first block, not before it is there.
_SECONDS_TO_START = 120
_SECONDS_TO_END = 10


@contextmanager
def local_workers(n_workers: int, *, n_gpus: int = 0) -> Iterator[Any]:
    """Start workers, and give a client that reaches them; they end with the block.

    Parameters
    ----------
    n_workers
        How many.
    n_gpus
        How many GPUs there are.

    Raises
    ------
    EngineError
        If they do not start.
    """
    distributed = import_distributed()
    quiet = {"scheduler_port": 0, "dashboard_address": None, "silence_logs": logging.CRITICAL}
    with (
        tempfile.TemporaryDirectory(prefix="unet3d-workers-", ignore_cleanup_errors=True) as folder,
        distributed.LocalCluster(n_workers=0, host="127.0.0.1", **quiet) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        log = Path(folder) / "workers.log"
        workers: list[subprocess.Popen[bytes]] = []
        try:
            with log.open("wb") as file:
                for number in range(n_workers):
                    command = worker_command(cluster.scheduler_address, folder)
                    environment = {**os.environ, **worker_environment(number, n_workers, n_gpus)}
                    # In a session of their own: Ctrl-C is for this process, which then ends them.
                    workers.append(
                        subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
                    )
            try:
                client.wait_for_workers(n_workers, timeout=_SECONDS_TO_START)
            except TimeoutError as error:
                raise EngineError(f"The workers did not start: {_last_line(log)}") from error
            yield client
        finally:
            _end(workers)


def worker_command(address: str, folder: str) -> list[str]:
    """Return the command that starts a worker with one thread, and a nanny that starts it again if it dies."""
    words = ["--nthreads", "1", "--memory-limit", "0", "--no-dashboard", "--death-timeout", "60"]
    return [sys.executable, "-m", "distributed.cli.dask_worker", address, *words, "--local-directory", folder]


def worker_environment(number: int, n_workers: int, n_gpus: int) -> dict[str, str]:
    """Return what a worker is told of its share of the machine.

    Examples
    --------
    >>> worker_environment(3, 4, 2)["CUDA_VISIBLE_DEVICES"]
    '1'
    """
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = str(max(1, n_cores // n_workers))
    names = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    share = dict.fromkeys(names, threads)
    return share | ({"CUDA_VISIBLE_DEVICES": str(number % n_gpus)} if n_gpus else {})


def import_distributed() -> Any:
    """Return dask.distributed.

    Raises
    ------
    EngineError
        If it is not installed.
    """
    try:
        import distributed
    except ImportError as error:
        raise EngineError(
            "Several workers need dask.distributed, which is not installed: pip install 'napari-unet3d[cluster]'."
        ) from error
    return distributed


def _end(workers: list[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        with suppress(subprocess.TimeoutExpired):
            worker.wait(_SECONDS_TO_END)
        if worker.poll() is None:
            worker.kill()
            worker.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"nothing in {shown(log)} says why."

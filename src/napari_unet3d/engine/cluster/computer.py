"""Whoever computes the blocks of a segmentation on a cluster: looks at the workers first, then hands out blocks."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from napari_unet3d import atomic
from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.tiles.plan import TilePlan
from napari_unet3d.engine.cluster.local import import_distributed, local_workers
from napari_unet3d.engine.cluster.pool import Done, Failed, Pool
from napari_unet3d.errors import BlocksFailedError, EngineError, shown
from napari_unet3d.network.machine.device import Precision
from napari_unet3d.tasks.events import Event, Note, Started, TileDone, Waiting
from napari_unet3d.tasks.segment.blocks import (
    BlockComputer,
    BlockRun,
    BlockSource,
    Workers,
    compute_block,
    look_around,
    versions,
)

_SECONDS_TO_CONNECT = 30


class ClusterComputer(BlockComputer):
    """Computes blocks with the workers that a client reaches.

    Parameters
    ----------
    client
        Of dask.distributed.
    device
        On which a worker computes; as in `PredictSpec`.
    tries, seconds
        How often a block is tried, and how long it may take; see `Pool`.
    """

    def __init__(self, client: Any, *, device: str = "auto", tries: int = 3, seconds: float | None = None) -> None:
        self._client, self._device = client, device
        self._tries, self._seconds = tries, seconds

    def look(self, source: BlockSource, nonce: Path, precision: Precision = "float32") -> Workers:
        """Return what the workers have in common, once it was seen that all can do the work; see `BlockComputer`."""
        text = os.urandom(8).hex()
        atomic.write_text(nonce, text, overwrite=True)
        try:
            found = self._client.run(look_around, source, nonce, text, self._device, precision)
        except Exception as error:
            raise EngineError(
                f"A worker cannot do the work ({type(error).__name__}: {error}). Is napari-unet3d installed there?"
            ) from error
        finally:
            atomic.remove(nonce)
        if not found:
            raise EngineError("The cluster has no workers. Start some, and try again.")
        for address, worker in found.items():
            _refuse_other_versions(address, worker["versions"])
            if worker["problem"]:
                raise EngineError(f"The worker {address} cannot do the work: {worker['problem']}.".replace("..", "."))
        _refuse_mixed(found)
        # Those on one machine share its memory, but each has a GPU of its own.
        hosts = Counter(map(_host, found))
        shares = {address: 1 if worker["is_gpu"] else hosts[_host(address)] for address, worker in found.items()}
        memory = min(int(worker["memory"]) // shares[address] for address, worker in found.items())
        return Workers(memory, next(iter(found.values()))["computes_in"])

    def compute(
        self, run: BlockRun, plan: TilePlan, blocks: Sequence[Shape], keep: Callable[[Shape, Box], None]
    ) -> Generator[Event, None, None]:
        """Compute blocks; see `BlockComputer`."""
        n_workers = len(self._client.nthreads())
        yield Started(len(blocks), plan.input_shape, f"{n_workers} workers", plan.peak_bytes)
        failures: list[str] = []
        begun, n_done, told = time.perf_counter(), 0, False
        pool = Pool(self._client, partial(compute_block, run), tries=self._tries, seconds=self._seconds)
        for ended in pool.run(blocks):
            match ended:
                case Done(result=box):
                    keep(plan.input_shape, box)
                    n_done += 1
                    left = (time.perf_counter() - begun) / n_done * (len(blocks) - n_done)
                    yield TileDone(box, n_done, len(blocks), left)
                case Failed(task=index, reason=reason):
                    failures.append(f"{plan.tile(*index).write} (z, y, x): {reason}")
                    yield Note(f"The block {failures[-1]}")
                case None if not told and not self._client.nthreads():
                    told = True
                    yield Note("There is no worker at the moment; the run waits for one.")
                case None:
                    yield Waiting()
        if failures:
            raise BlocksFailedError(
                f"{len(failures):,} of {len(blocks):,} blocks could not be computed; all others are done.",
                tuple(failures),
            )


def _refuse_other_versions(address: str, theirs: dict[str, str]) -> None:
    ours = versions()
    different = [f"{name} {theirs.get(name)}, here {ours[name]}" for name in ours if theirs.get(name) != ours[name]]
    if different:
        raise EngineError(
            f"The worker {address} has other versions: {'; '.join(different)}. Install the same ones everywhere."
        )


def _refuse_mixed(found: dict[str, dict[str, Any]]) -> None:
    """Refuse workers of which some compute in another type than others, such as GPUs beside CPUs."""
    by_type = {worker["computes_in"]: address for address, worker in found.items()}
    if len(by_type) > 1:
        named = ", ".join(f"{address} in {computes_in}" for computes_in, address in sorted(by_type.items()))
        raise EngineError(
            f"The workers would compute in different precisions: {named}. Use workers of one kind, or a "
            "device and a precision that all of them have (--device cpu, --precision float32)."
        )


def _host(address: str) -> str:
    return address.rpartition("://")[2].rpartition(":")[0]


@contextmanager
def open_computer(
    *, workers: int | None = None, cluster: str | None = None, device: str = "auto", **limits: Any
) -> Iterator[ClusterComputer]:
    """Give what computes blocks: workers that are started here, or those of a scheduler that runs already.

    Parameters
    ----------
    workers
        How many are started on this machine.
    cluster
        The address of a scheduler, or the JSON file that it has written.
    device
        As in `PredictSpec`.
    limits
        `tries` and `seconds` of a block; see `Pool`.

    Raises
    ------
    EngineError
        If dask.distributed is not installed, nobody answers, or workers do not start.
    """
    distributed = import_distributed()
    if workers is not None:
        with local_workers(workers, n_gpus=_count_gpus(device)) as client:
            yield ClusterComputer(client, device=device, **limits)
        return
    is_file = cluster is not None and cluster.endswith(".json")
    where = {"scheduler_file": cluster} if is_file else {"address": cluster}
    if is_file and not os.path.isfile(str(cluster)):
        raise EngineError(f"{shown(str(cluster))} does not exist. A scheduler writes it when it starts.")
    try:
        client = distributed.Client(**where, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise EngineError(f"No scheduler answers at {shown(str(cluster))}: {error}.") from error
    with client:
        yield ClusterComputer(client, device=device, **limits)


def _count_gpus(device: str) -> int:
    from napari_unet3d.network.machine.devices import list_devices

    return 0 if device == "cpu" else sum(found.is_gpu for found in list_devices())

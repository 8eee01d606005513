"""A run that keeps its work, killed again and again: with a network that costs nothing, so that there are many kills.

It is run in an interpreter of its own, which forks: after TensorFlow that would hang.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.objects.clean_up import Cleanup
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.tasks.segment.measuring import Measured
from napari_unet3d.tasks.segment.predict import predict
from napari_unet3d.tasks.segment.work.ledger import Ledger, LedgerHead, folder_of, print_volume
from napari_unet3d.tasks.segment.work.outputs import open_kept
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes.outputs.creating import output_spec
from tests.support.identity import AS_IT_IS, Identity, numbered, plan_of

NETWORK = NetworkSpec(blocks=1, filters=2)
SHAPE, STRIDE, TILE = (48, 60, 120), (12, 12, 20), (52, 52, 60)
SPACE = {"voxel_size": (2.0, 1.0, 1.0), "unit": "um"}
# Seconds; all tiles take several times that.
_LONGEST_LIFE = 0.03
CLEANUP = Cleanup(high=0.7, low=0.3, min_voxels=2, instances=True)


class Logged(Identity):
    """Writes down which tiles it computes, by their first voxel."""

    def __init__(self, log: Path) -> None:
        super().__init__(NETWORK)
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, voxels, what):
        halo = NETWORK.geometry.halo
        os.write(self._log, f"{voxels[(*halo, 0)] // 256:.0f}\n".encode())
        return super().__call__(voxels % 256, what)


def _volume() -> npt.NDArray[np.uint16]:
    """Return noise in the low byte, and in the high one the number of the tile that a voxel is in."""
    z, y, x = (np.arange(n) // step for n, step in zip(SHAPE, STRIDE, strict=True))
    number = (z[:, None, None] * 5 + y[None, :, None]) * 6 + x[None, None, :]
    return (numbered(SHAPE) + 256 * number).astype(np.uint16)


def run(target: Path, log: Path, *, cleans: bool) -> None:
    """Segment, or go on."""
    volume = _volume()
    spec = PredictSpec(tile_shape=TILE, cleanup=CLEANUP if cleans else None)
    plan = plan_of(volume, NETWORK, spec)
    found = output_spec(target, SHAPE, spec.dtype, kind="labels", **SPACE)
    with Ledger(found.target) as ledger:
        if not len(ledger):
            printed = print_volume(volume, (2.0, 1.0, 1.0), "um", (0.0, 0.0, 0.0))
            measured = Measured(scaling=AS_IT_IS.numbers)
            ledger.begin(
                LedgerHead(
                    software="0", spec=spec, model="", volume=printed, measured=measured, input_shape=plan.input_shape
                )
            )
        object.__setattr__(found, "blocks", plan.blocks)
        with open_kept(ledger, found, spec) as kept:
            for _ in predict(volume, Logged(log), spec, kept.sinks, plan=plan, scaling=AS_IT_IS, done=ledger.done):
                pass
            kept.commit()


def kill_and_resume(target: Path, seed: int, n_kills: int, *, cleans: bool) -> dict[str, object]:
    """Run until it is complete, killed `n_kills` times on the way; return what was computed, and what was done."""
    rng = random.Random(seed)
    attempts = []
    kills = 0
    while not target.exists():
        log = target.with_name(f"{target.name}.log-{len(attempts)}")
        log.touch()
        before = _done(target)
        seconds = rng.uniform(0, _LONGEST_LIFE)
        child = os.fork()
        if not child:
            if kills < n_kills:
                # Wherever it is then: among tiles, in the middle of a file or of a record, in clean-up.
                threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
            run(target, log, cleans=cleans)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            kills += 1
        attempts.append({"done before": before, "computed": log.read_text().split()})
        log.unlink()
        if not os.WIFSIGNALED(status) and not target.exists():
            raise SystemExit(f"a run failed: {status}")
    return {"kills": kills, "attempts": attempts, "left": sorted(path.name for path in target.parent.iterdir())}


def _done(target: Path) -> list[str]:
    volume = _volume()
    if not folder_of(target).exists():
        return []
    with Ledger(target) as ledger:
        boxes = [box for done in ledger.done for box in done.boxes]
        return [str(volume[tuple(start for start, _ in box)] // 256) for box in boxes]


if __name__ == "__main__":
    path, number, kills_wanted, cleaned = sys.argv[1:]
    found = kill_and_resume(Path(path), int(number), int(kills_wanted), cleans=cleaned == "cleaned")
    sys.stdout.write(json.dumps(found))

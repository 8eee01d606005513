"""Does a run that is killed again and again end with the bytes of one that was never stopped?

    python benchmarks/kills.py [--kills 30] [--seed 0] [--suffix .zarr|.tif] [--workers]

The command `predict` in processes of its own, killed (SIGKILL) at seeded random moments and started again with
`--resume`, each time. Then the result is compared with an unbroken one, byte by byte. With `--workers`, the command
goes on, and it is a worker of its cluster that is killed each time. A few minutes: each start loads TensorFlow.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import networks
import numpy as np
import psutil
from contest import clean_environment

from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.network.store import save_model
from napari_unet3d.tasks.segment.work.ledger import Ledger, folder_of, n_done
from napari_unet3d.volumes import create_output

SHAPE, TILE = (60, 100, 120), 32


def start(place: Path, target: Path, *more: str) -> subprocess.Popen[bytes]:
    """Start the command."""
    words = ["predict", place / "image.tif", "--model", place / "m.unet3d", "--output", target, "--device", "cpu"]
    command = [sys.executable, "-m", "napari_unet3d", *map(str, words), "--tile", str(TILE), *more]
    return subprocess.Popen(command, env=clean_environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def done(target: Path) -> set[object]:
    """Return the tiles that are recorded."""
    if not folder_of(target).exists():
        return set()
    with Ledger(target) as ledger:
        return {box for tiles in ledger.done for box in tiles.boxes}


def kill_the_command(place: Path, target: Path, n_kills: int, rng: random.Random) -> None:
    """Kill the command and start it again, until it is complete."""
    kills = 0
    while not target.exists():
        before = done(target)
        process = start(place, target, "--resume")
        if kills < n_kills:
            wanted = len(before) + rng.choice([0, 1, 1, 2, 3])
            while n_done(target) < wanted and process.poll() is None:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.02 if wanted > len(before) else 8.0))
            process.kill()
        code = process.wait()
        if code not in (0, -9):
            raise SystemExit(f"the command failed with {code}")
        kills += code == -9
        after = done(target)
        assert before <= after or target.exists()
        print(f"kill {kills}: {len(after)} tiles done", flush=True)


def kill_workers(place: Path, target: Path, n_kills: int, rng: random.Random) -> None:
    """Kill a worker of the command at random moments."""
    process = start(place, target, "--workers", "2")
    kills, had = 0, 0
    while process.poll() is None:
        time.sleep(rng.uniform(0, 0.5))
        if kills < n_kills and n_done(target) > had:
            children = psutil.Process(process.pid).children(recursive=True)
            workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
            if workers:
                had = n_done(target)
                rng.choice(workers).kill()
                kills += 1
                print(f"worker {kills} killed: {had} tiles done", flush=True)
    if process.returncode:
        raise SystemExit(f"the command failed with {process.returncode}")


def contents(path: Path) -> dict[str, bytes]:
    """Return all files of a result."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return {str(file.relative_to(path)): file.read_bytes() for file in files if file.is_file()}


def main() -> None:
    """Run, kill, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--suffix", default=".zarr", choices=[".zarr", ".tif"])
    parser.add_argument("--workers", action="store_true")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        save_model(networks.random_model(NetworkSpec(blocks=0, filters=2)), place / "m.unet3d")
        space = {"voxel_size": (1, 1, 1), "unit": "um"}
        with create_output(place / "image.tif", SHAPE, "uint16", kind="image", **space) as output:
            output[...] = np.random.default_rng(0).integers(0, 3000, SHAPE).astype(np.uint16)
            output.commit()
        whole, killed = (place / name / f"o{options.suffix}" for name in ("whole", "killed"))
        for path in (whole, killed):
            path.parent.mkdir()
        assert start(place, whole).wait() == 0
        begun = time.perf_counter()
        (kill_workers if options.workers else kill_the_command)(place, killed, options.kills, rng)
        same = contents(whole) == contents(killed)
        left = [path.name for path in killed.parent.iterdir()]
        print(f"{time.perf_counter() - begun:.0f} s; the bytes are {'the same' if same else 'different'}; left: {left}")
        sys.exit(not same or left != [killed.name])


if __name__ == "__main__":
    main()

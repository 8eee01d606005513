"""Is the time a voxel and the memory the same for a small and a large volume, and what does a worker cost?

    python benchmarks/scale.py [--sizes 100 300 600] [--filters 4] [--memory 1GiB] [--blocks 200 300]

From an OME-Zarr to an OME-Zarr with its smaller copies, in a fresh process each, with a ledger on the disk, as the
command does it. The volume is one random block of 100 voxels a side, repeated. Seconds a voxel are counted from the
end of the first tile, which also pays for the compilation, to the end of the last one. `store` is the share of reading,
writing and syncing: the same run with a network that costs nothing, over the run. CPU seconds are those of the process
and all that it has started, start included: they say what was computed where other programs disturb the clock.

Then small tiles of one size, with one process, one worker and two: what a block costs is the difference between a small
and a large volume over the difference in blocks, so that what the start takes is not in it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import networks
import numpy as np
import psutil
import zarr
from contest import clean_environment

from napari_unet3d.core.unet.spec import NetworkSpec

SIDE = 100
OVERHEAD = 0.05


def make_volume(path: Path, size: int) -> None:
    """Write a cube of `size` voxels a side."""
    block = np.random.default_rng(0).integers(0, 3000, (SIDE,) * 3).astype(np.uint16)
    array = zarr.create_array(path, shape=(size,) * 3, chunks=(SIDE,) * 3, dtype="uint16", dimension_names=list("zyx"))
    for z in range(0, size, SIDE):
        array[z : z + SIDE] = np.tile(block, (1, size // SIDE + 1, size // SIDE + 1))[:SIDE, :size, :size][: size - z]


class Nothing:
    """Computes nothing: background everywhere."""

    def __init__(self, halo: tuple[int, int, int]) -> None:
        self._halo = halo

    def __call__(self, voxels: Any, what: str) -> Any:
        shape = tuple(n - 2 * lost for n, lost in zip(voxels.shape[:3], self._halo, strict=True))
        return np.zeros(shape, np.uint8)


def child(place: Path, size: int, memory: str, workers: int, tile: int, *, computes: bool) -> None:
    """Segment in this process, and print what it took."""
    from napari_unet3d import load_model, read_volume
    from napari_unet3d.cli.choices import open_cluster, parse_bytes
    from napari_unet3d.network import predictor
    from napari_unet3d.network.store import read_card
    from napari_unet3d.tasks.events import Progress, Started, TileDone
    from napari_unet3d.tasks.on_disk import OnDisk
    from napari_unet3d.tasks.segment.blocks import BlockSource
    from napari_unet3d.tasks.segment.files import predict_file
    from napari_unet3d.tasks.specs import PredictSpec

    model_path, image = place / "m.unet3d", place / f"{size}.zarr"
    model = load_model(model_path)
    if not computes:
        nothing = Nothing(model.spec.geometry.halo)
        predictor.predictor_of = lambda *_: nothing  # type: ignore[assignment,return-value]
    begun = time.perf_counter()
    tiles: list[tuple[float, int]] = []
    shape, levels = (0, 0, 0), 0.0
    with (
        tempfile.TemporaryDirectory(dir=place) as folder,
        open_cluster(workers or None, None, None, "cpu") as computer,
    ):
        source = BlockSource(OnDisk(path=str(image)), model_path, read_card(model_path)[1]) if computer else None
        spec = PredictSpec(device="cpu", memory_bytes=parse_bytes(memory), tile_shape=(tile,) * 3 if tile else None)
        run = predict_file(read_volume(image), model, spec, Path(folder) / "o.zarr", source=source, computer=computer)
        for event in run:
            now = time.perf_counter()
            if isinstance(event, Started):
                shape = event.input_shape
            elif isinstance(event, TileDone):
                tiles.append((now, event.box.n_voxels))
            elif isinstance(event, Progress) and event.what == "making smaller copies":
                levels = now - tiles[-1][0]
        seconds = time.perf_counter() - begun
        after = tiles[1:] if len(tiles) > 1 else tiles
        since = tiles[0][0] if len(tiles) > 1 else begun
        status = Path("/proc/self/status").read_text()
        peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) << 10
    found = {
        "size": size,
        "tile": shape,
        "tiles": len(tiles),
        "seconds": seconds,
        "a_tile": (tiles[-1][0] - since) / len(after),
        "a_voxel": (tiles[-1][0] - since) / sum(n for _, n in after),
        "levels": levels,
        "peak": peak,
    }
    print(json.dumps(found))


def measure(
    place: Path, size: int, memory: str, *, workers: int = 0, tile: int = 0, computes: bool = True
) -> dict[str, Any]:
    """Return what a run takes, in a fresh process."""
    words = ["--child", place, "--sizes", size, "--memory", memory, "--workers", workers, "--tile", tile]
    command = [sys.executable, __file__, *map(str, words), *([] if computes else ["--computes-nothing"])]
    before = cpu_seconds()
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"cpu": cpu_seconds() - before}


def cpu_seconds() -> float:
    """Return what all processes took that this one has started and that have ended, with those that they started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def load() -> str:
    """Return how busy the machine is."""
    return f"load {psutil.getloadavg()[0]:.1f}"


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 300, 600])
    parser.add_argument("--blocks", type=int, nargs="*", default=[200, 300])
    parser.add_argument("--filters", type=int, default=4)
    parser.add_argument("--memory", default="1GiB")
    parser.add_argument("--tile", type=int, default=148)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--computes-nothing", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        computes = not options.computes_nothing
        child(options.child, options.sizes[0], options.memory, options.workers, options.tile, computes=computes)
        return
    from napari_unet3d.network.store import save_model

    print(f"{options.filters} filters, --memory {options.memory}, {psutil.cpu_count()} cores, {load()}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        save_model(networks.random_model(NetworkSpec(filters=options.filters)), place / "m.unet3d")
        for size in sorted({*options.sizes, *options.blocks}):
            make_volume(place / f"{size}.zarr", size)
        if options.sizes:
            compare_sizes(place, options.sizes, options.memory)
        if len(options.blocks) == 2:
            compare_workers(place, *options.blocks, options.memory, options.tile)
        print(load())


def compare_sizes(place: Path, sizes: list[int], memory: str) -> None:
    """Print what volumes of several sizes take."""
    print("  size           tile  tiles  s a tile  us a voxel  s in all  CPU s in all  copies    store      peak")
    for size in sizes:
        run, store = measure(place, size, memory), measure(place, size, memory, computes=False)
        print(
            f"{size:6}^3 {'x'.join(map(str, run['tile'])):>12} {run['tiles']:6} {run['a_tile']:9.2f} "
            f"{1e6 * run['a_voxel']:11.3f} {run['seconds']:9.1f} {run['cpu']:13.1f} {run['levels']:7.1f} "
            f"{store['seconds'] / run['seconds']:8.1%} {run['peak'] / 2**30:6.2f} GiB",
            flush=True,
        )


def compare_workers(place: Path, small: int, large: int, memory: str, tile: int) -> None:
    """Print what a block costs in one process, with one worker, and with two."""
    costs = {}
    for workers in (0, 1, 2):
        less, more = (measure(place, size, memory, workers=workers, tile=tile) for size in (small, large))
        n_blocks = more["tiles"] - less["tiles"]
        wall, cpu = ((more[what] - less[what]) / n_blocks for what in ("seconds", "cpu"))
        costs[workers] = wall, cpu
        name = f"{workers} workers" if workers else "one process"
        print(f"{name}: {1000 * wall:.0f} ms and {1000 * cpu:.0f} ms of CPU a block of {tile}^3", end=" ")
        print(f"({less['tiles']} and {more['tiles']} blocks)", flush=True)
    (wall, cpu), (wall_1, cpu_1) = costs[0], costs[1]
    print(f"overhead of a block: {1000 * (wall_1 - wall):.0f} ms, {1000 * (cpu_1 - cpu):.0f} ms of CPU;", end=" ")
    print(f"{(cpu_1 - cpu) / 3:.1%} of a block of 3 s (at most {OVERHEAD:.0%})")
    print(f"two workers do {costs[1][0] / costs[2][0]:.2f} times the blocks of one")


if __name__ == "__main__":
    main()

"""Is any reader slower than that of another version of this package?

    python benchmarks/read.py [--before SRC] [--rounds 7]

A cube of 300 voxels (uint16) as TIFF, compressed TIFF, slices, HDF5, compressed HDF5 and Zarr: opened and read
whole, and in tiles of 220 that overlap as those of a prediction do. `--before` is the folder `src` of another
version. Every contestant has a process of its own; they take turns, and what they read is compared first. The figure
is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np

SIZE, TILE, STEP = 300, 220, 132


def make(folder: Path) -> dict[str, str]:
    """Write the cube in every format; return the paths by name."""
    import h5py
    import tifffile
    import zarr

    values = np.random.default_rng(0).poisson(200, (SIZE,) * 3).astype(np.uint16)
    tifffile.imwrite(folder / "plain.tif", values)
    with tifffile.TiffWriter(folder / "deflate.tif") as writer:
        for plane in values:
            writer.write(plane, compression="zlib", contiguous=False, metadata=None)
    (folder / "slices").mkdir()
    for z, plane in enumerate(values):
        tifffile.imwrite(folder / "slices" / f"z{z:04d}.tif", plane)
    with h5py.File(folder / "plain.h5", "w") as file:
        file["raw"] = values
    with h5py.File(folder / "gzip.h5", "w") as file:
        file.create_dataset("raw", data=values, chunks=(64, 64, 64), compression="gzip", shuffle=True)
    zarr.create_array(folder / "chunks.zarr", data=values, chunks=(64, 64, 64))
    zarr.create_array(folder / "shard.zarr", data=values, chunks=(50, 50, 50), shards=(300, 300, 300))
    zarr.create_array(folder / "one_chunk.zarr", data=values, chunks=(300, 300, 300))
    return {path.name: str(path) for path in sorted(folder.iterdir())}


def contest(paths: dict[str, str]) -> None:
    """Answer on standard output for each name on standard input: the seconds for whole and tiles, and a checksum."""
    from napari_unet3d import read_volume

    corners = [min(at, SIZE - TILE) for at in range(0, SIZE - TILE + STEP, STEP)]
    for line in sys.stdin:
        path = paths[line.strip()]
        start = time.perf_counter()
        whole = np.asarray(read_volume(path).data[...])
        seconds = [time.perf_counter() - start]
        start = time.perf_counter()
        volume = read_volume(path)
        for z, y, x in product(corners, repeat=3):
            volume.data[z : z + TILE, y : y + TILE, x : x + TILE]
        seconds.append(time.perf_counter() - start)
        print(json.dumps([*seconds, int(whole.sum(dtype=np.int64))]), flush=True)


def begin(source: str | None, paths: dict[str, str]) -> subprocess.Popen[str]:
    """Start a contestant with the package of a folder."""
    environment = dict(os.environ)
    if source is not None:
        environment["PYTHONPATH"] = source
    command = [sys.executable, __file__, "--contest", json.dumps(paths)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def ask(contestant: subprocess.Popen[str], name: str) -> list[float]:
    """Let a contestant read one file."""
    assert contestant.stdin is not None
    assert contestant.stdout is not None
    contestant.stdin.write(f"{name}\n")
    contestant.stdin.flush()
    return list(json.loads(contestant.stdout.readline()))


def main() -> None:
    """Print a line for each format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", help="the folder src of another version")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--contest", help=argparse.SUPPRESS)
    choices = parser.parse_args()
    if choices.contest:
        contest(json.loads(choices.contest))
        return
    with tempfile.TemporaryDirectory() as place:
        paths = make(Path(place))
        contestants = [begin(None, paths)] + ([begin(choices.before, paths)] if choices.before else [])
        for name in paths:
            rounds: list[list[list[float]]] = [[] for _ in contestants]
            for turn in range(choices.rounds + 1):
                for contestant, times in zip(contestants, rounds, strict=True):
                    found = ask(contestant, name)
                    # The first round fills the caches of the system.
                    if turn:
                        times.append(found)
            assert len({times[0][2] for times in rounds}) == 1, "the numbers do not agree"
            words = [f"{name:14}"]
            for at, what in enumerate(("whole", "tiles")):
                medians = [statistics.median(time[at] for time in times) for times in rounds]
                words.append(
                    f"{what} {medians[0]:.3f} s"
                    + (f" ({medians[0] / medians[1]:.2f} of before)" if len(medians) > 1 else "")
                )
            print("  ".join(words), flush=True)
        for contestant in contestants:
            contestant.terminate()


if __name__ == "__main__":
    main()

"""How fast is one tile, against TensorFlow as it comes, PyTorch in both of its layouts, and OpenVINO?

    python benchmarks/tile.py [--sizes 220 132]

The logits must agree before anything is timed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import networks
import numpy as np
from contest import ROUNDS, contestants, ratio_line, serve, take_turns

from napari_unet3d.core.unet.spec import NetworkSpec

TARGETS = {
    "TensorFlow as it comes": 3.0,
    "PyTorch channels last": 1.7,
    "PyTorch contiguous": 1.7,
    "OpenVINO": 0.95,
}
LIBRARIES = {
    "ours": networks.ours,
    "TensorFlow as it comes": networks.tensorflow_as_it_comes,
    "PyTorch channels last": networks.pytorch_channels_last,
    "PyTorch contiguous": networks.pytorch_contiguous,
    "OpenVINO": networks.openvino,
}
TOLERANCE = 1e-4
# Small tiles take a fraction of a second, so that single rounds are at the mercy of what else runs.
SMALL, ROUNDS_OF_SMALL = 160, 25


def prepare(name: str, size: int, folder: Path) -> tuple[Callable[[], Any], str]:
    """Return the fastest variant of a library, after each has written its logits to the folder."""
    image = np.random.default_rng(1).random((size, size, size, 1), dtype=np.float32)
    variants = LIBRARIES[name](networks.random_model(NetworkSpec()), (size, size, size))
    seconds = {}
    for variant, forward in variants.items():
        np.save(folder / f"{name}, {variant}.npy", forward(image))
        begun = time.perf_counter()
        forward(image)
        seconds[variant] = time.perf_counter() - begun
    best = min(seconds, key=seconds.__getitem__)
    return partial(variants[best], image), best


def check_agreement(folder: Path) -> str:
    """Return the largest difference of logits; exit where one is above the tolerance."""
    files = sorted(folder.glob("*.npy"))
    reference = np.load(next(file for file in files if file.stem.startswith("ours")))
    differences = {file.stem: float(np.abs(np.load(file) - reference).max()) for file in files}
    worst = max(differences, key=differences.__getitem__)
    if not differences[worst] <= TOLERANCE:
        raise SystemExit(f"The logits do not agree: {worst} differs from ours by {differences[worst]:.2g}.")
    spread = f"{reference.min():.2f} to {reference.max():.2f}"
    return f"logits of {spread} differ by at most {differences[worst]:.1g}"


def compare(size: int) -> None:
    """Print one line a peer for tiles of a size."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contestants(list(LIBRARIES), "--sizes", str(size), "--folder", folder) as entered,
    ):
        agreement = check_agreement(Path(folder))
        notes = {contestant.name: contestant.note for contestant in entered}
        seconds = take_turns(entered, ROUNDS_OF_SMALL if size < SMALL else ROUNDS)
    for name, target in TARGETS.items():
        label = f"{name} ({notes[name]})" if notes[name] not in name else name
        print(ratio_line(f"tile {size}", seconds["ours"], seconds[name], label, target), flush=True)
    print(f"tile {size}: {agreement}", flush=True)


def main() -> None:
    """Compare, or be one of those compared."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[220, 132])
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", choices=LIBRARIES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(partial(prepare, options.worker, options.sizes[0], options.folder))
        return
    for size in options.sizes:
        compare(size)


if __name__ == "__main__":
    main()

"""How fast is one tile, against TensorFlow as it comes, PyTorch in both of its layouts, and OpenVINO?

    python benchmarks/tile.py [--sizes 220 132]

The logits must agree before anything is timed. Where the CPU multiplies bfloat16 there are two lines more: ours in
bfloat16, against ours in float32 and against OpenVINO as it comes, which takes bfloat16 there by itself.
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
from napari_unet3d.network.machine.devices import select_device

TARGETS = {
    "TensorFlow as it comes": 3.0,
    "PyTorch channels last": 1.7,
    "PyTorch contiguous": 1.7,
    "OpenVINO": 0.95,
}
FAST, FAST_PEER = "ours in bfloat16", "OpenVINO as it comes"
FAST_TARGETS = {"ours": 1.9, FAST_PEER: 1.0}
LIBRARIES = {
    "ours": networks.ours,
    "TensorFlow as it comes": networks.tensorflow_as_it_comes,
    "PyTorch channels last": networks.pytorch_channels_last,
    "PyTorch contiguous": networks.pytorch_contiguous,
    "OpenVINO": networks.openvino,
    FAST: partial(networks.ours, precision="bfloat16"),
    FAST_PEER: partial(networks.openvino, precision=None),
}
TOLERANCE, FAST_TOLERANCE = 1e-4, 0.1
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
    reference = np.load(next(file for file in files if file.stem.startswith("ours, ")))
    differences = {file.stem: float(np.abs(np.load(file) - reference).max()) for file in files}
    said = []
    for tolerance, is_fast in ((TOLERANCE, False), (FAST_TOLERANCE, True)):
        found = {name: value for name, value in differences.items() if name.startswith((FAST, FAST_PEER)) == is_fast}
        worst = max(found, key=found.__getitem__, default=None)
        if worst is None:
            continue
        if not found[worst] <= tolerance:
            raise SystemExit(f"The logits do not agree: {worst} differs from ours by {found[worst]:.2g}.")
        said.append(f"{'bfloat16' if is_fast else 'float32'} by at most {found[worst]:.1g}")
    return f"logits of {reference.min():.2f} to {reference.max():.2f} differ in {', in '.join(said)}"


def compare(size: int) -> None:
    """Print one line a peer for tiles of a size, and two for bfloat16 where this CPU has it."""
    entrants = [name for name in LIBRARIES if select_device("cpu").has_bfloat16 or name not in (FAST, FAST_PEER)]
    with (
        tempfile.TemporaryDirectory() as folder,
        contestants(entrants, "--sizes", str(size), "--folder", folder) as entered,
    ):
        agreement = check_agreement(Path(folder))
        notes = {contestant.name: contestant.note for contestant in entered}
        seconds = take_turns(entered, ROUNDS_OF_SMALL if size < SMALL else ROUNDS)
    for mine, targets in (("ours", TARGETS), (FAST, FAST_TARGETS)):
        for name, target in targets.items() if mine in seconds else ():
            label = f"{name} ({notes[name]})" if notes[name] not in name else name
            what = f"tile {size}" if mine == "ours" else f"tile {size} in bfloat16"
            print(ratio_line(what, seconds[mine], seconds[name], label, target), flush=True)
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

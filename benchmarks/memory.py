"""Does the predicted memory of one pass hold?

    python benchmarks/memory.py [--only-cubes] [--precision bfloat16]

Predicted (`geometry.peak_bytes`) over measured, for each input in a fresh process: the peak of its resident memory
over two calls, less what it had before the network was built, TensorFlow being loaded and warm. For cubes of 92 to 300
voxels and the default network the ratio must lie between 1.0 and 1.5; the script exits with 1 where it does not.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

import networks
import numpy as np
from contest import clean_environment

from napari_unet3d.core.unet.costs import peak_bytes
from napari_unet3d.core.unet.spec import NetworkSpec

LOWEST, HIGHEST = 1.0, 1.5
CUBES = (92, 108, 132, 156, 180, 204, 220, 236, 260, 276, 300)
# Input size, blocks, filters: looked at, but not judged.
OTHERS = ((220, 2, 4), (156, 2, 16), (220, 1, 8), (220, 3, 8), (252, 3, 8))
MEBIBYTE = 1 << 20


def resident_bytes() -> int:
    """Return the memory this process has in use now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """Return the most memory this process ever had in use."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def measure(size: int, spec: NetworkSpec, precision: str) -> int:
    """Return the bytes that two passes over a cube take at their worst moment, in this process."""
    from napari_unet3d.network.machine.devices import select_device
    from napari_unet3d.network.predictor import Predictor

    device = select_device("cpu", precision)
    tiny = NetworkSpec(blocks=0, filters=1)
    Predictor(networks.random_model(tiny), device)(np.zeros((20, 20, 20, 1), np.float32), "logits")
    model = networks.random_model(spec)
    image = np.random.default_rng(1).random((size, size, size, spec.channels), dtype=np.float32)
    before = resident_bytes()
    predictor = Predictor(model, device)
    for _ in range(2):
        predictor(image, "logits")
    return peak_resident_bytes() - before


def compare(size: int, blocks: int, filters: int, precision: str) -> float:
    """Print one line, and return predicted over measured."""
    answer = subprocess.run(
        [sys.executable, __file__, "--precision", precision, "--measure", str(size), str(blocks), str(filters)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=clean_environment(),
    ).stdout
    measured = int(answer.split()[-1])
    bytes_per_value = 4 if precision == "float32" else 2
    network = NetworkSpec(blocks=blocks, filters=filters)
    predicted = peak_bytes((size, size, size), network, bytes_per_value=bytes_per_value)
    ratio = predicted / measured
    print(
        f"memory {size} cube, {blocks} blocks, {filters} filters, {precision}: {ratio:.2f}x "
        f"(predicted {predicted / MEBIBYTE:.0f} MiB, measured {measured / MEBIBYTE:.0f} MiB)",
        flush=True,
    )
    return ratio


def main() -> int:
    """Compare all sizes, or measure one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only-cubes", action="store_true", help="leave out the other networks")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--measure", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        size, blocks, filters = options.measure
        print(measure(size, NetworkSpec(blocks=blocks, filters=filters), options.precision))
        return 0
    ratios = {size: compare(size, 2, 8, options.precision) for size in CUBES}
    if not options.only_cubes:
        for size, blocks, filters in OTHERS:
            compare(size, blocks, filters, options.precision)
    outside = [size for size, ratio in ratios.items() if not LOWEST <= ratio <= HIGHEST]
    print(
        f"memory: {min(ratios.values()):.2f} to {max(ratios.values()):.2f}x the measured; {LOWEST:g} to {HIGHEST:g}: "
        + (f"NOT REACHED by the cubes of {', '.join(map(str, outside))}" if outside else "reached")
    )
    return 1 if outside else 0


if __name__ == "__main__":
    sys.exit(main())

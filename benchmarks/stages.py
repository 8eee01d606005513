"""Where does the time of one tile go, and how near is that to what the machine can do?

    python benchmarks/stages.py [--size 220]

The operations per second of a whole tile against those of a large float32 matrix product with the same threads, and
the layers one by one (each a call of its own, so their sum is more than the tile).
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import networks
import numpy as np
from contest import contestants, serve, take_turns

from napari_unet3d.core.unet.costs import flops
from napari_unet3d.core.unet.spec import NetworkSpec

SPEC = NetworkSpec()
MATRIX = 6144
WORK = ("tile", "matrix product", "layers")


def prepare(name: str, size: int) -> tuple[Callable[[], Any], str]:
    """Return one of the pieces of work, warmed up; for the layers, what they take as the note."""
    if name == "matrix product":
        return matrix_product(), ""
    model = networks.random_model(SPEC)
    image = np.random.default_rng(1).random((size, size, size, 1), dtype=np.float32)
    if name == "layers":
        return (lambda: None), layer_times(model, image)
    work = partial(networks.ours(model, (size, size, size))["oneDNN on"], image)
    work()
    return work, ""


def matrix_product() -> Callable[[], Any]:
    """Return the product of two large matrices, warmed up."""
    import torch

    left, right = torch.rand(MATRIX, MATRIX), torch.rand(MATRIX, MATRIX)
    torch.set_num_threads(networks.THREADS)
    work = partial(torch.mm, left, right, out=torch.empty(MATRIX, MATRIX))
    work()
    return work


def layer_times(model: Any, image: Any) -> str:
    """Return what the layers of each kind take, called one by one."""
    from napari_unet3d.network.machine.runtime import load_tensorflow

    tf = load_tensorflow()
    from napari_unet3d.network.unet import build_unet

    network = build_unet(model.spec)
    for variable in network.weights:
        variable.assign(model.weights[variable.path])
    seconds: dict[str, float] = defaultdict(float)
    values, skips = tf.constant(image[np.newaxis]), []
    for layer in model.spec.layers:
        argument = [values, skips.pop()] if layer.kind == "concatenate" else values
        call = tf.function(network.get_layer(layer.name))
        call(argument)
        begun = time.perf_counter()
        produced = call(argument)
        kind = f"conv at level {layer.level}" if layer.kind == "conv" else layer.kind
        seconds[kind] += time.perf_counter() - begun
        if layer.kind == "crop":
            skips.append(produced)
        else:
            values = produced
    total = sum(seconds.values())
    shares = sorted(seconds.items(), key=lambda item: -item[1])
    return f"{total:.2f} s: " + ", ".join(f"{kind} {100 * s / total:.0f} %" for kind, s in shares)


def main() -> None:
    """Measure, or be what is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=220)
    parser.add_argument("--worker", choices=WORK, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(partial(prepare, options.worker, options.size))
        return
    with contestants(WORK, "--size", str(options.size)) as entered:
        seconds = take_turns(entered[:2])
    tile = flops((options.size,) * 3, SPEC) / min(seconds["tile"]) / 1e9
    peak = 2 * MATRIX**3 / min(seconds["matrix product"]) / 1e9
    print(
        f"stages, tile {options.size}: {tile / peak:.2f}x a matrix product ({tile:.0f} against {peak:.0f} GFLOP/s, "
        f"best of {len(seconds['tile'])} rounds); layers one by one {entered[2].note}"
    )


if __name__ == "__main__":
    main()

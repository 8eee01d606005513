"""How fast is a training step on a 132 cube, against TensorFlow as it comes and PyTorch; and does its memory hold?

    python benchmarks/train.py [--rounds 7] [--memory]

The same network, the same random weights, the same batch, the same loss (masked cross-entropy and soft Dice), Adam.
Before anything is timed the losses of the first three steps must agree. With `--memory` the predicted memory of a step
(`geometry.training_bytes`) is compared with the measured one instead, each input in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import networks
import numpy as np
from contest import THREADS, clean_environment, contestants, ratio_line, serve, take_turns

from napari_unet3d.core.heads.base import Balance
from napari_unet3d.core.heads.classes import Classes
from napari_unet3d.core.unet.costs import training_bytes
from napari_unet3d.core.unet.spec import NetworkSpec

SHAPE = (132, 132, 132)
SPEC = NetworkSpec(dropout=0.0)
HEAD = Classes(names=("background", "object"))
RATE, SHARE = 1e-3, 0.7
BALANCE = Balance((1.0, 1.0), SHARE)
# Of the first loss, and of those after one and two steps: where a gradient is nearly 0, Adam's step is its sign.
TOLERANCES = np.array([1e-5, 1e-3, 1e-3])
# With 8 bits per number.
FAST, FAST_TOLERANCES = "ours, bfloat16 where there is", np.array([3e-3, 3e-3, 3e-3])
TARGETS = {
    "TensorFlow as it comes": 8.0,
    "TensorFlow without oneDNN": 8.0,
    "PyTorch channels last": 1.5,
    "PyTorch contiguous": 1.5,
}
# Patch, blocks, filters, whether there is batch normalization.
MEASURED = (
    ((84, 84, 84), 1, 8, False),
    ((44, 124, 124), 1, 8, False),
    ((132, 132, 132), 2, 8, False),
    ((132, 132, 132), 2, 4, False),
    ((108, 108, 108), 2, 16, False),
    ((92, 172, 172), 2, 8, False),
    ((180, 180, 180), 2, 8, False),
    ((84, 84, 84), 1, 8, True),
    ((132, 132, 132), 2, 8, True),
    ((108, 108, 108), 2, 16, True),
)
LOWEST, HIGHEST = 0.95, 1.7
Step = Callable[[], float]


def batch(shape: tuple[int, int, int], blocks: int) -> tuple[Any, Any]:
    """Return an image (1, z, y, x, 1) and targets, every second plane of them unlabelled."""
    rng = np.random.default_rng(1)
    image = rng.normal(size=(1, *shape, 1)).astype(np.float32)
    targets = rng.integers(0, 2, (1, *NetworkSpec(blocks=blocks).geometry.output_shape(shape))).astype(np.uint8)
    targets[:, ::2] = 255
    return image, targets


def ours(is_fast: bool) -> Step:
    """Return a step of what `napari_unet3d` trains with, in float32 or as fast as the processor allows."""
    from napari_unet3d.network.learner import Learner
    from napari_unet3d.network.machine.devices import select_device

    choices = {"head": HEAD, "balance": BALANCE, "optimizer": "adam", "clip_norm": 1e9, "averaging": 0.98}
    device = select_device("cpu")
    device = device if is_fast else replace(device, has_bfloat16=False)
    learner = Learner(SPEC, networks.random_model(SPEC).weights, device, seed=0, **choices)
    image, targets = batch(SHAPE, SPEC.blocks)
    return lambda: learner.step(image, targets, learning_rate=RATE, number=0).loss


def tensorflow_as_it_comes() -> Step:
    """Return a step of the Keras model in a `tf.function`, TensorFlow's settings untouched."""
    import keras
    import tensorflow as tf

    from napari_unet3d.network.unet import build_unet

    network, weights = build_unet(SPEC), networks.random_model(SPEC).weights
    for variable in network.weights:
        variable.assign(weights[variable.path])
    optimizer = keras.optimizers.Adam(RATE)
    optimizer.build(network.trainable_variables)
    image, targets = map(tf.constant, batch(SHAPE, SPEC.blocks))

    @tf.function
    def step() -> Any:
        with tf.GradientTape() as tape:
            sums = HEAD.sums(network(image, training=True), targets, keras.ops)
            loss = HEAD.loss(sums, BALANCE, keras.ops)
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return loss

    return lambda: float(step())


def tensorflow_without_onednn() -> Step:
    """Return the same as TensorFlow comes on processors without AVX-512, on which it leaves oneDNN out."""
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
    return tensorflow_as_it_comes()


def pytorch(is_channels_last: bool) -> Step:
    """Return a step in PyTorch."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(THREADS)
    layout = torch.channels_last_3d if is_channels_last else torch.contiguous_format
    module = networks._torch_module(networks.random_model(SPEC)).to(memory_format=layout).train()
    # Keras adds its epsilon in another place; this is the same with its value.
    optimizer = torch.optim.Adam(module.parameters(), RATE, eps=1e-7)
    image, targets = batch(SHAPE, SPEC.blocks)
    tensor = torch.from_numpy(image).permute(0, 4, 1, 2, 3).contiguous(memory_format=layout)
    classes = torch.from_numpy(targets.astype(np.int64))

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        logits = module(tensor)
        entropy = functional.cross_entropy(logits, classes, ignore_index=255)
        counts = (classes != 255).float()[:, None]
        probabilities = functional.softmax(logits, 1) * counts
        true = functional.one_hot(torch.where(classes == 255, 0, classes), 2).permute(0, 4, 1, 2, 3) * counts
        axes = (0, 2, 3, 4)
        both, mass, n_true = (probabilities * true).sum(axes), probabilities.sum(axes), true.sum(axes)
        dice = ((2 * both + 1) / (mass + n_true + 1))[1:].mean()
        loss = SHARE * entropy + (1 - SHARE) * (1 - dice)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


CONTESTANTS: dict[str, Callable[[], Step]] = {
    "ours": partial(ours, False),
    FAST: partial(ours, True),
    "TensorFlow as it comes": tensorflow_as_it_comes,
    "TensorFlow without oneDNN": tensorflow_without_onednn,
    "PyTorch channels last": partial(pytorch, True),
    "PyTorch contiguous": partial(pytorch, False),
}


def prepare(name: str) -> tuple[Step, str]:
    """Return the step of a library, and the losses of its first three."""
    step = CONTESTANTS[name]()
    return step, json.dumps([step() for _ in range(3)])


def compare(rounds: int) -> None:
    """Print one line a peer."""
    with contestants(list(CONTESTANTS)) as entered:
        losses = {contestant.name: json.loads(contestant.note) for contestant in entered}
        gaps = {name: abs(np.subtract(found, losses["ours"])) for name, found in losses.items()}
        fast, worst = gaps.pop(FAST), np.max(list(gaps.values()), axis=0)
        if not ((worst <= TOLERANCES).all() and (fast <= FAST_TOLERANCES).all()):
            raise SystemExit(f"The losses do not agree: {losses}")
        print(f"the losses of three steps, {losses['ours']}, differ by at most {worst}", flush=True)
        seconds = take_turns(entered, rounds)
    for name, target in TARGETS.items():
        print(ratio_line("a training step on 132", seconds["ours"], seconds[name], name, target), flush=True)
    # Not a peer: what bfloat16 saves.
    print(ratio_line("the same as fast as it can", seconds[FAST], seconds["ours"], "ours in float32", 1.0), flush=True)


def measure(shape: tuple[int, int, int], spec: NetworkSpec) -> int:
    """Return the bytes that three steps take at their worst moment, in this process."""
    import psutil

    from napari_unet3d.network.learner import Learner
    from napari_unet3d.network.machine.devices import select_device

    choices = {"head": HEAD, "balance": BALANCE, "optimizer": "muon", "clip_norm": 1.0, "averaging": 0.98}

    def learn(spec: NetworkSpec, size: tuple[int, int, int], steps: int) -> None:
        learner = Learner(spec, None, select_device("cpu"), seed=0, **choices)
        image, targets = batch(size, spec.blocks)
        for number in range(steps):
            learner.step(image, targets, learning_rate=RATE, number=number)

    learn(NetworkSpec(blocks=0, filters=1), (20, 20, 20), 1)
    before = psutil.Process().memory_info().rss
    learn(spec, shape, 3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak if sys.platform == "darwin" else peak << 10) - before


def compare_memory() -> None:
    """Print one line an input; exit with 1 where the prediction does not hold."""
    is_wrong = False
    for shape, blocks, filters, normalized in MEASURED:
        words = [sys.executable, __file__, "--measure", *map(str, (*shape, blocks, filters, int(normalized)))]
        answer = subprocess.run(words, capture_output=True, text=True, check=True, env=clean_environment())
        measured = int(answer.stdout.split()[-1])
        spec = NetworkSpec(blocks=blocks, filters=filters, batch_normalization=normalized)
        predicted = training_bytes(shape, spec)
        ratio = predicted / measured
        is_wrong |= not LOWEST <= ratio <= HIGHEST
        print(
            f"{shape}, {blocks} blocks, {filters} filters{', normalized' * normalized}: predicted "
            f"{predicted >> 20} MiB, measured {measured >> 20} MiB, {ratio:.2f}",
            flush=True,
        )
    sys.exit(is_wrong)


def main() -> None:
    """Compare, or be one of those compared."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--worker", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--measure", type=int, nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(partial(prepare, options.worker))
    elif options.measure:
        z, y, x, blocks, filters, normalized = options.measure
        spec = NetworkSpec(blocks=blocks, filters=filters, batch_normalization=bool(normalized))
        print(measure((z, y, x), spec))
    elif options.memory:
        compare_memory()
    else:
        compare(options.rounds)


if __name__ == "__main__":
    main()

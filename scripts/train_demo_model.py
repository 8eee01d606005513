"""Train the demo model on synthetic neurons, from scratch, and write it into the package.

    python scripts/train_demo_model.py

Takes about 25 minutes on two CPU cores. The seeds are fixed; the model is scored on whole volumes of
seeds that it never saw, by arg-max, without clean-up.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import napari_unet3d
from napari_unet3d.core.architecture import NetworkSpec
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.geometry import halo, output_shape
from napari_unet3d.core.metrics import Overlap, dice, overlap
from napari_unet3d.core.normalize import Normalization, measure
from napari_unet3d.core.tiling import read_reflected
from napari_unet3d.network.model import Model, ModelCard
from napari_unet3d.network.runtime import load_tensorflow
from napari_unet3d.network.store import save_model
from napari_unet3d.sample_data import UNIT, VOXEL_SIZE, Sample, synthetic_neurons

# Sets the environment that TensorFlow needs before it is imported: 10 times faster on many CPUs.
tf = load_tensorflow()

import keras  # noqa: E402

from napari_unet3d.network.unet import build_unet  # noqa: E402

TARGET = Path(napari_unet3d.__file__).parent / "models" / "demo-neuron.unet3d"
NETWORK = NetworkSpec(filters=4)
NORMALIZATION = Normalization(kind="background")
SEED = 17
TRAINING_SEEDS = tuple(range(100, 124))
HELD_OUT_SEEDS = (0, 1, 2)
PATCH = (132, 156, 156)
# Each cycle warms up to its learning rate and decays to 0; the second one starts from the weights of the first.
LEARNING_RATES = (2e-3, 1e-3)
STEPS = 700
WARM_UP = 60
CLASS_WEIGHTS = (1.0, 2.0)
CROSS_ENTROPY_SHARE = 0.7


@dataclass(frozen=True)
class Prepared:
    """A sample as the network sees it, and where patches are worth cutting."""

    image: npt.NDArray[np.float32]  # (z, y, x), normalized
    mask: npt.NDArray[np.uint8]
    neurite_voxels: npt.NDArray[np.intp]  # (n, 3)
    debris_voxels: npt.NDArray[np.intp]  # (n, 3), as bright as neurites


def prepare(sample: Sample) -> Prepared:
    image = measure(NORMALIZATION, sample.image).apply(sample.image)[..., 0]
    is_neurite = sample.mask == 1
    is_bright = image > np.median(image[is_neurite])
    return Prepared(image, sample.mask, np.argwhere(is_neurite), np.argwhere(is_bright & ~is_neurite))


def patches(
    samples: list[Prepared], rng: np.random.Generator
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]]:
    """Yield images (1, z, y, x, 1) and masks (1, z, y, x) of the network's output, for ever."""
    cut = output_shape(PATCH, blocks=NETWORK.blocks)
    margin = halo(NETWORK.blocks)
    while True:
        sample = samples[rng.integers(len(samples))]
        kind = rng.choice(3, p=[0.55, 0.35, 0.1])
        if kind == 2:
            centre = rng.integers(sample.mask.shape)
        else:
            voxels = (sample.neurite_voxels, sample.debris_voxels)[kind]
            centre = voxels[rng.integers(len(voxels))]
        room = np.subtract(sample.mask.shape, cut)
        start = np.clip(centre - rng.integers(cut), 0, room)
        write = [(int(a), int(a) + n) for a, n in zip(start, cut, strict=True)]
        image = read_reflected(sample.image, Box(*((a - margin, b + margin) for a, b in write)))
        yield augmented(image, sample.mask[Box(*write).slices], rng)


def augmented(
    image: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8], rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Return both flipped and turned alike, the image with another gain and offset."""
    flips = tuple(slice(None, None, -1) if rng.random() < 0.5 else slice(None) for _ in range(3))
    turns = int(rng.integers(4))
    image, mask = (np.rot90(array[flips], turns, axes=(1, 2)) for array in (image, mask))
    image = image * np.float32(np.exp(rng.normal(0, 0.25))) + np.float32(rng.normal(0, 0.05))
    return np.ascontiguousarray(image)[None, ..., None], np.ascontiguousarray(mask)[None]


def loss_of(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Return weighted cross-entropy and soft Dice of the neurites, mixed."""
    weights = tf.gather(tf.constant(CLASS_WEIGHTS), mask)
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(mask, logits)
    entropy = tf.reduce_sum(weights * entropy) / tf.reduce_sum(weights)
    found = tf.nn.softmax(logits)[..., 1]
    true = tf.cast(mask, tf.float32)
    both = tf.reduce_sum(found * true)
    soft_dice = 1 - (2 * both + 1) / (tf.reduce_sum(found) + tf.reduce_sum(true) + 1)
    return CROSS_ENTROPY_SHARE * entropy + (1 - CROSS_ENTROPY_SHARE) * soft_dice


def train(network: keras.Model, samples: list[Prepared], steps: int, cycle: int) -> None:
    """Train for one cycle; the network is changed."""
    keras.utils.set_random_seed(SEED + cycle)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - WARM_UP, warmup_target=LEARNING_RATES[cycle], warmup_steps=WARM_UP
    )
    optimizer = keras.optimizers.Adam(schedule, clipnorm=1.0)
    optimizer.build(network.trainable_variables)

    # XLA on a CPU is ten times slower for this network.
    @tf.function(jit_compile=False)
    def step(image: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            logits = network(image, training=True)
            loss = loss_of(logits, tf.cast(mask, tf.int32))
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply(gradients)
        return loss, tf.argmax(logits, -1) == 1

    losses, overlaps = [], []
    began = time.perf_counter()
    endless = patches(samples, np.random.default_rng(SEED + cycle))
    for number, (image, mask) in zip(range(1, steps + 1), endless, strict=False):
        loss, found = step(tf.constant(image), tf.constant(mask))
        losses.append(float(loss))
        overlaps.append(overlap(found.numpy(), mask == 1))
        if number % 50 == 0 or number == steps:
            print(
                f"cycle {cycle + 1}, step {number:4d} of {steps}: loss {np.mean(losses[-50:]):.3f}, "
                f"Dice of the patches {sum(overlaps[-50:], Overlap()).dice:.3f}, "
                f"{time.perf_counter() - began:.0f} s",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS, help="of each cycle")
    parser.add_argument("--output", type=Path, default=TARGET)
    choices = parser.parse_args()

    samples = [prepare(synthetic_neurons(seed=seed)) for seed in TRAINING_SEEDS]
    keras.utils.set_random_seed(SEED)
    network = build_unet(NETWORK)
    began = time.perf_counter()
    for cycle in range(len(LEARNING_RATES)):
        train(network, samples, choices.steps, cycle)
    minutes = (time.perf_counter() - began) / 60
    print(f"{save(network, choices.steps, choices.output)}: {minutes:.1f} minutes of training")


def save(network: keras.Model, steps: int, output: Path) -> Path:
    """Score the network, and write it as a model folder that says how it was made."""
    card = ModelCard(
        network=NETWORK,
        class_names=("background", "neurite"),
        normalization=NORMALIZATION,
        voxel_size=VOXEL_SIZE,
        unit=UNIT,
        training={
            "script": "scripts/train_demo_model.py",
            "data": f"synthetic_neurons, seeds {TRAINING_SEEDS[0]} to {TRAINING_SEEDS[-1]}",
            "steps": steps * len(LEARNING_RATES),
            "patch": " x ".join(map(str, PATCH)),
            "learning_rates": ", ".join(map(str, LEARNING_RATES)),
            "loss": f"{CROSS_ENTROPY_SHARE:g} cross-entropy, weights {CLASS_WEIGHTS}, and soft Dice",
            "seed": SEED,
        },
    )
    weights = {variable.path: variable.numpy() for variable in network.weights}
    scores = score(Model(card, weights))
    return save_model(Model(card.model_copy(update={"metrics": scores}), weights), output, overwrite=True)


def score(model: Model) -> dict[str, float]:
    """Return the Dice of the neurites in whole volumes of the held-out seeds."""
    scores = {}
    for seed in HELD_OUT_SEEDS:
        sample = synthetic_neurons(seed=seed)
        found = napari_unet3d.segment(sample.image, model)
        scores[f"dice neurite, held-out seed {seed}"] = round(float(dice(found == 1, sample.mask == 1)), 4)
        print(f"held-out seed {seed}: Dice {list(scores.values())[-1]:.4f}", flush=True)
    scores["dice neurite"] = round(float(np.mean(list(scores.values()))), 4)
    return scores


if __name__ == "__main__":
    main()

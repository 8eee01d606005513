"""Train the demo model on synthetic neurons, from scratch, and write it into the package.

    python scripts/train_demo_model.py

Takes about 15 minutes on two CPU cores. It learns from what somebody would paint: the surroundings of all that is
bright, neurites and debris, for most of a volume is dark and teaches nothing. The seeds are fixed; the best model of
the run is chosen on a volume that it does not learn from, and scored on whole volumes of other seeds that it never
saw, by arg-max, without clean-up.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

import napari_unet3d
from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.augment.choices import AugmentSpec, Flips, Gain, Noise, Offset, QuarterTurns
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.scores.overlap import dice
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.network.model import Model, ModelCard
from napari_unet3d.network.store import save_model
from napari_unet3d.sample_data import UNIT, VOXEL_SIZE, Sample, synthetic_neurons
from napari_unet3d.tasks.driving import drive
from napari_unet3d.tasks.events import Event, Note, StepDone, Validated
from napari_unet3d.tasks.train.data import TrainingPair
from napari_unet3d.tasks.train.files import train_files
from napari_unet3d.tasks.train.spec import HeldOutBox, TrainSpec

TARGET = Path(napari_unet3d.__file__).parent / "models" / "demo-neuron.unet3d"
CLASS_NAMES = ("background", "neurite")
TRAINING_SEEDS = tuple(range(100, 124))
CHOOSING_SEED = 124
HELD_OUT_SEEDS = (0, 1, 2)
STEPS = 1400
# How far around what is bright is annotated, in voxels.
MARGIN = 6
AUGMENT = AugmentSpec(
    flips=Flips(probability=1),
    quarter_turns=QuarterTurns(probability=1, kind="about z"),
    gain=Gain(probability=1, factor=(0.6, 1.6)),
    offset=Offset(probability=1),
    noise=Noise(probability=0.3),
)


def painted(sample: Sample) -> npt.NDArray[np.uint8]:
    """Return annotation: 0 unlabelled, 1 background, 2 neurite."""
    is_neurite = sample.mask == 1
    is_bright = is_neurite | (sample.image > np.median(sample.image[is_neurite]))
    return np.where(ndimage.binary_dilation(is_bright, iterations=MARGIN), sample.mask + 1, 0).astype(np.uint8)


def choices(steps: int, shape: tuple[int, int, int]) -> TrainSpec:
    """Return how it is trained; the last volume, of `shape`, is held out."""
    return TrainSpec(
        network=NetworkSpec(filters=4),
        class_names=CLASS_NAMES,
        patch=(132, 156, 156),
        steps=steps,
        seed=17,
        augment=AUGMENT,
        optimizer="muon",
        learning_rate=4e-3,
        class_weights=(1.0, 2.0),
        validation=(HeldOutBox(pair=len(TRAINING_SEEDS), box=Box.whole(shape)),),
        validate_every=100,
    )


def train(spec: TrainSpec, pairs: list[TrainingPair], folder: Path) -> Model:
    """Train, say how it goes, and return the best model."""
    losses: list[float] = []

    def tell(event: Event) -> None:
        match event:
            case StepDone():
                losses.append(event.loss)
            case Validated():
                mean, left = np.mean(losses[-100:]), spec.steps - event.step
                print(
                    f"step {event.step:,}, {left:,} left: loss {mean:.3f}, Dice {event.scores['dice'][1]:.3f}",
                    flush=True,
                )
            case Note():
                print(event.text, flush=True)

    return drive(train_files(spec, pairs, folder), tell).best


def score(model: Model) -> dict[str, float]:
    """Return the Dice of the neurites in whole volumes of the held-out seeds."""
    scores = {}
    for seed in HELD_OUT_SEEDS:
        sample = synthetic_neurons(seed=seed)
        found = napari_unet3d.segment(sample.image, model).data
        scores[f"dice neurite, held-out seed {seed}"] = round(float(dice(found == 1, sample.mask == 1)), 4)
        print(f"held-out seed {seed}: Dice {list(scores.values())[-1]:.4f}", flush=True)
    scores["dice neurite"] = round(float(np.mean(list(scores.values()))), 4)
    return scores


def main() -> None:
    """Train, score and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--output", type=Path, default=TARGET)
    asked = parser.parse_args()

    samples = [synthetic_neurons(seed=seed) for seed in (*TRAINING_SEEDS, CHOOSING_SEED)]
    meanings = Meanings.painted(CLASS_NAMES)
    pairs = [TrainingPair(s.image, painted(s), meanings, voxel_size=VOXEL_SIZE, unit=UNIT) for s in samples]
    spec = choices(asked.steps, samples[-1].mask.shape)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        model = train(spec, pairs, Path(folder) / "run")
    minutes = (time.perf_counter() - begun) / 60
    training = {
        "script": "scripts/train_demo_model.py",
        "data": f"synthetic_neurons, seeds {TRAINING_SEEDS[0]} to {TRAINING_SEEDS[-1]}",
        **model.card.training,
    }
    card = ModelCard(**dict(model.card) | {"training": training, "metrics": score(model)})
    print(f"{save_model(Model(card, model.weights), asked.output, overwrite=True)}: {minutes:.1f} minutes of training")


if __name__ == "__main__":
    main()

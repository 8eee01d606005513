"""How well does a few minutes' training find what it has not seen, and does another camera matter?

    python benchmarks/recipe.py DATA [--task axons] [--preset "as the original"] [--seeds 0 1 2] [--steps 300]

DATA is a folder with `trailmap/sparse/volume.tif` and `labels.tif` (axons: slices 17 and 48 are learnt from, slice 77
is held out) and `ovule/sample_ovule.h5` (boundaries of cells: learnt from one half of x, held out is the other half
but for a gap). Prints the curve of the held-out Dice over the CPU time of the process, the Dice of the best and of the
last model, and that of the last one on the same voxels with another offset and gain of the camera. Without `--preset`
both the choices that suit the annotation and "as the original" are tried.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d import read_volume
from napari_unet3d.core.annotation import Meanings
from napari_unet3d.core.architecture import NetworkSpec
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.geometry import reach, training_bytes
from napari_unet3d.core.normalize import measure
from napari_unet3d.network.devices import select_device
from napari_unet3d.network.model import Model
from napari_unet3d.tasks.events import Validated
from napari_unet3d.tasks.recipes import AS_THE_ORIGINAL, meanings_from, recipe
from napari_unet3d.tasks.train import TrainResult, train
from napari_unet3d.tasks.train_spec import HeldOutBox, TrainSpec
from napari_unet3d.tasks.training_data import TrainingPair, read_training_data, targets_of
from napari_unet3d.tasks.validate import ValidationSet

NETWORK = NetworkSpec(blocks=1, filters=8)
# Of the other camera.
OFFSET, GAIN = 2000, 0.3


def axons(data: Path) -> tuple[TrainingPair, Box]:
    """Return three painted slices of axons, and the one that is held out."""
    folder = data / "trailmap" / "sparse"
    image, labels = (np.asarray(read_volume(folder / name).data[:, :, :]) for name in ("volume.tif", "labels.tif"))
    pair = TrainingPair(image, labels, meanings_from("0=ignore,1=background,2=axon,4=ignore"))
    _, y, x = labels.shape
    return pair, Box((77, 78), (0, y), (0, x))


def boundaries(data: Path) -> tuple[TrainingPair, Box]:
    """Return cells whose boundaries are annotated everywhere, and the part that is held out."""
    file = data / "ovule" / "sample_ovule.h5"
    raw, cells = (read_volume(file, dataset=name) for name in ("/raw", "/label"))
    names = ("inside", "boundary")
    pair = TrainingPair(
        np.asarray(raw.data[:, :, :]),
        boundary_of(np.asarray(cells.data[:, :, :])),
        Meanings.indices(names),
        voxel_size=raw.voxel_size,
        unit=raw.unit,
    )
    z, y, x = raw.shape[:3]
    return pair, Box((0, z), (0, y), (x // 2 + reach(NETWORK.blocks), x))


def boundary_of(cells: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return 1 where a voxel touches one of another cell with a face."""
    found = np.zeros(cells.shape, bool)
    for axis in range(3):
        differs = np.diff(cells, axis=axis) != 0
        for ends in ((0, 1), (1, 0)):
            found |= np.pad(differs, [ends if i == axis else (0, 0) for i in range(3)])
    return found.astype(np.uint8)


TASKS = {"axons": axons, "boundaries": boundaries}


def run(
    network: NetworkSpec, pair: TrainingPair, held_out: Box, preset: str | None, seed: int, steps: int
) -> TrainResult:
    """Train, and print the curve."""
    spec = TrainSpec(
        network=network,
        class_names=pair.meanings.class_names,
        steps=steps,
        validate_every=max(1, steps // 12),
        validation=(HeldOutBox(box=held_out),),
        seed=seed,
        device="cpu",
        **recipe(preset, network, [targets_of(pair)], pair.voxel_size),
    )
    begun = time.process_time()
    events = train(spec, [pair])
    curve = []
    try:
        while True:
            if isinstance(event := next(events), Validated):
                curve.append(f"{(time.process_time() - begun) / 60:.2f}: {event.dice[0]:.3f}")
    except StopIteration as end:
        result: TrainResult = end.value
    print(f"  seed {seed}, CPU minutes: Dice  {', '.join(curve)}")
    best, last = (model.card.metrics[f"dice {spec.class_names[1]}"] for model in (result.best, result.last))
    same, other = (scored(result.last, pair, spec, image) for image in (pair.image, acquired_anew(pair.image)))
    voxels = result.scores.voxels[0] if result.scores is not None else 0
    print(
        f"  last {last:.3f}, best {best:.3f} ({voxels:,} voxels held out); "
        f"last model {same:.4f}, with offset {OFFSET:+,} and gain {GAIN} {other:.4f}, {other / same:.1%} of it",
        flush=True,
    )
    return result


def acquired_anew(image: Any) -> npt.NDArray[np.uint16]:
    """Return an image as another camera would give it."""
    return np.clip(np.rint(image * GAIN + OFFSET), 0, 65535).astype(np.uint16)


def scored(model: Model, pair: TrainingPair, spec: TrainSpec, image: Any) -> float:
    """Return the Dice of a model on what is held out, of any image of the same thing."""
    device = select_device("cpu")
    changed = replace(pair, image=image)
    held = [
        replace(volume, scaling=measure(model.card.normalization, image))
        for volume in read_training_data([changed], spec).held_out
    ]
    tiles = ValidationSet(held, spec.network, training_bytes(spec.patch, spec.network))

    def probabilities(voxels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        z, y, x = voxels.shape[:3]
        return model.forward((z, y, x), "probabilities", device)(voxels)

    return tiles.score(probabilities, class_weights=spec.weights_of_classes, cross_entropy_share=1.0).overlaps[0].dice


def main() -> None:
    """Train as was asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", choices=TASKS, default="axons")
    parser.add_argument("--preset", help="one of the presets; 'suits' is what suits the annotation")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-normalization", action="store_true")
    asked = parser.parse_args()
    network = NETWORK.model_copy(update={"batch_normalization": asked.batch_normalization})
    pair, held_out = TASKS[asked.task](asked.data)
    for preset in [asked.preset] if asked.preset else ["suits", AS_THE_ORIGINAL]:
        print(f"{asked.task}, {'what suits the annotation' if preset == 'suits' else preset}:", flush=True)
        for seed in asked.seeds:
            run(network, pair, held_out, None if preset == "suits" else preset, seed, asked.steps)


if __name__ == "__main__":
    main()

"""How fast is a whole volume, against fixed tiles on TensorFlow as it comes?

    python benchmarks/volume.py [--size 300] [--memory GIB]

From a uint16 volume in memory to its labels in memory. The peer is what one writes first: tiles of 220 voxels laid edge
to edge by their 132 voxels of output, the volume reflected at its border, arg-max in NumPy. Where a tile of the peer
starts at a multiple of 8 voxels both must give the same labels; elsewhere its poolings meet another phase, and the
share that differs is what edge-to-edge tiles get wrong.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import networks
import numpy as np
import numpy.typing as npt
from contest import contestants, ratio_line, serve, take_turns

from napari_unet3d.core.normalize import Normalization
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.network.model import Model

TARGET = 5.0
NAIVE_INPUT, NAIVE_OUTPUT = 220, 132
SPEC = NetworkSpec()
SCALE = 1 / 65535
# Voxels whose two logits are equal but for rounding.
TOLERANCE = 1e-4
Labels = npt.NDArray[np.uint8]


def segment(volume: npt.NDArray[np.uint16], model: Model, memory: int | None) -> Labels:
    """Return the labels as `napari_unet3d` computes them."""
    import napari_unet3d

    spec = napari_unet3d.PredictSpec(device="cpu", memory_bytes=memory)
    return napari_unet3d.segment(volume, model, spec=spec).data


def segment_in_fixed_tiles(volume: npt.NDArray[np.uint16], forward: networks.Forward) -> Labels:
    """Return the labels by tiles of one size, edge to edge."""
    margin = SPEC.geometry.halo[0]
    counts = [-(-n // NAIVE_OUTPUT) for n in volume.shape]
    padding = [(margin, count * NAIVE_OUTPUT + margin - n) for count, n in zip(counts, volume.shape, strict=True)]
    padded = np.pad(volume, padding, mode="symmetric").astype(np.float32) * np.float32(SCALE)
    labels = np.empty([count * NAIVE_OUTPUT for count in counts], np.uint8)
    for index in itertools.product(*map(range, counts)):
        starts = [i * NAIVE_OUTPUT for i in index]
        tile = np.ascontiguousarray(padded[tuple(slice(s, s + NAIVE_INPUT) for s in starts)])
        logits = forward(tile[..., np.newaxis])
        labels[tuple(slice(s, s + NAIVE_OUTPUT) for s in starts)] = logits.argmax(axis=-1)
    z, y, x = volume.shape
    return labels[:z, :y, :x]


def prepare(name: str, size: int, memory: int | None, folder: Path) -> tuple[Callable[[], Any], str]:
    """Return the segmentation of the volume, after a single tile has warmed the library up."""
    volume = np.random.default_rng(1).integers(0, 1 << 16, (size, size, size), dtype=np.uint16)
    bare = networks.random_model(SPEC)
    card = bare.card.model_copy(update={"normalization": Normalization(kind="fixed", scale=SCALE)})
    model = Model(card, bare.weights)
    if name == "ours":
        segment(volume[:8, :8, :8], model, memory)
        work = partial(segment, volume, model, memory)
    else:
        variants = networks.tensorflow_as_it_comes(model, (NAIVE_INPUT,) * 3)
        forward = variants["as it comes"]
        forward(np.zeros((*(NAIVE_INPUT,) * 3, 1), np.float32))
        work = partial(segment_in_fixed_tiles, volume, forward)
    return lambda: np.save(folder / f"{name}.npy", work()), ""


def check_agreement(ours: Labels, fixed: Labels) -> str:
    """Return how far the labels agree; exit where they must and do not."""
    step = SPEC.geometry.alignment[0]
    differ = ours != fixed
    aligned = np.zeros(ours.shape, bool)
    ranges = [range(0, n, NAIVE_OUTPUT) for n in ours.shape]
    for starts in itertools.product(*ranges):
        if not any(start % step for start in starts):
            aligned[tuple(slice(s, s + NAIVE_OUTPUT) for s in starts)] = True
    wrong = float(differ[aligned].mean())
    if wrong > TOLERANCE:
        raise SystemExit(f"The labels do not agree: {100 * wrong:.3g} % differ in tiles that start on the grid.")
    text = (
        f"{100 * ours.mean():.0f} % foreground; {100 * wrong:.2g} % differ in tiles of the peer that start on the grid"
    )
    if not aligned.all():
        text += f", {100 * differ[~aligned].mean():.2g} % in the others"
    return text


def main() -> None:
    """Compare, or be one of those compared."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=300)
    parser.add_argument("--memory", type=int, help="GiB that ours may use; what is free by default")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    memory = options.memory and options.memory << 30
    if options.worker:
        serve(partial(prepare, options.worker, options.size, memory, options.folder))
        return
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--size", str(options.size), "--folder", folder]
        arguments += ["--memory", str(options.memory)] if options.memory else []
        with contestants(["ours", "fixed tiles on TensorFlow as it comes"], *arguments) as entered:
            seconds = take_turns(entered, rounds=1)
        ours, fixed = (np.load(Path(folder) / f"{contestant.name}.npy") for contestant in entered)
        agreement = check_agreement(ours, fixed)
    (_, mine), (peer, theirs) = seconds.items()
    print(ratio_line(f"volume {options.size}", mine, theirs, peer, TARGET))
    print(f"volume {options.size}: {agreement}")


if __name__ == "__main__":
    main()

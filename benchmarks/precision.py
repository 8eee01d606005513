"""Which labels change in bfloat16, and how much time does it save?

    python benchmarks/precision.py [--model NEURON.h5 --volume VOLUME] [--rounds 5]

Segments the sample neurons with the model that comes with the package; or a volume with a published network (`.h5`) or
a model folder. Both precisions take turns. A label counts as changed at an edge if another class is next to it.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
from scipy import ndimage

import napari_unet3d
from napari_unet3d.core.scores.overlap import dice
from napari_unet3d.network.exchange.exllsm import import_exllsm
from napari_unet3d.network.model import Model
from napari_unet3d.network.store import load_model
from napari_unet3d.sample_data import synthetic_neurons
from napari_unet3d.tasks.driving import drive
from napari_unet3d.tasks.segment.predict import Sinks
from napari_unet3d.tasks.segment.segmenting import segment_into
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes import read_volume

DEMO = Path(napari_unet3d.__file__).parent / "models" / "demo-neuron.unet3d"
PRECISIONS = ("float32", "bfloat16")


def segment(volume: npt.NDArray[np.generic], model: Model, precision: str) -> tuple[npt.NDArray[np.uint8], float]:
    """Return the labels, and the operations that the network did per second."""
    labels = np.zeros(volume.shape[:3], np.uint8)
    spec = PredictSpec(device="cpu", precision=precision)
    result = drive(segment_into(volume, model, spec, Sinks(labels)))
    return labels, result.flops_per_second


def describe(exact: npt.NDArray[np.uint8], fast: npt.NDArray[np.uint8]) -> str:
    """Return how two segmentations differ."""
    changed = exact != fast
    edge = ndimage.maximum_filter(exact, 3) != ndimage.minimum_filter(exact, 3)
    at_edges = (changed & edge).sum() / max(1, changed.sum())
    found = dice(fast > 0, exact > 0)
    return (
        f"{100 * changed.mean():.4f} % of {changed.size:,} labels change, {at_edges:.0%} of them at edges; "
        f"{100 * (exact > 0).mean():.2f} % are objects, the Dice of the two is {found:.5f}"
    )


def main() -> None:
    """Compare the two precisions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--volume")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.model is None:
        model, sample = load_model(DEMO), synthetic_neurons(seed=7)
        volume, truth = sample.image, sample.mask == 1
    else:
        model = import_exllsm(options.model) if options.model.suffix == ".h5" else load_model(options.model)
        volume, truth = np.asarray(read_volume(options.volume).data[:, :, :]), None
    speeds: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    labels = {}
    psutil.cpu_percent()
    for _ in range(options.rounds):
        for precision in PRECISIONS:
            labels[precision], speed = segment(volume, model, precision)
            speeds[precision].append(speed)
    ratios = [fast / exact for exact, fast in zip(*speeds.values(), strict=True)]
    print(f"precision: {describe(*labels.values())}")
    if truth is not None:
        print(
            "Dice with the truth: "
            + ", ".join(f"{name} {dice(found == 1, truth):.4f}" for name, found in labels.items())
        )
    print(
        f"precision: the network in bfloat16 is {statistics.median(ratios):.2f}x as fast ({min(ratios):.2f} to "
        f"{max(ratios):.2f} over {len(ratios)} rounds; median {statistics.median(speeds['float32']) / 1e9:.0f} and "
        f"{statistics.median(speeds['bfloat16']) / 1e9:.0f} GFLOP/s; the machine was {psutil.cpu_percent():.0f} % busy)"
    )


if __name__ == "__main__":
    main()

"""The demonstration: a sample volume segmented by the model that comes with the package, as files and a picture."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.scores.overlap import dice
from napari_unet3d.errors import OutputError
from napari_unet3d.network.store import DEMO_MODEL, load_model
from napari_unet3d.sample_data import Sample, synthetic_neurons
from napari_unet3d.tasks.driving import drive
from napari_unet3d.tasks.events import Event
from napari_unet3d.tasks.segment.files import predict_file
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes import Volume, create_output, read_volume
from napari_unet3d.words import amount, times

if TYPE_CHECKING:
    from napari_unet3d.network.model import Model

FIGURES = "figures.json"
# Not among the seeds that the demo model was trained on.
SEED = 0
_FOUND, _MISSED, _WRONG = (60, 200, 90), (240, 200, 60), (230, 70, 160)


@dataclass(frozen=True, eq=False)
class DemoResult:
    """What the demonstration made.

    Attributes
    ----------
    sample
        The volume with its exact mask.
    labels
        (z, y, x) uint8, what the model found.
    class_names
        One a class.
    folder
        Where the files are.
    dice
        Agreement with the mask, 0 to 1.
    seconds
        Time for the segmentation, with the start of TensorFlow.
    peak_bytes
        The most memory this program has had.
    """

    sample: Sample
    labels: npt.NDArray[np.uint8]
    class_names: tuple[str, ...]
    folder: Path
    dice: float
    seconds: float
    peak_bytes: int

    @property
    def summary(self) -> str:
        """Return the figures and the files as text."""
        shape = times(self.labels.shape)
        names = ", ".join(sorted(path.name for path in self.folder.iterdir()))
        return (
            f"A sample of {shape} voxels, segmented in {self.seconds:.1f} s with at most "
            f"{amount(self.peak_bytes)} of memory.\n"
            f"Dice against the exact mask: {self.dice:.3f}\n"
            f"Written to {self.folder}: {names}"
        )


def load_demo_model() -> Model:
    """Return the model that comes with the package."""
    with as_file(files("napari_unet3d") / "models" / DEMO_MODEL) as path:
        return load_model(path)


def run_demo(folder: Path, *, on_event: Callable[[Event], None] | None = None) -> DemoResult:
    """Segment the sample and write the image, the labels and a picture of both into a folder.

    Raises
    ------
    OutputError
        If the folder cannot be written, or holds other files than those of an earlier demonstration.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / FIGURES).is_file():
        raise OutputError(f"{folder} holds other files, which might be replaced. Choose another folder (--output).")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}.") from error
    sample = synthetic_neurons(seed=SEED)
    model = load_demo_model()
    image = Volume.from_array(sample.image, sample.voxel_size, sample.unit, name="neurons")
    calibration: dict[str, Any] = {"voxel_size": image.voxel_size, "unit": image.unit, "overwrite": True}
    with create_output(folder / "image.tif", image.shape, image.dtype, kind="image", **calibration) as output:
        output[:, :, :] = sample.image
        output.commit()
    run = predict_file(image, model, PredictSpec(), folder / "labels.tif", overwrite=True)
    result = drive(run, on_event)
    labels = _read_labels(folder)
    write_overlay(folder / "overlay.png", sample, labels)
    figures: dict[str, Any] = {
        "class_names": model.card.class_names,
        "dice": dice(labels == 1, sample.mask == 1),
        "seconds": result.seconds,
        "peak_bytes": peak_memory(),
    }
    (folder / FIGURES).write_text(json.dumps(figures, indent=2), encoding="utf-8")
    return DemoResult(
        sample,
        labels,
        class_names=model.card.class_names,
        folder=folder,
        dice=figures["dice"],
        seconds=figures["seconds"],
        peak_bytes=figures["peak_bytes"],
    )


def _read_labels(folder: Path) -> npt.NDArray[np.uint8]:
    return np.asarray(read_volume(folder / "labels.tif").data[:, :, :])


def write_overlay(path: Path, sample: Sample, labels: npt.NDArray[np.uint8]) -> None:
    """Write a PNG: the volume seen along z, and beside it what was found (green), missed (yellow) and wrong (pink)."""
    from PIL import Image, ImageDraw

    image = sample.image.astype(np.float32).max(axis=0)
    low, high = np.percentile(image, [1, 99.7])
    grey = np.repeat((np.clip((image - low) / (high - low), 0, 1) * 255).astype(np.uint8)[..., np.newaxis], 3, axis=-1)
    found, true = (labels == 1).any(axis=0), (sample.mask == 1).any(axis=0)
    overlay = grey // 3
    for mask, colour in ((found & true, _FOUND), (true & ~found, _MISSED), (found & ~true, _WRONG)):
        overlay[mask] = colour
    gap = np.full((grey.shape[0], 8, 3), 255, np.uint8)
    picture = np.concatenate([grey, gap, overlay], axis=1).repeat(3, axis=0).repeat(3, axis=1)
    canvas = Image.new("RGB", (picture.shape[1], picture.shape[0] + 28), "white")
    canvas.paste(Image.fromarray(picture))
    draw = ImageDraw.Draw(canvas)
    left, top = picture.shape[1] // 2 + 16, picture.shape[0] + 6
    draw.text((4, top), "volume, brightest along z", fill="black", font_size=15)
    for text, colour in (("found", _FOUND), ("missed", _MISSED), ("wrong", _WRONG)):
        draw.rectangle((left, top + 2, left + 12, top + 14), fill=colour)
        draw.text((left + 18, top), text, fill="black", font_size=15)
        left += 90
    canvas.save(path)


def peak_memory() -> int:
    """Return the most memory that this process has had, in bytes."""
    import psutil

    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

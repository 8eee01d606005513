"""The job of training a network."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.boxes import Shape
from napari_unet3d.core.tiles.plan import Readable
from napari_unet3d.errors import SpecError, VolumeError
from napari_unet3d.tasks.chosen_model import load_cached
from napari_unet3d.tasks.events import Event
from napari_unet3d.tasks.jobs.base import Arrays, FileJob, FileOptions
from napari_unet3d.tasks.jobs.places import IMAGE, LABELS, open_with_notes
from napari_unet3d.tasks.on_disk import OnDisk
from napari_unet3d.tasks.specs import PathOnDisk, Spec
from napari_unet3d.tasks.train.annotation import TrainingPair
from napari_unet3d.tasks.train.files import train_files
from napari_unet3d.tasks.train.kept.run_folder import RunFolder
from napari_unet3d.tasks.train.live import LivePreview
from napari_unet3d.tasks.train.loop import train
from napari_unet3d.tasks.train.spec import TrainSpec

FOCUS, LIVE = "focus", "live"
# Images up to this size are held where they are learnt from.
HELD_BYTES = 1 << 30


def image_of(number: int) -> str:
    """Return the name of the image of a pair among the arrays of a job."""
    return f"{IMAGE} {number}"


def labels_of(number: int) -> str:
    """Return the name of the labels of a pair among the arrays of a job."""
    return f"{LABELS} {number}"


class PairPlace(Spec):
    """One image with its annotation, in a job: see `TrainingPair`; None takes the arrays `image N` and `labels N`."""

    meanings: Meanings
    origin: Shape = (0, 0, 0)
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    unit: str = "um"
    image: OnDisk | None = None
    labels: OnDisk | None = None
    name: str = ""


class TrainJobResult(Spec):
    """What a run gave; its models lie in the run folder."""

    kind: Literal["train"] = "train"
    steps: int
    best_step: int


class TrainJob(FileJob):
    """Train a network.

    Reads the arrays `image N` and `labels N` of pair N, unless it is said where they lie on disk, and `focus`; writes
    `live`, where there is such an array; see `LivePreview`.

    Attributes
    ----------
    spec
        The choices.
    pairs
        What is learnt from.
    folder
        The run folder.
    start
        The model folder to start from.
    resume, force
        See `train`.
    """

    keeps_when_stopped: ClassVar[bool] = True

    kind: Literal["train"] = "train"
    spec: TrainSpec
    pairs: tuple[PairPlace, ...]
    folder: PathOnDisk
    start: PathOnDisk | None = None
    resume: bool = False
    force: bool = False

    def perform(self, arrays: Arrays) -> Generator[Event, None, TrainJobResult]:
        """Train; see `train`."""
        # What the notes say was said when the window has read the volumes.
        pairs = [replace(pair, notes=()) for pair in self.read_pairs(arrays)]
        live = LivePreview(0, arrays[FOCUS], arrays[LIVE]) if FOCUS in arrays and LIVE in arrays else None
        start = None if self.start is None else load_cached(self.start)
        with RunFolder(self.folder) as folder:
            result = yield from train(
                self.spec, pairs, folder, start=start, resume=self.resume, force=self.force, live=live
            )
        return TrainJobResult(steps=result.steps, best_step=result.best_step)

    def read_pairs(self, arrays: Arrays) -> list[TrainingPair]:
        """Return what is learnt from; volumes on disk with what should be known of their numbers.

        Raises
        ------
        VolumeError
            If something is neither on disk nor among the arrays, or cannot be read.
        """
        pairs = []
        for number, place in enumerate(self.pairs):
            image, on_image = open_with_notes(place.image, image_of(number), arrays)
            labels, on_labels = open_with_notes(place.labels, labels_of(number), arrays, "labels")
            if image is None or labels is None:
                raise VolumeError(f"Pair {number + 1} lacks its image or its labels.")
            space = place.origin, place.voxel_size, place.unit
            notes = (*on_image, *on_labels)
            pairs.append(
                TrainingPair(_load_if_small(image), labels, place.meanings, *space, notes=notes, name=place.name)
            )
        return pairs

    @property
    def is_on_disk(self) -> bool:
        """Return whether all images and labels lie on disk."""
        return all(pair.image is not None and pair.labels is not None for pair in self.pairs)

    def place(self, asked: Path | None, beside: Path) -> Path:
        """Return the run folder."""
        return self.folder

    def run(self, output: Path, options: FileOptions) -> Generator[Event, None, Any]:
        """Train into a run folder; see `train_files`."""
        self._refuse_cluster(options)
        if options.overwrite:
            raise SpecError("A training run is not overwritten: go on with --resume, or choose another --output.")
        start = None if self.start is None else load_cached(self.start)
        pairs, go_on = self.read_pairs({}), {"resume": options.resume, "force": options.force}
        return (yield from train_files(self.spec, pairs, output, start=start, **go_on))


def _load_if_small(image: Readable) -> Readable:
    """Return an image that patches can be cut from again and again: in memory if it is small."""
    if isinstance(image, np.ndarray):
        return image
    if math.prod(image.shape) * np.asarray(image[0:1, 0:1, 0:1]).itemsize > HELD_BYTES:
        return image
    return np.asarray(image[:, :, :])

"""Work as a value: what is to be done, small enough to cross into another process, and the doing of it.

The arrays that a job reads and writes do not belong to it; they are passed by name, and may be NumPy arrays or lie
somewhere else.
"""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from napari_unet3d.core.annotation import Meanings
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.coverage import DoneTiles
from napari_unet3d.core.geometry import Shape
from napari_unet3d.core.postprocess import Writable
from napari_unet3d.core.tiling import Readable
from napari_unet3d.errors import ModelError, VolumeError, shown
from napari_unet3d.network.devices import Device
from napari_unet3d.tasks.augment import AugmentRequest, AugmentResult, augment
from napari_unet3d.tasks.events import Event
from napari_unet3d.tasks.files import notes_on_numbers, remember_run
from napari_unet3d.tasks.live import LivePreview
from napari_unet3d.tasks.predict import predict
from napari_unet3d.tasks.run_folder import RunFolder
from napari_unet3d.tasks.specs import PathOnDisk, PathText, PredictSpec, Spec
from napari_unet3d.tasks.train import train
from napari_unet3d.tasks.train_spec import TrainSpec
from napari_unet3d.tasks.training_data import TrainingPair
from napari_unet3d.volumes import read_volume

if TYPE_CHECKING:
    from napari_unet3d.network.model import Model

IMAGE, LABELS, RESULT, SCRATCH = "image", "labels", "result", "scratch"
FOCUS, LIVE = "focus", "live"
# Images up to this size are held where they are learnt from.
HELD_BYTES = 1 << 30


class OnDisk(Spec):
    """A volume that whoever does the job reads by itself; see `read_volume`."""

    path: PathText
    axes: str | None = None
    dataset: str | None = None
    channel: int | None = None
    timepoint: int | None = None


class SegmentJob(Spec):
    """Segment a volume.

    Reads the array `image`, unless `image` says where it lies on disk; writes `result` and, if it is there,
    `scratch`, as `predict` describes them.

    Attributes
    ----------
    model
        The model folder.
    spec
        The choices for the run.
    image
        Where the volume lies; None takes the array.
    focus
        What is looked at, in voxels of the volume.
    done
        What an earlier, stopped run has left in the arrays.
    weights_sha256
        Which weights the model must have; None takes what is there.
    """

    kind: Literal["segment"] = "segment"
    model: PathOnDisk
    weights_sha256: str | None = None
    spec: PredictSpec = PredictSpec()
    image: OnDisk | None = None
    focus: Box | None = None
    done: tuple[DoneTiles, ...] = ()


class WarmJob(Spec):
    """Import TensorFlow and say which devices there are, so that the first click need not wait for it."""

    kind: Literal["warm"] = "warm"


class AugmentJob(Spec):
    """Make augmented patches of a volume.

    Reads the arrays `image` and, if it is there, `labels`, unless it is said where they lie on disk; writes those that
    `augment` writes.

    Attributes
    ----------
    request
        Which patches.
    image, labels
        Where the volumes lie; None takes the arrays.
    """

    kind: Literal["augment"] = "augment"
    request: AugmentRequest
    image: OnDisk | None = None
    labels: OnDisk | None = None


class PairPlace(Spec):
    """One image with its annotation, in a job: see `TrainingPair`; None takes the arrays `image N` and `labels N`."""

    meanings: Meanings
    origin: Shape = (0, 0, 0)
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    unit: str = "um"
    image: OnDisk | None = None
    labels: OnDisk | None = None


class TrainJob(Spec):
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

    kind: Literal["train"] = "train"
    spec: TrainSpec
    pairs: tuple[PairPlace, ...]
    folder: PathOnDisk
    start: PathOnDisk | None = None
    resume: bool = False
    force: bool = False


class TrainJobResult(Spec):
    """What a run gave; its models lie in the run folder."""

    kind: Literal["train"] = "train"
    steps: int
    best_step: int


class SegmentResult(Spec):
    """What a segmentation took; see `PredictResult`."""

    kind: Literal["segment"] = "segment"
    input_shape: Shape
    seconds: float
    flops_per_second: float


class WarmResult(Spec):
    """What is here: the first device is the one that `auto` means."""

    kind: Literal["warm"] = "warm"
    devices: tuple[Device, ...]


AnyJob = SegmentJob | AugmentJob | TrainJob | WarmJob
Job = Annotated[AnyJob, Field(discriminator="kind")]
JobResult = Annotated[SegmentResult | AugmentResult | TrainJobResult | WarmResult, Field(discriminator="kind")]


def perform(job: AnyJob, arrays: Mapping[str, Writable]) -> Generator[Event, None, JobResult]:
    """Do a job; a generator of events, each a safe point to stop.

    Parameters
    ----------
    job
        What to do.
    arrays
        What it reads and writes, by name.

    Raises
    ------
    Unet3dError
        As `predict`, `load_model` and `read_volume`.
    """
    if isinstance(job, WarmJob):
        return _warm()
    if isinstance(job, AugmentJob):
        image, labels = _readable(job.image, IMAGE, arrays), _readable(job.labels, LABELS, arrays, "labels")
        if image is None:
            raise VolumeError("There is no image to augment.")
        return (yield from augment(job.request, image, labels, arrays))
    if isinstance(job, TrainJob):
        return (yield from _train(job, arrays))
    model = model_of(job)
    volume = _readable(job.image, IMAGE, arrays)
    if volume is None:
        raise VolumeError("There is no image to segment.")
    result = yield from predict(
        volume, model, job.spec, arrays[RESULT], scratch=arrays.get(SCRATCH), focus=job.focus, done=job.done
    )
    remember_run(result, model, job.spec)
    return SegmentResult(
        input_shape=result.plan.input_shape, seconds=result.seconds, flops_per_second=result.flops_per_second
    )


def model_of(job: SegmentJob) -> Model:
    """Return the model of a job.

    Raises
    ------
    ModelError
        If it is not there, or has other weights than when it was chosen.
    """
    if job.weights_sha256 not in (None, _weights_of(job.model)):
        raise ModelError(f"The model in {shown(job.model)} has changed since you chose it. Choose it again.")
    return cached_model(job.model)


def pairs_of(job: TrainJob, arrays: Mapping[str, Writable]) -> list[TrainingPair]:
    """Return what a job learns from; volumes on disk with what should be known of their numbers.

    Raises
    ------
    VolumeError
        If something is neither on disk nor among the arrays, or cannot be read.
    """
    pairs = []
    for number, place in enumerate(job.pairs):
        image, on_image = _noted(place.image, image_of(number), arrays)
        labels, on_labels = _noted(place.labels, labels_of(number), arrays, "labels")
        if image is None or labels is None:
            raise VolumeError(f"Pair {number + 1} lacks its image or its labels.")
        space = place.origin, place.voxel_size, place.unit
        pairs.append(TrainingPair(_near(image), labels, place.meanings, *space, notes=(*on_image, *on_labels)))
    return pairs


def _train(job: TrainJob, arrays: Mapping[str, Writable]) -> Generator[Event, None, TrainJobResult]:
    # What the notes say was said when the window has read the volumes.
    pairs = [replace(pair, notes=()) for pair in pairs_of(job, arrays)]
    live = LivePreview(0, arrays[FOCUS], arrays[LIVE]) if FOCUS in arrays and LIVE in arrays else None
    start = None if job.start is None else cached_model(job.start)
    with RunFolder(job.folder) as folder:
        result = yield from train(job.spec, pairs, folder, start=start, resume=job.resume, force=job.force, live=live)
    return TrainJobResult(steps=result.steps, best_step=result.best_step)


def _near(image: Readable) -> Readable:
    """Return an image that patches can be cut from again and again: in memory if it is small."""
    if isinstance(image, np.ndarray):
        return image
    if math.prod(image.shape) * np.asarray(image[0:1, 0:1, 0:1]).itemsize > HELD_BYTES:
        return image
    return np.asarray(image[:, :, :])


def image_of(number: int) -> str:
    """Return the name of the image of a pair among the arrays of a job."""
    return f"{IMAGE} {number}"


def labels_of(number: int) -> str:
    """Return the name of the labels of a pair among the arrays of a job."""
    return f"{LABELS} {number}"


def _readable(
    place: OnDisk | None, name: str, arrays: Mapping[str, Writable], kind: Literal["image", "labels"] = "image"
) -> Readable | None:
    return _noted(place, name, arrays, kind)[0]


def _noted(
    place: OnDisk | None, name: str, arrays: Mapping[str, Writable], kind: Literal["image", "labels"] = "image"
) -> tuple[Readable | None, tuple[str, ...]]:
    if place is None:
        return arrays.get(name), ()
    volume = read_volume(**place.model_dump(), kind=kind)
    return volume.data, notes_on_numbers(volume)


def _weights_of(path: Path) -> str:
    from napari_unet3d.network.store import read_card

    return read_card(path)[1]


def _warm() -> WarmResult:
    from napari_unet3d.network.devices import list_devices
    from napari_unet3d.network.runtime import load_tensorflow

    load_tensorflow()
    return WarmResult(devices=tuple(list_devices()))


def cached_model(path: Path) -> Model:
    """Return a model, from memory if it is the one that was used last and its folder has not changed."""
    from napari_unet3d.network.store import CARD_FILE

    card = path / CARD_FILE
    changed = card.stat().st_mtime_ns if os.path.isfile(card) else 0
    return _load(path, changed)


# One: a model keeps what TensorFlow has compiled for it, and that is large.
@lru_cache(maxsize=1)
def _load(path: Path, changed: int) -> Model:
    from napari_unet3d.network.store import load_model

    return load_model(path)

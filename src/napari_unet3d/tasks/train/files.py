"""Training from volumes on disk to a run folder on disk."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.boxes import Shape
from napari_unet3d.tasks.events import Event
from napari_unet3d.tasks.train.annotation import Annotation, TrainingPair
from napari_unet3d.tasks.train.kept.run_folder import RunFolder
from napari_unet3d.tasks.train.loop import train
from napari_unet3d.tasks.train.spec import TrainSpec
from napari_unet3d.tasks.train.training import TrainResult
from napari_unet3d.volumes.space.places import overlay_of

if TYPE_CHECKING:
    from napari_unet3d.network.model import Model
    from napari_unet3d.volumes import Volume


def train_files(
    spec: TrainSpec,
    pairs: Annotation | Sequence[TrainingPair],
    path: str | os.PathLike[str],
    *,
    start: Model | None = None,
    resume: bool = False,
    force: bool = False,
) -> Generator[Event, None, TrainResult]:
    """Train into a run folder; see `train`. Closing the generator keeps what was learnt."""
    with RunFolder(path) as folder:
        return (yield from train(spec, pairs, folder, start=start, resume=resume, force=force))


def training_pair(image: Volume, labels: Volume, meanings: Meanings, *, same_place: bool = False) -> TrainingPair:
    """Return an image with its annotation, after their places in space were compared.

    Raises
    ------
    SpecError
        If their voxels differ in size, or the labels do not lie in the image, on its voxels; with both.
    """
    found = overlay_of(image, labels, same_place=same_place)
    return TrainingPair(
        image=image.data,
        labels=labels.data,
        meanings=meanings,
        origin=found.origin,
        voxel_size=image.voxel_size,
        unit=image.unit,
        notes=found.notes,
        name=labels.name,
    )


def origin_of(labels: Volume, image: Volume) -> Shape:
    """Return where the labels' first voxel lies in the image; both may be smaller or larger than the other.

    Raises
    ------
    SpecError
        As `overlay_of`.
    """
    return overlay_of(image, labels).origin

"""Training from volumes on disk to a run folder on disk."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_unet3d.core.annotation import Meanings, add_counts, count_values
from napari_unet3d.core.geometry import Shape
from napari_unet3d.errors import SpecError
from napari_unet3d.tasks.events import Event
from napari_unet3d.tasks.run_folder import RunFolder
from napari_unet3d.tasks.train import TrainResult, train
from napari_unet3d.tasks.train_spec import TrainSpec
from napari_unet3d.tasks.training_data import TrainingPair
from napari_unet3d.volumes.volume import times

if TYPE_CHECKING:
    from napari_unet3d.network.model import Model
    from napari_unet3d.volumes import Volume

_SAME = 1e-3


def train_files(
    spec: TrainSpec,
    pairs: Sequence[TrainingPair],
    path: str | os.PathLike[str],
    *,
    start: Model | None = None,
    resume: bool = False,
    force: bool = False,
) -> Generator[Event, None, TrainResult]:
    """Train into a run folder; see `train`. Closing the generator keeps what was learnt."""
    with RunFolder(path) as folder:
        return (yield from train(spec, pairs, folder, start=start, resume=resume, force=force))


def training_pair(image: Volume, labels: Volume, meanings: Meanings) -> TrainingPair:
    """Return an image with its annotation, after their places in space were compared.

    Raises
    ------
    SpecError
        If their voxels differ in size, or the labels do not lie in the image, on its voxels; with both.
    """
    return TrainingPair(
        image=image.data,
        labels=labels.data,
        meanings=meanings,
        origin=origin_of(labels, image),
        voxel_size=image.voxel_size,
        unit=image.unit,
    )


def origin_of(labels: Volume, image: Volume) -> Shape:
    """Return where the labels' first voxel lies in the image; both may be smaller or larger than the other.

    Labels of another shape at the very place of the image are taken for a mistake, unless they say where they lie.
    """
    both = (
        f"The image has {times(image.shape)} voxels of {times(image.voxel_size)} {image.unit} at "
        f"{times(image.translate)}, the labels {times(labels.shape)} of {times(labels.voxel_size)} {labels.unit} at "
        f"{times(labels.translate)} (z, y, x)"
    )
    if labels.shape == image.shape and (labels.voxel_size, labels.translate) == ((1.0,) * 3, (0.0,) * 3):
        # A file that does not know its place, and covers the image.
        return 0, 0, 0
    if not np.allclose(labels.voxel_size, image.voxel_size, rtol=_SAME):
        raise SpecError(f"{both}; their voxels must be of one size.")
    offset = np.subtract(labels.translate, image.translate) / image.voxel_size
    if (np.abs(offset - offset.round()) > 10 * _SAME).any():
        raise SpecError(f"{both}; voxels of the labels must lie on voxels of the image.")
    if labels.shape != image.shape and not offset.round().any():
        raise SpecError(f"{both}; labels of a part of the image must say where they lie.")
    z, y, x = (int(n) for n in offset.round())
    return z, y, x


def values_of(labels: Volume) -> dict[int, int]:
    """Return how many voxels of the labels have each value, plane by plane."""
    counts: dict[int, int] = {}
    z, y, x = labels.shape
    for at in range(z):
        counts = add_counts(counts, count_values(np.asarray(labels.data[at : at + 1, 0:y, 0:x])))
    return counts

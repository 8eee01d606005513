"""What the window learns from: an image layer with its labels layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.annotation.survey import Survey, check_values
from napari_unet3d.core.boxes import Box
from napari_unet3d.errors import PlaceError, SpecError, Unet3dError
from napari_unet3d.tasks.jobs.train import PairPlace
from napari_unet3d.tasks.train.annotation import Painted
from napari_unet3d.volumes.space.places import Placement, overlay
from napari_unet3d.widgets.layers.volumes import LayerVolume, labels_like
from napari_unet3d.widgets.runs.annotation import Annotations
from napari_unet3d.words import times

if TYPE_CHECKING:
    from napari.layers import Labels


_ADVICE = (
    "Set the voxel size, unit and position under Data, or press 'Lay labels on image' if both show the same place."
)


@dataclass(frozen=True, eq=False)
class Pair:
    """An image with its annotation.

    Attributes
    ----------
    image
        The volume of an image layer.
    labels
        The labels layer.
    meanings
        What its values mean.
    """

    image: LayerVolume
    labels: Labels
    meanings: Meanings

    @property
    def name(self) -> str:
        """Return what it is called in a list."""
        return f"{self.image.layer.name} + {self.labels.name}"

    @property
    def can_be_laid(self) -> bool:
        """Return whether the labels have the shape of the image and say that they lie elsewhere."""
        if self.labels.ndim != len(self.image.shape) or tuple(self.labels.data.shape) != self.image.shape:
            return False
        try:
            self.place()
        except PlaceError:
            return True
        except Unet3dError:
            return False
        return False

    def lay(self) -> None:
        """Give the labels the place of the image: its voxel size, unit, position and orientation."""
        for name, value in self.image.space.keywords.items():
            setattr(self.labels, name, value)

    def place(self) -> PairPlace:
        """Return where it lies, for a job.

        Raises
        ------
        PlaceError
            If the labels do not lie on the voxels of the image; with both.
        """
        painted = labels_like(self.labels, self.image)
        return PairPlace(
            meanings=self.meanings,
            origin=_origin(painted, self.image),
            voxel_size=self.image.volume.voxel_size,
            unit=self.image.volume.unit,
            image=self.image.on_disk,
            labels=painted.on_disk,
            name=str(self.labels.name),
        )


def _origin(painted: LayerVolume, image: LayerVolume) -> tuple[int, int, int]:
    """Return where the first voxel of the labels lies in the image, in its voxels."""
    origin = overlay(_placement(image), _placement(painted), advice=_ADVICE).origin
    inside = Box.whole(painted.shape).shifted(origin)
    if inside.intersection(Box.whole(image.shape)) != inside:
        raise PlaceError(
            f"'{painted.layer.name}' ({times(painted.shape)} voxels of {times(painted.volume.voxel_size)}) reaches "
            f"beyond '{image.layer.name}' ({times(image.shape)} of {times(image.volume.voxel_size)}). {_ADVICE}"
        )
    return origin


def _placement(found: LayerVolume) -> Placement:
    """Return how a layer lies in space. napari always has numbers; without a unit of length they can be any."""
    units = set(found.space.units)
    return Placement(
        found.shape, *found.space.matrix, units.pop() if len(units) == 1 else "", name=f"'{found.layer.name}'"
    )


def painted_of(pairs: Sequence[Pair], annotation: Annotations) -> Painted:
    """Return what is painted in all pairs, from what is known of their labels: no voxel is read.

    Raises
    ------
    Unet3dError
        If the labels do not lie on the voxels of their image, are not counted yet, or do not suit; with the values.
    """
    for pair in pairs:
        pair.place()
    names = pairs[0].meanings.class_names
    if any(pair.meanings.class_names != names for pair in pairs):
        raise SpecError("The pairs have different classes; remove one of them.")
    surveys = [_survey(pair, annotation) for pair in pairs]
    for pair, survey in zip(pairs, surveys, strict=True):
        check_values(survey.counts, pair.meanings)
    profiles = [survey.profile(pair.meanings) for pair, survey in zip(pairs, surveys, strict=True)]
    first = pairs[0].image.volume
    painted = Painted.of(names, profiles, first.n_channels, first.voxel_size)
    questions = [known.question for known in map(annotation.of, (pair.labels for pair in pairs)) if known.question]
    if questions and sum(n > 0 for n in painted.voxels) < 2:
        raise SpecError(f"{questions[0]} Answer in the tab Data.")
    return painted


def _survey(pair: Pair, annotation: Annotations) -> Survey:
    annotation.watch(pair.labels, labels_like(pair.labels, pair.image).position or 0)
    known = annotation.of(pair.labels)
    if known.survey is None:
        raise SpecError(known.problem or "Counting the labels ..")
    return known.survey


def voxels_painted(pairs: Sequence[Pair], annotation: Annotations) -> tuple[int, ...]:
    """Return how many voxels of each class are painted, in all pairs that have the classes of the first one."""
    names = pairs[0].meanings.class_names if pairs else ()
    total = np.zeros(len(names), np.int64)
    for pair in pairs:
        survey = annotation.of(pair.labels).survey
        if survey is not None and pair.meanings.class_names == names:
            total += survey.profile(pair.meanings).sum(axis=0)
    return tuple(total.tolist())

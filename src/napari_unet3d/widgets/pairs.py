"""What the window learns from: an image layer with its labels layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet3d.core.annotation import Meanings
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.targets import Targets, read_targets
from napari_unet3d.errors import PlaceError, Unet3dError
from napari_unet3d.tasks.jobs import PairPlace
from napari_unet3d.volumes.places import Placement, overlay
from napari_unet3d.widgets.layers import LayerVolume, labels_like
from napari_unet3d.widgets.words import times

if TYPE_CHECKING:
    from napari.layers import Labels


_ADVICE = "Set the voxel size, unit and position under Data, or press 'Lay labels on image' if they are one place."


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


def reading(pairs: Sequence[Pair]) -> Callable[[], tuple[list[Targets], str]]:
    """Return what reads the annotation of all pairs, in another thread: it returns that, or why it does not suit.

    Raises
    ------
    Unet3dError
        If the labels do not lie on the voxels of their image.
    """
    places = [pair.place() for pair in pairs]
    data = [(labels_like(pair.labels, pair.image).volume.data, pair.image.shape) for pair in pairs]

    def read() -> tuple[list[Targets], str]:
        try:
            return [
                read_targets(labels, place.meanings, volume=shape, origin=place.origin)
                for (labels, shape), place in zip(data, places, strict=True)
            ], ""
        except Unet3dError as error:
            return [], str(error)

    return read

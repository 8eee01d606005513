"""Where the labels of an image lie in it: the one comparison for files, layers and Python.

Sizes and positions are compared in micrometres. What is not known agrees with everything, which is said. Voxels
of the labels lie on voxels of the image, so that the answer is the image's voxel under the labels' first.
No files here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Box
from napari_unet3d.errors import PlaceError
from napari_unet3d.volumes.space.calibration import UNKNOWN_UNIT, micrometers, normalize_unit
from napari_unet3d.volumes.volume import Volume
from napari_unet3d.words import times

# How far sizes may differ, as a share, and how far voxels may lie beside each other, in voxels.
_SAME_SIZE = 1e-3
_SAME_VOXEL = 1e-2
_SAME_PLACE = "If both show the same place all the same, pass --same-place (in Python: same_place=True)."

Matrix = npt.NDArray[np.float64]
Voxel = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Placement:
    """How a volume lies in space.

    Parameters
    ----------
    shape
        (z, y, x) voxels.
    matrix
        (3, 3): from voxels to `unit`; a column is the step from a voxel to the next along one axis.
    shift
        (3,): the centre of the first voxel, in `unit`.
    unit
        Of length, or "pixel".
    has_size, has_position
        Along z, y and x, whether these are known.
    name
        What it is called in messages.
    """

    shape: tuple[int, int, int]
    matrix: Matrix
    shift: Matrix
    unit: str = UNKNOWN_UNIT
    has_size: tuple[bool, bool, bool] = (True, True, True)
    has_position: tuple[bool, bool, bool] = (True, True, True)
    name: str = "the image"

    @property
    def voxel_size(self) -> tuple[float, ...]:
        """Return the length of the step along each axis, in `unit`."""
        return tuple(float(size) for size in np.linalg.norm(self.matrix, axis=0))

    def __str__(self) -> str:
        unit, factor = normalize_unit(self.unit)
        size = f"{times(n * factor for n in self.voxel_size)} {unit}" if any(self.has_size) else "unknown size"
        where = f" at {', '.join(f'{n * factor:.4g}' for n in self.shift)}" if self.shift.any() else ""
        return f"{times(self.shape)} voxels of {size}{where}"


@dataclass(frozen=True)
class Overlay:
    """Where labels lie in an image.

    Parameters
    ----------
    origin
        (z, y, x): the voxel of the image under the first voxel of the labels.
    notes
        What had to be assumed, a sentence each.
    """

    origin: Voxel
    notes: tuple[str, ...] = ()


def placement_of(volume: Volume, name: str = "the image") -> Placement:
    """Return how a volume lies in space.

    A resolution for printing is not known to be its size, and a position of 0 is what programs write that know none.
    """
    known = volume.calibration
    has_size = tuple(size is not None and not known.is_nominal for size in known.sizes)
    is_placed = any(known.translate)
    has_position = tuple(
        is_placed and position is not None and is_sized
        for position, is_sized in zip(known.positions, has_size, strict=True)
    )
    return Placement(
        volume.shape,
        np.diag(known.voxel_size),
        np.asarray(known.translate, float),
        known.unit,
        (has_size[0], has_size[1], has_size[2]),
        (has_position[0], has_position[1], has_position[2]),
        name,
    )


def overlay(image: Placement, labels: Placement, *, same_place: bool = False, advice: str = _SAME_PLACE) -> Overlay:
    """Return where labels lie in an image; both may be smaller or larger than the other.

    Parameters
    ----------
    image, labels
        How both lie in space.
    same_place
        Take the first voxel of the labels for the first of the image, whatever both say.
    advice
        What to do where they cannot be compared, for messages.

    Raises
    ------
    PlaceError
        If their voxels differ in size or lie beside each other, or labels of another shape do not say where they lie;
        with both.
    """
    if same_place:
        return Overlay((0, 0, 0))
    both = f"{image.name} has {image}, {labels.name} {labels} (z, y, x)"
    both = both[0].upper() + both[1:]
    ours, theirs, notes = _comparable(image, labels)
    step = np.linalg.solve(ours.matrix, theirs.matrix)
    if not np.allclose(step, np.eye(3), rtol=0, atol=_SAME_SIZE):
        raise PlaceError(f"{both}; their voxels must have the same size. {advice}")
    is_known = all((*ours.has_position, *theirs.has_position))
    if image.shape == labels.shape and not is_known:
        if any((*ours.has_position, *theirs.has_position)):
            notes.append(
                f"Only one of {image.name} and {labels.name} says where it lies; both are taken for the same place."
            )
        return Overlay((0, 0, 0), tuple(notes))
    if not any((*ours.has_position, *theirs.has_position)):
        raise PlaceError(f"{both}; labels of a part of the image must say where they lie. {advice}")
    offset = np.linalg.solve(ours.matrix, theirs.shift - ours.shift)
    if (np.abs(offset - offset.round()) > _SAME_VOXEL).any():
        raise PlaceError(f"{both}; voxels of the labels must lie on voxels of the image. {advice}")
    z, y, x = (int(n) for n in offset.round())
    inside = Box.whole(labels.shape).shifted((z, y, x)).intersection(Box.whole(image.shape))
    if not inside.n_voxels:
        raise PlaceError(f"{both}; they do not overlap. {advice}")
    return Overlay((z, y, x), tuple(notes))


def overlay_of(image: Volume, labels: Volume, *, same_place: bool = False) -> Overlay:
    """Return where labels lie in their image; see `overlay`."""
    return overlay(placement_of(image), placement_of(labels, "the labels"), same_place=same_place)


def in_one_place(image: Volume, mask: Volume, *, same_place: bool = False) -> tuple[Volume, Volume]:
    """Return an image and its mask in one physical space, with what does not agree among the notes of the image.

    Masks are often PNG, which has no voxel size: what one does not know is taken from the other. With `same_place` the
    mask lies where the image does, whatever it says.
    """
    if same_place:
        return image, replace(mask, calibration=image.calibration)
    try:
        found = overlay(placement_of(image), placement_of(mask, "the mask"), advice="")
    except PlaceError as error:
        return replace(image, notes=(str(error).strip(), *image.notes)), mask
    ours, theirs = image.calibration, mask.calibration
    notes = found.notes if found.origin != (0, 0, 0) or image.shape != mask.shape else ()
    if ours.has_unit == theirs.has_unit or image.shape != mask.shape:
        return replace(image, notes=(*notes, *image.notes)), mask
    known = mask if theirs.has_unit else image
    shared = replace(known.calibration, notes=())
    return replace(image, calibration=shared, notes=(*notes, *known.notes)), replace(mask, calibration=shared, notes=())


def _comparable(image: Placement, labels: Placement) -> tuple[Placement, Placement, list[str]]:
    """Return both in one unit, the sizes that one of them does not know taken from the other, and notes on that."""
    notes: list[str] = []
    lengths = [micrometers(placed.unit) for placed in (image, labels)]
    if lengths.count(None) == 1 and not _fits(image, labels):
        # Numbers without a unit that are not those of the other say nothing.
        silent = image if lengths[0] is None else labels
        nothing = (False, False, False)
        unknown = replace(silent, has_size=nothing, has_position=nothing, shift=np.zeros(3))
        image, labels = (unknown, labels) if silent is image else (image, unknown)
    elif None not in lengths:
        image, labels = (_in_micrometers(placed) for placed in (image, labels))
    if image.has_size != labels.has_size:
        less, other = (labels, image) if sum(labels.has_size) < sum(image.has_size) else (image, labels)
        notes.append(f"The voxel size of {less.name} is not known; that of {other.name} is taken.")
    # Along an axis of which neither knows the size both have that of the image.
    ours = np.where(np.asarray(labels.has_size) & ~np.asarray(image.has_size), labels.matrix, image.matrix)
    theirs = np.where(labels.has_size, labels.matrix, ours)
    return replace(image, matrix=ours), replace(labels, matrix=theirs), notes


def _fits(image: Placement, labels: Placement) -> bool:
    """Return whether the numbers of both are of one size, whatever their units."""
    return np.allclose(np.linalg.solve(image.matrix, labels.matrix), np.eye(3), rtol=0, atol=_SAME_SIZE)


def _in_micrometers(placed: Placement) -> Placement:
    factor = micrometers(placed.unit) or 1.0
    return replace(placed, matrix=placed.matrix * factor, shift=placed.shift * factor, unit="um")

"""The one road from what is painted to a run: read once, here; choose (`choosing`); train (`loop`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.annotation.meanings import Meanings, add_counts
from napari_unet3d.core.annotation.survey import check_values, list_counts
from napari_unet3d.core.annotation.targets import Targets, is_slicewise, scan_targets
from napari_unet3d.core.boxes import Shape
from napari_unet3d.core.tiles.plan import Readable
from napari_unet3d.errors import SpecError

# What is taken for granted where nobody says what values mean: a complete mask of one object.
ASSUMED = Meanings.indices(("background", "object"))


@dataclass(frozen=True, eq=False)
class TrainingPair:
    """An image with its annotation.

    Attributes
    ----------
    image
        (z, y, x) or (z, y, x, c).
    labels
        (z, y, x).
    meanings
        What the values of the labels mean; the same classes for all pairs.
    origin
        First voxel of the labels, in voxels of the image (z, y, x).
    voxel_size, unit
        Voxel size (z, y, x) of the image and its unit.
    notes
        Notes about the two, such as what had to be assumed about their positions; one sentence each.
    name
        Name of the labels, by which their meanings are looked up in the run folder.
    """

    image: Readable
    labels: Readable
    meanings: Meanings
    origin: Shape = (0, 0, 0)
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    unit: str = "um"
    notes: tuple[str, ...] = ()
    name: str = ""

    @property
    def channels(self) -> int:
        """Return how many numbers a voxel of the image has."""
        return int(self.image.shape[3]) if len(self.image.shape) == 4 else 1


# A class that has fewer voxels than this, and this many times fewer than another, was most likely forgotten.
_FEW_VOXELS, _MANY_TIMES = 500, 100


@dataclass(frozen=True)
class Painted:
    """What of annotation the choices of a run rest on.

    Attributes
    ----------
    class_names
        The classes, background first.
    voxels
        How many voxels of each class are annotated.
    is_slicewise
        Slices along z are annotated one by one.
    channels, voxel_size
        Of the first image.
    depth
        Planes from the first annotated one to the last, in the annotation where they are most; None where that is not
        known.
    """

    class_names: tuple[str, ...]
    voxels: tuple[int, ...]
    is_slicewise: bool = False
    channels: int = 1
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    depth: int | None = None

    @classmethod
    def of(
        cls,
        class_names: tuple[str, ...],
        profiles: Sequence[npt.NDArray[np.int64]],
        channels: int,
        voxel_size: tuple[float, float, float],
    ) -> Painted:
        """Return it from the profiles along z of all labels, (n, classes) each: see `Targets.profile`, `Survey`."""
        voxels = np.sum([profile.sum(axis=0) for profile in profiles], axis=0)
        slicewise = any(is_slicewise(profile) for profile in profiles)
        found = [np.flatnonzero(profile.any(axis=1)) for profile in profiles]
        depth = max((int(planes[-1] - planes[0]) + 1 for planes in found if len(planes)), default=None)
        return cls(class_names, tuple(voxels.tolist()), slicewise, channels, voxel_size, depth)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Return why a network may learn little from this, one sentence each.

        Examples
        --------
        >>> Painted(("background", "axon"), (524_275, 13)).doubts
        ('Only 13 voxels of axon are painted, but 524,275 of background. Paint more axon.',)
        """
        named = dict(zip(self.class_names, self.voxels, strict=True))
        there = {name: n for name, n in named.items() if n}
        if len(there) == 1:
            (only,) = there
            return (f"Only {only} is painted. Paint other classes too, so that the network can tell them apart.",)
        missing = [name for name, n in named.items() if not n]
        if missing:
            return (f"No voxel of {', '.join(missing)} is painted; it cannot be learnt.",)
        (least, few), (most, many) = (pick(named.items(), key=lambda item: item[1]) for pick in (min, max))
        if few >= _FEW_VOXELS or many < _MANY_TIMES * few:
            return ()
        return (f"Only {few:,} voxels of {least} are painted, but {many:,} of {most}. Paint more {least}.",)


@dataclass(frozen=True, eq=False)
class Annotation:
    """What is painted in some images, read once.

    Attributes
    ----------
    pairs
        The images with their labels.
    targets
        What is annotated, one a pair.
    counts
        How many voxels have each value, one a pair.
    """

    pairs: tuple[TrainingPair, ...]
    targets: tuple[Targets, ...]
    counts: tuple[Mapping[int, int], ...]

    @property
    def painted(self) -> Painted:
        """Return what the choices of a run rest on."""
        first = self.pairs[0]
        profiles = [targets.profile(0) for targets in self.targets]
        return Painted.of(first.meanings.class_names, profiles, first.channels, first.voxel_size)


def read_annotation(pairs: Sequence[TrainingPair], *, is_assumed: bool = False) -> Annotation:
    """Read what is annotated in all pairs, each plane once.

    Parameters
    ----------
    pairs
        Images with their annotation.
    is_assumed
        Nobody has said what the values mean, so they are taken for `ASSUMED`; values other than 0 and 1 are an error.

    Raises
    ------
    SpecError
        If there is no pair, the pairs have different classes, labels leave their image, a value has no meaning or
        nothing is annotated; with the values and how often they occur.
    """
    if not pairs:
        raise SpecError("There is nothing to train on: no image with labels was passed.")
    if len({pair.meanings.class_names for pair in pairs}) > 1:
        raise SpecError("The pairs have different classes; remove one of them.")
    read = [scan_targets(p.labels, p.meanings, volume=_shape(p.image), origin=p.origin) for p in pairs]
    if is_assumed:
        _check_assumed([counts for _, counts in read])
    for pair, (_, counts) in zip(pairs, read, strict=True):
        check_values(counts, pair.meanings)
    return Annotation(tuple(pairs), tuple(targets for targets, _ in read), tuple(counts for _, counts in read))


def _check_assumed(found: Sequence[Mapping[int, int]]) -> None:
    counts: dict[int, int] = {}
    for each in found:
        counts = add_counts(counts, each)
    if set(counts) != {0, 1}:
        raise SpecError(
            f"The labels hold {list_counts(counts)}. Say what they mean, for example --classes "
            "0=ignore,1=background,2=object."
        )


def _shape(image: Readable) -> Shape:
    z, y, x = image.shape[:3]
    return z, y, x

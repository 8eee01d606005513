"""Which annotation is held out, so that a score says something about what the network has not seen.

What is held out is a range of planes across one axis, whole slices where slices are painted and one can be spared, or
a whole volume where there are several. Between it and what is trained on lies a gap as wide as the network sees
(`geometry.reach`), so that, but for what augmentation moves, no held-out voxel was part of the input around a voxel
that was learnt. Where that leaves too little, nothing is held out, and it is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.targets import Targets, is_slicewise
from napari_unet3d.errors import SpecError

# The share of the annotation that is held out if it can be, and how much may be: less says little, more is missed.
SHARE = 0.2
_LEAST, _MOST = 0.08, 0.5
# The gap may cost so much that this share is left to learn from.
_LEAST_TO_LEARN = 0.4
# How the note of a split begins that holds something out.
HELD_OUT = "Held out: "
# Fewer voxels of a class than this are not a score.
_LEAST_VOXELS = 20


@dataclass(frozen=True, eq=False)
class Split:
    """What is learnt from, and what is held out.

    Attributes
    ----------
    training, held_out
        One a volume, in the order they were given.
    boxes
        (number of the volume, box): where what is held out lies.
    note
        What was held out, or why nothing was.
    """

    training: tuple[Targets, ...]
    held_out: tuple[Targets, ...]
    boxes: tuple[tuple[int, Box], ...]
    note: str

    @property
    def n_held_out(self) -> int:
        """Return how many voxels are held out."""
        return sum(targets.n_voxels for targets in self.held_out)


def hold_nothing_out(volumes: Sequence[Targets], note: str) -> Split:
    """Return a split that validates on nothing."""
    return Split(tuple(volumes), tuple(targets.within(()) for targets in volumes), (), note)


def hold_boxes_out(
    volumes: Sequence[Targets], boxes: Sequence[tuple[int, Box]], gap: int, images: Sequence[str] | None = None
) -> Split:
    """Return a split with certain boxes held out.

    Parameters
    ----------
    volumes
        All annotation.
    boxes
        (number of the volume, box).
    gap
        Voxels around a box that are not learnt from: as far as the network sees.
    images
        What tells the images of the volumes apart; volumes of one image are held out together. None: all differ.

    Raises
    ------
    SpecError
        If no annotation lies in the boxes, or none is left outside.
    """
    images = _told_apart(volumes, images)
    own = [[box for number, box in boxes if images[number] == image] for image in images]
    held = tuple(targets.within(parts) for targets, parts in zip(volumes, own, strict=True))
    training = tuple(
        targets.without([_grown(box, gap) for box in parts]) for targets, parts in zip(volumes, own, strict=True)
    )
    where = "; ".join(f"volume {number + 1}: {box}" for number, box in boxes)
    n = sum(targets.n_voxels for targets in held)
    if not n:
        raise SpecError(f"No annotated voxel lies in what is to be held out, {where} (z, y, x).")
    if not any(targets.n_voxels for targets in training):
        raise SpecError(
            f"Nothing is left to learn from: what is not held out lies within the gap of {gap} voxels around {where}."
        )
    return Split(training, held, tuple(boxes), f"{HELD_OUT}{where} (z, y, x), {n:,} annotated voxels.")


def hold_out(volumes: Sequence[Targets], gap: int, images: Sequence[str] | None = None) -> Split:
    """Return an honest split of the annotation, by its own choice.

    Parameters
    ----------
    volumes
        All annotation.
    gap
        How far the network sees, in voxels.
    images
        What tells the images of the volumes apart; volumes of one image are held out together. None: all differ.
    """
    if not volumes:
        raise SpecError("There is no annotation to split.")
    images = _told_apart(volumes, images)
    groups = [[i for i, image in enumerate(images) if image == one] for one in dict.fromkeys(images)]
    if len(groups) > 2 and (chosen := _whole_volume([[volumes[i] for i in group] for group in groups])) is not None:
        first = groups[chosen][0]
        split = hold_boxes_out(volumes, [(first, Box.whole(volumes[first].shape))], 0, images)
        return Split(
            split.training,
            split.held_out,
            split.boxes,
            f"{HELD_OUT}the whole of volume {first + 1}, {split.n_held_out:,} annotated voxels.",
        )
    total = np.sum([targets.counts for targets in volumes], axis=0)
    profiles = {(group[0], axis): _profile([volumes[i] for i in group], axis) for group in groups for axis in range(3)}
    # Whole slices where slices are painted; where that leaves too little, across them.
    slices = {key: profile for key, profile in profiles.items() if is_slicewise(profile) and np.sum(profile.any(1)) > 1}
    candidates = _candidates(slices or profiles, total, gap) or _candidates(profiles, total, gap)
    if not candidates:
        return hold_nothing_out(
            volumes,
            f"Nothing is held out: no part of the annotation can be kept apart by a gap of {gap} voxels that leaves "
            "enough to learn from. Scores on other data are not known; annotate more, farther away, to see them.",
        )
    # What is nearest to the wanted share with the least lost in the gap.
    _, number, axis, planes = min(candidates)
    interval = [(0, n) for n in volumes[number].shape]
    interval[axis] = planes
    return hold_boxes_out(volumes, [(number, Box(*interval))], gap, images)


def _told_apart(volumes: Sequence[Targets], images: Sequence[str] | None) -> Sequence[str]:
    return [str(i) for i in range(len(volumes))] if images is None else images


def _whole_volume(groups: Sequence[Sequence[Targets]]) -> int | None:
    """Return which image, with all its annotation, is best held out as a whole; None where none is."""
    counts = np.array([np.sum([targets.counts for targets in group], axis=0) for group in groups])
    total = counts.sum(axis=0)
    options = [
        (abs(counts[i].sum() / total.sum() - SHARE), i)
        for i in range(len(groups))
        if _is_enough(counts[i], total - counts[i], total, total)
    ]
    return min(options)[1] if options else None


def _candidates(
    profiles: Mapping[tuple[int, int], npt.NDArray[np.int64]], total: npt.NDArray[np.int64], gap: int
) -> list[tuple[float, int, int, tuple[int, int]]]:
    """Return (how bad, volume, axis, planes) of what could be held out."""
    return [
        (badness, number, axis, planes)
        for (number, axis), profile in profiles.items()
        for badness, planes in _ranges(profile, total, gap)
    ]


def _profile(group: Sequence[Targets], axis: int) -> npt.NDArray[np.int64]:
    """Return (n, classes): voxels of each class in every plane across an axis, in all annotations of an image."""
    profile: npt.NDArray[np.int64] = np.sum([targets.profile(axis) for targets in group], axis=0)
    return profile


def _ranges(
    profile: npt.NDArray[np.int64], total: npt.NDArray[np.int64], gap: int
) -> list[tuple[float, tuple[int, int]]]:
    """Return (how bad, planes) of what could be held out across the axis of a profile."""
    before = np.vstack([np.zeros_like(profile[:1]), np.cumsum(profile, axis=0)])
    found = np.flatnonzero(profile.any(axis=1))
    if not len(found):
        return []
    first, end = int(found[0]), int(found[-1]) + 1
    groups = np.split(found, np.flatnonzero(np.diff(found) > 1) + 1)
    ranges = [(int(group[0]), int(group[-1]) + 1) for group in groups]
    if not is_slicewise(profile) or len(groups) == 1:
        # From either end, as many planes as hold the wanted share.
        sums = before.sum(axis=1)
        wanted = SHARE * total.sum()
        low = int(np.searchsorted(sums, sums[first] + wanted))
        high = int(np.searchsorted(sums, sums[end] - wanted, side="right")) - 1
        ranges += [(first, min(low, end)), (max(high, first), end)]
    options = []
    for start, stop in ranges:
        held = before[stop] - before[start]
        lost = before[min(stop + gap, len(profile))] - before[max(start - gap, 0)]
        left = total - lost
        if _is_enough(held, left, total, before[-1]):
            share = float(held.sum() / total.sum())
            wasted = float((lost - held).sum() / total.sum())
            options.append((abs(share - SHARE) + wasted, (start, stop)))
    return options


def _is_enough(
    held: npt.NDArray[np.int64], left: npt.NDArray[np.int64], total: npt.NDArray[np.int64], own: npt.NDArray[np.int64]
) -> bool:
    there = total > 0
    share = held.sum() / total.sum()
    needed = np.minimum(_LEAST_VOXELS, own)[there]
    return bool(
        _LEAST <= share <= _MOST
        and left.sum() >= _LEAST_TO_LEARN * total.sum()
        and (held[there] >= np.maximum(needed, 1)).all()
        and (left[there] >= _LEAST_VOXELS).all()
    )


def _grown(box: Box, by: int) -> Box:
    return Box(*((start - by, stop + by) for start, stop in box))

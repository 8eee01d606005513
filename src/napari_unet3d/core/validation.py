"""Which annotation is held out, so that a score says something about what the network has not seen.

What is held out is a range of planes across one axis, whole slices where only slices are painted, or a whole volume
where there are several. Between it and what is trained on lies a gap as wide as the network sees (`geometry.reach`), so
that, but for what augmentation moves, no held-out voxel was part of the input around a voxel that was learnt. Where
that leaves too little, nothing is held out, and it is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.targets import Targets
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
# Annotation in fewer planes than this share of its extent is slice by slice.
_SLICEWISE = 0.5


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


def hold_boxes_out(volumes: Sequence[Targets], boxes: Sequence[tuple[int, Box]], gap: int) -> Split:
    """Return a split with certain boxes held out.

    Parameters
    ----------
    volumes
        All annotation.
    boxes
        (number of the volume, box).
    gap
        Voxels around a box that are not learnt from: as far as the network sees.

    Raises
    ------
    SpecError
        If no annotation lies in the boxes, or none is left outside.
    """
    own = [[box for number, box in boxes if number == i] for i in range(len(volumes))]
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


def hold_out(volumes: Sequence[Targets], gap: int) -> Split:
    """Return an honest split of the annotation, by its own choice.

    Parameters
    ----------
    volumes
        All annotation.
    gap
        How far the network sees, in voxels.
    """
    if not volumes:
        raise SpecError("There is no annotation to split.")
    if len(volumes) > 2 and (chosen := _whole_volume(volumes)) is not None:
        box = Box.whole(volumes[chosen].shape)
        split = hold_boxes_out(volumes, [(chosen, box)], 0)
        return Split(
            split.training,
            split.held_out,
            split.boxes,
            f"{HELD_OUT}the whole of volume {chosen + 1}, {split.n_held_out:,} annotated voxels.",
        )
    candidates = [
        candidate
        for number, targets in enumerate(volumes)
        for axis in _axes(targets)
        for candidate in _ranges(volumes, number, axis, gap)
    ]
    if not candidates:
        return hold_nothing_out(
            volumes,
            f"Nothing is held out: no part of the annotation can be kept apart by a gap of {gap} voxels that leaves "
            "enough to learn from. Scores on other data are not known; annotate more, farther away, to see them.",
        )
    # Slices first, then what is nearest to the wanted share with the least lost in the gap.
    _, number, axis, planes = min(candidates)
    interval = [(0, n) for n in volumes[number].shape]
    interval[axis] = planes
    return hold_boxes_out(volumes, [(number, Box(*interval))], gap)


def _whole_volume(volumes: Sequence[Targets]) -> int | None:
    counts = np.array([targets.counts for targets in volumes])
    total = counts.sum(axis=0)
    options = [
        (abs(counts[i].sum() / total.sum() - SHARE), i)
        for i in range(len(volumes))
        if _is_enough(counts[i], total - counts[i], total, total)
    ]
    return min(options)[1] if options else None


def _axes(targets: Targets) -> list[int]:
    """Return the axes across which may be cut: the slices that are painted, if there are such, and the others then."""
    slicewise = []
    for axis in range(3):
        found = np.flatnonzero(targets.profile(axis).any(axis=1))
        if len(found) > 1 and len(found) < _SLICEWISE * (found[-1] - found[0] + 1):
            slicewise.append(axis)
    return slicewise or [0, 1, 2]


def _ranges(
    volumes: Sequence[Targets], number: int, axis: int, gap: int
) -> list[tuple[float, int, int, tuple[int, int]]]:
    """Return (how bad, volume, axis, planes) of what could be held out."""
    profile = volumes[number].profile(axis)
    total = np.sum([targets.counts for targets in volumes], axis=0)
    before = np.vstack([np.zeros_like(profile[:1]), np.cumsum(profile, axis=0)])
    found = np.flatnonzero(profile.any(axis=1))
    if not len(found):
        return []
    first, end = int(found[0]), int(found[-1]) + 1
    groups = np.split(found, np.flatnonzero(np.diff(found) > 1) + 1)
    if len(groups) > 1:
        ranges = [(int(group[0]), int(group[-1]) + 1) for group in groups]
    else:
        # From either end, as many planes as hold the wanted share.
        sums = before.sum(axis=1)
        wanted = SHARE * total.sum()
        low = int(np.searchsorted(sums, sums[first] + wanted))
        high = int(np.searchsorted(sums, sums[end] - wanted, side="right")) - 1
        ranges = [(first, min(low, end)), (max(high, first), end)]
    options = []
    for start, stop in ranges:
        held = before[stop] - before[start]
        lost = before[min(stop + gap, len(profile))] - before[max(start - gap, 0)]
        left = total - lost
        if _is_enough(held, left, total, np.asarray(volumes[number].counts)):
            share = float(held.sum() / total.sum())
            wasted = float((lost - held).sum() / total.sum())
            options.append((abs(share - SHARE) + wasted, number, axis, (start, stop)))
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

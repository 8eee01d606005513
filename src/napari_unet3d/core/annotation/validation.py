"""Which annotation is held out, so that a score says something about what the network has not seen.

What is held out is a range of planes across one axis, whole slices where slices are painted and one can be spared, a
part of a slice where there are few of them, or a whole volume where there are several. Between it and what is trained
on lies a gap as wide as the network sees (`Geometry.reach`), so that, but for what augmentation moves, no held-out
voxel was part of the input around a voxel that was learnt. Where that leaves too little, nothing is held out, and it is
said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.annotation.targets import Targets, is_slicewise
from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.errors import SpecError
from napari_unet3d.words import per_axis

# The share of the annotation that is held out if it can be, and how much may be: less says little, more is missed.
SHARE = 0.2
_LEAST, _MOST = 0.08, 0.5
# Of the annotation, where a whole slice would be more than could be spared: part of one is held out.
_SPARED, _SHARE_OF_PART = 0.2, 0.12
# The gap may cost so much that this share is left to learn from.
_LEAST_TO_LEARN = 0.4
# What the note of a split says that holds something out.
KEPT = "kept for the score"
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
    volumes: Sequence[Targets], boxes: Sequence[tuple[int, Box]], gap: Shape, images: Sequence[str] | None = None
) -> Split:
    """Return a split with certain boxes held out.

    Parameters
    ----------
    volumes
        All annotation.
    boxes
        (number of the volume, box).
    gap
        Voxels (z, y, x) around a box that are not learnt from: as far as the network sees.
    images
        One key per volume that identifies its image; volumes of one image are held out together. None: all differ.

    Raises
    ------
    SpecError
        If no annotation lies in the boxes, or none is left outside.
    """
    images = _told_apart(volumes, images)
    own = [[box for number, box in boxes if images[number] == image] for image in images]
    held = tuple(targets.within(parts) for targets, parts in zip(volumes, own, strict=True))
    training = tuple(
        targets.without([box.grown(gap) for box in parts]) for targets, parts in zip(volumes, own, strict=True)
    )
    where = "; ".join(f"volume {number + 1}: {box}" for number, box in boxes)
    n = sum(targets.n_voxels for targets in held)
    if not n:
        raise SpecError(f"There is no annotated voxel in the part to hold out, {where} (z, y, x).")
    if not any(targets.n_voxels for targets in training):
        raise SpecError(
            f"Nothing is left to learn from: all other annotation lies within the gap of {per_axis(gap)} voxels around "
            f"{where}."
        )
    return Split(training, held, tuple(boxes), _note(volumes, boxes, n))


def hold_out(volumes: Sequence[Targets], gap: Shape, images: Sequence[str] | None = None) -> Split:
    """Return a split of the annotation into training and held-out parts, with a gap between them.

    Parameters
    ----------
    volumes
        All annotation.
    gap
        How far the network sees, in voxels (z, y, x).
    images
        One key per volume that identifies its image; volumes of one image are held out together. None: all differ.
    """
    if not volumes:
        raise SpecError("There is no annotation to split.")
    images = _told_apart(volumes, images)
    groups = [[i for i, image in enumerate(images) if image == one] for one in dict.fromkeys(images)]
    if len(groups) > 2 and (chosen := _whole_volume([[volumes[i] for i in group] for group in groups])) is not None:
        first = groups[chosen][0]
        return hold_boxes_out(volumes, [(first, Box.whole(volumes[first].shape))], (0, 0, 0), images)
    total = np.sum([targets.counts for targets in volumes], axis=0)
    own = {group[0]: [volumes[i] for i in group] for group in groups}
    profiles = {(number, axis): _profile(group, axis) for number, group in own.items() for axis in range(3)}
    # Whole slices where slices are painted, or parts of them; where that leaves too little, across them.
    slices = {key: profile for key, profile in profiles.items() if is_slicewise(profile) and np.sum(profile.any(1)) > 1}
    shapes = {number: group[0].shape for number, group in own.items()}
    candidates = _ranges_of(slices, shapes, total, gap) or _ranges_of(profiles, shapes, total, gap)
    for found in [found for found in candidates if slices and found.share > _SPARED]:
        if parts := _parts(found, own[found.volume], total, gap):
            candidates = [*(other for other in candidates if other is not found), *parts]
    if not candidates:
        return hold_nothing_out(
            volumes,
            f"Nothing is held out: no part of the annotation can be kept apart by a gap of {per_axis(gap)} voxels that "
            "leaves enough to learn from. There are no scores on other data; "
            "annotate more, farther away, to get them.",
        )
    # What is nearest to the wanted share with the least lost in the gap.
    best = min(candidates, key=lambda found: (found.badness, found.volume, found.box))
    return hold_boxes_out(volumes, [(best.volume, best.box)], gap, images)


@dataclass(frozen=True)
class _Candidate:
    """What could be held out: how bad that is, of which volume, where, and which share of all annotation it is."""

    badness: float
    volume: int
    box: Box
    share: float


def _note(volumes: Sequence[Targets], boxes: Sequence[tuple[int, Box]], n: int) -> str:
    """Return what is kept for the score, as a sentence."""
    parts = []
    for number, box in boxes:
        place = [
            _range_text(name, planes)
            for name, planes, whole in zip("zyx", box, volumes[number].shape, strict=True)
            if planes != (0, whole)
        ]
        volume = f"volume {number + 1}"
        if not place:
            parts.append(volume)
        else:
            parts.append(", ".join(place) + (f" of {volume}" if len(volumes) > 1 else ""))
    is_one = len(parts) == 1 and not parts[0].startswith("slices")
    text = " and ".join(parts)
    return f"{text[0].upper()}{text[1:]} {'is' if is_one else 'are'} {KEPT} ({n:,} voxels)."


def _range_text(axis: str, planes: tuple[int, int]) -> str:
    first, last = planes[0], planes[1] - 1
    if axis == "z":
        return f"slice {first}" if first == last else f"slices {first} to {last}"
    return f"{axis} {first}" if first == last else f"{axis} {first} to {last}"


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


def _ranges_of(
    profiles: Mapping[tuple[int, int], npt.NDArray[np.int64]],
    shapes: Mapping[int, Shape],
    total: npt.NDArray[np.int64],
    gap: Shape,
) -> list[_Candidate]:
    """Return the ranges of planes that could be held out."""
    found = []
    for (number, axis), profile in profiles.items():
        for badness, share, planes in _ranges(profile, total, gap[axis]):
            interval = list(Box.whole(shapes[number]))
            interval[axis] = planes
            found.append(_Candidate(badness, number, Box(*interval), share))
    return found


def _parts(whole: _Candidate, group: Sequence[Targets], total: npt.NDArray[np.int64], gap: Shape) -> list[_Candidate]:
    """Return the parts of a slice that could be held out: from either end along each axis of its plane."""
    inside = [targets.within([whole.box]) for targets in group]
    own = np.sum([targets.counts for targets in group], axis=0)
    wanted = _SHARE_OF_PART * total.sum()
    found = []
    for axis in (axis for axis in range(3) if whole.box[axis] == (0, group[0].shape[axis])):
        sums = np.concatenate([[0], np.cumsum(_profile(inside, axis).sum(axis=1))])
        low = int(np.searchsorted(sums, wanted))
        high = int(np.searchsorted(sums, sums[-1] - wanted, side="right")) - 1
        for planes in ((0, low), (high, len(sums) - 1)):
            interval = list(whole.box)
            interval[axis] = planes
            box = Box(*interval)
            held = np.sum([targets.within([box]).counts for targets in inside], axis=0)
            left = total - np.sum([targets.within([box.grown(gap)]).counts for targets in group], axis=0)
            if _is_enough(held, left, total, own):
                share = float(held.sum() / total.sum())
                wasted = 1 - share - float(left.sum() / total.sum())
                # A part with hardly any objects says little about them.
                unlike = float(np.abs(held / held.sum() - total / total.sum()).sum() / 2)
                found.append(_Candidate(abs(share - SHARE) + wasted + unlike, whole.volume, box, share))
    return found


def _profile(group: Sequence[Targets], axis: int) -> npt.NDArray[np.int64]:
    """Return (n, classes): voxels of each class in every plane across an axis, in all annotations of an image."""
    profile: npt.NDArray[np.int64] = np.sum([targets.profile(axis) for targets in group], axis=0)
    return profile


def _ranges(
    profile: npt.NDArray[np.int64], total: npt.NDArray[np.int64], gap: int
) -> list[tuple[float, float, tuple[int, int]]]:
    """Return (how bad, share, planes) of what could be held out across the axis of a profile."""
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
            options.append((abs(share - SHARE) + wasted, share, (start, stop)))
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

"""Before a training run begins: every voxel that it may read must be a number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from napari_unet3d.core.annotation.patches import AnnotatedVolume
from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.finite import NOT_FINITE, finite_voxels
from napari_unet3d.errors import VolumeError
from napari_unet3d.tasks.events import Progress

# Voxels that are read at once, if a plane has no more.
_VOXELS = 1 << 23


def check_images(volumes: Sequence[AnnotatedVolume], reach: Shape) -> Iterator[Progress]:
    """Read the images around their annotation, and refuse one that holds NaN or infinity there.

    Parameters
    ----------
    volumes
        Images with all their annotation.
    reach
        How far patches reach around what is annotated (z, y, x).

    Raises
    ------
    VolumeError
        With the number of such voxels, and where the first one lies.
    """
    for number, volume in enumerate(volumes, start=1):
        boxes = _boxes(volume, reach)
        if not boxes or not _has_fractions(volume, boxes[0]):
            continue
        n_bad, first = 0, None
        for done, box in enumerate(boxes):
            yield Progress("reading the images", done, len(boxes))
            finite = finite_voxels(np.asarray(volume.image[box.slices]))
            if finite is not None:
                n_bad += int(np.count_nonzero(~finite))
                first = first or tuple(int(a + b[0]) for a, b in zip(np.argwhere(~finite)[0], box, strict=True))
        if first is not None:
            raise VolumeError(
                f"Image {number} holds {NOT_FINITE}: {n_bad:,} voxels in what training reads of it, the first one at "
                f"{first} (z, y, x). Set them to a number, such as that of the background, and start again."
            )


def _has_fractions(volume: AnnotatedVolume, box: Box) -> bool:
    """Return whether the voxels are no whole numbers, from a first one."""
    return np.asarray(volume.image[tuple(slice(start, start + 1) for start, _ in box)]).dtype.kind == "f"


def _boxes(volume: AnnotatedVolume, reach: Shape) -> list[Box]:
    """Return boxes of a few planes each, which hold all that is near annotation; none twice."""
    bounds = volume.targets.bounds()
    if bounds is None:
        return []
    z, y, x = volume.image.shape[:3]
    near = np.zeros(z, bool)
    for plane in volume.targets.planes:
        near[max(0, plane - reach[0]) : plane + reach[0] + 1] = True
    across = [(max(0, a - r), min(n, b + r)) for (a, b), r, n in zip(bounds[1:], reach[1:], (y, x), strict=True)]
    planes = max(1, _VOXELS // max(1, math.prod(stop - start for start, stop in across)))
    found = np.flatnonzero(near)
    groups = np.split(found, np.flatnonzero(np.diff(found) > 1) + 1)
    return [
        Box((start, min(start + planes, int(group[-1]) + 1)), *across)
        for group in groups
        for start in range(int(group[0]), int(group[-1]) + 1, planes)
    ]

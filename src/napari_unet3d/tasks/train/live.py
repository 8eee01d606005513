"""The live preview of training: what somebody looks at, segmented every few seconds by the network as it is then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.heads.base import Head
from napari_unet3d.core.normalize import Scaling
from napari_unet3d.core.objects.clean_up import Writable
from napari_unet3d.core.tiles.plan import Readable, Tile, read_reflected
from napari_unet3d.core.unet.spec import NetworkSpec

_SECONDS_BETWEEN = 4.0
# Of the time of training, a preview takes at most this share.
_SHARE = 0.1
_WIDTH = 148


@dataclass(frozen=True, eq=False)
class LivePreview:
    """What is looked at, and where the result goes.

    Attributes
    ----------
    pair
        Which of the pairs it is of.
    focus
        (1, 1, 4) int32: 1 if a preview is wanted, and the voxel (z, y, x) that is looked at. It is read again and
        again, so it may change.
    sink
        uint8 of `preview_shape`: takes the classes of what is previewed, from its first voxel on; the box that was
        written may be smaller at the end of a volume.
    """

    pair: int
    focus: Readable
    sink: Writable


def preview_shape(network: NetworkSpec, image: Sequence[int]) -> Shape:
    """Return the size (z, y, x) of what is previewed of an image: around a slice, and wide enough to judge it by."""
    # As thin as the network allows.
    geometry = network.geometry
    wanted = (geometry.alignment[0], *(min(n, _WIDTH) for n in image[1:3]))
    return geometry.output_shape(geometry.input_shape_for(wanted))


def preview_box(network: NetworkSpec, image: Sequence[int], voxel: Sequence[int]) -> Box:
    """Return what is previewed of an image around a voxel; it begins on the grid of the poolings, as tiles do.

    Parameters
    ----------
    network
        What segments it.
    image
        Shape (z, y, x, ..) of the image.
    voxel
        (z, y, x) of what is looked at.
    """
    geometry, write = network.geometry, []
    for at, out, n, step in zip(voxel, preview_shape(network, image), image[:3], geometry.alignment, strict=True):
        start = max(0, min(int(at) - out // 2, n - out)) // step * step
        # Rounded down, it may end before the voxel.
        start += step if start + out <= at else 0
        write.append((start, min(start + out, n)))
    return Box(*write)


class Watcher:
    """Makes the preview when it is time.

    Parameters
    ----------
    live
        What is looked at.
    image, scaling
        The image of its pair, and how its intensities reach the network.
    spec, head
        The network, and what its channels mean.
    """

    def __init__(self, live: LivePreview, image: Readable, scaling: Scaling, spec: NetworkSpec, head: Head) -> None:
        self._live, self._image, self._scaling, self._spec, self._head = live, image, scaling, spec, head
        self._due = 0.0

    def look(self, logits: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]) -> Box | None:
        """Segment what is looked at if it is time, and return where that is."""
        if time.monotonic() < self._due:
            return None
        begun = time.monotonic()
        self._due = begun + _SECONDS_BETWEEN
        wanted, *voxel = np.asarray(self._live.focus[0:1, 0:1, 0:4]).reshape(-1).tolist()
        if not wanted:
            return None
        read, write = self._boxes(voxel)
        image = self._scaling.apply(read_reflected(self._image, read))
        if not np.isfinite(image).all():
            return None
        inner = Tile(read, write).crop(self._spec.geometry.halo)
        self._live.sink[Box.whole(write.shape).slices] = self._head.labels(logits(image)[inner])
        took = time.monotonic() - begun
        self._due = time.monotonic() + max(_SECONDS_BETWEEN, took / _SHARE)
        return write

    def _boxes(self, voxel: Sequence[int]) -> tuple[Box, Box]:
        """Return what is read and what is written."""
        write = preview_box(self._spec, self._image.shape, voxel)
        outputs = preview_shape(self._spec, self._image.shape)
        starts = [(start, start + out) for (start, _), out in zip(write, outputs, strict=True)]
        return Box(*starts).grown(self._spec.geometry.halo), write

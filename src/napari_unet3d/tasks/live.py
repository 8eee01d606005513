"""The live preview of training: what somebody looks at, segmented every few seconds by the network as it is then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.architecture import NetworkSpec
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.geometry import Shape, alignment, halo, input_size_for, output_shape
from napari_unet3d.core.normalize import Scaling
from napari_unet3d.core.postprocess import Writable
from napari_unet3d.core.tiling import Readable, read_reflected

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
    wanted = (alignment(network.blocks), *(min(n, _WIDTH) for n in image[1:3]))
    inputs = [input_size_for(n, blocks=network.blocks) for n in wanted]
    z, y, x = output_shape(inputs, blocks=network.blocks)
    return z, y, x


class Watcher:
    """Makes the preview when it is time.

    Parameters
    ----------
    live
        What is looked at.
    image, scaling
        The image of its pair, and how its intensities reach the network.
    spec
        The network.
    """

    def __init__(self, live: LivePreview, image: Readable, scaling: Scaling, spec: NetworkSpec) -> None:
        self._live, self._image, self._scaling, self._spec = live, image, scaling, spec
        self._due = 0.0

    def look(self, probabilities: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]) -> Box | None:
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
        margin = halo(self._spec.blocks)
        z, y, x = (
            slice(a - start - margin, b - start - margin) for (start, _), (a, b) in zip(read, write, strict=True)
        )
        self._live.sink[Box.whole(write.shape).slices] = probabilities(image)[z, y, x].argmax(-1).astype(np.uint8)
        took = time.monotonic() - begun
        self._due = time.monotonic() + max(_SECONDS_BETWEEN, took / _SHARE)
        return write

    def _boxes(self, voxel: list[Any]) -> tuple[Box, Box]:
        """Return what is read and what is written: tiles begin on the grid of the poolings, as in a segmentation."""
        step, margin = alignment(self._spec.blocks), halo(self._spec.blocks)
        outputs = preview_shape(self._spec, self._image.shape)
        read, write = [], []
        for at, out, n in zip(voxel, outputs, self._image.shape[:3], strict=True):
            start = max(0, min(int(at) - out // 2, n - out)) // step * step
            # Rounded down, it may end before the voxel.
            start += step if start + out <= at else 0
            read.append((start - margin, start + out + margin))
            write.append((start, min(start + out, n)))
        return Box(*read), Box(*write)

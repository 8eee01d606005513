"""What augmentation does to the intensities of a patch that has been cut out: blur, gamma, gain, noise, faults.

An `Intensity` is drawn once and then applied; a voxel gets the same value in whatever box it is computed, on any number
of threads. Intensities are in the network's units.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from napari_unet3d.core.augment.resample import in_pieces
from napari_unet3d.core.boxes import Box, Shape

Floats = npt.NDArray[np.float32]
# A Gaussian is cut off after so many standard deviations.
_TRUNCATE = 4.0


class Intensity(BaseModel):
    """What is done to the intensities of one patch; a record that replays exactly.

    Attributes
    ----------
    blur
        Standard deviation (z, y, x) in voxels.
    slice_thickness
        (z, y, x) in voxels: above 1 the axis is averaged to slices so thick, and interpolated again.
    gamma, gain, offset
        ``gain * value ** gamma + offset``.
    noise, shot_noise
        Standard deviation of the noise, and of that at the value 1, which goes with the square root of the value.
    noise_seed
        Two numbers of 32 bits.
    missing
        Planes (z) that are 0.
    occlusions
        Boxes, and `occlusion_value` is what is in them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    blur: tuple[float, float, float] = (0.0, 0.0, 0.0)
    slice_thickness: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    gain: float = 1.0
    offset: float = 0.0
    noise: float = 0.0
    shot_noise: float = 0.0
    noise_seed: tuple[int, int] = (0, 0)
    missing: tuple[int, ...] = ()
    occlusions: tuple[Box, ...] = ()
    occlusion_value: float = 0.0

    def reach(self, shape: Shape) -> Shape:
        """Return how far (z, y, x) a voxel looks, in a patch of `shape`."""
        z, y, x = ((len(taps) - 1) // 2 for taps in self._filters(shape))
        return z, y, x

    def needs(self, box: Box, shape: Shape) -> Box:
        """Return the box whose voxels decide what is in a box of a patch."""
        grown = Box(*((a - r, b + r) for (a, b), r in zip(box, self.reach(shape), strict=True)))
        return grown.intersection(Box.whole(shape))

    def apply(
        self,
        values: Floats,
        box: Box,
        shape: Shape,
        *,
        scaling: tuple[float, float] = (0.0, 1.0),
        channel: int = 0,
        threads: int = 1,
    ) -> Floats:
        """Return a box of the patch with its intensities changed.

        Parameters
        ----------
        values
            (z, y, x) float32, contiguous: the voxels of ``needs(box, shape)``. They may be changed.
        box, shape
            What is wanted, and the shape of the patch it is a box of.
        scaling
            First of all values become ``(value - offset) * scale``.
        channel
            Channels have different noise.
        threads
            How many share the planes.
        """
        from napari_unet3d.core.augment.kernels.intensity import tone

        corner = [start for start, _ in self.needs(box, shape)]
        for axis, taps in enumerate(self._filters(shape)):
            if len(taps) > 1:
                values = _filter(values, taps, axis, corner[axis], box[axis], threads)
                corner[axis] = box[axis][0]
        first, second = self.noise_seed
        seeds = np.uint32((first + channel * 0x9E3779B9) % 2**32), np.uint32(second)
        curve, noise = (self.gamma, self.gain, self.offset), (self.noise, self.shot_noise)
        start = (box.z[0], box.y[0], box.x[0])

        def work(low: int, high: int) -> None:
            tone(values, low, high, start, shape, scaling, curve, noise, seeds)

        in_pieces(work, box.z, threads)
        for z in self.missing:
            if box.z[0] <= z < box.z[1]:
                values[z - box.z[0]] = 0.0
        for part in self.occlusions:
            values[part.intersection(box).shifted((-start[0], -start[1], -start[2])).slices] = self.occlusion_value
        return values

    def _filters(self, shape: Shape) -> list[Floats]:
        return [
            _taps(n, sigma, thickness)
            for n, sigma, thickness in zip(shape, self.blur, self.slice_thickness, strict=True)
        ]


def _filter(
    values: Floats, taps: Floats, axis: int, first: int, wanted: tuple[int, int], threads: int
) -> npt.NDArray[np.float32]:
    from napari_unet3d.core.augment.kernels.intensity import filter_axis

    sizes = [wanted[1] - wanted[0] if a == axis else n for a, n in enumerate(values.shape)]
    out = np.empty(sizes, np.float32)

    def work(low: int, high: int) -> None:
        if axis == 0:
            filter_axis(values, taps, 0, first, wanted[0] + low, out[low:high])
        else:
            filter_axis(values[low:high], taps, axis, first, wanted[0], out[low:high])

    in_pieces(work, (0, sizes[0]), threads)
    return out


@lru_cache(maxsize=16)
def _taps(n: int, sigma: float, thickness: float) -> Floats:
    """Return (2 * reach + 1, n): how much the voxels around each place along an axis add to it.

    Beyond the ends the axis is continued by reflection, which is folded into the weights.
    """
    matrix: npt.NDArray[Any] = np.eye(n)
    if sigma > 0:
        matrix = _gaussian(n, sigma)
    if thickness > 1:
        matrix = _thick_slices(n, thickness) @ matrix
    rows, columns = np.nonzero(np.abs(matrix) > 1e-12)
    reach = int(np.abs(rows - columns).max())
    taps = np.zeros((2 * reach + 1, n), np.float32)
    taps[columns - rows + reach, rows] = matrix[rows, columns]
    return taps


def _gaussian(n: int, sigma: float) -> npt.NDArray[np.float64]:
    reach = math.ceil(_TRUNCATE * sigma)
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * np.square(steps / sigma))
    weights /= weights.sum()
    places = (np.arange(n)[:, None] + steps) % (2 * n)
    matrix = np.zeros((n, n))
    np.add.at(matrix, (np.arange(n)[:, None], np.minimum(places, 2 * n - 1 - places)), weights)
    return matrix


def _thick_slices(n: int, thickness: float) -> npt.NDArray[np.float64]:
    n_slices = max(1, round(n / thickness))
    edges = np.linspace(0, n, n_slices + 1)
    # How much of every voxel lies in every slice.
    starts = np.arange(n)
    inside = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    averages = np.clip(inside, 0, None) * n_slices / n
    at = np.clip((starts + 0.5) * n_slices / n - 0.5, 0, n_slices - 1)
    before = np.minimum(at.astype(int), max(0, n_slices - 2))
    after = np.minimum(before + 1, n_slices - 1)
    part = (at - before)[:, None]
    return np.asarray((1 - part) * averages[before] + part * averages[after])

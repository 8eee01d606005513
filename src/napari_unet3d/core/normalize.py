"""From intensities to what the network was trained on.

How to scale is a property of the model; the numbers are measured once a volume, from a bounded sample of it, and
never from a tile, which would show as seams.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_unet3d.core.tiling import Readable
from napari_unet3d.errors import VolumeError

SAMPLE_VOXELS = 1 << 24
_SAMPLE_SIDE = 64
# The standard deviation of a normal distribution over its median absolute deviation.
_MAD_TO_SIGMA = 1.4826

Kind = Literal["none", "fixed", "percentiles", "zscore", "background"]


class Normalization(BaseModel):
    """How intensities become network input: ``(value - offset) * scale``.

    Attributes
    ----------
    kind
        `none`: as they are. `fixed`: with `offset` and `scale`. `percentiles`: `low` to 0, `high` to 1. `zscore`: mean
        to 0, standard deviation to 1. `background`: median to 0, and `spread` times the noise of the background to 1;
        the noise is the median absolute deviation, as a standard deviation.
    offset, scale
        The numbers of `fixed`.
    low, high
        The percentiles, in 0 .. 100.
    spread
        How many standard deviations of the background become 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = "none"
    offset: float = Field(default=0.0, allow_inf_nan=False)
    scale: float = Field(default=1.0, allow_inf_nan=False)
    low: float = Field(default=1.0, ge=0, le=100)
    high: float = Field(default=99.8, ge=0, le=100)
    spread: float = Field(default=10.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> Normalization:
        if self.low >= self.high:
            raise ValueError(f"the low percentile {self.low} is not below the high one {self.high}")
        return self


@dataclass(frozen=True)
class Scaling:
    """The numbers of one volume, one a channel.

    Attributes
    ----------
    offset, scale
        Applied as ``(value - offset) * scale``.
    notes
        What the user should know about the intensities.
    """

    offset: tuple[float, ...]
    scale: tuple[float, ...]
    notes: tuple[str, ...] = ()

    def apply(self, voxels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the scaled voxels, (z, y, x, c) float32; the argument is not changed.

        Parameters
        ----------
        voxels
            (z, y, x) or (z, y, x, c), any real type.
        """
        scaled = voxels.astype(np.float32)
        if scaled.ndim == 3:
            scaled = scaled[..., np.newaxis]
        scaled -= np.asarray(self.offset, np.float32)
        scaled *= np.asarray(self.scale, np.float32)
        return scaled


def measure(normalization: Normalization, volume: Readable) -> Scaling:
    """Return the numbers with which a volume is scaled.

    Parameters
    ----------
    normalization
        What the model asks for.
    volume
        (z, y, x) or (z, y, x, c). At most about `SAMPLE_VOXELS` voxels of it are read.

    Raises
    ------
    VolumeError
        If no voxel of the sample is finite.
    """
    channels = volume.shape[3] if len(volume.shape) == 4 else 1
    if normalization.kind in ("none", "fixed"):
        fixed = normalization.kind == "fixed"
        offset, scale = (normalization.offset, normalization.scale) if fixed else (0.0, 1.0)
        return Scaling((offset,) * channels, (scale,) * channels)
    sample = sample_voxels(volume).reshape(-1, channels)
    offsets, scales, notes = [], [], []
    for channel in range(channels):
        values = sample[:, channel]
        if values.dtype.kind == "f":
            # What is beyond float32 cannot reach the network, and does not count either.
            with np.errstate(over="ignore"):
                values = values[np.isfinite(values.astype(np.float32))]
        if not values.size:
            raise VolumeError(
                "The volume has no finite voxel, at least not where its intensities are measured. Is it the right file?"
            )
        offset, spread = _offset_and_spread(normalization, values)
        if spread <= 0:
            which = f"Channel {channel} of the volume" if channels > 1 else "The volume"
            notes.append(f"{which} has the same value {offset:g} (nearly) everywhere; it is normalized to 0.")
            spread = 1.0
        offsets.append(offset)
        scales.append(1.0 / spread)
    return Scaling(tuple(offsets), tuple(scales), tuple(notes))


def _offset_and_spread(normalization: Normalization, values: npt.NDArray[Any]) -> tuple[float, float]:
    if normalization.kind == "percentiles":
        low, high = np.percentile(values, [normalization.low, normalization.high])
        return float(low), float(high - low)
    if normalization.kind == "zscore":
        return float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    median = float(np.median(values))
    deviation = float(np.median(np.abs(values.astype(np.float32) - np.float32(median))))
    return median, normalization.spread * _MAD_TO_SIGMA * deviation


def sample_voxels(volume: Readable, limit: int = SAMPLE_VOXELS) -> npt.NDArray[Any]:
    """Return voxels that stand for the volume: all of them, or blocks on a regular grid.

    Parameters
    ----------
    volume
        (z, y, x) or (z, y, x, c).
    limit
        About how many voxels are read at most.

    Returns
    -------
    array
        (n, c) of the volume's type; the same ones whenever it is called.
    """
    shape = volume.shape[:3]
    channels = volume.shape[3] if len(volume.shape) == 4 else 1
    if np.prod(shape, dtype=float) <= limit:
        return np.asarray(volume[:, :, :]).reshape(-1, channels)
    sides = [min(_SAMPLE_SIDE, n) for n in shape]
    starts = [
        np.linspace(0, n - side, count).astype(int) if count > 1 else [(n - side) // 2]
        for n, side, count in zip(shape, sides, _block_counts(shape, sides, limit), strict=True)
    ]
    blocks = [
        np.asarray(volume[z : z + sides[0], y : y + sides[1], x : x + sides[2]]).reshape(-1, channels)
        for z in map(int, starts[0])
        for y in map(int, starts[1])
        for x in map(int, starts[2])
    ]
    return np.concatenate(blocks)


def _block_counts(shape: tuple[int, ...], sides: list[int], limit: int) -> list[int]:
    """Return how many blocks to read along every axis, in proportion to its length."""
    counts = [1] * len(shape)
    blocks = limit / np.prod(sides, dtype=float)
    # Short axes first: what they cannot take is left to the long ones.
    axes = sorted(range(len(shape)), key=lambda axis: shape[axis])
    for i, axis in enumerate(axes):
        wanted = np.prod([shape[a] / sides[a] for a in axes[i:]])
        share = (blocks / wanted) ** (1 / (len(axes) - i))
        counts[axis] = max(1, int(shape[axis] / sides[axis] * min(1.0, share)))
        blocks /= counts[axis]
    return counts

"""From intensities to what the network was trained on.

How to scale is a property of the model; the numbers are measured once a volume, from a bounded sample of it, and
never from a tile, which would show as seams. What pads a volume, or was cut off, does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_unet3d.core.fill_values import fill_values, without
from napari_unet3d.core.tiles.plan import Readable
from napari_unet3d.errors import VolumeError

SAMPLE_VOXELS = 1 << 24
# For the choice of a spread, which needs less.
SETTLING_VOXELS = 1 << 21
# What the middle 98 of 100 voxels of a sample, without fill values, are scaled to at most, on either side of 0.
WIDEST = 1000.0
# How many standard deviations become 1, at least and at most, where the data say.
LEAST_SPREAD, MOST_SPREAD = 2.0, 10.0
_SAMPLE_SIDE, _FINER_SIDE = 64, 16
# The standard deviation of a normal distribution over its median, and its mean, absolute deviation.
_MAD_TO_SIGMA, _MEAN_TO_SIGMA = 1.4826, 1.2533
# With fewer voxels that are no fill values a sample says little: it may lie in the padding.
_LEAST_REST = 4096
# A smaller share of fill values is no news.
_SHARE_TO_SAY = 0.05
# A fill value is far if it is so many times farther from the median than the 1st, or the 99.9th, percentile.
_NEAR = 4
_FOR_STEPS = 1 << 16

Kind = Literal["none", "fixed", "percentiles", "zscore", "background"]
ReadAs = tuple[tuple[tuple[float, float], ...], ...]
# Offsets, scales, and what fill values are read as where that is another value.
ScalingNumbers = tuple[tuple[float, ...], tuple[float, ...]] | tuple[tuple[float, ...], tuple[float, ...], ReadAs]


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
        How many standard deviations of the background become 1. None is settled by the data: `LEAST_SPREAD` where dark
        and bright fill the volume alike, as membranes do, more where a few bright objects stand out, `MOST_SPREAD` at
        most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = "none"
    offset: float = Field(default=0.0, allow_inf_nan=False)
    scale: float = Field(default=1.0, allow_inf_nan=False)
    low: float = Field(default=1.0, ge=0, le=100)
    high: float = Field(default=99.8, ge=0, le=100)
    spread: float | None = Field(default=10.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> Normalization:
        if self.low >= self.high:
            raise ValueError(f"the low percentile {self.low} is not below the high one {self.high}")
        return self


@dataclass(frozen=True)
class Scaling:
    """The numbers of one volume, one per channel.

    Attributes
    ----------
    offset, scale
        Applied as ``(value - offset) * scale``.
    read_as
        Of each channel, (fill value, what it is read as): an edge of padding far below all else is no object.
    notes
        What the user should know about the intensities.
    """

    offset: tuple[float, ...]
    scale: tuple[float, ...]
    read_as: ReadAs = ()
    notes: tuple[str, ...] = ()

    @property
    def numbers(self) -> ScalingNumbers:
        """Return what makes it again, ``Scaling(*numbers)``, without the notes."""
        return (self.offset, self.scale, self.read_as) if self.read_as else (self.offset, self.scale)

    def apply(self, voxels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the scaled voxels, (z, y, x, c) float32; the argument is not changed.

        Parameters
        ----------
        voxels
            (z, y, x) or (z, y, x, c), any real type.
        """
        scaled = self.without_edges(voxels).astype(np.float32)
        if scaled.ndim == 3:
            scaled = scaled[..., np.newaxis]
        scaled -= np.asarray(self.offset, np.float32)
        scaled *= np.asarray(self.scale, np.float32)
        return scaled

    def without_edges(self, voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the voxels with fill values as they are read; the same array where nothing changes.

        Parameters
        ----------
        voxels
            (z, y, x) or (z, y, x, c); not changed.
        """
        if not any(self.read_as):
            return voxels
        changed = voxels.copy()
        for channel, pairs in enumerate(self.read_as):
            part = changed if changed.ndim == 3 else changed[..., channel]
            for fill, value in pairs:
                part[part == fill] = value
        return changed


class WithoutEdges:
    """A volume with its fill values as a scaling reads them, for those who interpolate before they scale.

    Parameters
    ----------
    volume
        (z, y, x) or (z, y, x, c).
    scaling
        Of the volume.
    """

    def __init__(self, volume: Readable, scaling: Scaling) -> None:
        self._volume, self._scaling = volume, scaling

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the volume."""
        return self._volume.shape

    def __getitem__(self, key: Any, /) -> Any:
        """Return a part of the volume."""
        return self._scaling.without_edges(np.asarray(self._volume[key]))


def measure(normalization: Normalization, volume: Readable) -> Scaling:
    """Return the numbers with which a volume is scaled.

    Fill values do not count (`fill_values`): a volume is scaled as it would be without its padding. At least 98 of 100
    of the other voxels of the sample come to lie within +-`WIDEST`, whatever the kind; where nothing differs from
    anything the scale is 0.

    Parameters
    ----------
    normalization
        What the model asks for.
    volume
        (z, y, x) or (z, y, x, c). At most about `SAMPLE_VOXELS` voxels of it are read, a quarter more where hardly any
        of them differs from fill values.

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
    samples = [_Sample.of(values) for values in sample_voxels(volume).T]
    if (
        min(sample.rest.size for sample in samples) < _LEAST_REST
        and np.prod(volume.shape[:3], dtype=float) > SAMPLE_VOXELS
    ):
        finer = sample_voxels(volume, SAMPLE_VOXELS // 4, side=_FINER_SIDE).T
        samples = [_Sample.of(np.concatenate(both)) for both in zip((s.values for s in samples), finer, strict=True)]
    offsets, scales, notes, read_as = [], [], [], []
    for channel, sample in enumerate(samples):
        if not sample.values.size:
            raise VolumeError(
                "The volume has no finite voxel where its intensities are measured. Is it the right file?"
            )
        offset, spread = _offset_and_spread(normalization, sample)
        read_as.append(_read_as(sample))
        which = f"Channel {channel} of the volume" if channels > 1 else "The volume"
        notes += _notes(sample, spread, read_as[-1], which)
        offsets.append(offset)
        scales.append(1.0 / spread if spread > 0 else 0.0)
    return Scaling(tuple(offsets), tuple(scales), tuple(read_as) if any(read_as) else (), tuple(notes))


@dataclass(frozen=True, eq=False)
class _Sample:
    """Finite voxels of a channel: all of them, and those that have no fill value."""

    values: npt.NDArray[Any]
    rest: npt.NDArray[Any]
    fills: npt.NDArray[Any]

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> _Sample:
        if values.dtype.kind == "f":
            # What is beyond float32 cannot reach the network, and does not count either.
            with np.errstate(over="ignore"):
                values = values[np.isfinite(values.astype(np.float32))]
        fills = fill_values(values)
        return cls(values, without(values, fills), fills)


def _read_as(sample: _Sample) -> tuple[tuple[float, float], ...]:
    """Return the fill values that lie far from all other voxels, and what they are read as.

    The network never saw such an edge. They are moved to a little beyond the darkest voxels: still the darkest, or,
    where they were above everything, a little above the median.
    """
    rest = sample.rest
    if not sample.fills.size or not rest.size or rest.min() == rest.max():
        return ()
    low, median, high = (float(value) for value in np.percentile(rest, [1, 50, 99.9]))
    # Of counts of photons 0 is as near to 1 as it can be.
    steps = _NEAR * float(np.median(np.diff(np.unique(rest[:_FOR_STEPS]).astype(np.float64)))) if low < high else 0.0
    below, above = max(median - low, steps), max(high - median, steps)
    moved = []
    for fill in map(float, sample.fills):
        if not median - _NEAR * below <= fill <= median + _NEAR * above:
            value = median + (-_NEAR if fill < median else _NEAR) * below
            if rest.dtype.kind != "f":
                value = float(round(value))
            # Never away from the rest: beyond the fill value there may be no number of this type.
            value = max(value, fill) if fill < median else min(value, fill)
            if value != fill:
                moved.append((fill, value))
    return tuple(moved)


def _notes(sample: _Sample, spread: float, read_as: tuple[tuple[float, float], ...], which: str) -> list[str]:
    if spread <= 0:
        value = f"{float(sample.values[0]):g}"
        return [f"{which} has the same value {value} everywhere, or wherever it was looked at; it is normalized to 0."]
    share = 1 - sample.rest.size / sample.values.size
    if share < _SHARE_TO_SAY and not read_as:
        return []
    values = " or ".join(f"{float(fill):g}" for fill in sample.fills)
    known = f"{100 * share:.1f} %" if share < 0.9995 else "nearly all"
    moved = "".join(f"; {fill:g} is read as {value:.6g}" for fill, value in read_as)
    return [f"{which} is exactly {values} in {known} of its voxels. Intensities are measured on the rest{moved}."]


def _offset_and_spread(normalization: Normalization, sample: _Sample) -> tuple[float, float]:
    """Return what becomes 0, and how far above it 1 is; a spread of 0 where nothing differs."""
    rest = sample.rest
    if not rest.size or rest.min() == rest.max():
        # Two values, or one: the lower becomes 0 and the higher 1.
        ends = [float(value) for value in (*sample.fills, *rest[:1])]
        return min(ends), max(ends) - min(ends)
    offset, spread = _measure(normalization, rest)
    if max(float(rest.max()) - offset, offset - float(rest.min())) > WIDEST * spread:
        low, high = (float(value) for value in np.percentile(rest, [1, 99]))
        spread = max(spread, (high - offset) / WIDEST, (offset - low) / WIDEST)
    return offset, spread


def _measure(normalization: Normalization, values: npt.NDArray[Any]) -> tuple[float, float]:
    if normalization.kind == "percentiles":
        low, high = np.percentile(values, [normalization.low, normalization.high])
        if low == high:
            low, high = values.min(), values.max()
        return float(low), float(high) - float(low)
    if normalization.kind == "zscore":
        return float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    median, to_sigma, deviation = _median_and_deviation(values)
    spread = _own_spread(values) if normalization.spread is None else normalization.spread
    return median, spread * to_sigma * deviation


def _median_and_deviation(values: npt.NDArray[Any]) -> tuple[float, float, float]:
    """Return the median, and a deviation from it with what makes a standard deviation of it."""
    median = float(np.median(values))
    distances = np.abs(values.astype(np.float32) - np.float32(median))
    deviation = float(np.median(distances))
    if deviation:
        return median, _MAD_TO_SIGMA, deviation
    # Counts of single photons: half of the voxels have the same one.
    return median, _MEAN_TO_SIGMA, float(distances.mean(dtype=np.float64))


def _own_spread(values: npt.NDArray[Any]) -> float:
    """Return how many standard deviations of the noise become 1: as many as bright, or dark, voxels are away."""
    median, to_sigma, deviation = _median_and_deviation(values)
    noise = to_sigma * deviation
    low, high = (float(value) for value in np.percentile(values, [1, 99]))
    return min(max(high - median, median - low, LEAST_SPREAD * noise) / noise, MOST_SPREAD) if noise else MOST_SPREAD


def settled(normalization: Normalization, images: Sequence[Readable]) -> Normalization:
    """Return how all volumes are scaled that a model meets, settled by those that it learns from.

    Parameters
    ----------
    normalization
        What was chosen. It is returned as it is unless its spread is left to the data.
    images
        (z, y, x) or (z, y, x, c) each; of each a bounded sample is read.

    Returns
    -------
    Normalization
        Of these volumes the middle spread, rounded to two digits.
    """
    if normalization.kind != "background" or normalization.spread is not None:
        return normalization
    found = []
    for image in images:
        for values in sample_voxels(image, SETTLING_VOXELS).T:
            rest = _Sample.of(values).rest
            found.append(_own_spread(rest) if rest.size else MOST_SPREAD)
    return normalization.model_copy(update={"spread": float(f"{np.median(found):.2g}")})


def sample_voxels(volume: Readable, limit: int = SAMPLE_VOXELS, *, side: int = _SAMPLE_SIDE) -> npt.NDArray[Any]:
    """Return voxels that stand for the volume: all of them, or blocks on a regular grid.

    Parameters
    ----------
    volume
        (z, y, x) or (z, y, x, c).
    limit
        About how many voxels are read at most.
    side
        Of a block, in voxels.

    Returns
    -------
    array
        (n, c) of the volume's type; the same ones whenever it is called.
    """
    shape = volume.shape[:3]
    channels = volume.shape[3] if len(volume.shape) == 4 else 1
    if np.prod(shape, dtype=float) <= limit:
        return np.asarray(volume[:, :, :]).reshape(-1, channels)
    sides = [min(side, n) for n in shape]
    starts = [
        np.linspace(0, n - length, count).astype(int) if count > 1 else [(n - length) // 2]
        for n, length, count in zip(shape, sides, _block_counts(shape, sides, limit), strict=True)
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

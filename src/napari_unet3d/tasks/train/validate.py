"""Scores on what is held out: the same tiles of the same voxels whenever it is asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.annotation.patches import AnnotatedVolume
from napari_unet3d.core.annotation.targets import IGNORED
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.heads import base, numpy_ops
from napari_unet3d.core.heads.base import Balance, Head, Sums
from napari_unet3d.core.heads.block_ops import BlockOps
from napari_unet3d.core.heads.classes import mean_score
from napari_unet3d.core.scores.bootstrap import LEAST_BLOCKS, UNKNOWN, Interval, interval, resample
from napari_unet3d.core.tiles.plan import Tile, plan_tiles, read_reflected
from napari_unet3d.core.unet.spec import NetworkSpec

# Validation takes its share of the time; so many tiles, evenly chosen, are a fixed set that says enough.
MAX_TILES = 16
# Intervals rest on blocks of about so many voxels a side; so many in a tile bound the memory of their sums.
_BLOCK, _MAX_BLOCKS = 16, 512
# How far below another score one must be to be clearly worse, where too little is held out for an interval.
_UNSURE = 0.1

Logits = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class HeldOutScores:
    """How well held-out voxels are found.

    Attributes
    ----------
    loss
        As in training, over all held-out voxels at once.
    scores
        By name, one for each thing that the head scores; NaN where there is none.
    voxels
        Held-out voxels that each of them rests on.
    trivial
        The first score of each for whoever calls every held-out voxel so.
    intervals
        Between what the first score of each mostly lies where other places are held out; NaN where that is not known.
    mean_interval
        The same of the mean.
    """

    loss: float
    scores: base.Scores
    voxels: tuple[int, ...]
    trivial: tuple[float, ...]
    intervals: tuple[Interval, ...]
    mean_interval: Interval = UNKNOWN

    @property
    def first(self) -> tuple[float, ...]:
        """Return the first score of each."""
        return next(iter(self.scores.values()))

    @property
    def rank(self) -> float:
        """Return by what models are compared: the mean of the first score, or the loss where there is none."""
        mean = mean_score(self.first)
        return -self.loss if mean is None else mean

    @property
    def floor(self) -> float:
        """Return the rank below which another model is clearly worse: the lower end of the interval, if it is known."""
        if self.rank < 0:
            # A loss, which has no interval.
            return self.rank
        low = self.mean_interval[0]
        return self.rank - _UNSURE if math.isnan(low) else min(low, self.rank)


class ValidationSet:
    """What is held out, as the tiles that a network is scored on.

    Parameters
    ----------
    volumes
        Images with what is held out of them as targets.
    spec
        The network.
    memory
        Bytes that a tile may take.
    """

    def __init__(self, volumes: Sequence[AnnotatedVolume], spec: NetworkSpec, memory: int | None) -> None:
        self._spec = spec
        self._tiles: list[tuple[AnnotatedVolume, Tile]] = []
        for volume in volumes:
            bounds = volume.targets.bounds()
            if bounds is not None:
                plan = plan_tiles(volume.targets.shape, spec, memory=memory, region=bounds)
                self._tiles += [(volume, tile) for tile in plan if (volume.targets[tile.write.slices] != IGNORED).any()]
        if len(self._tiles) > MAX_TILES:
            chosen = np.linspace(0, len(self._tiles) - 1, MAX_TILES).round().astype(int)
            self._tiles = [self._tiles[i] for i in chosen]

    def __len__(self) -> int:
        return len(self._tiles)

    def score(self, logits: Logits, head: Head, balance: Balance) -> HeldOutScores:
        """Return the scores of a network.

        Parameters
        ----------
        logits
            From (z, y, x, channels) float32 to (z, y, x, channels of the head).
        head
            What they mean.
        balance
            Of the parts of the loss.
        """
        # A network that has gone astray gives infinity; its scores say so without a warning.
        with np.errstate(over="ignore", invalid="ignore"):
            blocks = self._blocks(logits, head)
            total = {name: part.sum(axis=0) for name, part in blocks.items()}
            scores, voxels = head.scores(total), head.voxels(total)
            intervals, of_mean = _intervals(blocks, next(iter(scores.values())), head)
            loss = float(head.loss(total, balance, numpy_ops))
            return HeldOutScores(loss, scores, voxels, head.trivial(voxels), intervals, of_mean)

    def _blocks(self, logits: Logits, head: Head) -> dict[str, npt.NDArray[np.float64]]:
        """Return what is summed over the held-out voxels of each block, (blocks, ..) by name."""
        parts: list[Sums] = []
        for volume, tile in self._tiles:
            image = volume.scaling.apply(read_reflected(volume.image, tile.read))
            given = logits(image)[tile.crop(self._spec.geometry.halo)]
            classes = volume.targets[tile.write.slices]
            counts = classes != IGNORED
            block = block_of_voxels(tile.write)[counts]
            n_voxels = np.bincount(block)
            found = head.sums(given[counts], head.targets(classes[counts]), BlockOps(block, len(n_voxels)))
            parts.append({name: part[n_voxels > 0] for name, part in found.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def block_of_voxels(box: Box) -> npt.NDArray[np.intp]:
    """Return the number of the block of every voxel of a box, (z, y, x): blocks as equal as they can be.

    Examples
    --------
    >>> block_of_voxels(Box((5, 6), (0, 40), (0, 16)))[0, :, 0].tolist() == [0] * 20 + [1] * 20
    True
    """
    side = _BLOCK
    while np.prod(counts := [max(1, round(n / side)) for n in box.shape]) > _MAX_BLOCKS:
        side *= 2
    z, y, x = (np.arange(n) * count // n for n, count in zip(box.shape, counts, strict=True))
    return (z[:, None, None] * counts[1] + y[:, None]) * counts[2] + x


def _intervals(
    blocks: dict[str, npt.NDArray[Any]], first: Sequence[float], head: Head
) -> tuple[tuple[Interval, ...], Interval]:
    """Return the intervals of the first score of each, and that of their mean."""
    has_score = ~np.isnan(first)
    is_known = has_score & (np.array(head.n_blocks(blocks)) >= LEAST_BLOCKS)
    if not is_known.any():
        return (UNKNOWN,) * len(first), UNKNOWN
    drawn = resample(blocks, lambda sums: next(iter(head.scores(sums).values())))
    intervals = tuple(interval(drawn[:, i]) if known else UNKNOWN for i, known in enumerate(is_known))
    is_mean_known = (is_known == has_score).all()
    return intervals, interval(drawn[:, has_score].mean(axis=1)) if is_mean_known else UNKNOWN

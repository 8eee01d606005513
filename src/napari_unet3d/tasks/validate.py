"""Scores on what is held out: the same tiles of the same voxels whenever it is asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.architecture import NetworkSpec
from napari_unet3d.core.geometry import halo
from napari_unet3d.core.metrics import Overlap
from napari_unet3d.core.patches import AnnotatedVolume
from napari_unet3d.core.targets import IGNORED
from napari_unet3d.core.tiling import Tile, plan_tiles, read_reflected

# Validation takes its share of the time; so many tiles, evenly chosen, are a fixed set that says enough.
MAX_TILES = 16
_LEAST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class Scores:
    """How well held-out voxels are found.

    Attributes
    ----------
    loss
        As in training, over all held-out voxels at once.
    overlaps
        One a class but the first.
    voxels
        Held-out voxels of each class but the first.
    """

    loss: float
    overlaps: tuple[Overlap, ...]
    voxels: tuple[int, ...]

    @property
    def mean_dice(self) -> float | None:
        """Return the mean of the Dice of all classes but the first that have one; None where none has."""
        found = [value for value in self.dice if not math.isnan(value)]
        return float(np.mean(found)) if found else None

    @property
    def dice(self) -> tuple[float, ...]:
        """Return the Dice of every class but the first; NaN where it, or all but it, is missing."""
        return tuple(part.dice if part.is_a_score else math.nan for part in self.overlaps)

    @property
    def iou(self) -> tuple[float, ...]:
        """Return the IoU of every class but the first; NaN as for `dice`."""
        return tuple(part.iou if part.is_a_score else math.nan for part in self.overlaps)


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

    def score(
        self,
        probabilities: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
        *,
        class_weights: Sequence[float],
        cross_entropy_share: float,
    ) -> Scores:
        """Return the scores of a network.

        Parameters
        ----------
        probabilities
            From (z, y, x, channels) float32 to (z, y, x, classes).
        class_weights, cross_entropy_share
            Of the loss.
        """
        n = self._spec.classes
        weights = np.asarray(class_weights)
        entropy, weight = 0.0, 0.0
        soft = np.zeros((3, n))
        overlaps = [Overlap()] * n
        for volume, tile in self._tiles:
            image = volume.scaling.apply(read_reflected(volume.image, tile.read))
            given = probabilities(image)[tile.crop(halo(self._spec.blocks))]
            classes = volume.targets[tile.write.slices]
            counts = classes != IGNORED
            found, true = given[counts], classes[counts]
            of_true = found[np.arange(len(true)), true]
            entropy -= float((weights[true] * np.log(np.maximum(of_true, _LEAST_PROBABILITY))).sum(dtype=float))
            weight += float(weights[true].sum())
            soft[0] += np.bincount(true, of_true, n)
            soft[1] += found.sum(axis=0, dtype=float)
            soft[2] += np.bincount(true, minlength=n)
            chosen = found.argmax(axis=1)
            for index in range(n):
                predicted, is_true = chosen == index, true == index
                overlaps[index] += Overlap(
                    int((predicted & is_true).sum()), int(predicted.sum()), int(is_true.sum()), len(true)
                )
        dice = ((2 * soft[0] + 1) / (soft[1] + soft[2] + 1))[1:].mean()
        loss = cross_entropy_share * entropy / max(weight, 1e-9) + (1 - cross_entropy_share) * (1 - dice)
        return Scores(float(loss), tuple(overlaps[1:]), tuple(int(count) for count in soft[2][1:]))

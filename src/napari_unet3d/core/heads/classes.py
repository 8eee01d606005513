"""The head of classes: every voxel is of one class, and the largest of the logits says of which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from napari_unet3d.core.annotation.targets import IGNORED
from napari_unet3d.core.heads.base import Balance, Ops, ScoreKind, Scores, Sums
from napari_unet3d.core.scores.overlap import Overlap

DICE = ScoreKind("dice", "Dice", "Overlap of the predicted and the annotated voxels; 1 is a perfect match.")
IOU = ScoreKind("iou", "IoU", "Intersection over union; 1 is a perfect match.")
# Keeps the Dice of a patch without any voxel of a class defined, and hardly changes that of others.
_SMOOTH = 1.0
_LEAST_WEIGHT = 1e-6


class Classes(BaseModel):
    """Every voxel is of one class.

    Attributes
    ----------
    names
        One name per class; the first is the background.

    Examples
    --------
    >>> Classes(names=("background", "axon", "soma")).scored
    ('background', 'axon', 'soma')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["classes"] = "classes"
    names: tuple[str, ...] = Field(min_length=2)

    @property
    def n_channels(self) -> int:
        """Return the channels of the last layer: one for each class."""
        return len(self.names)

    @property
    def activation(self) -> Literal["softmax"]:
        """Return what makes probabilities of logits."""
        return "softmax"

    @property
    def scored(self) -> tuple[str, ...]:
        """Return the classes that are scored: all, for whoever paints everything as one class misses the others."""
        return self.names

    @property
    def score_kinds(self) -> tuple[ScoreKind, ...]:
        """Return the scores that are given."""
        return DICE, IOU

    def targets(self, classes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return what is learnt of a patch: its classes, and `IGNORED` where nobody has said."""
        return classes

    def labels(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Return the class of every voxel: the first of the largest logits."""
        classes: npt.NDArray[np.uint8] = logits.argmax(axis=-1).astype(np.uint8)
        return classes

    def sums(self, logits: Any, targets: Any, ops: Ops) -> Sums:
        """Return what loss and scores are made of.

        Parameters
        ----------
        logits
            (.., classes) float32.
        targets
            (..) uint8: the class, or `IGNORED`.
        ops
            Operations for such arrays.

        Returns
        -------
        dict
            Of each class (classes,): `surprise`, its voxels' negative log-probability; `shared`, the probability that
            its voxels were given; `mass`, the probability that all voxels gave it; `true`, its voxels; `both` and
            `found`, those of them, and those of all, where it is the largest. Annotated voxels alone.
        """
        axes = tuple(range(len(targets.shape)))
        is_ignored = ops.equal(targets, IGNORED)
        counts = ops.where(is_ignored, 0.0, 1.0)[..., None]
        true = ops.one_hot(ops.where(is_ignored, 0, ops.cast(targets, "int32")), self.n_channels, dtype="float32")
        true = true * counts
        logs = ops.log_softmax(logits, axis=-1)
        probabilities = ops.exp(logs) * counts
        found = ops.one_hot(ops.argmax(logits, axis=-1), self.n_channels, dtype="float32") * counts
        return {
            "surprise": -ops.sum(true * logs, axes),
            "shared": ops.sum(probabilities * true, axes),
            "mass": ops.sum(probabilities, axes),
            "true": ops.sum(true, axes),
            "both": ops.sum(found * true, axes),
            "found": ops.sum(found, axes),
        }

    def loss(self, sums: Sums, balance: Balance, ops: Ops) -> Any:
        """Return cross-entropy and 1 less soft Dice (of the classes but the first), balanced; 0 without annotation."""
        weights = ops.convert_to_tensor(balance.class_weights, dtype="float32")
        weight = ops.maximum(ops.sum(weights * sums["true"]), _LEAST_WEIGHT)
        entropy = ops.sum(weights * sums["surprise"]) / weight
        soft_dice = (2 * sums["shared"] + _SMOOTH) / (sums["mass"] + sums["true"] + _SMOOTH)
        share = balance.cross_entropy_share
        is_any = ops.cast(ops.sum(sums["true"]) > 0, "float32")
        return is_any * (share * entropy + (1 - share) * (1 - ops.mean(soft_dice[1:])))

    def scores(self, sums: Sums) -> Scores:
        """Return Dice and IoU of every class; NaN where it, or all but it, is missing."""
        compared = round(float(np.sum(sums["true"])))
        both, found, true = ([round(float(n)) for n in sums[name]] for name in ("both", "found", "true"))
        parts = [_score(Overlap(*counts, compared)) for counts in zip(both, found, true, strict=True)]
        return {DICE.name: tuple(part.dice for part in parts), IOU.name: tuple(part.iou for part in parts)}

    def voxels(self, sums: Sums) -> tuple[int, ...]:
        """Return the voxels that are truly of each class."""
        return tuple(round(float(n)) for n in sums["true"])

    def n_blocks(self, blocks: Sums) -> tuple[int, ...]:
        """Return in how many blocks each class truly is, of sums (blocks, classes) of each block."""
        return tuple(int(n) for n in np.count_nonzero(blocks["true"], axis=0))

    def trivial(self, voxels: Sequence[int]) -> tuple[float, ...]:
        """Return the Dice of each class for whoever calls every voxel so: 2 p / (1 + p) of its share p of them.

        Examples
        --------
        >>> Classes(names=("background", "axon")).trivial([1, 3])
        (0.4, 0.8571428571428571)
        """
        compared = sum(voxels)
        return tuple(_score(Overlap(both=n, predicted=compared, true=n, compared=compared)).dice for n in voxels)


def _score(overlap: Overlap) -> Overlap:
    """Return an overlap, or one that has no score where its score would say nothing."""
    return overlap if overlap.is_a_score else Overlap()


def mean_score(values: Sequence[float]) -> float | None:
    """Return the mean of the scores that there are; None where there is none.

    Examples
    --------
    >>> mean_score((0.5, float("nan"), 1.0)), mean_score((float("nan"),))
    (0.75, None)
    """
    found = [value for value in values if not math.isnan(value)]
    return float(np.mean(found)) if found else None


def best_trivial(trivial: Sequence[float]) -> tuple[float, int] | None:
    """Return the best mean score of whoever calls every voxel the same, and what; None where there is none.

    Parameters
    ----------
    trivial
        As `Head.trivial` gives them. All others get 0 then.

    Examples
    --------
    >>> best_trivial((0.25, 0.75, float("nan")))
    (0.375, 1)
    """
    found = [(value, -index) for index, value in enumerate(trivial) if not math.isnan(value)]
    if not found:
        return None
    best, index = max(found)
    return best / len(found), -index

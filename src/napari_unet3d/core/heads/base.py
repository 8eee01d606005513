"""What every head answers, and the operations that its formulas are written in.

A formula is written once: with Keras' operations it is part of a graph, with those of `numpy_ops` it scores what is
held out. Everything that is counted over voxels is additive, so that boxes, patches and batches can be summed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

# By name, each an array that is added over voxels. What they hold is the head's affair.
Sums = Mapping[str, Any]
Scores = Mapping[str, tuple[float, ...]]


class Ops(Protocol):
    """The operations of `keras.ops` that formulas are written in."""

    def cast(self, x: Any, dtype: str) -> Any:
        """Return `x` as another type."""

    def equal(self, x1: Any, x2: Any) -> Any:
        """Return where both are the same."""

    def where(self, condition: Any, x1: Any, x2: Any) -> Any:
        """Return `x1` where the condition holds, `x2` elsewhere."""

    def one_hot(self, x: Any, num_classes: int, *, dtype: str) -> Any:
        """Return a last axis with 1 at the class and 0 elsewhere."""

    def log_softmax(self, x: Any, axis: int) -> Any:
        """Return the logarithm of the softmax along an axis."""

    def exp(self, x: Any) -> Any:
        """Return the exponential."""

    def argmax(self, x: Any, axis: int) -> Any:
        """Return where the largest value along an axis is, the first of them."""

    def maximum(self, x1: Any, x2: Any) -> Any:
        """Return the larger one."""

    def sum(self, x: Any, axis: tuple[int, ...] | None = None) -> Any:
        """Return the sum along axes."""

    def mean(self, x: Any) -> Any:
        """Return the mean of all."""

    def convert_to_tensor(self, x: Any, dtype: str) -> Any:
        """Return numbers as an array."""


@dataclass(frozen=True)
class Balance:
    """How the parts of a loss are balanced.

    Attributes
    ----------
    class_weights
        Weight of a voxel by its class, in the cross-entropy.
    cross_entropy_share
        Share of the cross-entropy in [0, 1]; the rest is soft Dice.
    """

    class_weights: tuple[float, ...]
    cross_entropy_share: float


@dataclass(frozen=True)
class ScoreKind:
    """A score that a head gives, for curves and tables.

    Attributes
    ----------
    name
        In files and events.
    title
        Above a column.
    meaning
        One sentence for whoever does not know it.
    """

    name: str
    title: str
    meaning: str


class Head(Protocol):
    """What the channels of a network's last layer mean."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the classes of voxels, the background first."""

    @property
    def n_channels(self) -> int:
        """Return the channels of the last layer."""

    @property
    def activation(self) -> Literal["softmax", "sigmoid", "linear"]:
        """Return what makes probabilities of logits."""

    @property
    def scored(self) -> tuple[str, ...]:
        """Return what scores are given of, in their order."""

    @property
    def score_kinds(self) -> tuple[ScoreKind, ...]:
        """Return the scores that are given; models are compared by the first."""

    def targets(self, classes: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Return what is learnt of a patch of annotation, after its deformation."""

    def labels(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Return what is shown of raw outputs (.., channels): the class of every voxel."""

    def sums(self, logits: Any, targets: Any, ops: Ops) -> Sums:
        """Return what loss and scores are made of, summed over voxels."""

    def loss(self, sums: Sums, balance: Balance, ops: Ops) -> Any:
        """Return what training makes small, of sums: the one formula for steps and for what is held out."""

    def scores(self, sums: Sums) -> Scores:
        """Return the scores by the name of their kind, one for each of `scored`; NaN where there is none."""

    def voxels(self, sums: Sums) -> tuple[int, ...]:
        """Return the voxels that each of the scores rests on."""

    def n_blocks(self, blocks: Sums) -> tuple[int, ...]:
        """Return in how many blocks each of `scored` is, of sums (blocks, ..) of each block."""

    def trivial(self, voxels: Sequence[int]) -> tuple[float, ...]:
        """Return the first score of each of `scored` for whoever calls every voxel so; NaN where there is none."""

"""The choices for a training run: frozen, checked once, and the same from the window and the shell."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from napari_unet3d.core.augment.choices import AugmentSpec
from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.heads.base import Balance
from napari_unet3d.core.heads.classes import Classes
from napari_unet3d.core.normalize import Normalization
from napari_unet3d.core.unet.geometry import LONGEST_PATCH
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.tasks.specs import Spec

# More than can be done in a lifetime, and few enough to be added and multiplied.
_Count = Annotated[int, Field(ge=1, le=10**12)]


class HeldOutBox(Spec):
    """A box whose annotation is held out: the number of its pair, from 0, and where it lies in the image."""

    pair: int = Field(default=0, ge=0)
    box: Box


class TrainSpec(Spec):
    """How a network is trained.

    Attributes
    ----------
    network, class_names, normalization
        Architecture, class names and intensity scaling of the model.
    patch
        Input shape (z, y, x) of a training patch.
    batch
        Patches per step.
    steps
        Largest number of steps.
    seed
        Random seed of first weights, dropout and patches: patch k of the run has the seed ``seed + k``.
    augment
        Augmentation of the patches.
    learning_rate
        Highest learning rate. It is reached after the share `warm_up` of the steps, and then goes down to 0 along a
        cosine; `constant` keeps it.
    optimizer
        What makes steps of gradients: `adam`, or `muon`, which turns the kernels of convolutions faster.
    clip_norm
        Largest norm of the gradients; larger ones are scaled down.
    averaging
        Share of the averaged weights that a step keeps. The average is scored and saved. 0 does not average.
    class_weights
        Weight of a voxel in the cross-entropy, for each class; None is 1 for all.
    cross_entropy_share
        Share of the cross-entropy in the loss, from 0 to 1; the rest is soft Dice.
    validation
        `auto` holds a part of the annotation out, `none` holds nothing out; or the boxes to hold out.
    validate_every
        Steps between scores, and between checkpoints.
    patience
        Training stops after this many scores without a better one; None never stops early.
    device
        `auto`, `cpu`, `gpu`, `gpu:1`, ..
    """

    network: NetworkSpec = NetworkSpec()
    class_names: tuple[str, ...] = ("background", "object")
    normalization: Normalization = Normalization(kind="background", spread=None)
    patch: Shape
    batch: _Count = 1
    steps: _Count = 1000
    seed: int = Field(default=0, ge=0, lt=1 << 32)
    augment: AugmentSpec = AugmentSpec()
    learning_rate: float = Field(default=2e-3, gt=0, allow_inf_nan=False)
    schedule: Literal["cosine", "constant"] = "cosine"
    warm_up: float = Field(default=0.05, ge=0, lt=1)
    optimizer: Literal["adam", "muon"] = "adam"
    clip_norm: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    averaging: float = Field(default=0.98, ge=0, lt=1)
    class_weights: tuple[float, ...] | None = None
    cross_entropy_share: float = Field(default=1.0, ge=0, le=1)
    validation: Literal["auto", "none"] | tuple[HeldOutBox, ...] = "auto"
    validate_every: _Count = 50
    patience: _Count | None = None
    device: str = Field(default="auto", pattern=r"^(auto|cpu|gpu(:\d+)?)$")

    @model_validator(mode="after")
    def _consistent(self) -> TrainSpec:
        n = self.network.classes
        if len(self.class_names) != n:
            raise ValueError(f"{len(self.class_names)} class names for {n} classes")
        if self.class_weights is not None and len(self.class_weights) != n:
            raise ValueError(f"{len(self.class_weights)} class weights for {n} classes")
        weights = self.weights_of_classes
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            told = ", ".join(f"{weight:g}" for weight in weights)
            raise ValueError(
                f"class weights {told} are not possible: each must be finite and at least 0, and one must be above 0"
            )
        if max(self.patch) > LONGEST_PATCH:
            raise ValueError(f"a patch has at most {LONGEST_PATCH:,} voxels along an axis, not {max(self.patch):,}")
        self.network.geometry.output_shape(self.patch)
        return self

    @property
    def head(self) -> Classes:
        """Return what the network's channels mean."""
        return Classes(names=self.class_names)

    @property
    def balance(self) -> Balance:
        """Return how the parts of the loss are balanced."""
        return Balance(self.weights_of_classes, self.cross_entropy_share)

    @property
    def weights_of_classes(self) -> tuple[float, ...]:
        """Return the weight of each class."""
        return self.class_weights or (1.0,) * self.network.classes

    def changed(self, **changes: Any) -> TrainSpec:
        """Return the same choices but for some, checked like any."""
        return TrainSpec(**{name: getattr(self, name) for name in TrainSpec.model_fields} | changes)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, which counts from 0.

        Examples
        --------
        >>> spec = TrainSpec(patch=(92, 92, 92), steps=100, learning_rate=1.0, warm_up=0.1)
        >>> [round(spec.rate(step), 3) for step in (0, 9, 54, 99)]
        [0.1, 1.0, 0.517, 0.0]
        """
        rising = round(self.warm_up * self.steps)
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        if self.schedule == "constant":
            return self.learning_rate
        done = (step - rising) / max(1, self.steps - rising)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))

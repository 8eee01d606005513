"""A model: a network's weights with everything one must know to use them.

A value: making one, or reading one from disk, imports no Keras. A `Predictor` computes with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from napari_unet3d.core.heads.classes import Classes
from napari_unet3d.core.normalize import Normalization
from napari_unet3d.core.unet.layers import as_tuple
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import ModelError

Metric = Annotated[float, Field(allow_inf_nan=False)]
# JSON has lists where Python has tuples, and strict models take no list for a tuple.
PerAxis = Annotated[tuple[float, float, float], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]


class ModelCard(BaseModel):
    """Facts about a model, besides its weights.

    Attributes
    ----------
    network
        The choices that define the network.
    head
        What the channels of its last layer mean. ``class_names=..`` is short for classes.
    normalization
        How intensities are scaled before they reach the network.
    voxel_size
        Size (z, y, x) of the voxels it was trained on, in `unit`; None if it is not known.
    unit
        Unit of the voxel size, for example `um`.
    training
        How it was trained, by keyword.
    metrics
        Scores on data it was not trained on, by name.
    shares
        How frequent each class was in what it has learnt, as the loss weighed it; None if that is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: NetworkSpec
    head: Classes
    normalization: Normalization = Normalization()
    voxel_size: PerAxis | None = None
    unit: str = "um"
    training: Mapping[str, str | int | float | bool] = Field(default_factory=dict)
    metrics: Mapping[str, Metric] = Field(default_factory=dict)
    shares: Annotated[tuple[Metric, ...], BeforeValidator(as_tuple)] | None = None

    def __init__(self, *, class_names: Sequence[str] | None = None, **choices: Any) -> None:
        # Spelled out, so that type checkers and editors know of the short form.
        super().__init__(**choices if class_names is None else {"class_names": class_names, **choices})

    @model_validator(mode="before")
    @classmethod
    def _long_form(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or "class_names" not in data:
            return data
        if "head" in data:
            raise ValueError("a head names its classes; give one of the two")
        rest = {name: value for name, value in data.items() if name != "class_names"}
        return {"head": {"names": data["class_names"]}, **rest}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes, the background first."""
        return self.head.names

    @model_validator(mode="after")
    def _consistent(self) -> ModelCard:
        if self.head.n_channels != self.network.classes:
            raise ValueError(f"{self.head.n_channels} class names for {self.network.classes} classes")
        if self.shares is not None and (len(self.shares) != self.head.n_channels or min(self.shares) < 0):
            raise ValueError(f"the shares {self.shares} are not those of {self.head.n_channels} classes")
        if self.voxel_size is not None and not all(0 < v < float("inf") for v in self.voxel_size):
            raise ValueError(f"a voxel size of {self.voxel_size} is not positive")
        return self


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its weights.

    Attributes
    ----------
    card
        Facts about the model: class names, normalization, training voxel size, scores.
    weights
        float32 arrays by name, in the order of the layers (`NetworkSpec.weight_shapes`).

    Raises
    ------
    ModelError
        If an array is missing, unknown, of another shape or not finite.
    """

    card: ModelCard
    weights: Mapping[str, npt.NDArray[np.float32]]

    def __post_init__(self) -> None:
        check_weights(self.card.network, self.weights)

    @property
    def spec(self) -> NetworkSpec:
        """Return the choices that define the network."""
        return self.card.network

    def fingerprint(self) -> str:
        """Return what tells its weights from others."""
        digest = hashlib.sha256()
        for name in sorted(self.weights):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.weights[name]).tobytes())
        return digest.hexdigest()

    def check_channels(self, channels: int) -> None:
        """Raise a ModelError unless the network takes images with that many channels."""
        check_channels(self.spec, channels)


def check_channels(spec: NetworkSpec, channels: int) -> None:
    """Raise a ModelError unless a network takes images with that many channels."""
    if channels != spec.channels:
        raise ModelError(
            f"This model takes images with {_counted(spec.channels, 'channel')}; the image has "
            f"{_counted(channels, 'channel')}.{_advice(spec.channels, channels)}"
        )


def _advice(wanted: int, found: int) -> str:
    if wanted == 1 < found:
        return " Choose one, counted from 0, with channel=0 (on the command line: --channel 0)."
    return ""


def check_weights(spec: NetworkSpec, weights: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raise a ModelError unless `weights` are the finite float32 arrays of the network of `spec`."""
    expected = spec.weight_shapes
    for name in expected.keys() | weights.keys():
        if name not in weights:
            raise ModelError(f"The weights lack the array {name!r}, which this network needs.")
        if name not in expected:
            raise ModelError(f"The weights hold an array {name!r}, which this network does not have.")
    for name, shape in expected.items():
        array = weights[name]
        if array.shape != shape or array.dtype != np.float32:
            raise ModelError(
                f"The array {name!r} of the weights is {array.dtype} {array.shape}; this network needs float32 {shape}."
            )
        if not np.isfinite(array).all():
            raise ModelError(f"The array {name!r} of the weights holds values that are not finite numbers.")


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"

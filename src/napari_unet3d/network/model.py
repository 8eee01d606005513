"""A model: a network's weights with everything one must know to use them.

Making one, or reading one from disk, imports no Keras; the network is built at the first call that computes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from napari_unet3d.core.architecture import NetworkSpec
from napari_unet3d.core.geometry import output_shape
from napari_unet3d.core.normalize import Normalization
from napari_unet3d.errors import ModelError, SizeError

if TYPE_CHECKING:
    from napari_unet3d.network.devices import Device

Metric = Annotated[float, Field(allow_inf_nan=False)]
# JSON has lists where Python has tuples, and strict models take no list for a tuple.
PerAxis = Annotated[tuple[float, float, float], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]


class ModelCard(BaseModel):
    """What is known of a model besides its weights.

    Attributes
    ----------
    network
        The choices that define the network.
    class_names
        One a class; the first is the background.
    normalization
        How intensities are scaled before they reach the network.
    voxel_size
        Size (z, y, x) of the voxels it was trained on, in `unit`; None where nobody knows.
    unit
        Unit of the voxel size, for example `um`.
    training
        How it was trained, by keyword.
    metrics
        Scores on data it was not trained on, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: NetworkSpec
    class_names: tuple[str, ...]
    normalization: Normalization = Normalization()
    voxel_size: PerAxis | None = None
    unit: str = "um"
    training: Mapping[str, str | int | float | bool] = Field(default_factory=dict)
    metrics: Mapping[str, Metric] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> ModelCard:
        if len(self.class_names) != self.network.classes:
            raise ValueError(f"{len(self.class_names)} class names for {self.network.classes} classes")
        if self.voxel_size is not None and not all(0 < v < float("inf") for v in self.voxel_size):
            raise ValueError(f"a voxel size of {self.voxel_size} is not positive")
        return self


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its weights, ready to be saved or to compute.

    Attributes
    ----------
    card
        What is known of it.
    weights
        float32 arrays by name, in the order of the layers (`NetworkSpec.weight_shapes`).

    Raises
    ------
    ModelError
        If an array is missing, unknown, of another shape or not finite.
    """

    card: ModelCard
    weights: Mapping[str, npt.NDArray[np.float32]]
    _forward: dict[Any, Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]] = field(default_factory=dict, repr=False)

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

    def logits(self, image: npt.NDArray[Any], *, device: str = "auto") -> npt.NDArray[np.float32]:
        """Return the logits of one valid pass; the image is used as it is, without normalization.

        Parameters
        ----------
        image
            (z, y, x) or (z, y, x, c), any real type, of a shape that fits the network.
        device
            `auto`, `cpu`, `gpu`, `gpu:1`, ..

        Returns
        -------
        array
            (z - 2h, y - 2h, x - 2h, classes) float32, where h is the halo.

        Raises
        ------
        SizeError
            If the shape does not fit the network.
        ModelError
            If the number of channels is not the network's.
        """
        if image.ndim not in (3, 4):
            raise SizeError(f"An image of shape {image.shape} is not (z, y, x) or (z, y, x, c).")
        channels = image.shape[3] if image.ndim == 4 else 1
        self.check_channels(channels)
        output_shape(image.shape[:3], blocks=self.spec.blocks)
        from napari_unet3d.network.devices import select_device

        forward = self.forward(image.shape[:3], "logits", select_device(device))
        return forward(image.astype(np.float32).reshape(*image.shape[:3], channels))

    def check_channels(self, channels: int) -> None:
        """Raise a ModelError unless the network takes images with that many channels."""
        check_channels(self.spec, channels)

    def forward(
        self, input_shape: tuple[int, int, int], head: str, device: Device
    ) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]:
        """Return the compiled network for one input shape; see `runtime.compile_forward`."""
        from napari_unet3d.network.runtime import compile_forward

        key = (input_shape, head, device)
        if key not in self._forward:
            # One shape a run: what an earlier run compiled is not kept.
            self._forward.clear()
            self._forward[key] = compile_forward(self.spec, self.weights, input_shape, head, device)
        return self._forward[key]


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

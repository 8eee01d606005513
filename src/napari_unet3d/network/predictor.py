"""A model on a device: what turns tiles into classes or probabilities, and keeps the graph that does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.unet.costs import peak_bytes
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import SizeError
from napari_unet3d.network.folding import fold
from napari_unet3d.network.forward import GROUP, forward_pass
from napari_unet3d.network.machine import runtime
from napari_unet3d.network.machine.device import Device
from napari_unet3d.network.model import Model, check_channels

What = Literal["logits", "probabilities", "labels"]
Forward = Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]


class Predictor:
    """Computes a model on a device.

    Only the graph that was compiled last is kept, so use one shape per run.

    Parameters
    ----------
    model
        The model to compute.
    device
        The device to run on.
    """

    def __init__(self, model: Model, device: Device) -> None:
        # Not the model itself, which is what a predictor is found by.
        self._spec, self._weights = model.spec, model.weights
        self.device = device
        self._key: tuple[tuple[int, ...], What] | None = None
        self._forward: Forward | None = None

    def __call__(self, voxels: npt.NDArray[np.float32], what: What) -> npt.NDArray[Any]:
        """Return one valid pass.

        Parameters
        ----------
        voxels
            (z, y, x, channels) float32, in the network's units, of a shape that fits it.
        what
            `logits` and `probabilities` are float32 (z, y, x, classes), `labels` uint8 (z, y, x).

        Raises
        ------
        OutOfMemoryError
            If the device has no room.
        """
        z, y, x = voxels.shape[:3]
        if self._forward is None or self._key != ((z, y, x), what):
            # What an earlier run compiled is let go before there is another.
            self._key = self._forward = None
            self._forward = compile_forward(self._spec, self._weights, (z, y, x), what, self.device)
            self._key = (z, y, x), what
        return self._forward(voxels)

    def logits(self, image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the logits of one valid pass; the image is used as it is, without normalization.

        Parameters
        ----------
        image
            (z, y, x) or (z, y, x, c), any real type, of a shape that fits the network.

        Returns
        -------
        array
            (z, y, x, classes) float32; the geometry of the network gives the sizes.

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
        check_channels(self._spec, channels)
        self._spec.geometry.output_shape(image.shape[:3])
        return self(image.astype(np.float32).reshape(*image.shape[:3], channels), "logits")


_predictors: WeakKeyDictionary[Model, Predictor] = WeakKeyDictionary()


def predictor_of(model: Model, device: Device) -> Predictor:
    """Return what computes with a model; the same one for as long as the model and the device are the same."""
    known = _predictors.get(model)
    if known is None or known.device != device:
        known = _predictors[model] = Predictor(model, device)
    return known


def compile_forward(
    spec: NetworkSpec,
    weights: Mapping[str, npt.NDArray[np.float32]],
    input_shape: tuple[int, int, int],
    head: str,
    device: Device,
) -> Forward:
    """Compile one valid pass for one input shape on one device.

    Parameters
    ----------
    spec
        The network.
    weights
        Its arrays by name.
    input_shape
        Shape (z, y, x) of every input.
    head
        `logits` and `probabilities` are float32 (z, y, x, classes), `labels` uint8 (z, y, x).
    device
        The device to run on.

    Returns
    -------
    callable
        From (z, y, x, channels) float32 to the output. It raises an OutOfMemoryError when the device has
        no room.
    """
    tf = runtime.load_tensorflow()
    spec, weights = fold(spec, weights)
    group = None if device.is_gpu else GROUP
    with runtime.out_of_memory_named(tf, device), tf.device(device.tensorflow_name):
        network = forward_pass(spec, weights, dtype=device.computes_in, group=group)
    runtime.reserve(device, peak_bytes(input_shape, spec, bytes_per_value=device.bytes_per_value))
    finish = _heads(tf)[head]

    # XLA on a CPU is ten times slower for this network.
    @tf.function(jit_compile=False, input_signature=[tf.TensorSpec((1, *input_shape, spec.channels), tf.float32)])  # type: ignore[untyped-decorator]
    def forward(image: Any) -> Any:
        return finish(network(image)[0])

    def run(image: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        with runtime.out_of_memory_named(tf, device), tf.device(device.tensorflow_name):
            result: npt.NDArray[Any] = forward(tf.constant(image[np.newaxis])).numpy()
            return result

    return run


def _heads(tf: Any) -> dict[str, Callable[[Any], Any]]:
    return {
        "logits": lambda logits: logits,
        "probabilities": lambda logits: tf.nn.softmax(logits, axis=-1),
        "labels": lambda logits: tf.cast(tf.argmax(logits, axis=-1, output_type=tf.int32), tf.uint8),
    }

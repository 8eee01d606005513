"""One pass of a network that is used and not trained: the graph whose bytes do not depend on the tile.

The layers are those of `NetworkSpec.layers`, the arrays those of a model. On a CPU a convolution over many channels is
summed over groups of them, one after the other, because oneDNN orders a long sum by the shape of the input. What is
concatenated goes in as groups of its own, so that it need not be copied.

In bfloat16, products are of numbers with 8 bits and sums are float32. The first convolution stays float32, so that no
grey value of the image is rounded, and so do the logits and what is made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Shape
from napari_unet3d.core.unet.layers import Layer
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.network.machine.runtime import load_tensorflow

# oneDNN sums so many channels in one piece whatever the shape is; of 128 it was seen to make two (caches of 1 MiB).
GROUP = 64


def forward_pass(
    spec: NetworkSpec,
    weights: Mapping[str, npt.NDArray[np.float32]],
    *,
    dtype: str = "float32",
    group: int | None = GROUP,
) -> Callable[[Any], Any]:
    """Return the network as a function of tensors, with its weights on the device that is current.

    Parameters
    ----------
    spec
        The network, without batch normalization (see `folding`).
    weights
        Its arrays by name.
    dtype
        What is computed in, `float32`, `bfloat16` or `float16`; the logits are float32.
    group
        At most so many input channels are summed at once; None: all of them.

    Returns
    -------
    callable
        From (batch, z, y, x, channels) float32, of a shape that is known, to logits (batch, z, y, x, classes) float32.
    """
    tf = load_tensorflow()
    weights = _move_biases(spec, weights)
    sums = {layer.name: _Sum(tf, layer, joined, weights, dtype, group) for layer, joined in _summing(spec)}

    def logits(image: Any) -> Any:
        parts, skips = [image], {}
        for layer in spec.layers:
            if layer.kind == "crop":
                skips[layer.level] = _crop(parts[0], layer.crop)
            elif layer.kind == "concatenate":
                parts.append(skips.pop(layer.level))
            elif layer.kind == "pool":
                parts = [tf.nn.max_pool3d(parts[0], layer.factor, layer.factor, "VALID")]
            else:
                parts = [sums[layer.name](parts)]
        return parts[0]

    return logits


def _summing(spec: NetworkSpec) -> Iterator[tuple[Layer, tuple[int, ...]]]:
    """Yield every layer that has weights, with the channels of each tensor that goes into it."""
    previous, channels = None, spec.channels
    for layer in spec.layers:
        if layer.has_weights:
            is_joined = previous == "concatenate"
            yield layer, (channels, layer.channels_in - channels) if is_joined else (channels,)
            channels = layer.channels_out
        previous = layer.kind


def _move_biases(
    spec: NetworkSpec, weights: Mapping[str, npt.NDArray[np.float32]]
) -> dict[str, npt.NDArray[np.float32]]:
    """Return weights whose upsampling layers have no bias: it becomes part of that of the convolution behind each.

    A valid convolution meets no padding, so a constant that goes in is a constant that comes out. TensorFlow would go
    over the whole result of a transposed convolution once more to add it.
    """
    moved = dict(weights)
    weighted = [layer for layer in spec.layers if layer.has_weights]
    for layer, after in pairwise(weighted):
        if layer.kind == "upsample":
            bias = moved.pop(f"{layer.name}/bias").astype(np.float64)
            # What is upsampled is joined before the skip.
            kernel = weights[f"{after.name}/kernel"][..., : layer.channels_out, :]
            moved[f"{after.name}/bias"] = (weights[f"{after.name}/bias"] + bias @ kernel.sum((0, 1, 2))).astype(
                np.float32
            )
    return moved


def _dtype_of(layer: Layer, dtype: str) -> str:
    """Return what a layer is computed in."""
    is_first = layer.block == "input" and layer.name.endswith("conv_1")
    return "float32" if layer.kind == "project" or (is_first and dtype == "bfloat16") else dtype


def _crop(values: Any, by: Shape) -> Any:
    z, y, x = (slice(n, -n or None) for n in by)
    return values[:, z, y, x]


class _Sum:
    """A layer that sums over channels: a convolution of any kind, with its bias and what comes after."""

    def __init__(
        self,
        tf: Any,
        layer: Layer,
        parts: Sequence[int],
        weights: Mapping[str, npt.NDArray[np.float32]],
        dtype: str,
        group: int | None,
    ) -> None:
        self._tf, self._layer, self._group = tf, layer, group
        self._dtype = _dtype_of(layer, dtype)
        self._sizes = [size for part in parts for size in _sizes(part, group)] if group else [sum(parts)]
        kernel, bias = weights[f"{layer.name}/kernel"], weights.get(f"{layer.name}/bias")
        axis = 4 if layer.kind == "upsample" else 3
        self._kernels = [self._constant(part) for part in np.split(kernel, np.cumsum(self._sizes)[:-1], axis)]
        self._bias = None if bias is None else self._constant(bias)
        self._zeros = self._constant(np.zeros(layer.channels_out, np.float32))

    def __call__(self, parts: Sequence[Any]) -> Any:
        bias_add, (first, *others) = self._tf.nn.bias_add, self._inputs(parts)
        total = self._convolve(first, self._kernels[0])
        if self._bias is not None:
            total = bias_add(total, self._bias)
        for number, (values, kernel) in enumerate(zip(others, self._kernels[1:], strict=True)):
            if number:
                # TensorFlow makes one addition of bare ones that follow each other, in an order of its own.
                total = bias_add(total, self._zeros)
            convolved = self._convolve(values, kernel)
            # An addition after a bias becomes part of a convolution; of a transposed one it does not.
            total = (convolved if self._bias is None else bias_add(convolved, self._zeros)) + total
        return self._tf.nn.relu(total) if self._layer.kind == "conv" else total

    def _inputs(self, parts: Sequence[Any]) -> list[Any]:
        tf = self._tf
        parts = [tf.cast(part, self._dtype) for part in parts]
        if self._group is None:
            return [parts[0] if len(parts) == 1 else tf.concat(parts, -1)]
        return [values for part in parts for values in tf.split(part, _sizes(part.shape[-1], self._group), -1)]

    def _convolve(self, values: Any, kernel: Any) -> Any:
        if self._layer.kind != "upsample":
            return self._tf.nn.conv3d(values, kernel, [1] * 5, "VALID")
        batch, *sizes, _ = values.shape
        factor = self._layer.factor
        shape = (batch, *(n * by for n, by in zip(sizes, factor, strict=True)), self._layer.channels_out)
        return self._tf.nn.conv3d_transpose(values, kernel, shape, factor, "VALID")

    def _constant(self, values: npt.NDArray[np.float32]) -> Any:
        return self._tf.constant(values, dtype=self._dtype)


def _sizes(channels: int, group: int) -> list[int]:
    """Return how many channels each group has.

    Examples
    --------
    >>> _sizes(192, 64), _sizes(130, 64), _sizes(8, 64)
    ([64, 64, 64], [64, 64, 2], [8])
    """
    return [min(group, channels - start) for start in range(0, channels, group)]

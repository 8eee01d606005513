"""From a NetworkSpec to a Keras model: the graph, and the order of its weights.

Spatial sizes stay open: the crops of the skips depend on the levels alone, so one network takes
every input that fits. Logits come out, float32.
"""

from __future__ import annotations

from typing import Any

from napari_unet3d.core.unet.layers import Layer
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.network.folding import EPSILON
from napari_unet3d.network.machine.runtime import load_tensorflow

# Keras imports TensorFlow, which reads its environment once: without oneDNN tiles are slow, and no longer exact.
tf = load_tensorflow()

import keras  # noqa: E402
from keras import layers  # noqa: E402

# Of batch normalization: patches are large and runs short, so what is known of the data is soon renewed.
_MOMENTUM = 0.95


def build_unet(spec: NetworkSpec, *, dtype: str | keras.DTypePolicy = "float32") -> keras.Model:
    """Build the network of `spec` with fresh weights.

    Parameters
    ----------
    spec
        What to build.
    dtype
        Keras dtype policy: `float32`, `mixed_float16` on a GPU with tensor cores, or `mixed_bfloat16`.

    Returns
    -------
    keras.Model
        From (batch, z, y, x, channels) to logits (batch, z, y, x, classes) float32, whose sizes `spec.geometry` says.
    """
    image = keras.Input((None, None, None, spec.channels), name="image")
    x = image
    skips: dict[int, keras.KerasTensor] = {}
    rises = False
    for layer in spec.layers:
        if layer.kind == "crop":
            skips[layer.level] = layers.Cropping3D(layer.crop, dtype=dtype, name=layer.name)(x)
        elif layer.kind == "concatenate":
            x = layers.Concatenate(dtype=dtype, name=layer.name)([x, skips[layer.level]])
        elif layer.kind == "conv":
            x = _convolve(x, layer, dtype)
        elif layer.kind == "pool":
            x = layers.MaxPooling3D(layer.factor, dtype=dtype, name=layer.name)(x)
        elif layer.kind == "upsample":
            if not rises:
                x = layers.Dropout(spec.dropout, dtype=dtype, name="bottleneck_dropout")(x)
            rises = True
            x = _ConvTranspose(layer.channels_out, layer.kernel, strides=layer.factor, dtype=dtype, name=layer.name)(x)
        else:
            x = layers.Conv3D(layer.channels_out, layer.kernel, dtype="float32", name=layer.name)(x)
    return keras.Model(image, x, name="unet3d")


@tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow has no types
def _add_bias(x: Any, bias: Any) -> Any:
    """Add a bias whose gradient is a true sum.

    TensorFlow's own gradient adds up in the type of the activations. In bfloat16, which has 8 bits, a sum stops growing
    after a few hundred voxels: up to half of it was missing for a patch.
    """

    def gradients(upstream: Any) -> Any:
        return upstream, tf.reduce_sum(upstream, axis=tuple(range(len(upstream.shape) - 1)))

    return tf.nn.bias_add(x, bias), gradients


class _Conv(layers.Conv3D):  # type: ignore[misc]
    def call(self, inputs: Any) -> Any:
        """Return what Keras' own layer returns."""
        outputs = self.convolution_op(inputs, self.kernel)
        if self.use_bias:
            outputs = _add_bias(outputs, tf.convert_to_tensor(self.bias))
        return outputs if self.activation is None else self.activation(outputs)


class _ConvTranspose(layers.Conv3DTranspose):  # type: ignore[misc]
    def call(self, inputs: Any) -> Any:
        """Return what Keras' own layer returns."""
        outputs = keras.ops.conv_transpose(inputs, self.kernel, strides=list(self.strides))
        return _add_bias(outputs, tf.convert_to_tensor(self.bias))


def _convolve(x: keras.KerasTensor, layer: Layer, dtype: str | keras.DTypePolicy) -> keras.KerasTensor:
    x = _Conv(
        layer.channels_out,
        layer.kernel,
        activation=None if layer.is_normalized else "relu",
        use_bias=not layer.is_normalized,
        kernel_initializer="he_normal",
        dtype=dtype,
        name=layer.name,
    )(x)
    if layer.is_normalized:
        name = f"{layer.name}_normalize"
        x = layers.BatchNormalization(momentum=_MOMENTUM, epsilon=EPSILON, dtype=dtype, name=name)(x)
        x = layers.ReLU(dtype=dtype, name=f"{layer.name}_relu")(x)
    return x

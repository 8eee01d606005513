"""From a NetworkSpec to a Keras model: the graph, and the order of its weights.

Spatial sizes stay open: the crops of the skips depend on the levels alone, so one network takes
every input that fits. Logits come out, float32.
"""

from __future__ import annotations

from napari_unet3d.core.unet.layers import Layer
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.network.folding import EPSILON
from napari_unet3d.network.machine.runtime import load_tensorflow

# Keras imports TensorFlow, which reads its environment once: without oneDNN tiles are slow, and no longer exact.
load_tensorflow()

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
            x = layers.Conv3DTranspose(
                layer.channels_out, layer.kernel, strides=layer.factor, dtype=dtype, name=layer.name
            )(x)
        else:
            x = layers.Conv3D(layer.channels_out, layer.kernel, dtype="float32", name=layer.name)(x)
    return keras.Model(image, x, name="unet3d")


def _convolve(x: keras.KerasTensor, layer: Layer, dtype: str | keras.DTypePolicy) -> keras.KerasTensor:
    x = layers.Conv3D(
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

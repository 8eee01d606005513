"""From a NetworkSpec to a Keras model: the graph, and the order of its weights.

Spatial sizes stay open: the crops of the skips are constants of the number of blocks alone, so one
network takes every input that fits. Logits come out, float32.
"""

from __future__ import annotations

from napari_unet3d.core.architecture import NetworkSpec
from napari_unet3d.core.geometry import skip_crops
from napari_unet3d.network.folding import EPSILON
from napari_unet3d.network.runtime import load_tensorflow

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
        Keras dtype policy: `float32`, or `mixed_float16` on a GPU with tensor cores.

    Returns
    -------
    keras.Model
        From (batch, z, y, x, channels) to logits (batch, z - 2h, y - 2h, x - 2h, classes) float32,
        where h is `geometry.halo(blocks)`.
    """

    def convolve(x: keras.KerasTensor, block: str, *widths: int) -> keras.KerasTensor:
        for number, width in enumerate(widths, start=1):
            name = f"{block}_conv_{number}"
            x = layers.Conv3D(
                width,
                3,
                activation=None if spec.batch_normalization else "relu",
                use_bias=not spec.batch_normalization,
                kernel_initializer="he_normal",
                dtype=dtype,
                name=name,
            )(x)
            if spec.batch_normalization:
                x = layers.BatchNormalization(
                    momentum=_MOMENTUM, epsilon=EPSILON, dtype=dtype, name=f"{name}_normalize"
                )(x)
                x = layers.ReLU(dtype=dtype, name=f"{name}_relu")(x)
        return x

    def upsample(x: keras.KerasTensor, block: str) -> keras.KerasTensor:
        return layers.Conv3DTranspose(x.shape[-1], 2, strides=2, dtype=dtype, name=f"{block}_upsample")(x)

    bottom = spec.blocks + 1
    crops = skip_crops(spec.blocks)
    down = ["input"] + [f"downsample_{i}" if i else "downsample" for i in range(spec.blocks)]
    up = [f"upsample_{i}" if i else "upsample" for i in range(spec.blocks)] + ["output"]

    image = keras.Input((None, None, None, spec.channels), name="image")
    x = image
    skips = []
    for level, block in enumerate(down):
        width = x.shape[-1] if level else spec.filters
        x = convolve(x, block, width, spec.filters << (level + 1))
        skips.append(layers.Cropping3D(crops[level], dtype=dtype, name=f"{block}_crop")(x))
        x = layers.MaxPooling3D(2, dtype=dtype, name=f"{block}_pool")(x)

    width = x.shape[-1]
    x = convolve(x, "bottleneck", width, 2 * width)
    x = layers.Dropout(spec.dropout, dtype=dtype, name="bottleneck_dropout")(x)
    x = upsample(x, "bottleneck")

    for level, block in zip(reversed(range(bottom)), up, strict=True):
        x = layers.Concatenate(dtype=dtype, name=f"{block}_concatenate")([x, skips[level]])
        width = spec.filters << (level + 1)
        x = convolve(x, block, width, width)
        if level:
            x = upsample(x, block)
    logits = layers.Conv3D(spec.classes, 1, dtype="float32", name="output_logits")(x)
    return keras.Model(image, logits, name="unet3d")

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from napari_unet3d.core.unet.costs import n_parameters, parameter_counts
from napari_unet3d.core.unet.layers import Level, levels_of
from napari_unet3d.core.unet.spec import NetworkSpec
from tests.support.models import logits_of, random_model

SPECS = [
    NetworkSpec(),
    NetworkSpec(blocks=0, filters=2),
    NetworkSpec(blocks=1, filters=3, classes=4, channels=2),
    NetworkSpec(blocks=3, filters=2, classes=3),
    NetworkSpec(blocks=1, filters=2, batch_normalization=True),
    NetworkSpec(levels=levels_of(2, flat=1), filters=2),
    NetworkSpec(levels=levels_of(1, flat=2), bottleneck=(1, 3, 3), filters=3),
    NetworkSpec(levels=(Level(kernel=(3, 3, 1), pool=(2, 2, 1)), Level(kernel=(1, 3, 3), pool=(2, 1, 2))), filters=2),
]


@pytest.fixture(scope="module")
def build():
    from napari_unet3d.network.unet import build_unet

    return build_unet


def test_whoever_imports_the_network_first_gets_onednn():
    code = (
        "import napari_unet3d.network.unet\n"
        "from tensorflow.python.util import _pywrap_util_port as port; print(port.IsMklEnabled())"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean, check=True)
    assert done.stdout.strip() == "True"


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_predicted_parameters_are_those_of_the_keras_network(build, spec):
    network = build(spec)
    assert network.count_params() == n_parameters(spec)
    for block, count in parameter_counts(spec).items():
        layers = [layer for layer in network.layers if _block(layer.name) == block]
        assert sum(layer.count_params() for layer in layers) == count, block


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_names_and_shapes_of_the_arrays_are_those_of_the_keras_network(build, spec):
    assert {v.path: tuple(v.shape) for v in build(spec).weights} == spec.weight_shapes
    assert [v.path for v in build(spec).weights] == list(spec.weight_shapes)


@pytest.mark.parametrize("spec", SPECS[1:], ids=str)
def test_the_predicted_output_is_that_of_the_keras_network(build, spec):
    geometry = spec.geometry
    steps = (0, 1, 2 if spec.blocks < 3 else 0)
    shape = [n + k * step for n, k, step in zip(geometry.smallest, steps, geometry.alignment, strict=True)]
    logits = build(spec)(np.zeros((1, *shape, spec.channels), np.float32))
    assert tuple(logits.shape) == (1, *geometry.output_shape(shape), spec.classes)


def test_spatial_sizes_stay_open_and_the_original_cube_gives_132(build):
    network = build(NetworkSpec())
    assert network.input_shape == (None, None, None, None, 1)
    assert network.compute_output_shape((1, 220, 220, 220, 1)) == (1, 132, 132, 132, 2)


def test_logits_stay_float32_in_mixed_precision(build):
    network = build(NetworkSpec(blocks=0, filters=2), dtype="mixed_float16")
    assert network.get_layer("input_conv_1").compute_dtype == "float16"
    assert network.output.dtype == "float32"


def _block(layer_name: str) -> str:
    layer_name = layer_name.removesuffix("_normalize").removesuffix("_relu")
    for ending in (
        "_conv_1",
        "_conv_2",
        "_crop",
        "_pool",
        "_upsample",
        "_concatenate",
        "_dropout",
        "_logits",
    ):
        layer_name = layer_name.removesuffix(ending)
    return layer_name


def test_frozen_batch_normalization_gives_what_keras_gives_and_costs_nothing(build):
    from napari_unet3d.network.folding import fold

    model = random_model(blocks=1, filters=4, batch_normalization=True)
    network = build(model.spec)
    for variable in network.weights:
        variable.assign(model.weights[variable.path])
    image = np.random.default_rng(0).normal(size=(44, 48, 44)).astype(np.float32)
    expected = network(image[None, ..., None], training=False)[0].numpy()
    np.testing.assert_allclose(logits_of(model, image), expected, atol=1e-4 * np.abs(expected).max())
    spec, weights = fold(model.spec, model.weights)
    assert {name: array.shape for name, array in weights.items()} == spec.weight_shapes
    assert not spec.batch_normalization


@pytest.mark.parametrize("name", ["input_conv_1", "bottleneck_upsample", "output_conv_1"])
def test_the_gradient_of_a_bias_is_a_true_sum_in_bfloat16(build, name):
    # TensorFlow's own stops growing after a few hundred voxels: half of it is missing for a patch.
    import tensorflow as tf

    network = build(NetworkSpec(blocks=0, filters=4), dtype="mixed_bfloat16")
    layer = network.get_layer(name)
    layer.bias.assign(np.ones(layer.bias.shape))  # a ReLU lets everything pass
    image = tf.zeros((1, 18, 80, 80, layer.kernel.shape[-1 if name.endswith("upsample") else -2]), tf.bfloat16)
    upstream = np.random.default_rng(0).normal(1e-6, 1e-4, layer(image).shape)
    upstream = tf.cast(upstream, tf.bfloat16)
    with tf.GradientTape() as tape:
        added = layer(image)
    found = tape.gradient(added, layer.bias.value, upstream)
    want = tf.reduce_sum(tf.cast(upstream, tf.float64), axis=(0, 1, 2, 3))
    np.testing.assert_allclose(found, want, rtol=0.01)

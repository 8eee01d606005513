"""The synthetic neurons: exact, repeatable, and not to be had by a threshold."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_unet3d.sample_data import VOXEL_SIZE, Balls, neuron_layers, paint, synthetic_neurons


@given(
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    voxel_size=st.tuples(*[st.floats(0.1, 0.7)] * 3),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_a_voxel_is_painted_exactly_if_its_centre_lies_in_a_ball(shape, voxel_size, seed):
    rng = np.random.default_rng(seed)
    extent = np.multiply(shape, voxel_size)
    balls = Balls(rng.uniform(-0.5, 1.5, (4, 3)) * extent, rng.uniform(0.1, 1.0, 4), rng.uniform(1, 9, 4))
    canvas = np.zeros(shape, np.float32)
    paint(canvas, balls, voxel_size)
    for index in itertools.product(*map(range, shape)):
        distances = np.linalg.norm(np.multiply(index, voxel_size) - balls.centres, axis=1)
        expected = max(balls.brightness[distances <= balls.radii], default=0)
        assert canvas[index] == np.float32(expected)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    one, again, other = (synthetic_neurons((32, 64, 64), seed=seed) for seed in (3, 3, 4))
    assert one.image.tobytes() == again.image.tobytes()
    assert one.mask.tobytes() == again.mask.tobytes()
    assert one.image.tobytes() != other.image.tobytes()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 7), (30, 50, 70)])
def test_any_shape_gives_a_uint16_image_and_a_mask_of_0_and_1(shape):
    sample = synthetic_neurons(shape, seed=5)
    assert sample.image.shape == sample.mask.shape == shape
    assert (sample.image.dtype, sample.mask.dtype) == (np.uint16, np.uint8)
    assert set(np.unique(sample.mask)) <= {0, 1}
    assert (sample.voxel_size, sample.unit) == (VOXEL_SIZE, "um")


def test_a_shape_that_is_none_is_refused():
    with pytest.raises(ValueError, match="three sizes"):
        synthetic_neurons((0, 8, 8))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_threshold_finds_the_neurons(seed):
    sample = synthetic_neurons(seed=seed)
    counts_inside = np.bincount(sample.image[sample.mask == 1], minlength=2**16)
    counts = np.bincount(sample.image.ravel(), minlength=2**16)
    # Sums from above: voxels at or over each threshold.
    hits, found = (np.cumsum(c[::-1]) for c in (counts_inside, counts))
    dice = 2 * hits / (found + counts_inside.sum())
    assert 0.1 < dice.max() < 0.5


def test_neurites_are_brighter_than_the_haze_and_fill_a_small_part_of_the_volume():
    sample = synthetic_neurons(seed=0)
    assert 0.005 < sample.mask.mean() < 0.04
    background = np.median(sample.image)
    spread = np.median(np.abs(sample.image - background))
    assert np.median(sample.image[sample.mask == 1]) > background + 4 * spread


def test_neurites_are_long_and_connected():
    labels, n_pieces = ndimage.label(synthetic_neurons(seed=0).mask, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())[1:]
    assert n_pieces < 30
    assert sizes.max() > 0.3 * sizes.sum()


def test_the_layers_carry_their_place_in_space_and_make_napari_layers():
    layers = pytest.importorskip("napari.layers")
    (image, image_keywords, kind), (mask, mask_keywords, mask_kind) = neuron_layers()
    assert (kind, mask_kind) == ("image", "labels")
    for layer in (layers.Image(image, **image_keywords), layers.Labels(mask, **mask_keywords)):
        assert tuple(layer.scale) == VOXEL_SIZE
        assert [f"{unit:~}" for unit in layer.units] == ["µm"] * 3
        assert layer.axis_labels == ("z", "y", "x")


def test_the_sample_is_made_without_importing_napari():
    code = (
        "import sys; from napari_unet3d.sample_data import neuron_layers; neuron_layers();"
        "sys.exit(bool({'napari', 'qtpy', 'keras', 'tensorflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Help with painting keeps to what can be seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from napari_unet3d.core.annotation.assist import between_slices, grow_alike, usual_tolerance

SHAPES = arrays.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9)
IMAGES = arrays.arrays(st.sampled_from([np.uint8, np.uint16, np.int16, np.float32]), SHAPES, elements=st.integers(0, 9))
MASKS = arrays.arrays(bool, st.just((9, 11))).filter(np.any)


def seed_in(data, image):
    return tuple(data.draw(st.integers(0, n - 1)) for n in image.shape)


@given(IMAGES, st.data(), st.floats(0, 9))
def test_a_region_holds_its_seed_is_one_piece_and_nothing_in_it_differs_more(image, data, tolerance):
    seed = seed_in(data, image)
    region = grow_alike(image, seed, tolerance)
    assert region[seed]
    assert ndimage.label(region)[1] == 1
    values = image.astype(float)
    assert (np.abs(values[region] - values[seed]) <= tolerance).all()
    # And nothing is missing: whoever touches it differs more.
    around = ndimage.binary_dilation(region) & ~region
    assert (np.abs(values[around] - values[seed]) > tolerance).all()


@given(IMAGES, st.data(), st.floats(0, 5), st.floats(0, 5))
def test_a_larger_tolerance_takes_no_less(image, data, small, more):
    seed = seed_in(data, image)
    assert (grow_alike(image, seed, small + more) | ~grow_alike(image, seed, small)).all()


def test_the_usual_tolerance_takes_an_object_in_noise_and_not_its_surroundings():
    rng = np.random.default_rng(0)
    disk = np.hypot(*np.indices((60, 60)) - 30.0) < 15
    image = (rng.normal(0, 5, disk.shape) + 100 + 80 * disk).astype(np.float32)
    region = grow_alike(image, (30, 30), usual_tolerance(image, (30, 30)))
    assert (region & disk).sum() > 0.95 * disk.sum()
    assert not (region & ~disk).any()


def test_where_nothing_differs_equal_voxels_are_taken():
    image = np.zeros((5, 5), np.uint8)
    image[2:] = 1
    assert grow_alike(image, (0, 0), usual_tolerance(image, (0, 0))).sum() == 10


@given(MASKS, MASKS, st.integers(1, 6))
def test_what_is_between_is_the_same_from_either_side_and_within_what_both_cover(first, last, n):
    between = between_slices(first, last, n)
    np.testing.assert_array_equal(between, between_slices(last, first, n)[::-1])
    # What is in both is in all; what is in neither, and outside of their hulls, is in none.
    assert between[:, first & last].all()


@given(MASKS, st.integers(1, 6))
def test_an_object_that_does_not_change_stays(mask, n):
    assert (between_slices(mask, mask, n) == mask).all()


def test_a_disk_grows_steadily():
    radius = np.hypot(*np.indices((41, 41)) - 20.0)
    between = between_slices(radius < 5, radius < 15, 4)
    assert [int(np.sqrt(part.sum() / np.pi).round()) for part in between] == [7, 9, 11, 13]


@pytest.mark.parametrize("last", [np.zeros((3, 3), bool), np.ones((3, 4), bool)])
def test_without_an_object_on_both_there_is_nothing_between(last):
    with pytest.raises(ValueError, match="both slices"):
        between_slices(np.ones((3, 3), bool), last, 2)

"""Lanes compute what NumPy computes, number by number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numba import njit

from napari_unet3d.core.augment.kernels import lanes
from napari_unet3d.core.augment.kernels.lanes import LANES


@njit
def _load(numbers, i):
    return lanes.load_four(numbers, i)


@njit
def _arithmetic(a, b, one, out):
    for i in range(0, 16, 4):
        x, y = _load(a, i), _load(b, i)
        lanes.store(out, i, x * y - (one + x) * one)
        lanes.store(out, 16 + i, lanes.floor(x))
        lanes.store(out, 32 + i, lanes.minimum(x, y))
        lanes.store(out, 48 + i, lanes.maximum(x, one))
        lanes.store(out, 64 + i, lanes.where((x < y) | (x > one), x, one))
        lanes.store(out, 80 + i, lanes.where((x <= y) & (x >= one) & (x != y), one, y))


# The first example compiles.
@settings(deadline=None)
@given(*[arrays.arrays(np.float64, LANES, elements=st.floats(-1e6, 1e6))] * 2, st.floats(-1e6, 1e6))
def test_arithmetic_is_that_of_numpy_bit_for_bit(a, b, one):
    out = np.empty((6, LANES))
    _arithmetic(a, b, one, out.reshape(-1))
    expected = [
        a * b - (one + a) * one,
        np.floor(a),
        np.where(a < b, a, b),
        np.where(a > one, a, one),
        np.where((a < b) | (a > one), a, one),
        np.where((a <= b) & (a >= one) & (a != b), one, b),
    ]
    assert out.tobytes() == np.array(expected).tobytes()


@njit
def _whole(first, by, out, floats):
    numbers = lanes.counting(first)
    lanes.store(out, 0, numbers * by - numbers)
    lanes.store(floats, 0, lanes.to_float(numbers) * np.float32(0.3))
    lanes.store(out, 16, lanes.to_int(lanes.to_float(numbers) * np.float32(0.3)))
    return lanes.any_of(numbers == by)


# The first example compiles.
@settings(deadline=None)
@given(st.integers(-1000, 1000), st.integers(-1000, 1000))
def test_whole_numbers_become_floats_and_back(first, by):
    out, floats = np.empty((2, LANES), np.int32), np.empty(LANES, np.float32)
    found = _whole(np.int32(first), np.int32(by), out.reshape(-1), floats)
    numbers = np.arange(first, first + LANES, dtype=np.int32)
    scaled = numbers.astype(np.float32) * np.float32(0.3)
    np.testing.assert_array_equal(out, [numbers * np.int32(by) - numbers, np.trunc(scaled)])
    assert floats.tobytes() == scaled.tobytes()
    assert found == (by in numbers)


@njit
def _pairs(voxels, first, begin, step, out):
    a, b = lanes.gather_pairs(voxels, first, lanes.counting(begin) * step)
    lanes.store(out, 0, a)
    lanes.store(out, 16, b)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
# The first example compiles.
@settings(deadline=None)
@given(begin=st.integers(-16, 16), step=st.integers(-3, 3))
def test_pairs_are_neighbours_wherever_they_lie_up_to_the_last_voxel(dtype, begin, step):
    top = {"uint8": 2**8, "uint16": 2**16, "float32": 2**24}[dtype]
    places = np.arange(begin, begin + LANES) * step
    first = -int(places.min())
    voxels = np.random.default_rng(0).integers(0, top, first + int(places.max()) + 2).astype(dtype)
    out = np.empty((2, LANES), np.float32)
    _pairs(voxels, first, np.int32(begin), np.int32(step), out.reshape(-1))
    np.testing.assert_array_equal(out, [voxels[first + places], voxels[first + places + 1]])

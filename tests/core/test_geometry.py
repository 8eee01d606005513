from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet3d.core.architecture import NetworkSpec
from napari_unet3d.core.geometry import (
    alignment,
    flops,
    flops_grid,
    halo,
    input_size_for,
    n_parameters,
    nearest_sizes,
    output_shape,
    output_size,
    parameter_counts,
    peak_bytes,
    peak_grid,
    skip_crops,
    smallest_size,
    valid_sizes,
    why_not,
)
from napari_unet3d.errors import SizeError

BLOCKS = st.integers(0, 5)


@pytest.mark.parametrize(("poolings", "lost"), [(2, 40), (3, 88), (4, 184)])
def test_the_voxels_an_axis_loses_are_the_published_ones(poolings, lost):
    assert 2 * halo(poolings - 1) == 12 * 2**poolings - 8 == lost


def test_the_valid_sizes_below_512_are_those_of_the_original_work():
    assert valid_sizes(511) == list(range(92, 509, 8))
    assert all(n % 8 == 4 for n in valid_sizes(511))


@pytest.mark.parametrize(("size", "output"), [(220, 132), (92, 4), (132, 44), (300, 212)])
def test_known_cubes_give_their_known_outputs(size, output):
    assert output_shape((size, size, size)) == (output, output, output)


def test_the_original_output_lies_44_voxels_inside_its_input():
    assert halo(2) == (220 - 132) // 2 == 44


def test_each_axis_is_judged_by_itself():
    assert output_shape((92, 132, 220)) == (4, 44, 132)
    with pytest.raises(SizeError, match=r"130 voxels along y .* the second pooling meets 59 voxels, which is odd"):
        output_shape((92, 130, 220))


def test_the_message_names_the_nearest_sizes():
    with pytest.raises(SizeError, match="nearest sizes that fit are 124 and 132"):
        output_size(130, axis="y")


@given(BLOCKS, st.integers(1, 1500))
def test_a_size_fits_where_every_pooling_divides_it_and_something_is_left(blocks, size):
    voxels, even = size, True
    for _ in range(blocks + 1):
        even = even and voxels - 4 > 0 and (voxels - 4) % 2 == 0
        voxels = (voxels - 4) // 2
    voxels -= 4
    for _ in range(blocks + 1):
        voxels = voxels * 2 - 4
    fits = even and voxels > 0
    assert (why_not(size, blocks=blocks) is None) == fits
    assert (size in valid_sizes(size, blocks=blocks)) == fits
    if fits:
        assert output_size(size, blocks=blocks) == voxels


@given(BLOCKS, st.integers(1, 1500))
def test_the_nearest_sizes_fit_and_enclose_the_size(blocks, size):
    near = nearest_sizes(size, blocks=blocks)
    assert all(why_not(n, blocks=blocks) is None for n in near)
    assert near[0] <= size or near == [smallest_size(blocks)]
    assert near[-1] >= size
    assert near[-1] - near[0] in (0, alignment(blocks))


@given(BLOCKS, st.integers(1, 1000))
def test_the_input_for_an_output_is_the_smallest_that_reaches_it(blocks, output):
    size = input_size_for(output, blocks=blocks)
    assert output_size(size, blocks=blocks) >= output
    smaller = size - alignment(blocks)
    assert why_not(smaller, blocks=blocks) is not None or output_size(smaller, blocks=blocks) < output


def test_the_skips_are_cropped_by_constants_of_the_blocks():
    assert skip_crops(2) == (40, 16, 4)
    assert skip_crops(1) == (16, 4)
    assert skip_crops(3) == (88, 40, 16, 4)


def test_the_parameters_of_every_block_are_the_published_ones():
    assert parameter_counts(NetworkSpec()) == {
        "input": 3_696,
        "downsample": 20_784,
        "downsample_1": 83_040,
        "bottleneck": 463_168,
        "upsample": 475_328,
        "upsample_1": 118_880,
        "output": 27_714,
    }
    assert n_parameters(NetworkSpec()) == 1_192_610
    assert n_parameters(NetworkSpec(filters=4)) == 298_418


@pytest.mark.parametrize(("size", "gflops"), [(220, 409.8), (132, 41.3), (300, 1426.0)])
def test_the_operations_are_the_published_ones(size, gflops):
    assert flops((size, size, size), NetworkSpec()) / 1e9 == pytest.approx(gflops, abs=0.05)


def test_a_table_of_costs_holds_the_cost_of_every_shape():
    spec = NetworkSpec(blocks=1, filters=3, classes=4, channels=2)
    sizes = [44, 60], [48, 52, 100], [44]
    for i, z in enumerate(sizes[0]):
        for j, y in enumerate(sizes[1]):
            shape = (z, y, sizes[2][0])
            assert flops_grid(*sizes, spec=spec)[i, j, 0] == flops(shape, spec)
            assert int(peak_grid(*sizes, spec=spec)[i, j, 0]) == peak_bytes(shape, spec)


@given(st.sampled_from([1, 2]), st.lists(st.integers(0, 12), min_size=3, max_size=3), st.integers(0, 2))
def test_a_larger_input_never_costs_less(blocks, steps, axis):
    spec = NetworkSpec(blocks=blocks)
    shape = [smallest_size(blocks) + n * alignment(blocks) for n in steps]
    larger = shape.copy()
    larger[axis] += alignment(blocks)
    assert flops(larger, spec) > flops(shape, spec)
    assert peak_bytes(larger, spec) > peak_bytes(shape, spec)


def test_half_precision_halves_the_memory():
    shape = (132, 132, 132)
    assert peak_bytes(shape, NetworkSpec(), bytes_per_value=2) == pytest.approx(
        peak_bytes(shape, NetworkSpec()) / 2, abs=1
    )


def test_costs_refuse_a_shape_that_does_not_fit():
    with pytest.raises(SizeError):
        flops((220, 220, 221), NetworkSpec())
    assert np.isfinite(peak_bytes((220, 220, 220), NetworkSpec()))

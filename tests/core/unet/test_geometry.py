from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from napari_unet3d.core.unet.costs import flops, flops_grid, n_parameters, parameter_counts, peak_bytes, peak_grid
from napari_unet3d.core.unet.geometry import Geometry
from napari_unet3d.core.unet.layers import Level, levels_of
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import SizeError


def cube_of(blocks: int) -> Geometry:
    """Return the geometry of a network that treats all axes alike."""
    return NetworkSpec(blocks=blocks).geometry


@st.composite
def any_levels(draw):
    """Draw the levels of any network, alike along all axes or not."""

    def one():
        kernel = draw(st.tuples(*[st.sampled_from([1, 3])] * 3))
        pool = draw(st.tuples(*[st.sampled_from([1, 2])] * 3).filter(lambda factors: 2 in factors))
        return Level(kernel=kernel, pool=pool)

    return tuple(one() for _ in range(draw(st.integers(1, 5))))


@pytest.mark.parametrize(("poolings", "lost"), [(2, 40), (3, 88), (4, 184)])
def test_the_voxels_an_axis_loses_are_the_published_ones(poolings, lost):
    assert {2 * n for n in cube_of(poolings - 1).halo} == {12 * 2**poolings - 8} == {lost}


def test_the_valid_sizes_below_512_are_those_of_the_original_work():
    sizes = NetworkSpec().geometry.valid_cubes(511)
    assert sizes == list(range(92, 509, 8))
    assert all(n % 8 == 4 for n in sizes)


@pytest.mark.parametrize(("size", "output"), [(220, 132), (92, 4), (132, 44), (300, 212)])
def test_known_cubes_give_their_known_outputs(size, output):
    assert NetworkSpec().geometry.output_shape((size, size, size)) == (output, output, output)


def test_the_original_output_lies_44_voxels_inside_its_input():
    assert NetworkSpec().geometry.halo == ((220 - 132) // 2,) * 3 == (44, 44, 44)


def test_each_axis_is_judged_by_itself():
    geometry = NetworkSpec().geometry
    assert geometry.output_shape((92, 132, 220)) == (4, 44, 132)
    with pytest.raises(SizeError, match=r"130 voxels along y .* the second pooling meets 59 voxels, which is odd"):
        geometry.output_shape((92, 130, 220))


def test_the_message_names_the_nearest_sizes():
    with pytest.raises(SizeError, match="nearest sizes that fit are 124 and 132"):
        NetworkSpec().geometry.output_size(130, axis=1)


def walked(levels: Sequence[Level], bottleneck: int, size: int, axis: int) -> int | None:
    """Return what comes out along an axis, by going through the network; None where the size does not fit."""
    for level in levels:
        size -= 2 * (level.kernel[axis] - 1)
        if size <= 0 or size % level.pool[axis]:
            return None
        size //= level.pool[axis]
    size -= 2 * (bottleneck - 1)
    for level in reversed(levels):
        size = size * level.pool[axis] - 2 * (level.kernel[axis] - 1)
    return size if size > 0 else None


@given(any_levels(), st.sampled_from([1, 3]), st.integers(1, 1500), st.integers(0, 2))
def test_a_size_fits_where_every_pooling_divides_it_and_something_is_left(levels, bottom, size, axis):
    geometry = NetworkSpec(levels=levels, bottleneck=(bottom,) * 3).geometry
    output = walked(levels, bottom, size, axis)
    assert (geometry.why_not(size, axis) is None) == (output is not None)
    assert (size in geometry.valid_sizes(size, axis)) == (output is not None)
    if output is not None:
        assert geometry.output_size(size, axis) == output == geometry.lengths(size, axis)[-1]


@given(any_levels(), st.integers(1, 1500), st.integers(0, 2))
def test_the_nearest_sizes_fit_and_enclose_the_size(levels, size, axis):
    geometry = NetworkSpec(levels=levels).geometry
    near = geometry.nearest_sizes(size, axis)
    assert all(geometry.why_not(n, axis) is None for n in near)
    assert near[0] <= size or near == [geometry.smallest[axis]]
    assert near[-1] >= size
    assert near[-1] - near[0] in (0, geometry.alignment[axis])


@given(any_levels(), st.integers(1, 1000), st.integers(0, 2))
def test_the_input_for_an_output_is_the_smallest_that_reaches_it(levels, output, axis):
    geometry = NetworkSpec(levels=levels).geometry
    size = geometry.input_size_for(output, axis)
    assert geometry.output_size(size, axis) >= output
    smaller = size - geometry.alignment[axis]
    assert geometry.why_not(smaller, axis) is not None or geometry.output_size(smaller, axis) < output


@given(any_levels())
def test_an_axis_that_every_level_leaves_alone_loses_the_bottleneck_only(levels):
    flat = [Level(kernel=(1, *level.kernel[1:]), pool=(1, 2, 2)) for level in levels]
    geometry = NetworkSpec(levels=tuple(flat)).geometry
    assert (geometry.halo[0], geometry.alignment[0], geometry.smallest[0]) == (2, 1, 5)


@given(any_levels(), st.integers(1, 60), st.integers(1, 60))
def test_a_cube_fits_where_it_fits_along_every_axis(levels, low, more):
    geometry = NetworkSpec(levels=levels).geometry
    cubes = geometry.valid_cubes(low + more)
    assert cubes == [n for n in range(1, low + more + 1) if not any(geometry.why_not(n, axis) for axis in range(3))]


def test_the_skips_are_cropped_by_what_the_levels_below_them_lose():
    def crops(spec: NetworkSpec) -> list[tuple[int, int, int]]:
        return [layer.crop for layer in spec.layers if layer.kind == "crop"]

    assert crops(NetworkSpec(blocks=1)) == [(16,) * 3, (4,) * 3]
    assert crops(NetworkSpec(blocks=2)) == [(40,) * 3, (16,) * 3, (4,) * 3]
    assert crops(NetworkSpec(blocks=3)) == [(88,) * 3, (40,) * 3, (16,) * 3, (4,) * 3]
    assert crops(NetworkSpec(levels=levels_of(2, flat=1))) == [(20, 40, 40), (16, 16, 16), (4, 4, 4)]


def test_blocks_are_the_short_form_of_levels_that_treat_all_axes_alike():
    assert NetworkSpec(blocks=3) == NetworkSpec(levels=levels_of(3))
    assert NetworkSpec(levels=levels_of(3)).blocks == 3
    assert NetworkSpec.model_validate({"blocks": 1, "filters": 4}) == NetworkSpec(blocks=1, filters=4)
    for wrong in ({"blocks": 6}, {"blocks": True}, {"blocks": "2"}, {"blocks": 1, "levels": levels_of(1)}):
        with pytest.raises(ValidationError):
            NetworkSpec.model_validate(wrong)


@given(any_levels())
def test_a_spec_survives_json(levels):
    spec = NetworkSpec(levels=levels, filters=3)
    assert NetworkSpec.model_validate_json(spec.model_dump_json()) == spec
    assert NetworkSpec.model_validate(json.loads(spec.model_dump_json())) == spec


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


@given(any_levels(), st.lists(st.integers(0, 12), min_size=3, max_size=3), st.integers(0, 2))
def test_a_larger_input_never_costs_less(levels, steps, axis):
    spec = NetworkSpec(levels=levels)
    geometry = spec.geometry
    shape = [n + k * step for n, k, step in zip(geometry.smallest, steps, geometry.alignment, strict=True)]
    larger = shape.copy()
    larger[axis] += geometry.alignment[axis]
    assert flops(larger, spec) > flops(shape, spec)
    assert peak_bytes(larger, spec) > peak_bytes(shape, spec)


@pytest.mark.parametrize("spec", [NetworkSpec(), NetworkSpec(filters=4), NetworkSpec(blocks=1, channels=3)], ids=str)
def test_half_precision_nearly_halves_the_memory(spec):
    # Not all of it: the image, which may have several channels, the first convolution and the logits stay float32.
    for size in (spec.geometry.smallest[0], 132, 300):
        share = peak_bytes((size,) * 3, spec, bytes_per_value=2) / peak_bytes((size,) * 3, spec)
        assert 0.5 < share < 0.9


def test_costs_refuse_a_shape_that_does_not_fit():
    with pytest.raises(SizeError):
        flops((220, 220, 221), NetworkSpec())
    assert np.isfinite(peak_bytes((220, 220, 220), NetworkSpec()))

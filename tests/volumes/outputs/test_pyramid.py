"""Files that no two blocks share, and smaller copies that hold nothing that was not there."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from yaozarrs import validate_zarr_store

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.tiles.plan import plan_tiles
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.volumes import read_volume
from napari_unet3d.volumes.outputs.creating import open_output, output_spec, writing_bytes
from napari_unet3d.volumes.outputs.pyramid import SMALL, plan_levels, reduce_box
from napari_unet3d.volumes.outputs.zarr_layout import bytes_at_once, lay_out
from napari_unet3d.volumes.reading import list_arrays

UM = {"voxel_size": (1.0, 1.0, 1.0), "unit": "um"}
sizes = st.integers(1, 700)


@settings(max_examples=300)
@given(
    shape=st.tuples(sizes, sizes, sizes),
    channels=st.sampled_from([(), (2,)]),
    dtype=st.sampled_from(["uint8", "uint32", "float32"]),
    data=st.data(),
)
def test_no_two_blocks_share_a_file_and_files_take_no_more_memory_than_chunks(shape, channels, dtype, data):
    blocks = tuple(data.draw(st.sampled_from([n, *range(8, max(n, 9), 8)])) for n in shape)
    stored, dtype = (*channels, *shape), np.dtype(dtype)
    layout = lay_out(stored, dtype, blocks)
    for size, block, file, chunk in zip(shape, blocks, layout.files[-3:], layout.chunks[-3:], strict=True):
        assert file % chunk == 0
        assert block >= size or block % file == 0
    assert layout.files[:-3] == (1,) * len(channels)
    plain = bytes_at_once(stored, lay_out(stored, dtype, None), dtype)
    if layout.shards is not None:
        assert bytes_at_once(stored, layout, dtype) <= plain


@settings(max_examples=60)
@given(
    shape=st.tuples(*[st.integers(30, 300)] * 3),
    blocks=st.integers(0, 2),
    extra=st.tuples(*[st.integers(0, 6)] * 3),
)
def test_the_tiles_of_a_plan_are_its_blocks(shape, blocks, extra):
    network = NetworkSpec(blocks=blocks, filters=2)
    smallest = [network.geometry.input_size_for(step, a) for a, step in enumerate(network.geometry.alignment)]
    tile = [n + more * step for n, more, step in zip(smallest, extra, network.geometry.alignment, strict=True)]
    plan = plan_tiles(shape, network, tile_shape=tile)
    assert plan.blocks is not None
    for written in plan:
        for (start, stop), block, size in zip(written.write, plan.blocks, shape, strict=True):
            assert start % block == 0
            # The last one writes a little more, into a file of its own.
            assert stop in (start + block, size)


def test_a_region_between_two_points_of_the_grid_has_no_blocks():
    network = NetworkSpec(blocks=1, filters=2)
    tiles = {"tile_shape": (52, 52, 52)}
    assert plan_tiles((40, 40, 40), network, region=Box((3, 40), (0, 40), (0, 40)), **tiles).blocks is None
    assert plan_tiles((40, 40, 40), network, region=Box((4, 40), (0, 40), (0, 40)), **tiles).blocks == (12, 12, 12)
    assert plan_tiles((40, 40, 40), network, region=Box((3, 9), (0, 40), (0, 40)), **tiles).blocks == (6, 12, 12)


def _slow_mode(values, factors):
    shape = [-(-size // n) for size, n in zip(values.shape, factors, strict=True)]
    found = np.zeros(shape, values.dtype)
    for index in np.ndindex(*shape):
        # At the end, the last voxel stands for the one that is missing.
        whole = [
            [min(i * n + k, size - 1) for k in range(n)]
            for i, n, size in zip(index, factors, values.shape, strict=True)
        ]
        count = Counter(int(values[at]) for at in product(*whole))
        found[index] = max(count, key=lambda value: (count[value], value))
    return found


@settings(max_examples=80)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    factors=st.tuples(*[st.sampled_from([1, 2])] * 3),
    seed=st.integers(0, 99),
)
def test_labels_become_the_most_frequent_one(shape, factors, seed):
    values = np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint16)
    np.testing.assert_array_equal(reduce_box(values, factors, is_labels=True), _slow_mode(values, factors))


def test_a_mean_is_that_of_the_voxels_it_stands_for():
    values = np.arange(2 * 4 * 6, dtype=np.float32).reshape(2, 4, 6)
    means = values.reshape(1, 2, 2, 2, 3, 2).mean(axis=(1, 3, 5))
    np.testing.assert_array_equal(reduce_box(values, (2, 2, 2), is_labels=False), means)


@given(shape=st.tuples(*[st.integers(1, 5000)] * 3), size=st.tuples(*[st.floats(0.1, 10)] * 3))
def test_levels_end_with_a_small_one_and_halve_what_is_finest(shape, size):
    levels = plan_levels(shape, size)
    last = levels[-1] if levels else (1, 1, 1)
    assert max(-(-n // factor) for n, factor in zip(shape, last, strict=True)) <= SMALL
    for before, after in zip([(1, 1, 1), *levels], levels, strict=False):
        assert all(b in (a, 2 * a) for a, b in zip(before, after, strict=True))
        assert before != after


@pytest.mark.parametrize("kind", ["labels", "image"])
def test_a_result_has_levels_that_a_strict_validator_takes_and_lie_where_they_should(tmp_path, kind):
    shape = (40, 300, 530)
    channels = (2,) if kind == "image" else ()
    dtype = "float32" if channels else "uint8"
    values = np.random.default_rng(0).integers(0, 4, (*shape, *channels)).astype(dtype)
    spec = output_spec(
        tmp_path / "a.zarr", values.shape, dtype, voxel_size=(4.0, 1.0, 1.0), unit="um", translate=(1, 2, 3), kind=kind
    )
    with open_output(replace(spec, blocks=(40, 104, 104))) as output:
        for y, x in product(range(0, 300, 104), range(0, 530, 104)):
            box = (slice(0, 40), slice(y, min(y + 104, 300)), slice(x, min(x + 104, 530)))
            output[box] = values[box]
        steps = list(output.make_levels())
        output.commit()
    assert [done for done, _ in steps] == list(range(1, len(steps) + 1))
    assert {total for _, total in steps} == {len(steps)}
    assert validate_zarr_store(str(tmp_path / "a.zarr")) is not None
    assert [info.shape[-3:] for info in list_arrays(tmp_path / "a.zarr")] == [shape, (40, 150, 265), (40, 75, 133)]
    whole = read_volume(tmp_path / "a.zarr", kind=kind)
    np.testing.assert_array_equal(whole.data[...], values)
    assert whole.notes == ()
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    level, spatial = values, (1, 2, 2, *(1 for _ in channels))
    for number in (1, 2):
        level = reduce_box(level, spatial, is_labels=kind == "labels")
        stored = np.moveaxis(level, 3, 0) if channels else level
        np.testing.assert_array_equal(group[str(number)][...], stored)
    small = read_volume(tmp_path / "a.zarr", dataset="2", kind=kind)
    assert small.voxel_size == pytest.approx((4, 4, 4))
    assert small.translate == pytest.approx((1, 2 + 1.5, 3 + 1.5))


def test_levels_that_were_begun_are_made_again(tmp_path):
    spec = output_spec(tmp_path / "a.zarr", (20, 600, 600), "uint8", **UM)
    values = np.random.default_rng(0).integers(0, 4, (20, 600, 600)).astype(np.uint8)
    with open_output(spec, tmp_path / "hidden") as output:
        output[...] = values
        next(output.make_levels())
    with open_output(spec, tmp_path / "hidden", goes_on=True) as output:
        output.expect(...)
        list(output.make_levels())
        output.commit()
    with open_output(replace(spec, target=tmp_path / "b.zarr"), tmp_path / "other") as output:
        output[...] = values
        list(output.make_levels())
        output.commit()
    a, b = (
        {
            str(file.relative_to(tmp_path / name)): file.read_bytes()
            for file in (tmp_path / name).rglob("*/*")
            if file.is_file()
        }
        for name in ("a.zarr", "b.zarr")
    )
    assert a == b


def test_small_results_have_one_level(tmp_path):
    with open_output(output_spec(tmp_path / "a.zarr", (20, 30, 40), "uint8", **UM)) as output:
        assert list(output.make_levels()) == []
        output.commit()
    assert [info.name for info in list_arrays(tmp_path / "a.zarr")] == ["/0"]


def test_a_volume_of_one_tile_may_have_any_length(tmp_path):
    for size in (1, 127, 129, 499, 521):
        layout = lay_out((3, size, 8), np.dtype("uint8"), (8, size, 8))
        assert layout.chunks[1] <= 128
        assert math.prod(layout.files) >= 3 * size * 8 or layout.shards is None
    assert writing_bytes(tmp_path / "a.zarr", (3, 499, 8), "uint8") >= 0

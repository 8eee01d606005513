from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.tiles.plan import plan_tiles, read_reflected
from napari_unet3d.core.unet.costs import flops
from napari_unet3d.core.unet.layers import levels_of
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import MemoryBudgetError, SizeError


@st.composite
def plans(draw):
    """Draw a plan over any volume, network, region and tile shape or memory."""
    blocks = draw(st.integers(0, 2))
    spec = NetworkSpec(
        levels=levels_of(blocks, flat=draw(st.integers(0, blocks + 1))), filters=draw(st.sampled_from([1, 4]))
    )
    shape = draw(st.tuples(*[st.integers(1, 150)] * 3))
    region = None
    if draw(st.booleans()):
        intervals = [sorted(draw(st.tuples(st.integers(0, n - 1), st.integers(1, n)))) for n in shape]
        region = Box(*((start, max(stop, start + 1)) for start, stop in intervals))
    if draw(st.booleans()):
        more = draw(st.tuples(*[st.integers(1, 9)] * 3))
        tile = [n + k * step for n, k, step in zip(spec.geometry.smallest, more, spec.geometry.alignment, strict=True)]
        return plan_tiles(shape, spec, region=region, tile_shape=tile)
    memory = draw(st.sampled_from([None, 64 << 20, 200 << 20]))
    try:
        return plan_tiles(shape, spec, region=region, memory=memory)
    except MemoryBudgetError:
        return plan_tiles(shape, spec, region=region)


@given(plans())
@settings(deadline=None)
def test_the_writes_of_a_plan_cover_every_voxel_of_the_region_once(plan):
    written = np.zeros(plan.volume_shape, np.uint8)
    for tile in plan:
        written[tile.write.slices] += 1
    expected = np.zeros_like(written)
    expected[plan.region.slices] = 1
    np.testing.assert_array_equal(written, expected)
    assert len(list(plan)) == len(plan)


@given(plans())
@settings(deadline=None)
def test_all_tiles_have_one_shape_and_start_on_the_grid(plan):
    geometry = plan.spec.geometry
    for tile in plan:
        assert tile.read.shape == plan.input_shape
        for axis, (start, stop) in enumerate(tile.write):
            step = geometry.alignment[axis]
            assert (tile.read[axis][0] + geometry.halo[axis]) % step == 0
            assert stop % step == 0 or stop == plan.region[axis][1]
            assert stop > start


@given(plans())
@settings(deadline=None, max_examples=40)
def test_a_network_that_changes_nothing_gives_the_volume_back(plan):
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 255, plan.volume_shape, np.uint8)
    result = np.zeros_like(volume)
    halo = plan.spec.geometry.halo
    inside = tuple(slice(n, -n) for n in halo)
    for tile in itertools.islice(plan, 64):
        result[tile.write.slices] = read_reflected(volume, tile.read)[inside][tile.crop(halo)]
        np.testing.assert_array_equal(result[tile.write.slices], volume[tile.write.slices])


@given(st.tuples(*[st.integers(1, 7)] * 3), st.tuples(*[st.tuples(st.integers(-30, 30), st.integers(1, 40))] * 3))
@settings(deadline=None)
def test_a_volume_continues_by_reflection_to_any_distance(shape, where):
    volume = np.arange(np.prod(shape)).reshape(shape)
    box = Box(*((start, start + n) for start, n in where))
    padded = np.pad(volume, 80, mode="symmetric")
    np.testing.assert_array_equal(read_reflected(volume, box), padded[box.shifted((80, 80, 80)).slices])


def test_only_the_voxels_that_are_needed_are_read():
    class Spy:
        shape = (100, 100, 100)
        asked: tuple[slice, ...] = ()

        def __getitem__(self, index):
            self.asked = index
            return np.zeros([s.stop - s.start for s in index])

    spy = Spy()
    assert read_reflected(spy, Box((-10, 20), (30, 40), (90, 130))).shape == (30, 10, 40)
    assert spy.asked == (slice(0, 20), slice(30, 40), slice(70, 100))


@given(plans(), st.data())
@settings(deadline=None)
def test_the_tiles_that_meet_a_box_are_those_that_write_into_it(plan, data):
    box = Box(
        *(
            (start, data.draw(st.integers(start + 1, stop)))
            for start, stop in ((data.draw(st.integers(a, b - 1)), b) for a, b in plan.region)
        )
    )
    meeting = np.zeros(plan.counts, bool)
    meeting[plan.tiles_meeting(box)] = True
    expected = [tile.write.intersection(box).n_voxels > 0 for tile in plan]
    assert meeting.ravel().tolist() == expected


@given(plans())
@settings(deadline=None)
def test_the_edges_of_a_plan_are_those_of_its_tiles(plan):
    for axis in range(3):
        starts, stops = plan.edges(axis)
        found = sorted({tile.write[axis] for tile in plan})
        assert list(zip(starts.tolist(), stops.tolist(), strict=True)) == found


def test_an_axis_of_300_voxels_is_one_input_of_388():
    plan = plan_tiles((300, 300, 300), NetworkSpec())
    assert (plan.input_shape, len(plan), plan.flops_over_ideal) == ((388, 388, 388), 1, 1.0)


@given(st.tuples(*[st.integers(1, 50)] * 3), st.sampled_from([16 << 20, 32 << 20, None]))
@settings(deadline=None, max_examples=15)
def test_no_other_shape_of_tiles_needs_fewer_operations_within_the_memory(shape, memory):
    spec = NetworkSpec(blocks=1)
    plan = plan_tiles(shape, spec, memory=memory)
    assert memory is None or plan.peak_bytes <= memory
    sizes = range(44, 93, 4)
    for tile_shape in itertools.product(sizes, repeat=3):
        if any(n - 40 < min(4, size) for n, size in zip(tile_shape, shape, strict=True)):
            continue
        other = plan_tiles(shape, spec, tile_shape=tile_shape)
        if memory is None or other.peak_bytes <= memory:
            assert plan.flops <= other.flops


def test_more_memory_never_costs_more_operations():
    spec = NetworkSpec()
    costs = [plan_tiles((303, 303, 303), spec, memory=gib << 30).flops for gib in (1, 2, 4, 8, 16, 32)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] == flops((396, 396, 396), spec)


def test_too_little_memory_is_refused_with_what_the_smallest_tile_takes():
    with pytest.raises(MemoryBudgetError, match=r"too little: the smallest tile of this network, 100 x 100 x 100"):
        plan_tiles((300, 300, 300), NetworkSpec(), memory=1 << 20)


def test_tiles_too_small_to_be_laid_side_by_side_are_refused():
    assert len(plan_tiles((4, 300, 300), NetworkSpec(), tile_shape=(92, 220, 220))) == 9
    with pytest.raises(SizeError, match=r"write 4 voxels along z .* multiples of 8. .* at least 100"):
        plan_tiles((12, 300, 300), NetworkSpec(), tile_shape=(92, 220, 220))


def test_an_empty_volume_is_refused():
    with pytest.raises(SizeError, match="empty"):
        plan_tiles((10, 0, 10), NetworkSpec())


def test_a_volume_of_terabytes_is_planned_at_once_without_listing_its_tiles():
    plan = plan_tiles((10_000, 50_000, 50_000), NetworkSpec(), memory=8 << 30)
    assert len(plan) > 100_000
    last = plan.tile(*(n - 1 for n in plan.counts))
    assert tuple(stop for _, stop in last.write) == (10_000, 50_000, 50_000)


@st.composite
def small_plans(draw):
    """Draw the cheapest plan of a region and one with smaller tiles, and what that may cost."""
    spec = NetworkSpec(blocks=draw(st.integers(0, 2)), filters=draw(st.sampled_from([1, 8])))
    shape = draw(st.tuples(*[st.integers(1, 400)] * 3))
    known = {"memory": draw(st.sampled_from([None, 300 << 20, 2 << 30]))}
    if draw(st.booleans()):
        known["region"] = Box(*((draw(st.integers(0, n - 1)), n) for n in shape))
    try:
        cheapest = plan_tiles(shape, spec, **known)
    except MemoryBudgetError:
        cheapest = plan_tiles(shape, spec, **(known := {**known, "memory": None}))
    extra, wanted = draw(st.sampled_from([0.0, 0.1, 0.15, math.inf])), cheapest.flops / draw(st.integers(1, 64))
    return cheapest, plan_tiles(shape, spec, tile_flops=wanted, extra_work=extra, **known), extra, wanted, known


@given(small_plans())
@settings(deadline=None)
def test_smaller_tiles_cover_the_same_region_within_the_memory_and_the_work_that_is_allowed(drawn):
    cheapest, small, extra, wanted, known = drawn
    assert small.region == cheapest.region
    assert cheapest.flops <= small.flops <= (1 + extra) * cheapest.flops
    assert known["memory"] is None or small.peak_bytes <= known["memory"]
    assert small.tile_flops <= max(wanted, cheapest.tile_flops)
    starts, stops = zip(*(small.edges(axis) for axis in range(3)), strict=True)
    for (first, last), begin, end in zip(small.region, starts, stops, strict=True):
        assert begin[0] == first
        assert end[-1] == last
        np.testing.assert_array_equal(begin[1:], end[:-1])


def test_small_tiles_are_no_smaller_than_is_asked_for():
    spec = NetworkSpec()
    cheapest = plan_tiles((303, 303, 303), spec, memory=8 << 30)
    same = plan_tiles((303, 303, 303), spec, memory=8 << 30, tile_flops=cheapest.tile_flops, extra_work=1.0)
    assert same == cheapest
    half = plan_tiles((303, 303, 303), spec, memory=8 << 30, tile_flops=0.6 * cheapest.tile_flops, extra_work=0.15)
    assert (len(cheapest), len(half)) == (4, 8)

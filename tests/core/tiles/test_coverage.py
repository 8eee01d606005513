from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.tiles.coverage import Coverage, DoneTiles, nearest_first
from napari_unet3d.core.tiles.plan import TilePlan, plan_tiles
from tests.core.tiles.test_tiling import plans


def distance(box: Box, focus: Box) -> int:
    """Return the squared distance of two boxes in voxels; 0 where they meet. The slow reference."""
    gaps = [max(0, a - (d - 1), c - (b - 1)) for (a, b), (c, d) in zip(box, focus, strict=True)]
    return sum(gap * gap for gap in gaps)


def boxes_in(plan: TilePlan) -> st.SearchStrategy[Box]:
    intervals = [
        st.tuples(st.integers(a, b - 1), st.integers(a, b - 1)).map(lambda ends: (min(ends), max(ends) + 1))
        for a, b in plan.region
    ]
    return st.tuples(*intervals).map(lambda found: Box(*found))


@given(plans(), st.data())
@settings(deadline=None)
def test_every_tile_comes_once_and_none_before_a_nearer_one(plan, data):
    focus = data.draw(boxes_in(plan))
    tiles = list(nearest_first(plan, focus))
    assert sorted(tiles) == sorted(plan)
    distances = [distance(tile.write, focus) for tile in tiles]
    assert distances == sorted(distances)


@given(plans())
@settings(deadline=None)
def test_without_a_focus_tiles_come_in_their_order(plan):
    assert list(nearest_first(plan, None)) == list(plan)


@given(plans(), st.data())
@settings(deadline=None)
def test_a_box_is_covered_when_every_voxel_of_it_was_written(plan, data):
    written = np.zeros(plan.volume_shape, bool)
    coverage = Coverage()
    for tile in plan:
        if data.draw(st.booleans()):
            coverage.mark(plan, tile.write)
            written[tile.write.slices] = True
    box = data.draw(boxes_in(plan))
    assert coverage.covers(box) == bool(written[box.slices].all())


@given(plans(), st.data())
@settings(deadline=None)
def test_what_an_earlier_run_has_written_is_known_to_a_plan_with_other_tiles(plan, data):
    done = [tile.write for tile in plan if data.draw(st.booleans())]
    z, y, x = (-start for start, _ in plan.region)
    coverage = Coverage()
    other = plan_tiles(plan.volume_shape, plan.spec, region=plan.region)
    coverage.mark_all(other, DoneTiles(plan.input_shape, tuple(box.shifted((z, y, x)) for box in done)))
    assert {tile.write for tile in plan if coverage.covers(tile.write)} == set(done)

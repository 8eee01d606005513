from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet3d.core.boxes import Box
from napari_unet3d.errors import SpecError

INTERVALS = st.tuples(st.integers(0, 6), st.integers(0, 6)).map(sorted).map(tuple)
BOXES = st.builds(Box, INTERVALS, INTERVALS, INTERVALS)


@given(BOXES, BOXES)
def test_an_intersection_is_what_both_boxes_cover(one, other):
    covered = [np.zeros((6, 6, 6), bool), np.zeros((6, 6, 6), bool)]
    covered[0][one.slices] = True
    covered[1][other.slices] = True
    assert one.intersection(other).n_voxels == (covered[0] & covered[1]).sum()


@given(BOXES)
def test_a_region_that_is_written_is_read_again(box):
    if box.n_voxels:
        assert Box.parse(str(box), (6, 6, 6)) == box


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0:4,0:4", "must have the form"),
        ("0:4,0:4,a:b", "along x, which are not whole numbers"),
        ("4:4,0:4,0:4", "empty or leaves the volume along z"),
        ("0:4,0:9,0:4", "empty or leaves the volume along y: 0:9 of 0:8"),
        ("-2:4,0:4,0:4", "along z"),
    ],
)
def test_a_region_that_makes_no_sense_is_refused_with_the_reason(text, reason):
    with pytest.raises(SpecError, match=reason):
        Box.parse(text, (8, 8, 8))

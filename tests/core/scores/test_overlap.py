"""Dice and IoU: laws, then values that can be checked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from napari_unet3d.core.scores.overlap import Overlap, dice, iou, overlap

masks = array_shapes(min_dims=3, max_dims=3, max_side=4).flatmap(lambda shape: st.tuples(*[arrays(bool, shape)] * 3))


@given(masks)
def test_scores_are_symmetric_and_iou_follows_from_dice(drawn):
    a, b, _ = drawn
    assert dice(a, b) == dice(b, a)
    assert 0 <= iou(a, b) <= dice(a, b) <= 1
    assert math.isclose(iou(a, b), dice(a, b) / (2 - dice(a, b)))


@given(masks)
def test_a_class_agrees_fully_with_itself(drawn):
    assert dice(drawn[0], drawn[0]) == iou(drawn[0], drawn[0]) == 1.0


@given(masks)
def test_voxels_that_do_not_count_change_nothing(drawn):
    predicted, true, counts = drawn
    assert overlap(predicted, true, counts) == overlap(predicted[counts], true[counts])
    assert overlap(predicted, true, counts) == overlap(predicted | ~counts, true, counts)


@given(masks, st.integers(0, 4))
def test_boxes_add_up_to_the_whole(drawn, cut):
    parts = [overlap(*(mask[part] for mask in drawn)) for part in (slice(None, cut), slice(cut, None))]
    assert sum(parts, Overlap()) == overlap(*drawn)


def test_a_case_that_can_be_counted():
    predicted = np.array([1, 1, 1, 0, 0], bool)
    true = np.array([0, 1, 1, 1, 0], bool)
    assert (dice(predicted, true), iou(predicted, true)) == (2 / 3, 0.5)
    counts = np.array([0, 1, 1, 1, 1], bool)
    assert dice(predicted, true, counts) == 0.8


def test_nothing_to_find_and_nothing_found_is_1_and_a_miss_is_0():
    empty, full = np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool)
    assert (dice(empty, empty), iou(empty, empty)) == (1.0, 1.0)
    assert (dice(empty, full), dice(full, empty), iou(full, empty)) == (0.0, 0.0, 0.0)


def test_where_no_voxel_counts_there_is_no_score():
    full = np.ones((2, 2, 2), bool)
    assert math.isnan(dice(full, full, ~full))
    assert math.isnan(iou(full, full, ~full))


def test_labels_are_refused_where_a_boolean_array_is_needed():
    true = np.ones((2, 2, 2), bool)
    with pytest.raises(TypeError, match="`predicted` holds uint8"):
        dice(true.astype(np.uint8), true)
    with pytest.raises(ValueError, match=r"`true` has shape \(2, 2\)"):
        dice(true, true[0])


def test_only_what_is_compared_with_something_else_is_a_score():
    assert Overlap(both=3, predicted=4, true=4, compared=8).is_a_score
    assert not Overlap(both=8, predicted=8, true=8, compared=8).is_a_score
    assert not Overlap(both=0, predicted=0, true=0, compared=8).is_a_score
    assert not Overlap().is_a_score

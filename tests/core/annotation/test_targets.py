"""Annotation as training sees it: what is kept, what is counted, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.annotation.targets import IGNORED, read_targets
from napari_unet3d.core.boxes import Box
from napari_unet3d.errors import SpecError

MEANINGS = Meanings(class_names=("background", "axon", "soma"), classes={0: None, 1: 0, 2: 1, 3: 2, 4: None})


@st.composite
def painted(draw):
    """Draw labels in which some planes and some boxes of them are painted."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    labels = np.zeros(shape, np.uint8)
    for z in range(shape[0]):
        if draw(st.booleans()):
            y, x = rng.integers(0, shape[1]), rng.integers(0, shape[2])
            labels[z, y:, x:] = rng.integers(0, 5, (shape[1] - y, shape[2] - x))
    labels[0, 0, 0] = 2
    return labels


def dense(labels):
    """Return what the values mean, the plain way."""
    return np.array([IGNORED, 0, 1, 2, IGNORED], np.uint8)[labels]


@st.composite
def boxes(draw):
    return Box(*(tuple(sorted(draw(st.tuples(st.integers(-2, 10), st.integers(-2, 10))))) for _ in range(3)))


@settings(deadline=None)
@given(painted(), st.lists(boxes(), max_size=3), st.integers(0, 2))
def test_they_are_the_labels_seen_through_their_meanings(labels, parts, axis):
    targets, expected = read_targets(labels, MEANINGS), dense(labels)
    assert (targets[:, :, :] == expected).all()
    assert targets.counts == tuple(int((expected == index).sum()) for index in range(3))
    across = tuple(a for a in range(3) if a != axis)
    assert (targets.profile(axis) == np.stack([(expected == i).sum(across) for i in range(3)], -1)).all()
    known = np.argwhere(expected != IGNORED)
    assert targets.bounds() == Box(*zip(known.min(0).tolist(), (known.max(0) + 1).tolist(), strict=True))
    inside = np.zeros(labels.shape, bool)
    for box in parts:
        inside[tuple(slice(max(0, a), max(0, b)) for a, b in box)] = True
    assert (targets.within(parts)[:, :, :] == np.where(inside, expected, IGNORED)).all()
    assert (targets.without(parts)[:, :, :] == np.where(inside, IGNORED, expected)).all()


@settings(deadline=None)
@given(painted())
def test_every_voxel_of_a_class_has_a_number(labels):
    targets, expected = read_targets(labels, MEANINGS), dense(labels)
    for index, n in enumerate(targets.counts):
        found = [targets.voxel(index, number) for number in range(n)]
        assert found == [tuple(at) for at in np.argwhere(expected == index).tolist()]
        with pytest.raises(IndexError):
            targets.voxel(index, n)


def test_a_painted_box_lies_at_its_place():
    labels = np.full((2, 3, 4), 2, np.uint8)
    targets = read_targets(labels, MEANINGS, volume=(10, 10, 10), origin=(5, 6, 6))
    whole = np.full((10, 10, 10), IGNORED, np.uint8)
    whole[5:7, 6:9, 6:10] = 1
    assert targets.shape == (10, 10, 10)
    assert (targets[:, :, :] == whole).all()


def test_few_slices_of_a_large_volume_take_little_memory():
    class Huge:
        shape = (2000, 40_000, 40_000)
        dtype = np.dtype(np.uint8)

    labels = np.zeros((3, 20, 20), np.uint8)
    labels[1, 5, 5] = 1
    targets = read_targets(labels, MEANINGS, volume=Huge.shape, origin=(1000, 20_000, 20_000))
    assert targets.plane(1001).classes.shape == (1, 1)
    assert targets[1001:1002, 20_005:20_006, 20_005:20_007].tolist() == [[[0, IGNORED]]]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.zeros((2, 2, 2), np.uint8), r"no annotated voxels; the labels hold 0 \(8 voxels\)"),
        (np.full((2, 2, 2), 7, np.int32), r"mean no class: 7 \(8 voxels\)"),
        (np.full((2, 2, 2), -1, np.int32), r"mean no class: -1 \(8 voxels\)"),
        (np.full((2, 2, 2), 1.5), "not whole"),
        (np.arange(64).reshape(4, 4, 4), r"and 27 more values|mean no class"),
    ],
)
def test_what_means_nothing_is_refused_with_what_was_found(labels, words):
    with pytest.raises(SpecError, match=words):
        read_targets(labels, MEANINGS)


def test_floats_that_are_whole_are_classes():
    assert read_targets(np.full((1, 2, 2), 2.0), MEANINGS).counts == (0, 4, 0)


@pytest.mark.parametrize("origin", [(0, 0, 1), (-1, 0, 0)])
def test_labels_outside_their_image_are_refused_with_both_boxes(origin):
    with pytest.raises(SpecError, match=r"labels cover .* and the image 0:4,0:4,0:4"):
        read_targets(np.ones((4, 4, 4), np.uint8), MEANINGS, volume=(4, 4, 4), origin=origin)


@pytest.mark.parametrize(
    ("planes", "expected"),
    [([5], True), ([5, 6], False), ([5, 15], True), ([5, 6, 7, 8], False), ([0, 1, 9], True), (range(0, 20, 2), False)],
)
def test_planes_are_painted_one_by_one_where_most_between_them_are_left_out(planes, expected):
    labels = np.zeros((20, 4, 5), np.uint8)
    labels[list(planes)] = 1
    for axis in range(3):
        targets = read_targets(np.moveaxis(labels, 0, axis), Meanings.painted(("a", "b")))
        assert targets.is_slicewise(axis) == expected

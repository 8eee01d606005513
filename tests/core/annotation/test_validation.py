"""What is held out: apart from what is learnt by the halo, enough of it, or nothing and said so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.annotation.targets import IGNORED, read_targets
from napari_unet3d.core.annotation.validation import hold_boxes_out, hold_out
from napari_unet3d.core.boxes import Box
from napari_unet3d.errors import SpecError

MEANINGS = Meanings.painted(("background", "axon"))
RNG = np.random.default_rng(0)


def slices(planes, shape=(101, 60, 60)):
    labels = np.zeros(shape, np.uint8)
    for z in planes:
        labels[z] = RNG.integers(1, 3, shape[1:])
    return read_targets(labels, MEANINGS)


def known(targets):
    return np.argwhere(targets[:, :, :] != IGNORED)


def test_whole_slices_are_held_out_where_slices_are_painted():
    split = hold_out([slices([17, 37, 57, 77, 97])], gap=(10, 20, 20))
    ((number, box),) = split.boxes
    assert number == 0
    assert box.y == box.x == (0, 60)
    assert split.held_out[0].planes == (box.z[0],)
    assert len(split.training[0].planes) == 4
    assert split.n_held_out == 3600
    assert split.note == f"Slice {box.z[0]} is kept for the score (3,600 voxels)."


@pytest.mark.parametrize("planes", [[17, 77], [17, 48, 77], [10, 40, 70, 100]])
def test_of_few_slices_only_a_part_of_one_is_held_out(planes):
    split = hold_out([slices(planes)], gap=(9, 20, 20))
    ((_, box),) = split.boxes
    assert split.held_out[0].planes == (box.z[0],)
    assert 0.08 <= split.n_held_out / (3600 * len(planes)) <= 0.14
    # All slices still teach, and of one of them what lies beyond the gap.
    assert split.training[0].planes == tuple(planes)
    assert split.training[0].n_voxels > 3600 * (len(planes) - 1)
    assert split.note.startswith(f"Slice {box.z[0]}, ")


def test_the_part_that_is_held_out_holds_about_as_many_objects_as_the_rest():
    labels = np.zeros((101, 60, 60), np.uint8)
    labels[17] = labels[77] = 1
    # Objects in one half of the slices, and a few voxels elsewhere.
    labels[17, 30:, ::3] = labels[77, 30:, ::3] = 2
    labels[17, 0, :25] = 2
    ((_, box),) = hold_out([read_targets(labels, MEANINGS)], gap=(9, 10, 10)).boxes
    assert box.y != (0, 15)


@pytest.mark.parametrize(
    ("boxes", "n_volumes", "note"),
    [
        ([(0, Box((17, 49), (0, 60), (0, 60)))], 1, "Slices 17 to 48 are kept for the score (7,200 voxels)."),
        ([(0, Box((0, 101), (0, 60), (10, 20)))], 1, "X 10 to 19 is kept for the score (1,800 voxels)."),
        ([(1, Box.whole((101, 60, 60)))], 3, "Volume 2 is kept for the score (10,800 voxels)."),
        (
            [(0, Box((17, 18), (0, 60), (0, 60))), (2, Box((77, 78), (5, 6), (0, 60)))],
            3,
            "Slice 17 of volume 1 and slice 77, y 5 of volume 3 are kept for the score (3,660 voxels).",
        ),
    ],
)
def test_what_is_held_out_is_said_as_a_sentence(boxes, n_volumes, note):
    volumes = [slices([17, 48, 77]) for _ in range(n_volumes)]
    assert hold_boxes_out(volumes, boxes, (0, 0, 0)).note == note


def test_slices_too_near_for_the_halo_are_not_kept_apart_by_a_lie():
    split = hold_out([slices([40, 48, 56])], gap=(44, 44, 44))
    assert split.boxes == ()
    assert split.n_held_out == 0
    assert "Nothing is held out" in split.note
    assert "gap of 44 voxels" in split.note
    assert split.training[0].n_voxels == 3 * 3600


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(0, 12)] * 3))
def test_no_held_out_voxel_is_within_the_halo_of_one_that_is_learnt(seed, gap):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(10, 50, 3))
    labels = rng.integers(1, 3, shape).astype(np.uint8)
    if rng.random() < 0.5:
        labels[np.arange(shape[0]) % 9 != 0] = 0
    targets = read_targets(labels, MEANINGS)
    split = hold_out([targets], gap)
    held, learnt = known(split.held_out[0]), known(split.training[0])
    if split.boxes:
        ((_, box),) = split.boxes
        distance = np.maximum([a for a, _ in box] - learnt, learnt - [b - 1 for _, b in box])
        assert (distance > gap).any(axis=1).all()
        assert len(held) >= 0.08 * targets.n_voxels
        assert len(learnt) >= 0.4 * targets.n_voxels
        assert all(split.held_out[0].counts)
        assert all(split.training[0].counts)
    else:
        assert len(held) == 0
        assert len(learnt) == targets.n_voxels


def test_one_of_several_volumes_is_held_out_whole():
    volumes = [slices(planes) for planes in ([5, 50, 90], [3], [8, 60], [7, 70])]
    split = hold_out(volumes, gap=(20, 20, 20))
    held = [i for i, targets in enumerate(split.held_out) if targets.n_voxels]
    assert len(held) == 1
    assert split.training[held[0]].n_voxels == 0
    assert sum(targets.n_voxels for targets in split.training) == 8 * 3600 - split.n_held_out
    assert split.note.startswith("Volume 3 is kept for the score (")


def test_certain_boxes_are_held_out_with_their_gap():
    split = hold_boxes_out([slices([17, 48, 77])], [(0, Box((77, 78), (0, 60), (0, 30)))], gap=(28, 28, 28))
    assert split.held_out[0].n_voxels == 1800
    # Beside the box, two columns are farther away than the gap.
    assert split.training[0].planes == (17, 48, 77)
    assert split.training[0].n_voxels == 2 * 3600 + 2 * 60


@pytest.mark.parametrize(
    ("box", "words"),
    [
        (Box((0, 3), (0, 60), (0, 60)), "There is no annotated voxel in"),
        (Box((0, 101), (0, 60), (0, 60)), "Nothing is left to learn from"),
    ],
)
def test_boxes_that_leave_nothing_are_refused(box, words):
    with pytest.raises(SpecError, match=words):
        hold_boxes_out([slices([17, 48, 77])], [(0, box)], gap=(20, 20, 20))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(0, 12)] * 3), st.integers(2, 4))
def test_annotations_of_one_image_are_held_out_together(seed, gap, n):
    rng = np.random.default_rng(seed)
    shape = tuple(int(k) for k in rng.integers(20, 50, 3))
    volumes = []
    for number in range(n):
        labels = np.zeros(shape, np.uint8)
        planes = rng.choice(shape[0], int(rng.integers(1, 6)), replace=False)
        labels[planes] = rng.integers(1, 3, (len(planes), *shape[1:]))
        labels[:, : number * 3] = 0
        volumes.append(read_targets(labels, MEANINGS))
    images = [str(number % 2) for number in range(n)]
    split = hold_out(volumes, gap, images)
    for number, box in split.boxes:
        low, high = (np.array([interval[end] for interval in box]) for end in (0, 1))
        for targets, image in zip(split.training, images, strict=True):
            if image == images[number]:
                inside = ((known(targets) >= low - gap) & (known(targets) < high + gap)).all(axis=1)
                assert not inside.any()


def test_painted_slices_do_not_forbid_to_cut_a_block_of_the_same_image():
    few, block = np.zeros((200, 100, 100), np.uint8), np.zeros((200, 100, 100), np.uint8)
    few[::40] = RNG.integers(1, 3, (5, 100, 100))
    block[60:100] = RNG.integers(1, 3, (40, 100, 100))
    volumes = [read_targets(labels, MEANINGS) for labels in (few, block)]
    split = hold_out(volumes, (20, 20, 20), ["a", "a"])
    assert split.n_held_out > 0
    ((_, box),) = split.boxes
    grown = box.grown((20, 20, 20))
    for targets in split.training:
        assert targets.within([grown]).n_voxels == 0


def test_slices_that_lie_too_near_are_cut_across():
    split = hold_out([slices([40, 48, 56], shape=(101, 120, 120))], gap=(23, 23, 23))
    ((_, box),) = split.boxes
    assert box.z == (0, 101)
    assert split.held_out[0].planes == (40, 48, 56)

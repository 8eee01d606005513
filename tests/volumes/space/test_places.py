"""Where labels lie in their image: one comparison, in micrometres, in which what is not known agrees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from napari_unet3d.errors import SpecError
from napari_unet3d.volumes.space.calibration import Calibration
from napari_unet3d.volumes.space.places import in_one_place, overlay_of
from napari_unet3d.volumes.volume import Volume

SHAPE = (8, 9, 10)
FACTORS = {"nm": 1e3, "um": 1.0, "mm": 1e-3}
SIZES = st.tuples(*[st.floats(0.01, 10)] * 3)
UNITS = st.sampled_from(list(FACTORS))
OFFSETS = st.tuples(*[st.integers(0, 4)] * 3)


def _volume(size=None, unit="pixel", position=None, shape=SHAPE, **more):
    nothing = (None, None, None)
    return Volume(np.zeros(shape, np.uint8), Calibration(size or nothing, unit, position or nothing, **more))


def _in(unit, numbers):
    return tuple(number * FACTORS[unit] for number in numbers)


@given(SIZES, UNITS, UNITS, OFFSETS, st.tuples(*[st.floats(-500, 500)] * 3))
def test_a_part_lies_where_it_was_cut_whatever_units_are_written(size, ours, theirs, offset, start):
    position = tuple(s + n * step for s, n, step in zip(start, offset, size, strict=True))
    assume(any(start) and any(position))
    image = _volume(_in(ours, size), ours, _in(ours, start))
    labels = _volume(_in(theirs, size), theirs, _in(theirs, position), shape=(3, 3, 3))
    assert overlay_of(image, labels).origin == offset


@given(SIZES, UNITS, st.booleans(), st.booleans())
def test_what_one_of_two_does_not_know_agrees_and_is_said(size, unit, swaps, has_position):
    known = _volume(_in(unit, size), unit, (12.0, 3.0, -7.0) if has_position else None)
    silent = _volume()
    image, labels = (silent, known) if swaps else (known, silent)
    found = overlay_of(image, labels)
    assert found.origin == (0, 0, 0)
    assert any("voxel size of the" in note and "is not known" in note for note in found.notes)
    assert has_position == any("says where it lies" in note for note in found.notes)


@given(SIZES, UNITS, UNITS)
def test_equal_numbers_of_unequal_units_are_never_one_size(size, ours, theirs):
    assume(ours != theirs)
    with pytest.raises(SpecError, match=r"must have the same size.*--same-place"):
        overlay_of(_volume(size, ours), _volume(size, theirs))
    assert overlay_of(_volume(size, ours), _volume(size, theirs), same_place=True).origin == (0, 0, 0)


def test_numbers_without_a_unit_that_fit_are_taken_and_others_say_nothing():
    image = _volume((0.4, 0.2, 0.2), "um", (4.0, 0.2, 0.2))
    part = _volume((0.4, 0.2, 0.2), "pixel", (4.8, 0.4, 0.2), shape=(2, 2, 2))
    assert overlay_of(image, part).origin == (2, 1, 0)
    assert overlay_of(image, _volume((1.0, 1.0, 1.0), "pixel", (3.0, 3.0, 3.0))).origin == (0, 0, 0)


def test_sizes_that_neither_knows_are_not_compared():
    printed = {"unit": "um", "is_nominal": True}
    for image in (_volume(), _volume((0.4, None, None), "um"), _volume((None, 352.8, 352.8), **printed)):
        labels = _volume((None, 84.67, 84.67), **printed)
        assert overlay_of(image, labels).origin == (0, 0, 0)
        assert overlay_of(labels, image).origin == (0, 0, 0)


def test_a_resolution_for_printing_is_no_size():
    printed = _volume((1.0, 84.67, 84.67), "um", is_nominal=True)
    assert overlay_of(_volume((0.4, 0.2, 0.2), "um"), printed).origin == (0, 0, 0)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (_volume((0.8, 0.2, 0.2), "um"), "must have the same size"),
        (_volume((0.4, 0.2, 0.2), "um", (0.5, 0.1, 0.2)), "must lie on voxels of the image"),
        (_volume((0.4, 0.2, 0.2), "um", shape=(2, 2, 2)), "must say where they lie"),
        (_volume((0.4, 0.2, 0.2), "um", (400.4, 0.2, 0.2)), "do not overlap"),
    ],
)
def test_what_cannot_be_one_place_is_refused_with_both(labels, words):
    image = _volume((0.4, 0.2, 0.2), "um", None if "say" in words else (0.4, 0.2, 0.2))
    with pytest.raises(SpecError, match=rf"The image has 8 x 9 x 10 voxels of 0.4 x 0.2 x 0.2 um.*{words}"):
        overlay_of(image, labels)


def test_a_mask_without_a_size_gets_that_of_its_image_and_one_of_another_size_is_said():
    image, mask = in_one_place(_volume((0.4, 0.2, 0.2), "um"), _volume())
    assert (mask.voxel_size, mask.unit) == ((0.4, 0.2, 0.2), "um")
    image, mask = in_one_place(_volume((0.4, 0.2, 0.2), "um"), _volume((4.0, 2.0, 2.0), "um"))
    assert "must have the same size" in image.notes[0]
    assert "--same-place" not in image.notes[0]
    image, mask = in_one_place(image, mask, same_place=True)
    assert mask.voxel_size == (0.4, 0.2, 0.2)

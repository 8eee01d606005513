from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pydantic import ValidationError

from napari_unet3d.core.annotation.meanings import Meanings, add_counts, count_values, guess_meanings, meanings_from
from napari_unet3d.errors import SpecError

NAMES = ("background", "axon")
labels_arrays = npst.arrays(
    np.int16, npst.array_shapes(min_dims=3, max_dims=3, max_side=5), elements=st.integers(-3, 9)
)


@given(labels_arrays, st.dictionaries(st.integers(-3, 9), st.none() | st.integers(0, 1)), st.none() | st.integers(0, 1))
def test_every_voxel_gets_the_class_of_its_value_and_counts_where_it_has_one(labels, classes, rest):
    meanings = Meanings(class_names=NAMES, classes=classes, rest=rest)
    before = labels.copy()
    found, counts = meanings.apply(labels)
    for value, index, counted in zip(labels.ravel(), found.ravel(), counts.ravel(), strict=True):
        expected = meanings.of(int(value))
        assert counted == (expected is not None)
        assert index == (expected or 0)
    np.testing.assert_array_equal(labels, before)


@given(labels_arrays)
def test_the_counts_are_those_of_the_voxels_however_they_are_cut(labels):
    counts = count_values(labels)
    assert sum(counts.values()) == labels.size
    assert counts == {int(v): int((labels == v).sum()) for v in np.unique(labels)}
    assert add_counts(count_values(labels[:1]), count_values(labels[1:])) == counts


def test_painted_zero_is_unlabelled_and_not_background():
    found, counts = Meanings.painted(NAMES).apply(np.array([0, 1, 2], np.uint8))
    assert counts.tolist() == [False, True, True]
    assert found.tolist() == [0, 0, 1]


def test_a_mask_with_stray_values_becomes_binary_by_one_click():
    found, counts = Meanings.everything_above_zero(NAMES).apply(np.array([0, 1, 2, 3]))
    assert counts.all()
    assert found.tolist() == [0, 1, 1, 1]


def test_a_value_without_a_meaning_is_unexpected_until_it_is_given_one_or_ignored():
    meanings = Meanings.indices(NAMES)
    assert meanings.unexpected([0, 1, 2, 3]) == [2, 3]
    assert meanings.with_class(2, 1).with_class(3, None).unexpected([0, 1, 2, 3]) == []
    assert Meanings.everything_above_zero(NAMES).unexpected([0, 1, 2, 3]) == []


def test_very_many_values_are_taken_for_objects_with_numbers():
    guessed = guess_meanings(dict.fromkeys(range(52), 10), NAMES, is_complete=False)
    assert (guessed.of(0), guessed.of(51)) == (None, 1)


def test_zero_is_background_only_where_the_mask_is_known_to_be_complete():
    assert guess_meanings({0: 900, 1: 90}, NAMES, is_complete=True).of(0) == 0
    assert guess_meanings({0: 900, 1: 90}, NAMES, is_complete=False).of(0) is None


def test_other_names_keep_what_is_known_of_the_classes_that_are_left():
    meanings = Meanings.painted(("background", "axon", "soma"))
    assert meanings.renamed(("a", "b")).classes == {0: None, 1: 0, 2: 1}
    assert meanings.renamed(("a", "b", "c", "d")).classes == {**meanings.classes, 4: 3}


def test_floats_are_counted_only_if_they_are_whole():
    assert count_values(np.array([0.0, 2.0])) == {0: 1, 2: 1}
    with pytest.raises(SpecError, match="not whole"):
        count_values(np.array([0.0, 0.5]))


def test_a_class_that_does_not_exist_is_refused():
    with pytest.raises(ValidationError, match="there is no class 2 among background, axon"):
        Meanings(class_names=NAMES, classes={1: 2})


@pytest.mark.parametrize("name", ["ignore", "unlabelled", "Unlabeled", "unpainted"])
def test_what_nobody_painted_has_many_names_and_is_no_class(name):
    assert meanings_from(f"0={name},1=background,2=axon") == meanings_from("0=ignore,1=background,2=axon")

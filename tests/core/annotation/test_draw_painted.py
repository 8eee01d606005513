from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.annotation.survey import draw_painted, survey_labels

MEANINGS = Meanings.painted(("background", "axon"))


@given(arrays(np.uint8, (4, 5, 6), elements=st.integers(0, 2)), st.integers(0, 99))
def test_what_is_drawn_is_painted_and_the_same_for_a_seed(labels, seed):
    survey = survey_labels(labels)
    drawn = draw_painted(labels, survey, MEANINGS, seed)
    assert drawn == draw_painted(labels, survey, MEANINGS, seed)
    assert (drawn is None) == (not labels.any())
    assert drawn is None or labels[tuple(drawn)] > 0


def test_nothing_is_drawn_of_what_nobody_knows_or_what_is_gone():
    labels = np.ones((2, 2, 2), np.uint8)
    assert draw_painted(labels, None, MEANINGS, 0) is None
    assert draw_painted(labels, survey_labels(labels), None, 0) is not None
    assert draw_painted(np.full_like(labels, 9), survey_labels(np.full_like(labels, 9)), MEANINGS, 0) is not None
    assert draw_painted(np.zeros_like(labels), survey_labels(labels), MEANINGS, 0) is None


def test_a_rare_class_is_drawn_as_often_as_another():
    labels = np.ones((6, 20, 20), np.uint8)
    labels[3, 4:6, 7] = 2
    survey = survey_labels(labels)
    drawn = [draw_painted(labels, survey, MEANINGS, seed) for seed in range(200)]
    n_axon = sum(labels[tuple(at)] == 2 for at in drawn)
    assert 60 < n_axon < 140

"""Probabilities that are right for one mixture of classes are made right for another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet3d.core.annotation.targets import IGNORED
from napari_unet3d.core.heads.prior import halfway, learnt_shares, normalized, shift, volume_shares
from napari_unet3d.errors import SpecError

SHARES = st.lists(st.floats(0.02, 1), min_size=2, max_size=4).map(normalized)


def softmax(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def measurements(shares, seed, n=40_000):
    """Return what is measured of voxels, one normal distribution per class, and log-densities of all classes."""
    rng = np.random.default_rng(seed)
    classes = rng.choice(len(shares), n, p=shares)
    x = rng.normal(2.5 * classes, 1)
    return classes, -0.5 * (x[:, None] - 2.5 * np.arange(len(shares))) ** 2


@settings(deadline=None, max_examples=30)
@given(SHARES, st.data())
def test_the_shares_of_a_volume_are_found_and_its_probabilities_become_right(learnt, data):
    # Of all but the first class there is less than was painted.
    parts = data.draw(st.lists(st.floats(0.11, 1), min_size=len(learnt) - 1, max_size=len(learnt) - 1))
    rest = [part * share for part, share in zip(parts, learnt[1:], strict=True)]
    true = normalized([1 - sum(rest), *rest])
    classes, densities = measurements(true, data.draw(st.integers(0, 2**32 - 1)))
    # What a perfect network says that has learnt with other shares.
    logits = densities + np.log(learnt)
    found = volume_shares(softmax(logits), learnt)
    assert found == pytest.approx(true, abs=0.03)
    corrected = softmax(logits + shift(learnt, true))
    np.testing.assert_allclose(corrected, softmax(densities + np.log(true)), atol=1e-5)
    assert corrected.mean(axis=0) == pytest.approx(np.bincount(classes, minlength=len(true)) / len(classes), abs=0.02)


@given(SHARES)
def test_the_same_shares_change_nothing(shares):
    np.testing.assert_array_equal(shift(shares, shares), 0)


@given(SHARES, st.integers(0, 2**32 - 1))
def test_no_more_of_a_class_is_thought_to_be_there_than_was_painted_and_no_class_is_lost(learnt, seed):
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(len(learnt)), 500)
    found = volume_shares(probabilities, learnt)
    assert sum(found) == pytest.approx(1)
    assert found[0] >= learnt[0] - 1e-9
    for share, known in zip(found[1:], learnt[1:], strict=True):
        assert known / 10 - 1e-9 <= share <= known + 1e-9


@given(SHARES, st.data())
def test_the_correction_goes_half_of_the_way(learnt, data):
    found = normalized(data.draw(st.lists(st.floats(0.02, 1), min_size=len(learnt), max_size=len(learnt))))
    whole, half = (shift(learnt, wanted) for wanted in (found, halfway(learnt, found)))
    # Logits say the same where all are moved alike.
    np.testing.assert_allclose(half - half[0], (whole - whole[0]) / 2, atol=1e-5)


def test_a_class_that_was_never_learnt_or_is_not_there_stays_possible():
    assert np.isfinite(shift((1.0, 0.0), (0.5, 0.5))).all()
    none = volume_shares(np.array([[1.0, 0.0]] * 10), (0.5, 0.5))
    assert none[1] > 0
    assert sum(none) == pytest.approx(1)


def test_what_was_learnt_is_counted_as_the_loss_weighs_it_and_the_last_steps_count_most():
    half = np.array([0, 0, 1, 1, IGNORED], np.uint8)
    assert learnt_shares(half, (1, 1), None, 0) == (0.5, 0.5)
    assert learnt_shares(half, (3, 1), None, 0) == (0.75, 0.25)
    assert learnt_shares(np.array([0], np.uint8), (1, 1), (0.5, 0.5), 1) == (0.75, 0.25)
    nothing = np.array([IGNORED], np.uint8)
    assert learnt_shares(nothing, (1, 1), (0.25, 0.75), 9) == (0.25, 0.75)
    assert learnt_shares(nothing, (1, 1), None, 0) is None
    shares = (0.5, 0.5)
    for step in range(3000):
        shares = learnt_shares(np.array([0], np.uint8), (1, 1), shares, step)
    assert shares[0] > 0.99


@pytest.mark.parametrize("shares", [(0.5, 0), (1, -1), (np.nan, 1), (np.inf, 1)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(SpecError, match="above 0"):
        normalized(shares)

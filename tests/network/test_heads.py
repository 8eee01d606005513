"""A head has one formula: Keras in a graph and NumPy on a tile give the same sums, losses and scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from scipy.special import log_softmax

from napari_unet3d.core.annotation.targets import IGNORED
from napari_unet3d.core.heads import numpy_ops
from napari_unet3d.core.heads.base import Balance
from napari_unet3d.core.heads.classes import Classes
from napari_unet3d.core.scores.overlap import overlap

HEAD = Classes(names=("background", "axon", "soma"))
BALANCES = st.builds(Balance, st.tuples(*[st.floats(0.1, 5)] * 3), st.floats(0, 1))


def plain_loss(logits, targets, balance):
    """Return the loss, the plain way, in float64."""
    counts = targets != IGNORED
    logs, true = log_softmax(logits[counts].astype(float), axis=-1), targets[counts]
    of_true, weights = logs[np.arange(len(true)), true], np.array(balance.class_weights)
    entropy = -(weights[true] * of_true).sum() / weights[true].sum()
    probabilities, hot = np.exp(logs), np.eye(3)[true]
    soft = (2 * (probabilities * hot).sum(0) + 1) / (probabilities.sum(0) + hot.sum(0) + 1)
    share = balance.cross_entropy_share
    return share * entropy + (1 - share) * (1 - soft[1:].mean())


@st.composite
def annotated(draw):
    """Draw logits and targets, some of which nobody has annotated."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.tuples(*[st.integers(1, 6)] * 4))
    targets = rng.integers(0, 3, shape).astype(np.uint8)
    targets[rng.random(shape) < draw(st.floats(0, 0.9))] = IGNORED
    targets.flat[0] = 1
    return rng.normal(0, 3, (*shape, 3)).astype(np.float32), targets


@given(annotated(), BALANCES)
@settings(deadline=None, max_examples=50)
def test_the_loss_is_that_of_the_annotated_voxels_in_a_graph_and_on_arrays(drawn, balance):
    logits, targets = drawn
    expected = pytest.approx(plain_loss(logits, targets, balance), rel=1e-4, abs=1e-5)
    assert float(HEAD.loss(HEAD.sums(logits, targets, ops), balance, ops)) == expected
    assert float(HEAD.loss(HEAD.sums(logits, targets, numpy_ops), balance, numpy_ops)) == expected


@given(annotated(), BALANCES)
@settings(deadline=None, max_examples=50)
def test_whatever_is_at_voxels_that_nobody_annotated_changes_nothing(drawn, balance):
    logits, targets = drawn
    before = HEAD.sums(logits, targets, numpy_ops)
    logits[targets == IGNORED] = 50
    after = HEAD.sums(logits, targets, numpy_ops)
    assert all((before[name] == after[name]).all() for name in before)
    alone = HEAD.sums(logits[targets != IGNORED], targets[targets != IGNORED], numpy_ops)
    assert all(np.allclose(before[name], alone[name]) for name in before)


@given(annotated())
@settings(deadline=None, max_examples=50)
def test_sums_of_boxes_add_up_to_those_of_the_whole(drawn):
    logits, targets = drawn
    whole = HEAD.sums(logits, targets, numpy_ops)
    parts = [HEAD.sums(one, other, numpy_ops) for one, other in zip(logits, targets, strict=True)]
    for name, value in whole.items():
        np.testing.assert_allclose(sum(part[name] for part in parts), value, rtol=1e-6, atol=1e-9)


@given(annotated())
@settings(deadline=None, max_examples=50)
def test_scores_are_those_of_the_largest_logit(drawn):
    logits, targets = drawn
    sums = HEAD.sums(logits, targets, numpy_ops)
    scores, counts = HEAD.scores(sums), targets != IGNORED
    for index in range(3):
        expected = overlap(logits.argmax(-1) == index, targets == index, counts)
        found = scores["dice"][index], scores["iou"][index]
        if expected.is_a_score:
            assert found == (expected.dice, expected.iou)
        else:
            assert all(map(math.isnan, found))
    assert HEAD.voxels(sums) == tuple(int((targets == index).sum()) for index in range(3))
    in_graph = HEAD.sums(logits, targets, ops)
    for name, values in HEAD.scores(in_graph).items():
        assert values == pytest.approx(scores[name], nan_ok=True)


def test_where_nothing_is_annotated_there_is_no_loss():
    nothing = np.full((1, 2, 2, 2), IGNORED, np.uint8)
    sums = HEAD.sums(np.zeros((1, 2, 2, 2, 3), np.float32), nothing, ops)
    assert float(HEAD.loss(sums, Balance((1.0, 1.0, 1.0), 0.7), ops)) == 0


def test_a_model_of_another_number_of_channels_is_refused():
    from napari_unet3d.core.unet.spec import NetworkSpec
    from napari_unet3d.network.model import ModelCard

    with pytest.raises(ValueError, match="3 class names for 2 classes"):
        ModelCard(network=NetworkSpec(classes=2), head=HEAD)
    assert ModelCard(network=NetworkSpec(classes=3), class_names=HEAD.names).head == HEAD

"""How frequent the classes are: found once for the volume, whatever is segmented of it and in which tiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.heads.prior import emphasized, shift
from napari_unet3d.core.unet.costs import peak_bytes
from napari_unet3d.core.unet.layers import levels_of
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import ModelError, OutOfMemoryError, SpecError
from napari_unet3d.tasks.events import Note
from napari_unet3d.tasks.segment import measuring
from napari_unet3d.tasks.segment.priors import at_shares, sample_boxes
from napari_unet3d.tasks.specs import PredictSpec
from tests.support.models import random_model
from tests.support.segmenting import segment

LEARNT = (0.7, 0.3)
SHAPE = (30, 70, 90)


@pytest.fixture(scope="module")
def model():
    made = random_model(filters=2, seed=3)
    return replace(made, card=made.card.model_copy(update={"shares": LEARNT}))


@pytest.fixture(scope="module")
def volume():
    return np.random.default_rng(0).normal(0, 1, SHAPE).astype(np.float32)


def probabilities(volume, model, **choices):
    return segment(volume, model, spec=PredictSpec(output="probabilities", device="cpu", **choices))


def odds(values):
    return np.log(values[..., 1].astype(float) / values[..., 0])


def test_a_region_in_any_tiles_has_the_bytes_of_the_whole(volume, model):
    whole = probabilities(volume, model)
    region = Box((4, 21), (10, 60), (33, 90))
    part = probabilities(volume, model, region=region, tile_shape=(52, 64, 60))
    np.testing.assert_array_equal(part, whole[region.slices])


def test_the_probabilities_are_those_of_what_was_learnt_for_other_shares(volume, model):
    raw = odds(probabilities(volume, model, prior="training"))
    notes = []
    spec = PredictSpec(output="probabilities", device="cpu")
    found = segment(volume, model, spec=spec, on_event=lambda event: notes.append(event))
    (said,) = [event.text for event in notes if isinstance(event, Note) and "Class shares assumed" in event.text]
    share = float(said.split("class 1 ")[1].split(" %")[0]) / 100
    moved = np.log(share / (1 - share)) - np.log(LEARNT[1] / LEARNT[0])
    np.testing.assert_allclose(odds(found) - raw, moved, atol=0.02)
    # Halfway between what was learnt and what is there.
    assert found[..., 1].mean() - 0.03 < share <= LEARNT[1] / sum(LEARNT)


def test_shares_that_are_given_and_more_of_a_class_move_the_odds_by_as_much(volume, model):
    raw = odds(probabilities(volume, model, prior="training"))
    given_shares = odds(probabilities(volume, model, prior=(0.9, 0.1)))
    np.testing.assert_allclose(given_shares - raw, np.log(1 / 9) - np.log(LEARNT[1] / LEARNT[0]), atol=1e-3)
    more = odds(probabilities(volume, model, prior="training", emphasis=(0, 3)))
    np.testing.assert_allclose(more - raw, np.log(8), atol=1e-3)


def test_a_model_that_does_not_say_what_it_has_learnt_is_used_as_it_is(volume):
    model = random_model(filters=2, seed=3)
    plain = probabilities(volume, model, prior="training")
    np.testing.assert_array_equal(probabilities(volume, model), plain)
    more = probabilities(volume, model, emphasis=(0, 1))
    np.testing.assert_allclose(odds(more) - odds(plain), np.log(2), atol=1e-3)


def test_a_class_too_many_is_refused(volume, model):
    with pytest.raises(ModelError, match="2 classes"):
        at_shares(model, (0.2, 0.3, 0.5))
    with pytest.raises(SpecError, match="2 classes"):
        probabilities(volume, model, emphasis=(0, 1, 2))


def test_the_model_for_some_shares_is_made_once(model):
    assert at_shares(model, (0.25, 0.75)) is at_shares(model, (1, 3))
    np.testing.assert_allclose(shift(LEARNT, emphasized(LEARNT, (0, 1))), [-np.log(2) / 2, np.log(2) / 2], rtol=1e-5)


def test_with_little_memory_the_sample_is_of_smaller_boxes():
    network = NetworkSpec(blocks=2)
    free, tight = (sample_boxes((200, 400, 400), network, memory) for memory in (None, 200 << 20))
    assert free[0].shape > tight[0].shape
    assert peak_bytes(tight[0].grown(network.geometry.halo).shape, network) <= 200 << 20
    # Where nothing fits, the smallest is tried all the same.
    assert sample_boxes((200, 400, 400), network, 1)[0].shape <= tight[0].shape


def test_a_device_without_memory_for_the_sample_segments_as_it_has_learnt(volume, model, monkeypatch):
    def full(*_, **__):
        raise OutOfMemoryError("full")

    monkeypatch.setattr(measuring, "measure_shares", full)
    notes = []
    spec = PredictSpec(output="probabilities", device="cpu")
    found = segment(volume, model, spec=spec, on_event=notes.append)
    assert any("no memory to look how frequent" in event.text for event in notes if isinstance(event, Note))
    np.testing.assert_array_equal(found, probabilities(volume, model, prior="training"))


@given(st.tuples(*[st.integers(1, 3000)] * 3), st.integers(0, 2), st.data())
def test_the_sample_is_small_and_lies_in_the_volume(shape, blocks, data):
    network = NetworkSpec(levels=levels_of(blocks, flat=data.draw(st.integers(0, blocks + 1))))
    boxes = sample_boxes(shape, network)
    assert 1 <= len(boxes) <= 27
    assert len(set(boxes)) == len(boxes)
    for box in boxes:
        for (start, stop), n in zip(box, shape, strict=True):
            # A volume that is smaller than a box is continued by reflection.
            assert start >= 0
            assert stop <= n or start == 0

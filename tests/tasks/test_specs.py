"""Choices lose nothing on their way: as JSON, and as the words of a command line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from napari_unet3d.cli.choices import predict_spec
from napari_unet3d.cli.train_command import train_choices
from napari_unet3d.core.normalize import Normalization
from napari_unet3d.core.objects.clean_up import Cleanup
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.tasks.train.annotation import Painted
from napari_unet3d.tasks.train.choosing import TrainChoices, choose_spec
from napari_unet3d.tasks.train.spec import TrainSpec
from tests.support.specs import CLASS_NAMES, SHAPE, parsed, predict_specs, predict_words, train_specs, train_words

_OF_THE_VOLUME = ("volume", "model", "output", "axes", "series", "channel", "timepoint", "overwrite", "resume")
_OF_THE_VOLUME += ("table", "workers", "cluster", "block_seconds")
_OF_THE_PAIRS = ("image", "labels", "output", "classes", "start", "same_place", "resume", "force")


def painted_for(spec: TrainSpec) -> Painted:
    """Return annotation that has the classes and channels of a spec, and suits nothing else in particular."""
    return Painted(spec.class_names, (5,) * len(spec.class_names), True, spec.network.channels)


@given(predict_specs())
def test_the_choices_of_a_segmentation_are_json(spec):
    assert PredictSpec.model_validate_json(spec.model_dump_json()) == spec


@given(train_specs())
def test_the_choices_of_a_training_run_are_json(spec):
    assert TrainSpec.model_validate_json(spec.model_dump_json()) == spec


@given(predict_specs())
def test_the_choices_of_a_segmentation_can_be_typed(spec):
    typed = parsed("predict", ["volume.tif", "--model=m", "--output=o.tif", *predict_words(spec)])
    assert (
        predict_spec(
            SHAPE, **{name: typed[name] for name in typed if name not in _OF_THE_VOLUME}, class_names=CLASS_NAMES
        )
        == spec
    )


@given(train_specs())
def test_the_choices_of_a_training_run_can_be_typed(tmp_path_factory, spec):
    words = train_words(spec, tmp_path_factory.getbasetemp())
    typed = parsed("train", ["--image=i.tif", "--labels=l.tif", "--output=o", *words])
    typed["augment"] = typed.pop("choices")
    choices = train_choices({name: typed[name] for name in typed if name not in _OF_THE_PAIRS}, [SHAPE, SHAPE])
    assert choose_spec(painted_for(spec), choices) == spec


@given(train_specs())
def test_choices_that_leave_nothing_open_are_the_spec_whatever_is_painted(spec):
    assert choose_spec(painted_for(spec), TrainChoices.of(spec)) == spec


def test_a_clean_up_at_a_half_that_numbers_nothing_is_one():
    typed = parsed("predict", ["v", "--model=m", "--output=o.tif", "--clean-up", "--high=0.5", "--low=0.5"])
    spec = predict_spec(SHAPE, **{name: typed[name] for name in typed if name not in _OF_THE_VOLUME})
    assert spec.cleanup == Cleanup(high=0.5, low=0.5)


def test_the_numbers_of_a_normalization_can_be_typed():
    typed = train_choices({"normalization": "percentiles:low=0,high=100"}, [SHAPE])
    assert typed.given["normalization"] == Normalization(kind="percentiles", low=0, high=100)


@given(train_specs())
def test_the_choices_of_a_run_are_kept_as_plain_json(spec):
    choices = TrainChoices.of(spec)
    assert TrainChoices.from_json(json.loads(json.dumps(choices.to_json()))) == choices


@pytest.mark.parametrize(
    "told", [None, 3, {}, {"preset": "of tomorrow", "network": {"magic": 1}, "given": {"steps": "x"}}]
)
def test_kept_choices_that_nobody_understands_are_left_out(told):
    assert TrainChoices.from_json(told) == TrainChoices()

"""The forms of the tabs are editors of one value: what is set is read back, whatever their fields can show."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.objects.clean_up import Cleanup
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.tasks.train.choosing import TrainChoices, choose_spec
from napari_unet3d.widgets.panels.segment.form import SegmentForm
from napari_unet3d.widgets.panels.train.form import TrainForm
from tests.support.specs import predict_specs, train_specs
from tests.tasks.test_specs import painted_for

# One form for all that is drawn: what the last value left behind must not be seen in the next one.
one_form = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


@pytest.fixture
def segment_form(qtbot, session):
    form = SegmentForm(session, lambda: None)
    qtbot.addWidget(form.native)
    return form


@pytest.fixture
def train_form(qtbot):
    form = TrainForm(lambda: None)
    for part in (form.main.native, form.more.native, form.also.native):
        qtbot.addWidget(part)
    return form


@one_form
@given(spec=predict_specs())
def test_a_segmentation_that_is_set_is_read_back(segment_form, spec):
    segment_form.spec = spec
    assert segment_form.spec == spec


@one_form
@given(spec=train_specs())
def test_a_training_run_that_is_set_is_read_back(train_form, spec):
    train_form.choices = choices = TrainChoices.of(spec)
    assert train_form.choices == choices
    assert choose_spec(painted_for(spec), train_form.choices) == spec


@one_form
@given(spec=predict_specs())
def test_with_a_model_it_is_read_back_too(segment_form, session, models_folder, spec):
    session.choose_model(models_folder / "two.unet3d")
    segment_form.update_classes()
    segment_form.update_devices()
    segment_form.spec = spec
    segment_form.update_classes()
    segment_form.update_devices()
    assert segment_form.spec == spec


def test_what_is_typed_wins_over_what_was_set(segment_form):
    segment_form.spec = PredictSpec(memory_bytes=3_000_000_001, cleanup=Cleanup(high=0.987654, low=0.1))
    assert segment_form.also_set == "Also set: memory 3,000,000,001 bytes, certain above 0.987654."
    segment_form.memory.value = 1
    segment_form.high.value = 0.9
    assert segment_form.spec == PredictSpec(memory_bytes=1 << 30, cleanup=Cleanup(high=0.9, low=0.1))
    assert segment_form.also_set == ""


def test_what_has_no_field_is_said_and_can_be_dropped(segment_form, train_form):
    segment_form.spec = PredictSpec(tile_shape=(60, 60, 80), region=Box((1, 2), (3, 4), (5, 6)))
    assert segment_form.also_set == "Also set: tiles of 60 x 60 x 80 voxels."
    segment_form.forget()
    assert segment_form.spec == PredictSpec(region=Box((1, 2), (3, 4), (5, 6)))
    assert segment_form.also_set == ""
    train_form.choices = TrainChoices(network={"dropout": 0.5}, given={"patch": (44, 124, 124), "averaging": 0.9})
    assert train_form.also_set == "Also set: dropout 0.5, averaging 0.9, patch 44 x 124 x 124."
    train_form.forget()
    assert train_form.also_set == ""
    assert not {"patch", "averaging"} & set(train_form.choices.given)

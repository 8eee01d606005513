from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_unet3d.core.boxes import Box
from napari_unet3d.network.exactness import conditions, plan_check
from napari_unet3d.network.machine.devices import Device, select_device
from napari_unet3d.network.machine.runtime import load_tensorflow
from napari_unet3d.tasks import speeds
from napari_unet3d.tasks.events import Event, Note, Progress
from napari_unet3d.tasks.segment.check_device import check_device
from napari_unet3d.tasks.segment.segmenting import plan_prediction
from napari_unet3d.tasks.specs import PredictSpec
from tests.support.models import random_model
from tests.support.segmenting import segment

SPEC = PredictSpec(tile_shape=(24, 24, 24), device="cpu")
VOLUME = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
MODEL = random_model(blocks=0, filters=2)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr("napari_unet3d.tasks.speeds.user_cache_path", lambda *_, **__: tmp_path)
    return tmp_path


def run(**changes: object) -> tuple[np.ndarray, list[Event]]:
    events: list[Event] = []
    labels = segment(VOLUME, MODEL, spec=SPEC.model_copy(update=changes), on_event=events.append)
    return labels, events


def checks(events: list[Event]) -> int:
    return sum(isinstance(event, Progress) and event.what == "checking the device" for event in events)


def remember(difference: float) -> None:
    device = select_device("cpu")
    plan = plan_prediction(VOLUME.shape, MODEL, SPEC)
    check = plan_check(MODEL.spec, plan.peak_bytes)
    assert check is not None
    speeds.remember_difference(conditions(device), check.spec, difference)


def test_a_device_is_checked_once_and_an_exact_one_is_no_news():
    events = [run()[1] for _ in range(2)]
    assert [checks(news) for news in events] == [1, 0]
    assert not [event for news in events for event in news if isinstance(event, Note)]


def test_a_device_that_is_not_exact_is_said_in_every_run():
    remember(9e-7)
    for _ in range(2):
        (note,) = [event.text for event in run()[1] if isinstance(event, Note)]
        assert "differ by up to 9e-07 from one pass" in note


def test_a_run_of_one_tile_needs_no_check():
    assert not checks(run(tile_shape=None)[1])


@pytest.fixture
def strict_placement():
    """Let TensorFlow use no other device than the one that it is told to."""
    config = load_tensorflow().config
    before = config.get_soft_device_placement()
    config.set_soft_device_placement(False)
    yield
    config.set_soft_device_placement(before)


@pytest.mark.usefixtures("strict_placement")
def test_a_check_that_the_device_cannot_make_is_no_failure_and_is_made_another_time():
    plan = plan_prediction(VOLUME.shape, MODEL, SPEC)
    # A run that takes more than any machine has, and a device that is gone.
    volume = (1 << 16, 1 << 16, 1 << 16)
    huge = replace(plan, volume_shape=volume, region=Box.whole(volume), input_shape=(1 << 15, 1 << 15, 1 << 15))
    for run_plan, device in ((huge, select_device("cpu")), (plan, Device("gpu:7", "a GPU that is gone"))):
        assert [type(event) for event in check_device(run_plan, device)] == [Progress]
    # What was not found out is not remembered.
    assert [type(event) for event in check_device(plan, select_device("cpu"))] == [Progress]


def test_what_is_kept_of_a_machine_may_be_anything(cache):
    remember(0.0)
    for text in ("", "[]", "{", '{"x": null}'):
        (cache / "speeds.json").write_text(text)
        assert checks(run()[1]) == 1

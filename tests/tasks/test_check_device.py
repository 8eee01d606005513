from __future__ import annotations

import numpy as np
import pytest

from napari_unet3d.network.devices import select_device
from napari_unet3d.network.exactness import conditions, plan_check
from napari_unet3d.tasks import speeds
from napari_unet3d.tasks.events import Event, Note, Progress
from napari_unet3d.tasks.predict import plan_prediction, segment
from napari_unet3d.tasks.specs import PredictSpec
from tests.models import random_model

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


def test_a_check_that_fails_is_no_failure_of_the_run(monkeypatch):
    expected, _ = run()
    monkeypatch.setattr("napari_unet3d.network.exactness.tile_difference", lambda *_, **__: None)
    for _ in range(2):
        labels, events = run(output="labels")
        assert not [event for event in events if isinstance(event, Note)]
        np.testing.assert_array_equal(labels, expected)


def test_what_is_kept_of_a_machine_may_be_anything(cache):
    remember(0.0)
    for text in ("", "[]", "{", '{"x": null}'):
        (cache / "speeds.json").write_text(text)
        assert checks(run()[1]) == 1

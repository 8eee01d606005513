"""When a first tile is there: how small the tiles of a run are, and what that costs."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.normalize import Normalization
from napari_unet3d.core.objects.clean_up import Cleanup
from napari_unet3d.core.tiles.coverage import DoneTiles
from napari_unet3d.core.tiles.plan import plan_tiles
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.network.machine.device import Device
from napari_unet3d.tasks.events import Started, TileDone
from napari_unet3d.tasks.segment.files import predict_file
from napari_unet3d.tasks.segment.planning import plan_glance, plan_run
from napari_unet3d.tasks.segment.predict import Sinks, predict
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.tasks.speeds import known_speed, remember_speed
from napari_unet3d.volumes import Volume, read_volume
from napari_unet3d.volumes.space.calibration import Calibration
from tests.support.identity import AS_IT_IS, Counting, Identity, numbered
from tests.support.models import random_model

CPU = Device("cpu", "CPU, 2 threads")
NETWORK = NetworkSpec()
TINY = NetworkSpec(blocks=1, filters=2)
SOON = PredictSpec(first_result=10.0)


@pytest.fixture(autouse=True)
def _speeds_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_unet3d.tasks.speeds.user_cache_path", lambda *_, **__: tmp_path)


def planned(shape, spec=SOON, network=NETWORK, memory=8 << 30):
    return plan_run(shape, network, spec, CPU, memory=memory)


@given(
    st.tuples(*[st.integers(1, 700)] * 3),
    st.sampled_from([None, 1e9, 3e10, 2e11, 1e14]),
    st.sampled_from([1 << 30, 8 << 30, None]),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_to_see_a_result_soon_costs_at_most_15_percent(monkeypatch, shape, speed, memory):
    monkeypatch.setattr("napari_unet3d.tasks.segment.planning.known_speed", lambda *_: speed)
    least = plan_tiles(shape, NETWORK, memory=memory)
    plan = planned(shape, memory=memory)
    glance = plan_glance(plan, SOON, CPU)
    assert plan.flops + (glance.tile_flops if glance else 0) <= 1.15 * least.flops
    assert plan.flops <= 1.1 * least.flops
    assert memory is None or plan.peak_bytes <= memory
    assert glance is None or (glance.region == plan.region and glance.peak_bytes <= plan.peak_bytes)
    # Where a tile takes longer than asked for, something is seen before.
    if speed is not None and plan.tile_flops > 10 * speed and 0.04 * plan.flops > 2e10:
        assert glance is not None


def test_nobody_who_does_not_ask_gets_smaller_tiles():
    assert planned((303, 303, 303), PredictSpec()) == plan_tiles((303, 303, 303), NETWORK, memory=8 << 30)
    assert plan_glance(planned((303, 303, 303), PredictSpec()), PredictSpec(), CPU) is None
    fixed = PredictSpec(first_result=1.0, tile_shape=(220, 220, 220))
    assert planned((303, 303, 303), fixed).input_shape == (220, 220, 220)
    assert plan_glance(planned((303, 303, 303), fixed), fixed, CPU) is None


def test_a_fast_device_keeps_its_large_tiles_and_a_slow_one_shows_a_small_tile_first():
    least = plan_tiles((303, 303, 303), NETWORK, memory=8 << 30)
    remember_speed(CPU.label, NETWORK, 1e13, least.tile_flops)
    assert planned((303, 303, 303)) == least
    assert plan_glance(least, SOON, CPU) is None
    remember_speed(CPU.label, NETWORK, 2e10, least.tile_flops)
    assert len(planned((303, 303, 303))) > len(least)
    glance = plan_glance(planned((303, 303, 303)), SOON, CPU)
    assert glance.tile_flops <= 10 * 2e10


def test_the_speed_of_a_tiny_tile_does_not_replace_that_of_a_large_one():
    remember_speed(CPU.label, NETWORK, 2e11, 1e12)
    remember_speed(CPU.label, NETWORK, 3e9, 1e8)
    assert known_speed(CPU.label, NETWORK, 2e12) == 2e11
    assert known_speed(CPU.label, NETWORK) == 2e11
    assert known_speed(CPU.label, NETWORK, 2e8) == 3e9
    assert known_speed(CPU.label, TINY) is None


boxes = st.tuples(*[st.integers(0, 39)] * 3).map(lambda at: Box(*((n, n + 1) for n in at)))


@given(focus=st.none() | boxes, tile=st.sampled_from([48, 52, 60]))
@settings(deadline=None, max_examples=25)
def test_a_glance_comes_first_and_changes_no_byte(focus, tile):
    volume = numbered((40, 40, 40))
    sink = Counting(volume.shape)
    plan = plan_tiles(volume.shape, TINY, tile_shape=(68, 60, 80))
    glance = plan_tiles(volume.shape, TINY, tile_shape=(tile,) * 3)
    run = predict(
        volume, Identity(TINY), PredictSpec(), Sinks(sink), plan=plan, scaling=AS_IT_IS, focus=focus, glance=glance
    )
    events = list(run)
    started = [event for event in events if isinstance(event, Started)]
    assert [(event.total, event.is_glance) for event in started] == [(1, True), (len(plan), False)]
    first = next(event for event in events if isinstance(event, TileDone))
    assert first.box in {found.write for found in glance}
    assert focus is None or first.box.intersection(focus).n_voxels
    np.testing.assert_array_equal(sink.values, volume)
    assert sink.written.max() == 2
    assert (sink.written == 2).sum() == first.box.n_voxels


def test_a_glance_without_room_is_left_out():
    volume = numbered((40, 40, 40))
    plan = plan_tiles(volume.shape, TINY, tile_shape=(48, 48, 48))
    large = plan_tiles(volume.shape, TINY, tile_shape=(80, 80, 80))
    sink = Counting(volume.shape)
    predictor = Identity(TINY, room=48**3)
    run = predict(volume, predictor, PredictSpec(), Sinks(sink), plan=plan, scaling=AS_IT_IS, glance=large)
    events = list(run)
    assert any("ran out of memory. The run goes on" in getattr(event, "text", "") for event in events)
    np.testing.assert_array_equal(sink.values, volume)


def test_a_run_that_goes_on_has_no_glance():
    volume = numbered((40, 40, 40))
    plan = plan_tiles(volume.shape, TINY, tile_shape=(48, 48, 48))
    glance = plan_tiles(volume.shape, TINY, tile_shape=(60, 60, 60))
    first = next(iter(plan)).write
    sink = Counting(volume.shape)
    sink[first.slices] = volume[first.slices]
    done = [DoneTiles(plan.input_shape, (first,))]
    run = predict(
        volume, Identity(TINY), PredictSpec(), Sinks(sink), plan=plan, scaling=AS_IT_IS, glance=glance, done=done
    )
    assert not any(event.is_glance for event in run if isinstance(event, Started))
    np.testing.assert_array_equal(sink.values, volume)


def test_what_the_first_tile_takes_to_compile_is_not_counted_in_the_time_left():
    class Compiling(Identity):
        def __call__(self, voxels, what):
            if not self.n_calls:
                time.sleep(1.0)
            return super().__call__(voxels, what)

    volume = numbered((40, 40, 40))
    plan = plan_tiles(volume.shape, TINY, tile_shape=(48, 48, 48))
    run = predict(volume, Compiling(TINY), PredictSpec(), Sinks(Counting(volume.shape)), plan=plan, scaling=AS_IT_IS)
    done = [event for event in run if isinstance(event, TileDone)]
    assert len(done) == 125
    # With the compilation, at least half a second for each of more than 100 tiles.
    assert done[9].seconds_left < 0.1 * (125 - 10)


def test_where_the_speed_is_known_the_time_is_told_at_once_and_after_the_first_tile():
    volume = numbered((40, 40, 40))
    plan = plan_tiles(volume.shape, TINY, tile_shape=(48, 48, 48))
    expected = plan.tile_flops / 3.0
    run = predict(
        volume,
        Identity(TINY),
        PredictSpec(),
        Sinks(Counting(volume.shape)),
        plan=plan,
        scaling=AS_IT_IS,
        expected=expected,
    )
    started = next(run)
    assert started.tile_seconds == pytest.approx(3.0)
    assert next(run).seconds_left == pytest.approx(3.0 * 124)
    run.close()


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".zarr"])
@pytest.mark.parametrize("cleanup", [None, Cleanup(high=0.6, low=0.4, min_voxels=20)])
def test_a_file_with_a_first_look_has_the_bytes_of_one_without(monkeypatch, tmp_path, suffix, cleanup):
    model = random_model(blocks=1, filters=2, normalization=Normalization(kind="zscore"))
    values = np.random.default_rng(0).gamma(2, 300, (40, 130, 140)).astype(np.uint16)
    volume = Volume(data=values, calibration=Calibration((1.0, 1.0, 1.0), "um"))
    monkeypatch.setattr("napari_unet3d.tasks.segment.planning.known_speed", lambda *_: 1e6)
    results = []
    for name, first_result in (("plain", None), ("soon", 0.001)):
        spec = PredictSpec(first_result=first_result, cleanup=cleanup, memory_bytes=1 << 30)
        path = tmp_path / f"{name}{suffix}"
        events = list(predict_file(volume, model, spec, path))
        assert any(getattr(event, "is_glance", False) for event in events) == (first_result is not None)
        results.append(np.asarray(read_volume(path).data[:, :, :]))
    np.testing.assert_array_equal(*results)
    assert results[0].any()

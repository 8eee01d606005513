"""The laws of the pipeline, with a network that gives what it is given: any shape, and no TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.objects.clean_up import Cleanup
from napari_unet3d.core.tiles.coverage import DoneTiles
from napari_unet3d.core.unet.layers import levels_of
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import OutOfMemoryError, SpecError, VolumeError
from napari_unet3d.tasks.driving import drive
from napari_unet3d.tasks.events import Note, Progress, Started, TileDone
from napari_unet3d.tasks.segment.predict import Sinks
from napari_unet3d.tasks.specs import PredictSpec
from tests.support.identity import Counting, Identity, numbered, pipeline, pipeline_threads, plan_of

MANY = settings(max_examples=60, deadline=None)
ONE = NetworkSpec(blocks=1, filters=2)


@st.composite
def regions(draw, shape):
    starts = [draw(st.integers(0, n - 1)) for n in shape]
    return Box(*((start, draw(st.integers(start + 1, n))) for start, n in zip(starts, shape, strict=True)))


@st.composite
def tiles(draw, network, region):
    """Draw a tile that can lie beside others, or covers its axis from the grid of the poolings on."""
    geometry = network.geometry
    sizes = []
    for (start, stop), least, step, lost in zip(
        region, geometry.smallest, geometry.alignment, geometry.halo, strict=True
    ):
        is_alone = least - 2 * lost >= stop - start // step * step
        sizes.append(least + step * draw(st.integers(0 if is_alone else 1, 3)))
    return tuple(sizes)


@st.composite
def runs(draw):
    """Draw a volume, an identity network and the choices for a run."""
    blocks = draw(st.integers(0, 2))
    network = NetworkSpec(levels=levels_of(blocks, flat=draw(st.integers(0, blocks + 1))), filters=2)
    shape = draw(st.tuples(*[st.integers(1, 40)] * 3))
    volume = numbered(shape, draw(st.integers(0, 99)))
    region = draw(st.none() | regions(shape))
    spec = PredictSpec(region=region, tile_shape=draw(tiles(network, region or Box.whole(shape))))
    focus = draw(st.none() | regions(shape))
    return volume, network, spec, focus


def expected(volume, spec):
    return volume if spec.region is None else volume[spec.region.slices]


@given(runs())
@MANY
def test_an_identity_network_returns_the_volume_and_every_voxel_is_written_once(run):
    volume, network, spec, focus = run
    want = expected(volume, spec)
    sink, predictor = Counting(want.shape), Identity(network)
    events = list(pipeline(volume, predictor, network, spec, Sinks(sink), focus=focus))
    np.testing.assert_array_equal(sink.values, want)
    assert (sink.written == 1).all()
    (started,) = [event for event in events if isinstance(event, Started)]
    done = [event for event in events if isinstance(event, TileDone)]
    assert started.total == len(done) == predictor.n_calls == len(plan_of(volume, network, spec))
    assert [event.done for event in done] == list(range(1, len(done) + 1))
    assert sum(event.box.n_voxels for event in done) == want.size
    assert pipeline_threads() == []


@given(runs())
@MANY
def test_what_is_looked_at_comes_first(run):
    volume, network, spec, focus = run
    want = expected(volume, spec)
    events = pipeline(volume, Identity(network), network, spec, Sinks(np.zeros(want.shape, np.uint8)), focus=focus)
    corner = (0, 0, 0) if spec.region is None else [start for start, _ in spec.region]
    boxes = [event.box.shifted(tuple(corner)) for event in events if isinstance(event, TileDone)]
    if focus is not None:
        meets = [box.intersection(focus).n_voxels > 0 for box in boxes]
        assert meets == sorted(meets, reverse=True)


@given(runs(), st.data())
@MANY
def test_a_stopped_run_keeps_what_is_done_and_goes_on_with_any_tiles(run, data):
    volume, network, spec, focus = run
    want = expected(volume, spec)
    sink, boxes = Counting(want.shape), []
    n = data.draw(st.integers(0, len(plan_of(volume, network, spec))), label="tiles done")
    events = pipeline(volume, Identity(network), network, spec, Sinks(sink), focus=focus)
    for event in events:
        if isinstance(event, TileDone):
            boxes.append(event.box)
        if len(boxes) >= n:
            break
    events.close()
    assert pipeline_threads() == []
    for box in boxes:
        np.testing.assert_array_equal(sink.values[box.slices], want[box.slices])
    assert sink.written.max() <= 1
    same = data.draw(st.booleans(), label="the same tiles")
    other = (
        spec
        if same
        else spec.model_copy(update={"tile_shape": data.draw(tiles(network, spec.region or Box.whole(volume.shape)))})
    )
    done = [DoneTiles(spec.tile_shape, tuple(boxes))] if boxes else []
    before = sink.written.copy()
    told = list(pipeline(volume, Identity(network), network, other, Sinks(sink), done=done))
    np.testing.assert_array_equal(sink.values, want)
    if same:
        for box in boxes:
            assert (sink.written[box.slices] == before[box.slices]).all()
        assert sum(isinstance(event, TileDone) for event in told) == len(plan_of(volume, network, spec)) - len(boxes)


@given(st.tuples(*[st.integers(20, 70)] * 3), st.integers(0, 6), st.integers(0, 1))
@settings(max_examples=30, deadline=None)
def test_out_of_memory_shrinks_the_tiles_and_loses_nothing(shape, patience, blocks):
    network = NetworkSpec(blocks=blocks, filters=2)
    volume = numbered(shape)
    spec = PredictSpec(memory_bytes=1 << 28)
    whole = plan_of(volume, network, spec)
    room = int(np.prod(whole.input_shape)) - 1
    sink, predictor = Counting(shape), Identity(network, room=room, patience=patience)
    events = list(pipeline(volume, predictor, network, spec, Sinks(sink)))
    np.testing.assert_array_equal(sink.values, volume)
    starts = [event for event in events if isinstance(event, Started)]
    assert [event.peak_bytes for event in starts] == sorted({e.peak_bytes for e in starts}, reverse=True)
    assert len(starts) == 1 + sum("ran out of memory" in e.text for e in events if isinstance(e, Note))
    done = sum(event.box.n_voxels for event in events if isinstance(event, TileDone))
    assert done == sink.written.sum() >= volume.size
    assert pipeline_threads() == []


def test_no_memory_at_all_is_an_error_after_three_smaller_plans():
    volume = numbered((60, 60, 60))
    run, told = pipeline(volume, Identity(ONE, room=0), ONE, PredictSpec(), Sinks(Counting(volume.shape))), []
    with pytest.raises(OutOfMemoryError, match="no memory left"):
        drive(run, told.append)
    assert sum(isinstance(event, Started) for event in told) == 4
    assert pipeline_threads() == []


class Broken:
    """A volume, or a result, that fails at its nth box."""

    def __init__(self, values, at: int) -> None:
        self._values, self._left = values, at
        self.shape, self.dtype = values.shape, values.dtype

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise VolumeError("damaged")

    def __getitem__(self, box):
        self._count()
        return self._values[box]

    def __setitem__(self, box, values) -> None:
        self._count()
        self._values[box] = values


@given(st.integers(0, 12), st.sampled_from(["reading", "computing", "writing"]))
@MANY
def test_an_error_in_any_thread_reaches_the_caller_and_the_threads_end(at, where):
    volume = numbered((30, 31, 52))
    spec = PredictSpec(tile_shape=(48, 48, 48))
    assert len(plan_of(volume, ONE, spec)) > 13
    result = np.full(volume.shape, 255, np.uint8)

    class Failing(Identity):
        def __call__(self, voxels, what):
            if self.n_calls >= at:
                raise VolumeError("damaged")
            return super().__call__(voxels, what)

    source = Broken(volume, at) if where == "reading" else volume
    sink = Broken(result, at) if where == "writing" else result
    predictor = Failing(ONE) if where == "computing" else Identity(ONE)
    boxes = []
    run = pipeline(source, predictor, ONE, spec, Sinks(sink))
    with pytest.raises(VolumeError, match="damaged"):
        boxes.extend(event.box for event in run if isinstance(event, TileDone))
    assert pipeline_threads() == []
    # What was written is right, whoever was told of it.
    assert ((result == volume) | (result == 255)).all()


def test_evidence_in_a_sink_of_its_own_lets_the_classes_be_seen_and_gives_the_same_objects():
    volume = numbered((30, 31, 32))
    spec = PredictSpec(tile_shape=(48, 48, 48), cleanup=Cleanup(high=0.7, low=0.5, min_voxels=4, instances=True))
    alone, shown = np.zeros(volume.shape, np.uint32), np.zeros(volume.shape, np.uint32)
    kept = np.zeros(volume.shape, np.uint8)
    list(pipeline(volume, Identity(ONE), ONE, spec, Sinks(alone)))
    before = None
    for event in pipeline(volume, Identity(ONE), ONE, spec, Sinks(shown, kept)):
        if isinstance(event, Progress) and before is None:
            before = shown.copy()
    np.testing.assert_array_equal(before, volume / np.float32(255) > 0.5)
    np.testing.assert_array_equal(kept > 0, before > 0)
    np.testing.assert_array_equal(shown, alone)
    assert alone.max() > 1


def test_a_sink_of_another_shape_is_refused_before_anything_is_read():
    volume = Broken(numbered((9, 9, 9)), 0)
    with pytest.raises(SpecError, match="the output that was passed"):
        next(
            pipeline(
                volume,
                Identity(NetworkSpec(blocks=0)),
                NetworkSpec(blocks=0),
                PredictSpec(),
                Sinks(np.zeros((2, 2, 2), np.uint8)),
            )
        )

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.normalize import Normalization, measure
from napari_unet3d.core.objects.clean_up import Cleanup
from napari_unet3d.core.tiles.coverage import DoneTiles
from napari_unet3d.core.tiles.plan import plan_tiles
from napari_unet3d.errors import ModelError, OutOfMemoryError, SizeError, SpecError, VolumeError
from napari_unet3d.network.machine.devices import Precision
from napari_unet3d.network.model import Model
from napari_unet3d.network.predictor import Predictor
from napari_unet3d.tasks.events import Note, Progress, Started, TileDone
from napari_unet3d.tasks.segment.predict import Sinks
from napari_unet3d.tasks.segment.segmenting import segment_into
from napari_unet3d.tasks.specs import PredictSpec
from tests.support.models import exact_in_bfloat16, logits_of, random_model
from tests.support.segmenting import segment


def one_pass(volume: np.ndarray, model: Model, precision: Precision = "float32") -> np.ndarray:
    """Return the logits of the reflected volume in a single pass: the slow reference, without any tile."""
    geometry = model.spec.geometry
    inputs = geometry.input_shape_for(volume.shape[:3])
    pads = [(lost, size - lost - n) for lost, size, n in zip(geometry.halo, inputs, volume.shape[:3], strict=True)]
    pads += [(0, 0)] * (volume.ndim - 3)
    scaled = measure(model.card.normalization, volume).apply(volume)
    padded = np.pad(scaled, [*pads[:3], (0, 0)], mode="symmetric")
    z, y, x = volume.shape[:3]
    return logits_of(model, padded, precision)[:z, :y, :x]


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


# Every shape is a graph to be compiled, so there are few examples, and a failure is not shrunk.
FEW = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
NETWORKS = [
    {"blocks": 1, "filters": 2},
    {"blocks": 1, "filters": 8},
    {"blocks": 1, "filters": 3, "classes": 4, "channels": 2},
    {"blocks": 2, "filters": 2},
    {"blocks": 2, "filters": 4, "classes": 4},
    {"blocks": 3, "filters": 1, "channels": 2},
    {"blocks": 1, "flat": 1, "filters": 8, "channels": 2},
    {"blocks": 2, "flat": 2, "filters": 4, "classes": 3},
    {"blocks": 1, "flat": 2, "filters": 3},
]


LAWS = [pytest.param(choices, "float32", id=f"{choices}") for choices in NETWORKS]
LAWS += [pytest.param(NETWORKS[n], "bfloat16", id=f"{NETWORKS[n]} fast", marks=exact_in_bfloat16) for n in (1, 2, 4, 7)]


@pytest.mark.parametrize(("choices", "precision"), LAWS)
@given(data=st.data())
@FEW
def test_tiles_of_any_shape_give_the_bytes_of_one_pass(choices, precision, data):
    model = random_model(**choices, normalization=Normalization(kind="zscore"))
    geometry = model.spec.geometry
    longest = 24 if model.spec.blocks == 3 else 44
    shape = data.draw(st.tuples(*[st.integers(1, longest)] * 3), label="shape")
    tile = tuple(
        smallest + step * data.draw(st.integers(0 if smallest - 2 * lost >= n else 1, 3))
        for n, smallest, step, lost in zip(shape, geometry.smallest, geometry.alignment, geometry.halo, strict=True)
    )
    channels = () if model.spec.channels == 1 else (model.spec.channels,)
    volume = np.random.default_rng(1).gamma(2, 300, (*shape, *channels)).astype(np.uint16)
    logits = one_pass(volume, model, precision)
    labels = segment(volume, model, spec=PredictSpec(tile_shape=tile, precision=precision))
    np.testing.assert_array_equal(labels, logits.argmax(-1).astype(np.uint8))
    in_one = plan_tiles(shape, model.spec).input_shape
    spec = PredictSpec(output="probabilities", tile_shape=tile, precision=precision)
    probabilities = segment(volume, model, spec=spec)
    whole = segment(volume, model, spec=spec.model_copy(update={"tile_shape": in_one}))
    assert probabilities.tobytes() == whole.tobytes()
    np.testing.assert_allclose(probabilities, softmax(logits), atol=1e-6)


@pytest.fixture(scope="module")
def model() -> Model:
    return random_model(blocks=1, filters=2, normalization=Normalization(kind="zscore"))


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    return np.random.default_rng(2).gamma(2, 300, (30, 41, 52)).astype(np.uint16)


@pytest.fixture(scope="module")
def whole(volume, model) -> np.ndarray:
    labels = segment(volume, model)
    assert 0.02 < labels.mean() < 0.98
    return labels


@pytest.mark.parametrize("mebibytes", [12, 24, 400])
def test_any_memory_budget_gives_the_same_bytes(volume, model, whole, mebibytes):
    events = []
    spec = PredictSpec(memory_bytes=mebibytes << 20)
    labels = segment(volume, model, spec=spec, on_event=events.append)
    assert labels.tobytes() == whole.tobytes()
    assert all(e.peak_bytes <= mebibytes << 20 for e in events if isinstance(e, Started))


@given(st.tuples(st.integers(0, 29), st.integers(0, 40), st.integers(0, 51)), st.data())
@FEW
def test_a_region_gives_that_part_of_the_whole(volume, model, whole, starts, data):
    region = Box(*((a, data.draw(st.integers(a + 1, n))) for a, n in zip(starts, volume.shape, strict=True)))
    part = segment(volume, model, spec=PredictSpec(region=region, memory_bytes=40 << 20))
    np.testing.assert_array_equal(part, whole[region.slices])


def test_every_tile_is_told_when_it_is_written(volume, model, whole):
    sink = np.full(volume.shape, 255, np.uint8)
    events = []
    for event in segment_into(volume, model, PredictSpec(tile_shape=(48, 48, 48)), Sinks(sink)):
        events.append(event)
        if isinstance(event, TileDone):
            np.testing.assert_array_equal(sink[event.box.slices], whole[event.box.slices])
    done = [e for e in events if isinstance(e, TileDone)]
    assert [e.done for e in done] == list(range(1, len(done) + 1))
    assert {e.total for e in done} == {len(done)} == {e.total for e in events if isinstance(e, Started)}
    assert done[-1].seconds_left == 0


def test_a_run_that_is_stopped_keeps_what_is_done_and_leaves_no_thread(volume, model, whole):
    sink = np.full(volume.shape, 255, np.uint8)
    run = segment_into(volume, model, PredictSpec(tile_shape=(48, 48, 48)), Sinks(sink))
    box = next(event.box for event in run if isinstance(event, TileDone))
    run.close()
    np.testing.assert_array_equal(sink[box.slices], whole[box.slices])
    assert (sink == 255).any()
    assert not [t for t in threading.enumerate() if t.name.startswith(("unet3d-reader", "unet3d-writer"))]


def test_a_stopped_run_goes_on_with_other_tiles_and_ends_with_the_same_bytes(volume, model, whole):
    sink = np.full(volume.shape, 255, np.uint8)
    first = PredictSpec(tile_shape=(48, 48, 48))
    run = segment_into(volume, model, first, Sinks(sink))
    boxes = [event.box for event, _ in zip((e for e in run if isinstance(e, TileDone)), range(130), strict=False)]
    run.close()
    done = (DoneTiles((48, 48, 48), tuple(boxes)),)
    # A voxel that was done and is changed now shows that it is not computed again.
    sink[boxes[0].slices] = 77
    again = list(segment_into(volume, model, first, Sinks(sink), done=done))
    (started,) = [e for e in again if isinstance(e, Started)]
    assert started.total == len(plan_tiles(volume.shape, model.spec, tile_shape=(48, 48, 48))) - 130
    assert (sink[boxes[0].slices] == 77).all()
    sink[boxes[0].slices] = whole[boxes[0].slices]
    assert sink.tobytes() == whole.tobytes()
    larger = list(segment_into(volume, model, PredictSpec(tile_shape=(60, 60, 60)), Sinks(sink), done=done))
    assert (
        0
        < sum(isinstance(e, TileDone) for e in larger)
        < len(plan_tiles(volume.shape, model.spec, tile_shape=(60, 60, 60)))
    )
    assert sink.tobytes() == whole.tobytes()


def test_a_region_that_was_stopped_goes_on_too(volume, model, whole):
    region = Box((3, 27), (5, 39), (9, 50))
    spec = PredictSpec(tile_shape=(48, 48, 48), region=region)
    sink = np.zeros(region.shape, np.uint8)
    run = segment_into(volume, model, spec, Sinks(sink))
    boxes = [event.box for event, _ in zip((e for e in run if isinstance(e, TileDone)), range(5), strict=False)]
    run.close()
    rest = list(segment_into(volume, model, spec, Sinks(sink), done=[DoneTiles((48, 48, 48), tuple(boxes))]))
    assert not {e.box for e in rest if isinstance(e, TileDone)} & set(boxes)
    np.testing.assert_array_equal(sink, whole[region.slices])


def test_the_tiles_that_are_looked_at_come_first_and_the_bytes_are_the_same(volume, model, whole):
    focus = Box((20, 21), (30, 41), (0, 20))
    sink = np.zeros(volume.shape, np.uint8)
    spec = PredictSpec(tile_shape=(48, 48, 48))
    events = list(segment_into(volume, model, spec, Sinks(sink), focus=focus))
    meets = [e.box.intersection(focus).n_voxels > 0 for e in events if isinstance(e, TileDone)]
    assert meets == sorted(meets, reverse=True)
    assert meets[0]
    assert not meets[-1]
    assert sink.tobytes() == whole.tobytes()


def test_with_a_scratch_the_classes_of_finished_tiles_are_seen_before_clean_up(volume, model):
    # More voxels than any object has: clean-up leaves nothing of what was seen.
    cleanup = Cleanup(high=0.6, low=0.4, min_voxels=10**6)
    expected = segment(volume, model, spec=PredictSpec(cleanup=cleanup))
    assert not expected.any()
    sink, scratch = np.zeros(volume.shape, np.uint8), np.zeros(volume.shape, np.uint8)
    before = None
    for event in segment_into(volume, model, PredictSpec(cleanup=cleanup), Sinks(sink, scratch)):
        if isinstance(event, Progress) and before is None:
            before = sink.copy()
    assert before is not None
    np.testing.assert_array_equal(before, (scratch > 0).astype(np.uint8))
    assert before.any()
    np.testing.assert_array_equal(sink, expected)
    # What is cleaned up already can be cleaned up again from the scratch.
    done = [
        DoneTiles(event.input_shape, (Box.whole(volume.shape),)) for event in [plan_tiles(volume.shape, model.spec)]
    ]
    list(segment_into(volume, model, PredictSpec(cleanup=cleanup), Sinks(sink, scratch), done=done))
    np.testing.assert_array_equal(sink, expected)


class ShortOfMemory:
    """A predictor without room for inputs of more than `room` voxels, once `patience` tiles are done."""

    def __init__(self, predictor: Predictor, room: int, patience: int) -> None:
        self.predictor, self.room, self.patience = predictor, room, patience

    def __call__(self, voxels, what):
        if np.prod(voxels.shape[:3]) > self.room and self.patience <= 0:
            raise OutOfMemoryError("no memory left")
        self.patience -= 1
        return self.predictor(voxels, what)


@pytest.fixture
def short_of_memory(monkeypatch):
    """Return a function that takes the memory away from what computes."""

    def take_away(*, room: int, patience: int = 0) -> None:
        def short(model, device):
            return ShortOfMemory(Predictor(model, device), room, patience)

        monkeypatch.setattr("napari_unet3d.network.predictor.predictor_of", short)

    return take_away


def test_out_of_memory_gives_a_smaller_plan_and_the_same_bytes(volume, model, whole, short_of_memory):
    short_of_memory(room=72**3)
    events = []
    labels = segment(volume, model, spec=PredictSpec(memory_bytes=30 << 20), on_event=events.append)
    assert labels.tobytes() == whole.tobytes()
    starts = [e for e in events if isinstance(e, Started)]
    assert len(starts) > 1
    assert starts[-1].peak_bytes < starts[0].peak_bytes
    assert any("ran out of memory" in e.text for e in events if isinstance(e, Note))


def test_tiles_that_were_done_before_memory_ran_out_are_not_computed_again(volume, model, short_of_memory):
    short_of_memory(room=60**3, patience=4)
    sink = np.zeros(volume.shape, np.uint8)
    written = np.zeros(volume.shape, int)
    done_before = []
    second = False
    for event in segment_into(volume, model, PredictSpec(tile_shape=(60, 60, 64)), Sinks(sink)):
        second = second or (isinstance(event, Note) and "ran out" in event.text)
        if isinstance(event, TileDone):
            written[event.box.slices] += 1
            if not second:
                done_before.append(event.box)
    assert len(done_before) == 4
    assert written.min() == 1
    assert all(not (written[box.slices] > 1).all() for box in done_before)


def test_a_device_without_any_room_is_tried_with_three_smaller_plans_and_no_more(model, short_of_memory):
    short_of_memory(room=0)
    events = []
    with pytest.raises(OutOfMemoryError, match="no memory left"):
        segment(np.zeros((90, 90, 90), np.uint8), model, on_event=events.append)
    assert sum(isinstance(e, Started) for e in events) == 4


def test_a_device_without_room_for_the_smallest_tile_says_so(model, short_of_memory):
    short_of_memory(room=0)
    with pytest.raises(OutOfMemoryError, match="no memory left for the smallest tile"):
        segment(np.zeros((1, 1, 1), np.uint8), model)


def test_a_volume_thinner_than_a_voxel_pair_and_one_of_a_single_voxel_are_segmented(model):
    rng = np.random.default_rng(0)
    for shape in [(1, 40, 40), (1, 1, 1), (3, 1, 60)]:
        voxels = rng.normal(0, 1, shape).astype(np.float32)
        np.testing.assert_array_equal(segment(voxels, model), one_pass(voxels, model).argmax(-1))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_voxels_that_are_not_finite_are_refused_or_taken_for_background(volume, model, bad):
    image = volume.astype(np.float32)
    image[3, 4, 5:8] = bad
    with pytest.raises(VolumeError, match="beyond float32: 3 voxels in 0:30"):
        segment(image, model)
    events = []
    labels = segment(
        image, model, spec=PredictSpec(nonfinite="background", tile_shape=(48,) * 3), on_event=events.append
    )
    assert "3 voxels are not finite" in next(e.text for e in events if isinstance(e, Note))
    mended = image.copy()
    mended[3, 4, 5:8] = np.float32(measure(model.card.normalization, image).offset[0])
    expected = segment(mended, model, spec=PredictSpec(tile_shape=(48,) * 3))
    assert (labels != expected).mean() < 1e-3


def test_a_number_beyond_float32_is_found_too(volume, model):
    image = volume.astype(np.float64)
    image[1, 2, 3] = 1e300
    with pytest.raises(VolumeError, match="1 voxels"):
        segment(image, model)


def test_a_region_that_leaves_the_volume_is_refused(volume, model):
    for region in (Box((0, 40), (0, 9), (0, 9)), Box((-2, 9), (0, 9), (0, 9)), Box((5, 5), (0, 9), (0, 9))):
        with pytest.raises(SizeError, match="empty or leaves the volume"):
            segment(volume, model, spec=PredictSpec(region=region))


@pytest.mark.parametrize("wrong", [np.zeros((4, 4)), np.zeros((2, 2, 2, 2, 2)), [1, 2], None])
def test_what_is_no_volume_is_refused(model, wrong):
    with pytest.raises(VolumeError, match="was passed"):
        segment(wrong, model)


def test_a_constant_volume_is_segmented_with_a_note(model):
    events = []
    labels = segment(np.full((9, 9, 9), 7, np.uint16), model, on_event=events.append)
    assert len(np.unique(labels)) == 1
    assert "the same value 7" in next(e.text for e in events if isinstance(e, Note))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64", "float64", ">u2"])
def test_any_real_type_gives_what_its_numbers_give_as_float32(model, dtype):
    image = np.random.default_rng(4).integers(0, 2 if dtype == "bool" else 100, (9, 10, 11))
    np.testing.assert_array_equal(segment(image.astype(dtype), model), segment(image.astype(np.float32), model))


def test_an_error_while_reading_reaches_the_caller_and_ends_the_threads(volume, model):
    class Broken:
        shape = volume.shape
        n_reads = 0

        def __getitem__(self, index):
            self.n_reads += 1
            if self.n_reads > 3:
                raise VolumeError("damaged at plane 7")
            return volume[index]

    with pytest.raises(VolumeError, match="plane 7"):
        segment(Broken(), model, spec=PredictSpec(tile_shape=(48,) * 3))
    assert not [t for t in threading.enumerate() if t.name.startswith(("unet3d-reader", "unet3d-writer"))]


def test_an_error_while_writing_reaches_the_caller(volume, model):
    class Full:
        shape = volume.shape

        def __setitem__(self, index, values):
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        list(segment_into(volume, model, PredictSpec(), Sinks(Full())))


def test_clean_up_is_that_of_the_whole_volume(volume, model):
    cleanup = Cleanup(high=0.7, low=0.5, min_voxels=5)
    labels = segment(volume, model, spec=PredictSpec(cleanup=cleanup, tile_shape=(48,) * 3))
    from skimage.filters import apply_hysteresis_threshold
    from skimage.measure import label

    p = 1 - segment(volume, model, spec=PredictSpec(output="probabilities"))[..., 0]
    kept = apply_hysteresis_threshold(p, 0.5, 0.7)
    components = label(kept, connectivity=1)
    sizes = np.bincount(components.ravel())
    np.testing.assert_array_equal(labels > 0, kept & (sizes[components] >= 5))
    instances = segment(volume, model, spec=PredictSpec(cleanup=cleanup.model_copy(update={"instances": True})))
    assert instances.dtype == np.uint32
    np.testing.assert_array_equal(instances > 0, labels > 0)
    assert instances.max() == (np.bincount(components[kept].ravel()) >= 5).sum()


def test_an_image_with_other_channels_is_refused_with_both_numbers(model):
    with pytest.raises(ModelError, match="takes images with 1 channel; the image has 3 channels"):
        segment(np.zeros((9, 9, 9, 3), np.uint8), model)


def test_a_result_of_another_shape_is_refused(volume, model):
    with pytest.raises(SpecError, match="the output that was passed"):
        list(segment_into(volume, model, PredictSpec(), Sinks(np.zeros((2, 2, 2), np.uint8))))


def test_choices_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="cannot be asked for together"):
        PredictSpec(output="probabilities", cleanup=Cleanup())
    with pytest.raises(ValueError, match="device"):
        PredictSpec(device="tpu")
    assert PredictSpec.model_validate_json(
        PredictSpec(region=Box((0, 1), (0, 2), (1, 3))).model_dump_json()
    ).region == Box((0, 1), (0, 2), (1, 3))

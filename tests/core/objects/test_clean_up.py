"""Clean-up in blocks against the same on the whole array."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold
from skimage.morphology import remove_small_objects

from napari_unet3d.core.objects.clean_up import Cleanup, clean_up, evidence
from napari_unet3d.errors import SpecError

CLEANUP = Cleanup(min_voxels=4)
cleanups = st.builds(
    lambda thresholds, min_voxels, connectivity, instances: Cleanup(
        low=min(thresholds),
        high=max(thresholds),
        min_voxels=min_voxels,
        connectivity=connectivity,
        instances=instances,
    ),
    st.tuples(*[st.sampled_from([0.0, 0.2, 0.5, 0.8, 0.98, 1.0])] * 2),
    st.integers(0, 12),
    st.sampled_from([6, 18, 26]),
    st.booleans(),
)
shapes = st.tuples(st.integers(1, 12), st.integers(1, 7), st.integers(1, 7))


def clumped_probabilities(shape, classes=2, seed=0):
    """Return (z, y, x, classes) float32: smooth enough for components that reach over slabs."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((*shape, classes)), (0.8, 0.8, 0.8, 0))
    exponentials = np.exp(8 * noise)
    return (exponentials / exponentials.sum(-1, keepdims=True)).astype(np.float32)


def cleaned(found, cleanup, block_voxels=1, dtype=np.uint16):
    out = np.full(found.shape, 7, dtype)
    for _ in clean_up(found, out, cleanup, block_voxels=block_voxels):
        pass
    return out


def cleaned_at_once(probabilities, cleanup):
    """Return the objects of the whole array, (z, y, x) bool, the slow and obvious way."""
    objects = 1 - probabilities[..., 0]
    labels, n = ndimage.label(objects > cleanup.low, cleanup.structure)
    stays = np.zeros_like(objects, bool)
    for label in range(1, n + 1):
        component = labels == label
        if (objects[component] > cleanup.high).any() and component.sum() >= cleanup.min_voxels:
            stays |= component
    return stays


@given(shapes, st.integers(2, 5), st.integers(0, 2**32 - 1), cleanups, st.integers(1, 600))
@settings(deadline=None)
def test_blocks_of_any_shape_give_what_the_whole_array_gives(shape, classes, seed, cleanup, block_voxels):
    probabilities = clumped_probabilities(shape, classes, seed)
    out = cleaned(evidence(probabilities, cleanup), cleanup, block_voxels)
    stays = cleaned_at_once(probabilities, cleanup)
    if cleanup.instances:
        labels, _ = ndimage.label(stays, cleanup.structure)
        _, first = np.unique(labels, return_index=True)
        in_raster_order = [labels.flat[i] for i in np.sort(first) if labels.flat[i]]
        expected = np.zeros(shape, int)
        for number, label in enumerate(in_raster_order, start=1):
            expected[labels == label] = number
    else:
        expected = np.where(stays, probabilities[..., 1:].argmax(-1) + 1, 0)
    np.testing.assert_array_equal(out, expected)


@given(shapes, st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 600))
@settings(deadline=None)
def test_two_classes_agree_with_scikit_image(shape, seed, min_voxels, block_voxels):
    cleanup = Cleanup(high=0.9, min_voxels=min_voxels)
    probabilities = clumped_probabilities(shape, seed=seed)
    grown = apply_hysteresis_threshold(1 - probabilities[..., 0], cleanup.low, cleanup.high)
    expected = remove_small_objects(grown, max_size=min_voxels - 1)
    np.testing.assert_array_equal(cleaned(evidence(probabilities, cleanup), cleanup, block_voxels), expected)


@given(shapes, st.integers(0, 2**32 - 1), cleanups, st.sampled_from([np.uint8, np.uint16, np.int32]))
@settings(deadline=None)
def test_in_place_gives_the_same(shape, seed, cleanup, dtype):
    found = evidence(clumped_probabilities(shape, 3, seed), cleanup)
    in_place = found.astype(dtype)
    for _ in clean_up(in_place, in_place, cleanup, block_voxels=40):
        pass
    np.testing.assert_array_equal(in_place, cleaned(found, cleanup, 40))


@given(st.integers(2, 127), st.integers(0, 2**32 - 1), cleanups)
@settings(deadline=None)
def test_evidence_tells_strong_from_weak_and_keeps_the_class(classes, seed, cleanup):
    probabilities = clumped_probabilities((3, 4, 5), classes, seed)
    found = evidence(probabilities, cleanup)
    objects = 1 - probabilities[..., 0]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found > 0, objects > cleanup.low)
    np.testing.assert_array_equal((found > 0) & (found % 2 == 0), objects > cleanup.high)
    k = (found.astype(int) + 1) // 2
    np.testing.assert_array_equal(k[found > 0], 1 + probabilities[..., 1:].argmax(-1)[found > 0])


def test_a_seed_some_blocks_away_keeps_a_component_and_a_missing_voxel_loses_it():
    weak_column = np.ones((5, 1, 1), np.uint8)
    weak_column[4] = 2
    cleanup = Cleanup(min_voxels=5)
    assert cleaned(weak_column, cleanup).sum() == 5
    weak_column[2] = 0
    assert cleaned(weak_column, cleanup).sum() == 0
    assert cleaned(weak_column, Cleanup(min_voxels=2))[:, 0, 0].tolist() == [0, 0, 0, 1, 1]


def test_arms_that_meet_in_a_later_block_are_one_instance():
    fork = np.zeros((3, 1, 5), np.uint8)
    fork[:2, 0, [0, 2, 4]] = 2
    fork[2, 0, 2:] = 1
    numbered = cleaned(fork, Cleanup(min_voxels=1, instances=True))
    assert numbered[:, 0].tolist() == [[1, 0, 2, 0, 2], [1, 0, 2, 0, 2], [0, 0, 2, 2, 2]]


def test_nothing_found_leaves_background_everywhere():
    for shape in [(4, 3, 2), (1, 1, 1), (0, 4, 4), (4, 0, 4)]:
        for instances in (False, True):
            out = cleaned(np.zeros(shape, np.uint8), Cleanup(instances=instances))
            assert not out.any()


def test_the_safe_points_count_both_passes_and_only_the_second_one_writes():
    found = np.full((3, 2, 2), 2, np.uint8)
    out = np.full(found.shape, 9, np.uint8)
    passes = clean_up(found, out, CLEANUP, block_voxels=4)
    assert [next(passes) for _ in range(3)] == [(1, 6), (2, 6), (3, 6)]
    assert (out == 9).all()
    assert list(passes) == [(4, 6), (5, 6), (6, 6)]
    assert (out == 1).all()


def test_more_instances_than_the_output_can_number_are_refused_before_anything_is_written():
    points = np.zeros((2, 32, 32), np.uint8)
    points[0, ::2, ::2] = 2
    cleanup = Cleanup(min_voxels=1, instances=True)
    out = np.full(points.shape, 9, np.uint8)
    with pytest.raises(SpecError, match=r"There are 256 objects, but labels of type uint8 .* 255.*uint16"):
        list(clean_up(points, out, cleanup))
    assert (out == 9).all()
    assert cleaned(points, cleanup).max() == 256


def test_memory_is_bounded_by_the_block(tmp_path):
    shape, slab = (80, 256, 256), 8 * 256 * 256
    found = np.lib.format.open_memmap(tmp_path / "found.npy", "w+", np.uint8, shape)
    found[:, ::8, ::8] = 2
    tracemalloc.start()
    for _ in clean_up(found, found, CLEANUP, block_voxels=slab):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * slab


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"low": 0.5, "high": 0.4}, "low is 0.5, above high, 0.4"),
        ({"low": -0.1}, "low"),
        ({"high": 1.5}, "high"),
        ({"high": float("nan")}, "high"),
        ({"connectivity": 8}, "connectivity"),
        ({"min_voxels": -1}, "min_voxels"),
        ({"threshold": 0.5}, "threshold"),
    ],
)
def test_choices_that_make_no_sense_are_refused(choices, message):
    with pytest.raises(ValidationError, match=message):
        Cleanup(**choices)


def test_a_cleanup_survives_its_json():
    cleanup = Cleanup(low=0.3, connectivity=26, instances=True)
    assert Cleanup.model_validate_json(cleanup.model_dump_json()) == cleanup


def test_arrays_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 2, 2\), but the output has \(2, 2, 3\)"):
        next(clean_up(np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8), CLEANUP))
    with pytest.raises(ValueError, match="128 classes"):
        evidence(np.zeros((1, 1, 1, 128), np.float32), CLEANUP)

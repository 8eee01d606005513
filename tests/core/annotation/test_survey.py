from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from napari_unet3d.core.annotation.meanings import Meanings, count_values
from napari_unet3d.core.annotation.survey import check_values, survey_labels
from napari_unet3d.core.annotation.targets import scan_targets
from napari_unet3d.errors import SpecError

NAMES = ("background", "axon", "soma")
labels_arrays = npst.arrays(
    st.sampled_from([np.uint8, np.int16, np.int64, np.float32]),
    npst.array_shapes(min_dims=3, max_dims=3, max_side=5),
    elements=st.integers(0, 9),
)
meanings = st.builds(
    Meanings,
    class_names=st.just(NAMES),
    classes=st.dictionaries(st.integers(0, 9), st.none() | st.integers(0, 2)),
    rest=st.none() | st.integers(0, 2),
)


@given(labels_arrays, meanings)
def test_a_survey_knows_the_classes_that_reading_the_annotation_finds(labels, meanings):
    survey = survey_labels(labels)
    targets, counts = scan_targets(labels, meanings)
    assert survey.counts == counts == count_values(labels)
    np.testing.assert_array_equal(survey.profile(meanings), targets.profile(0))


@pytest.mark.parametrize("low", [-(1 << 62), -100, 0, 60_000, (1 << 63) - 7])
@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_values_are_counted_wherever_they_lie_and_however_the_array_lies(low, order):
    labels = np.random.default_rng(0).integers(0, 7, (6, 50, 70)) + low
    labels = {"C": labels, "F": np.asfortranarray(labels), "strided": labels[::-2, 1:, ::3]}[order]
    values, numbers = np.unique(labels, return_counts=True)
    assert count_values(labels) == dict(zip(values.tolist(), numbers.tolist(), strict=True))


def test_counting_makes_no_copy_of_the_labels():
    import tracemalloc

    labels = np.random.default_rng(0).integers(0, 5, (16, 1000, 1000)).astype(np.uint8)
    tracemalloc.start()
    survey_labels(labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < labels.nbytes / 4


def test_a_chunk_that_holds_many_planes_is_read_once():
    read = []

    def block(block_info=None):
        read.append(block_info[None]["chunk-location"])
        return np.ones((16, 8, 8), np.uint8)

    lazy = da.map_blocks(block, chunks=((16,) * 4, (8,), (8,)), dtype=np.uint8, meta=np.zeros((0, 0, 0), np.uint8))
    read.clear()
    assert survey_labels(lazy).counts == {1: 64 * 64}
    assert len(read) == 4


def test_what_values_lack_is_said_with_how_often_they_occur():
    with pytest.raises(SpecError, match=r"mean no class: 7 \(2 voxels\)"):
        check_values({0: 4, 7: 2}, Meanings.painted(NAMES))
    with pytest.raises(SpecError, match=r"no annotated voxels; the labels hold 0 \(4 voxels\)"):
        check_values({0: 4}, Meanings.painted(NAMES))

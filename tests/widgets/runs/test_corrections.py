"""What a network found becomes annotation to correct: only where nothing is painted, whatever lies where."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.errors import SpecError
from napari_unet3d.widgets.runs.corrections import copy_found, correct

NAMES = ("background", "axon", "soma")
UM = ("um",) * 3


def scene(found, painted, *, scale=(1, 1, 1), found_scale=None, begin=(0, 0, 0), z=0):
    """Return a viewer that shows a slice of an image, what was found in it, and what is painted on it."""
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(painted.shape), scale=scale, units=UM, rgb=False)
    labels = viewer.add_labels(painted, scale=scale, units=UM)
    found_scale = found_scale or scale
    # The corner of the first voxels is the same place.
    shift = [at * s + (f - s) / 2 for at, s, f in zip(begin, scale, found_scale, strict=True)]
    result = viewer.add_labels(found, scale=found_scale, translate=shift, units=UM)
    viewer.dims.set_point(0, z * scale[0])
    for layer in (image, labels, result):
        layer.corner_pixels = np.array([[0, 0, 0], [n - 1 for n in layer.data.shape]])
    return viewer, labels, result


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 1, 1), (0.18, 0.1, 0.1)]), st.booleans())
def test_every_empty_voxel_of_the_slice_takes_the_class_that_was_found_there(seed, scale, is_coarser):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(4, 20, 3))
    begin = tuple(int(n) for n in rng.integers(-3, 4, 3))
    factor = 2 if is_coarser else 1
    found = rng.integers(0, 3, tuple(int(n) for n in rng.integers(2, 20, 3))).astype(np.uint8)
    painted = (rng.integers(0, 4, shape) * rng.integers(0, 2, shape)).astype(np.uint8)
    z = int(rng.integers(0, shape[0]))
    before = painted.copy()
    viewer, labels, result = scene(
        found, painted, scale=scale, found_scale=tuple(factor * s for s in scale), begin=begin, z=z
    )
    expected = before.copy()
    for y, x in np.ndindex(shape[1:]):
        at = tuple((here - first) // factor for here, first in zip((z, y, x), begin, strict=True))
        if before[z, y, x] == 0 and all(0 <= a < n for a, n in zip(at, found.shape, strict=True)):
            expected[z, y, x] = found[at] + 1
    if (expected == before).all():
        with pytest.raises(SpecError, match=r"Nothing (was found|to copy)"):
            copy_found(viewer, result, NAMES, labels, Meanings.painted(NAMES))
    else:
        copied = copy_found(viewer, result, NAMES, labels, Meanings.painted(NAMES))
        assert (copied.n_voxels, copied.z) == (int((expected != before).sum()), z)
    np.testing.assert_array_equal(labels.data, expected)
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)


def test_classes_are_told_apart_by_their_names(qapp):
    found = np.full((2, 4, 4), 1, np.uint8)
    found[0, 0, 0] = 2
    viewer, labels, result = scene(found, np.zeros((2, 4, 4), np.uint8))
    copy_found(viewer, result, NAMES, labels, Meanings.painted(("nothing", "soma", "axon")))
    assert labels.data[0, 0, 0] == 2
    assert (labels.data[0].reshape(-1)[1:] == 3).all()


@pytest.mark.parametrize(
    ("meanings", "reason"),
    [
        (Meanings.painted(("a", "b")), "none of the classes background, axon, soma"),
        (Meanings.indices(NAMES), "0 is a class and not unlabelled"),
    ],
)
def test_what_cannot_be_copied_is_said(qapp, meanings, reason):
    viewer, labels, result = scene(np.ones((2, 4, 4), np.uint8), np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(SpecError, match=reason):
        copy_found(viewer, result, NAMES, labels, meanings)
    assert not labels.data.any()


def test_no_more_is_copied_than_a_person_can_look_over(qapp):
    viewer, labels, result = scene(np.ones((1, 300, 700), np.uint8), np.zeros((1, 300, 700), np.uint8))
    assert copy_found(viewer, result, NAMES, labels, Meanings.painted(NAMES)).n_voxels == 256 * 256
    assert labels.data[0, 150, 350] == 2
    assert labels.data[0, 5, 350] == labels.data[0, 150, 5] == 0


def test_the_brush_is_in_hand_afterwards_and_what_was_done_is_said(qapp):
    viewer, labels, result = scene(np.ones((3, 4, 4), np.uint8), np.zeros((3, 4, 4), np.uint8), z=2)
    said = correct(viewer, result, NAMES, labels, Meanings.painted(NAMES))
    assert said.startswith("16 voxels of this slice were copied to ")
    assert "Ctrl-Z" in said
    assert (labels.mode, result.visible, viewer.layers.selection.active) == ("paint", False, labels)

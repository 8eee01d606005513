"""The live preview: what is looked at is covered, and gets what a segmentation would give it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_unet3d
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.normalize import measure
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.network.machine.devices import select_device
from napari_unet3d.network.predictor import predictor_of
from napari_unet3d.tasks.train.live import LivePreview, Watcher, preview_shape
from tests.support.models import random_model

IMAGE = np.random.default_rng(0).normal(size=(50, 130, 120)).astype(np.float32)
MODEL = random_model(blocks=1, filters=2, seed=3)
SCALING = measure(MODEL.card.normalization, IMAGE)


def watcher(focus, sink, image=IMAGE, spec=MODEL.spec):
    return Watcher(LivePreview(0, focus, sink), image, SCALING, spec, MODEL.card.head)


def logits(image):
    return predictor_of(MODEL, select_device("cpu"))(image, "logits")


def test_it_is_what_a_segmentation_gives_there():
    expected = napari_unet3d.segment(IMAGE, MODEL).data
    for voxel in ((0, 0, 0), (25, 60, 60), (49, 129, 119), (7, 100, 3)):
        focus = np.array([[[1, *voxel]]], np.int32)
        sink = np.full(preview_shape(MODEL.spec, IMAGE.shape), 9, np.uint8)
        box = watcher(focus, sink).look(logits)
        assert all(a <= at < b for at, (a, b) in zip(voxel, box, strict=True))
        written = Box.whole(box.shape).slices
        np.testing.assert_array_equal(sink[written], expected[box.slices])
        sink[written] = 9
        assert (sink == 9).all()


@settings(deadline=None)
@given(st.integers(0, 3), st.tuples(*[st.integers(1, 300)] * 3), st.data())
def test_every_voxel_that_is_looked_at_is_in_the_box_that_is_written(blocks, shape, data):
    voxel = [data.draw(st.integers(0, n - 1)) for n in shape]
    image = np.broadcast_to(np.float32(0), shape)
    this = watcher(np.zeros((1, 1, 4), np.int32), image, image, NetworkSpec(blocks=blocks))
    _, write = this._boxes(voxel)
    for at, (start, stop), n in zip(voxel, write, shape, strict=True):
        assert 0 <= start <= at < stop <= n
        assert start % (2 << blocks) == 0
    assert all(n <= most for n, most in zip(write.shape, preview_shape(NetworkSpec(blocks=blocks), shape), strict=True))


def test_it_waits_until_it_is_wanted_and_until_it_is_time():
    focus, sink = np.zeros((1, 1, 4), np.int32), np.zeros(IMAGE.shape, np.uint8)
    assert watcher(focus, sink).look(logits) is None
    focus[0, 0, 0] = 1
    this = watcher(focus, sink)
    assert this.look(logits) is not None
    assert this.look(logits) is None

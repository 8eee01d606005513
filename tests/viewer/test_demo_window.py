from __future__ import annotations

import numpy as np
import pytest

from napari_unet3d.widgets.demo_viewer import add_demo_layers
from tests.widgets.test_demo_viewer import demo_result

pytestmark = pytest.mark.viewer


def test_the_demonstration_is_seen_in_a_real_window(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    assert not viewer.screenshot(flash=False)[..., :3].any()
    add_demo_layers(viewer, demo_result((0.18, 0.1, 0.1)))
    assert viewer.screenshot(flash=False)[..., :3].any(axis=-1).mean() > 0.05


def test_the_sample_of_the_menu_opens_with_its_scale(make_napari_viewer):
    viewer = make_napari_viewer()
    viewer.open_sample("napari-unet3d", "neurons")
    image, mask = viewer.layers
    assert image.data.dtype == np.uint16
    assert tuple(image.scale) == tuple(mask.scale) == pytest.approx((0.18, 0.1, 0.1))

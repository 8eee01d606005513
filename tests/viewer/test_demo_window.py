from __future__ import annotations

import subprocess
import sys

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


def test_the_demonstration_of_the_command_line_opens_a_window(tmp_path):
    """A process of its own that closes its window as soon as it is shown: TensorFlow and OpenGL must not meet in it."""
    code = (
        "import napari\n"
        "def run():\n"
        "    viewer = napari.current_viewer()\n"
        "    print([layer.name for layer in viewer.layers], flush=True)\n"
        "    viewer.screenshot(flash=False)\n"
        "    viewer.close()\n"
        "napari.run = run\n"
        "from napari_unet3d.cli import main\n"
        f"main(['demo', '--display', '--output', {str(tmp_path)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "'neurons', 'exact mask', 'found, Dice 0.9" in done.stdout

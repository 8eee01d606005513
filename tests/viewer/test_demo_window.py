from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from napari_unet3d.widgets.plugin.demo_viewer import open_demo

pytestmark = pytest.mark.viewer


def test_the_demonstration_is_ready_to_press_start(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    workbench = open_demo(viewer)
    panel = workbench.segment
    qtbot.waitUntil(lambda: panel.start.enabled, timeout=30_000)
    assert panel.native.isVisible()
    assert panel.model.choice.native.currentText() == "demo-neuron"
    assert panel.state.planned.warning == ""
    assert [layer.name for layer in viewer.layers] == ["neurons", "neurons, true mask"]
    assert not viewer.layers[1].visible
    assert viewer.screenshot(flash=False)[..., :3].any(axis=-1).mean() > 0.05


def test_the_sample_of_the_menu_opens_with_its_scale(make_napari_viewer):
    viewer = make_napari_viewer()
    viewer.open_sample("napari-unet3d", "neurons")
    image, mask = viewer.layers
    assert image.data.dtype == np.uint16
    assert tuple(image.scale) == tuple(mask.scale) == pytest.approx((0.18, 0.1, 0.1))


def test_the_demonstration_of_the_command_line_opens_a_window_and_leaves_no_process(tmp_path):
    """A process of its own that closes its window as soon as it is shown."""
    code = (
        "import napari\n"
        "def run():\n"
        "    viewer = napari.current_viewer()\n"
        "    print([layer.name for layer in viewer.layers], list(viewer.window.dock_widgets)[-1:], flush=True)\n"
        "    viewer.screenshot(flash=False)\n"
        "    viewer.close()\n"
        "napari.run = run\n"
        "from napari_unet3d.cli import main\n"
        "main(['demo', '--display'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "['neurons', 'neurons, true mask'] ['Workbench (3D U-Net)" in done.stdout

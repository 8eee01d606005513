"""Make the pictures of README and docs from the running program.

xvfb-run -a -s "-screen 0 1600x1000x24" python docs/screenshots.py [--to FOLDER] [--theme light]

The window is clicked as a person would, so the pictures show what the tutorial says.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import napari
from napari.settings import get_settings
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_unet3d.widgets.host.preferences import Preferences
from napari_unet3d.widgets.plugin.demo_viewer import open_demo
from napari_unet3d.widgets.plugin.workbench import Workbench
from napari_unet3d.widgets.runs import session as sessions

PAINTED, LOOKED_AT = (4, 22, 40, 58, 78), 70
IMAGES = Path(__file__).parent / "images"
SIZE = (1280, 800)
# Little enough for a dozen tiles, so that a picture can be taken while they come.
MEMORY_GIB = 0.35


def wait(until: Callable[[], bool] = lambda: False, seconds: float = 1.0) -> None:
    """Let the window live until something holds, or for some time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        QApplication.processEvents()
        time.sleep(0.01)


def save(viewer: napari.Viewer, path: Path) -> None:
    wait(seconds=0.6)
    viewer.screenshot(str(path), canvas_only=False, flash=False)
    # A window has few colours: a palette makes the file a third of its size.
    Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def take_pictures(viewer: napari.Viewer, workbench: Workbench, folder: Path) -> None:
    panel = workbench.segment
    wait(lambda: workbench.session.engine.state == "ready", seconds=120)
    wait(lambda: bool(panel.start.enabled), seconds=30)
    save(viewer, folder / "segment-ready.png")
    panel.form.memory.value = MEMORY_GIB
    wait(lambda: panel.plan is not None and len(panel.plan) > 4, seconds=30)
    panel.start.native.click()
    run = workbench.session.segmentation
    wait(lambda: run.n_done >= 2, seconds=120)
    save(viewer, folder / "segment-running.png")
    wait(lambda: not run.is_active, seconds=300)
    viewer.layers[1].visible = False
    save(viewer, folder / "segment-done.png")
    workbench.show_tab("Sizes")
    run.layer.visible = False
    workbench.sizes.size.value = "156"
    wait(seconds=0.5)
    workbench.sizes.show_tile.native.click()
    viewer.reset_view()
    save(viewer, folder / "sizes.png")
    workbench.sizes.hide_tile.native.click()
    take_augmentation(viewer, workbench, folder)
    workbench.show_tab("Data")
    workbench.data.class_names.value = "background, neurite"
    workbench.data.annotate.native.click()
    annotation = viewer.layers[-1]
    z = viewer.dims.current_step[0]
    for y, x, label in ((60, 60, 1), (120, 80, 1), (28, 55, 2), (68, 98, 2), (93, 84, 2)):
        annotation.paint((z, y, x), label)
    viewer.reset_view()
    wait(lambda: len(workbench.session.annotation.of(annotation).counts) == 3, seconds=30)
    save(viewer, folder / "data.png")
    take_training(viewer, workbench, folder)


def take_training(viewer: napari.Viewer, workbench: Workbench, folder: Path) -> None:
    """Train on five painted slices; what is painted is copied from the true mask, as a patient person would."""
    panel, session = workbench.train, workbench.session
    mask = viewer.layers["neurons, true mask"].data
    annotation = session.labels
    annotation.data[:] = 0
    for z in PAINTED:
        annotation.data[z] = mask[z] + 1
    annotation.refresh()
    viewer.dims.set_point(0, annotation.data_to_world((PAINTED[1], 0, 0))[0])
    session.annotation.look_again(annotation)
    wait(lambda: len(session.annotation.of(session.labels).counts) == 3, seconds=30)
    workbench.show_tab("Train")
    panel.form.steps.value, panel.form.every.value = 1000, 50
    wait(lambda: panel.spec is not None and panel.spec.steps == 1000, seconds=30)
    save(viewer, folder / "train-ready.png")
    panel.start.native.click()
    run = session.training
    wait(lambda: run.step >= 500, seconds=600)
    viewer.dims.set_point(0, annotation.data_to_world((LOOKED_AT, 0, 0))[0])
    last = run.previewed
    wait(lambda: run.previewed not in (None, last) and run.previewed.z[0] <= LOOKED_AT < run.previewed.z[1], seconds=60)
    wait(lambda: run.step >= 560, seconds=600)
    save(viewer, folder / "train-running.png")
    panel.stop.native.click()
    wait(lambda: not run.is_active, seconds=60)
    panel.correct.native.click()
    wait(seconds=1)
    save(viewer, folder / "train-correct.png")


def take_augmentation(viewer: napari.Viewer, workbench: Workbench, folder: Path) -> None:
    panel, session = workbench.augment, workbench.session
    workbench.show_tab("Augment")
    hidden = [layer for layer in viewer.layers if layer.visible]
    panel.arrows.value = panel.grid.value = True
    panel.seed.value = 4
    panel.preview.native.click()
    wait(lambda: not session.preview.is_active, seconds=120)
    for layer in hidden:
        layer.visible = False
    viewer.reset_view()
    save(viewer, folder / "augment.png")
    panel.grid.value = False
    wait(seconds=0.3)
    wait(lambda: not session.preview.is_active, seconds=60)
    viewer.dims.ndisplay = 3
    viewer.camera.angles = (10, -25, 35)
    save(viewer, folder / "augment-3d.png")
    viewer.dims.ndisplay = 2
    panel.compare.native.click()
    wait(lambda: not session.preview.is_active, seconds=60)
    save(viewer, folder / "augment-compare.png")
    for layer in session.preview.layers.values():
        viewer.layers.remove(layer)
    for layer in hidden:
        layer.visible = True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=IMAGES)
    parser.add_argument("--theme", default="dark")
    arguments = parser.parse_args()
    folder: Path = arguments.to
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        words = [sys.executable, "-m", "napari_unet3d", "demo", "--no-display", "--output", made]
        subprocess.run(words, check=True)
        shutil.copyfile(Path(made) / "overlay.png", folder / "demo.png")
    get_settings().appearance.theme = arguments.theme
    viewer = napari.Viewer()
    wait(seconds=0.5)
    viewer.window.resize(*SIZE)
    with tempfile.TemporaryDirectory() as own:
        # What is painted for the pictures is none of the user's own work.
        sessions.read_preferences = lambda: Preferences(Path(own) / "models")
        take_pictures(viewer, open_demo(viewer), folder)
        viewer.close()
    for path in sorted(folder.glob("*.png")):
        print(path.name, path.stat().st_size // 1024, "KiB")


if __name__ == "__main__":
    main()

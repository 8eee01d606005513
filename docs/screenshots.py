"""Make the pictures of README and docs from the running program.

xvfb-run -a -s "-screen 0 1600x1000x24" python docs/screenshots.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import napari

from napari_unet3d.tasks.demo import load_demo
from napari_unet3d.widgets.demo_viewer import add_demo_layers

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        # Not in this process: TensorFlow and a software OpenGL driver crash in one.
        words = [sys.executable, "-m", "napari_unet3d", "demo", "--no-display", "--output", folder]
        subprocess.run(words, check=True)
        result = load_demo(Path(folder))
        shutil.copyfile(Path(folder) / "overlay.png", IMAGES / "demo.png")
    viewer = napari.Viewer(title="3D U-Net, demonstration")
    viewer.window.resize(1280, 800)
    add_demo_layers(viewer, result)
    viewer.screenshot(str(IMAGES / "napari-demo.png"), canvas_only=False, flash=False)
    viewer.close()
    for path in sorted(IMAGES.glob("*.png")):
        print(path.name, path.stat().st_size // 1024, "KiB")


if __name__ == "__main__":
    main()

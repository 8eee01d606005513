"""Make the pictures of README and docs from the running program.

xvfb-run -a -s "-screen 0 1600x1000x24" python docs/screenshots.py
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import napari

from napari_unet3d.tasks.demo import run_demo
from napari_unet3d.widgets.demo_viewer import add_demo_layers

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        result = run_demo(Path(folder))
        print(result.summary)
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

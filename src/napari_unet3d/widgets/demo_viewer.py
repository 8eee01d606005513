"""The demonstration in napari: volume, exact mask and result as layers in physical space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet3d.errors import DeviceError

if TYPE_CHECKING:
    import napari

    from napari_unet3d.tasks.demo import DemoResult


def show_demo(result: DemoResult) -> None:
    """Open napari with the result of the demonstration, and return when the window is closed.

    Raises
    ------
    DeviceError
        If no window can be opened here.
    """
    try:
        import napari

        viewer = napari.Viewer(title="3D U-Net, demonstration")
    except ImportError as error:
        raise DeviceError(
            f"napari cannot open a window here ({error}). It may lack a Qt binding: "
            "pip install 'napari[pyqt6]'. The results are in the folder named above."
        ) from error
    add_demo_layers(viewer, result)
    napari.run()


def add_demo_layers(viewer: napari.Viewer, result: DemoResult) -> None:
    """Add the volume, its exact mask (hidden) and the labels that the model found.

    Parameters
    ----------
    viewer
        Any viewer, or a `ViewerModel`.
    result
        What the demonstration made.
    """
    from napari.utils.colormaps import DirectLabelColormap

    sample = result.sample
    space: dict[str, Any] = {
        "scale": sample.voxel_size,
        "units": (sample.unit,) * 3,
        "axis_labels": ("z", "y", "x"),
    }
    limits = [float(value) for value in np.percentile(sample.image, [1, 99.9])]
    viewer.add_image(sample.image, name="neurons", contrast_limits=limits, **space)
    viewer.add_labels(sample.mask, name="exact mask", visible=False, opacity=0.5, **space)
    green = DirectLabelColormap(color_dict={None: "transparent", 1: "limegreen"})
    name = f"found, Dice {result.dice:.2f}"
    labels = viewer.add_labels(result.labels, name=name, colormap=green, opacity=0.6, **space)
    labels.features = {"index": range(len(result.class_names)), "class": list(result.class_names)}

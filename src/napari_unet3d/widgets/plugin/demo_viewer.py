"""The demonstration in napari: the sample, the workbench, the bundled model; Start is left to press."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet3d.errors import DeviceError

if TYPE_CHECKING:
    import napari

    from napari_unet3d.widgets.plugin.workbench import Workbench


def show_demo() -> None:
    """Open napari with the demonstration, and return when the window is closed.

    Raises
    ------
    DeviceError
        If no window can be opened here.
    """
    try:
        import napari

        viewer = napari.Viewer()
    except ImportError as error:
        raise DeviceError(
            f"napari cannot open a window here ({error}). It may lack a Qt binding: pip install 'napari[pyqt6]'. "
            "napari-unet3d demo --no-display writes files instead."
        ) from error
    open_demo(viewer)
    napari.run()


def open_demo(viewer: napari.Viewer) -> Workbench:
    """Add the sample to a viewer, with its exact mask hidden, and open the workbench ready to press Start.

    Parameters
    ----------
    viewer
        A viewer with a window.
    """
    from napari_unet3d.sample_data import neuron_layers
    from napari_unet3d.widgets.plugin.commands import open_workbench
    from napari_unet3d.widgets.runs.models import list_models

    (image, image_keywords, _), (mask, mask_keywords, _) = neuron_layers()
    layer = viewer.add_image(image, **image_keywords)
    viewer.add_labels(mask, **mask_keywords, visible=False)
    viewer.layers.selection.active = layer
    workbench = open_workbench(viewer, "Segment")
    workbench.session.image = layer
    models = list_models(workbench.session.preferences.models_folder)
    workbench.session.choose_model(models[0])
    return workbench

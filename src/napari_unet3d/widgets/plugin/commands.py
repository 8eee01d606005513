"""What the menus of napari do: open the workbench at a tab, with the active layer as its image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet3d.errors import Unet3dError

if TYPE_CHECKING:
    from napari_unet3d.widgets.plugin.workbench import Workbench

# As the menu Plugins calls its dock, so that the menu finds it.
DOCK = "Workbench (3D U-Net)"


def open_workbench(viewer: Any, tab: str) -> Workbench:
    """Show the workbench of a window, made if it is not there, and return it.

    Parameters
    ----------
    viewer
        A napari viewer with a window.
    tab
        `Data`, `Sizes` or `Segment`.
    """
    from napari_unet3d.widgets.plugin.workbench import Workbench

    window = viewer.window
    found = [widget for widget in window.dock_widgets.values() if isinstance(widget, Workbench)]
    workbench = found[0] if found else Workbench(viewer)
    dock = _dock_of(workbench) if found else window.add_dock_widget(workbench, name=DOCK)
    dock.show()
    # Before other docks that share its place.
    dock.raise_()
    workbench.show_tab(tab)
    return workbench


def _dock_of(widget: Any) -> Any:
    from qtpy.QtWidgets import QDockWidget

    while not isinstance(widget, QDockWidget):
        widget = widget.parentWidget()
    return widget


def open_data() -> None:
    """Show the active layer in the workbench: its voxel size, its values, its labels."""
    _open("Data")


def open_segment() -> None:
    """Open the workbench where the active layer is segmented."""
    _open("Segment")


def annotate() -> None:
    """Open the workbench with a new layer to paint in, if there is an image to paint on."""
    workbench = _open("Data")
    if workbench.session.image is not None:
        workbench.data.new_annotation()


def _open(tab: str) -> Workbench:
    import napari
    from napari.layers import Image

    viewer = napari.current_viewer()
    if viewer is None:
        raise Unet3dError("No napari window is open for the workbench. Start napari first.")
    active = viewer.layers.selection.active
    workbench = open_workbench(viewer, tab)
    if isinstance(active, Image):
        workbench.session.image = active
    return workbench

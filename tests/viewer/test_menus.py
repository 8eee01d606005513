"""The menus of napari and what they open, in a real window."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet3d.network.store import save_model
from tests.support.models import random_model

pytestmark = pytest.mark.viewer
SPACE = {"scale": (0.18, 0.1, 0.05), "translate": (1, 2, 3), "units": "um"}


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


def choose(command: str) -> None:
    """Choose what stands in a menu, as a click does."""
    from napari._app_model import get_app_model

    get_app_model().commands.execute_command(f"napari-unet3d.{command}").result()


def workbench_of(viewer):
    (dock,) = [dock for name, dock in viewer.window.dock_widgets.items() if "3D U-Net" in name]
    return dock


def dock_of(widget):
    from qtpy.QtWidgets import QDockWidget

    while not isinstance(widget, QDockWidget):
        widget = widget.parentWidget()
    return widget


def tab_of(workbench) -> str:
    from qtpy.QtWidgets import QTabWidget

    tabs = workbench.findChild(QTabWidget)
    return tabs.tabText(tabs.currentIndex())


@pytest.mark.parametrize(
    ("menu", "title"),
    [
        ("data", "Open in the workbench (3D U-Net)"),
        ("segment", "Segment with a trained model (3D U-Net)"),
        ("annotate", "Paint an annotation for training (3D U-Net)"),
    ],
)
def test_each_menu_shows_its_command(viewer, menu, title):
    from napari._app_model import get_app_model

    items = get_app_model().menus.get_menu(f"napari/layers/{menu}")
    assert title in [item.command.title for item in items]


@pytest.mark.parametrize(("command", "tab"), [("open_data", "Data"), ("open_segment", "Segment")])
def test_the_workbench_opens_at_the_tab_with_the_active_image(viewer, command, tab):
    from napari_unet3d.widgets.runs.session import session_of

    wanted = viewer.add_image(np.zeros((4, 5, 6)), **SPACE)
    viewer.add_image(np.ones((4, 5, 6)), **SPACE)
    viewer.layers.selection.active = wanted
    choose(command)
    assert tab_of(workbench_of(viewer)) == tab
    assert session_of(viewer).image is wanted


def test_a_second_command_shows_the_same_workbench_at_its_own_tab(viewer):
    choose("open_data")
    first = workbench_of(viewer)
    dock = dock_of(first)
    dock.hide()
    choose("open_segment")
    assert workbench_of(viewer) is first
    assert dock.isVisibleTo(dock.parentWidget())
    assert tab_of(first) == "Segment"


def test_the_menu_plugins_shows_the_workbench_that_a_command_has_opened(viewer):
    from napari._app_model import get_app_model

    choose("open_data")
    first = workbench_of(viewer)
    items = [item.command for item in get_app_model().menus.get_menu("napari/plugins") if hasattr(item, "command")]
    (ours,) = [command for command in items if command.title == "Workbench (3D U-Net)"]
    dock_of(first).hide()
    get_app_model().commands.execute_command(ours.id).result()
    assert workbench_of(viewer) is first
    assert dock_of(first).isVisibleTo(dock_of(first).parentWidget())


def test_a_workbench_that_was_closed_opens_again_with_what_was_chosen(viewer, tmp_path):
    from napari_unet3d.widgets.runs.session import session_of

    viewer.open(save_model(random_model(), tmp_path / "axons.unet3d"), plugin="napari-unet3d")
    viewer.window.remove_dock_widget(workbench_of(viewer))
    assert not viewer.window.dock_widgets
    choose("open_segment")
    assert tab_of(workbench_of(viewer)) == "Segment"
    assert session_of(viewer).model == tmp_path / "axons.unet3d"


def test_an_annotation_lies_where_the_image_lies(viewer):
    image = viewer.add_image(np.zeros((4, 5, 6)), **SPACE)
    choose("annotate")
    assert tab_of(workbench_of(viewer)) == "Data"
    labels = viewer.layers[-1]
    assert labels._type_string == "labels"
    assert tuple(labels.scale) == tuple(image.scale)
    assert tuple(labels.translate) == tuple(image.translate)
    assert labels.units == image.units


def test_without_an_image_there_is_nothing_to_annotate_and_the_workbench_opens(viewer):
    choose("annotate")
    assert tab_of(workbench_of(viewer)) == "Data"
    assert len(viewer.layers) == 0


def test_a_model_folder_is_chosen_in_the_workbench(viewer, tmp_path):
    from napari_unet3d.widgets.runs.session import session_of

    path = save_model(random_model(), tmp_path / "axons.unet3d")
    assert viewer.open(path, plugin="napari-unet3d") == []
    assert tab_of(workbench_of(viewer)) == "Segment"
    assert session_of(viewer).model == path
    assert session_of(viewer).card is not None

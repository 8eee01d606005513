from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.tiles.plan import plan_tiles
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.engine import LocalEngine
from napari_unet3d.network.machine.devices import Device
from napari_unet3d.widgets.host.preferences import Preferences
from napari_unet3d.widgets.layers.tile_boxes import tile_around, tile_at
from napari_unet3d.widgets.layers.volumes import is_illustration
from napari_unet3d.widgets.panels.sizes import text as sizes_text
from napari_unet3d.widgets.panels.sizes.tab import SizesPanel
from napari_unet3d.widgets.panels.sizes.table import LARGEST
from napari_unet3d.widgets.panels.sizes.text import Machine, describe_try, sizes_typed
from napari_unet3d.widgets.runs.session import Memory, Session

GIB = 2**30
SPACE = {
    "scale": (0.18, 0.1, 0.2),
    "translate": (5.0, -3.0, 7.0),
    "rotate": (20.0, 10.0, 30.0),
    "shear": (0.1, 0.0, 0.2),
    "affine": np.diag([2.0, 1.0, 1.0, 1.0]),
    "units": ("um", "um", "um"),
    "axis_labels": ("z", "y", "x"),
}


class Session8GiB(Session):
    """A machine that is the same wherever the tests run: a CPU on which a run may use 8 GiB."""

    usable = 8 * GIB

    def __init__(self, viewer: ViewerModel, preferences: Preferences) -> None:
        super().__init__(viewer, LocalEngine(), preferences)
        self.devices = [Device("cpu", "CPU, 2 threads")]

    def memory(self, device: Device) -> Memory | None:
        return None if self.usable is None else Memory(self.usable, self.usable)


@pytest.fixture(autouse=True)
def speed(monkeypatch):
    """The machine has not been timed, whatever the cache of the user says."""
    known: dict[str, float] = {}
    monkeypatch.setattr(sizes_text, "known_speed", lambda device, network: known.get(device))
    return known


@pytest.fixture
def session(qapp, tmp_path):
    return Session8GiB(ViewerModel(), Preferences(tmp_path))


@pytest.fixture
def panel(session, qtbot):
    return opened(session, qtbot)


def opened(session: Session, qtbot) -> SizesPanel:
    """Return a panel that has filled itself: it does so a moment after it is made."""
    made = SizesPanel(session)
    qtbot.addWidget(made.native)
    assert not made._facts.value
    qtbot.waitUntil(lambda: bool(made._facts.value))
    return made


def add_image(session: Session, shape: tuple[int, ...] = (300, 300, 300), **space) -> None:
    session.image = session.viewer.add_image(np.broadcast_to(np.uint8(0), shape), name="axons", **space)


def rows(panel: SizesPanel) -> list[list[str]]:
    return [panel.table.row_texts(row) for row in range(panel.table.rowCount())]


def row_of(panel: SizesPanel, size: int) -> list[str]:
    return next(texts for texts in rows(panel) if texts[0] == str(size))


def is_grey(panel: SizesPanel, size: int) -> bool:
    row = next(n for n, texts in enumerate(rows(panel)) if texts[0] == str(size))
    return panel.table.item(row, 0).foreground().style() != Qt.BrushStyle.NoBrush


def said(panel: SizesPanel) -> str:
    """What the panel says, the table left out; what is hidden is not said."""
    labels = [panel._facts, panel._legend, panel._answer, panel._title, panel._problem, panel._hint]
    return "\n".join(label.value for label in labels if not label.native.isHidden())


def plan_of(panel: SizesPanel) -> dict[str, str]:
    return {caption: line.value for caption, line in panel._lines.items()}


def test_the_table_lists_what_fits_up_to_512_and_what_comes_out(panel):
    assert [int(texts[0]) for texts in rows(panel)] == list(range(92, 512, 8))
    # 220 - 2 * 44 = 132; 409.8 GFLOP; not timed yet.
    assert row_of(panel, 220)[:4] == ["220", "132", "44", "410"]
    assert row_of(panel, 220)[5] == "-"
    assert row_of(panel, 92)[:4] == ["92", "4", "44", "8.9"]
    assert "1,192,610 parameters, halo 44 voxels on each side, tiles start at multiples of 8" in said(panel)


def test_a_machine_that_was_timed_says_how_long_a_tile_takes(session, panel, speed):
    speed["CPU, 2 threads"] = 100e9
    session.devices_changed.emit()
    panel.refresh()
    assert row_of(panel, 220)[5] == "4.1 s"  # 409.8 GFLOP at 100 GFLOP/s


def test_the_largest_size_that_the_memory_suffices_for_is_marked_and_larger_ones_are_grey(panel):
    (marked,) = [texts for texts in rows(panel) if texts[-1] == LARGEST]
    largest = int(marked[0])
    network = NetworkSpec()

    def needed(size: int) -> int:
        return plan_tiles((size - 88,) * 3, network, tile_shape=(size,) * 3).peak_bytes

    assert needed(largest) <= 8 * GIB < needed(largest + 8)
    row = rows(panel).index(marked)
    assert panel.table.item(row, 0).font().bold()
    assert not panel.table.item(row - 1, 0).font().bold()
    assert not is_grey(panel, largest)
    assert is_grey(panel, largest + 8)
    assert panel.table.currentRow() == row
    assert panel.table.size_selected is None
    assert "Grey: more than the 8.0 GiB that a run may use on CPU, 2 threads." in said(panel)


def test_the_preferences_limit_the_memory(qtbot, tmp_path):
    session = Session8GiB(ViewerModel(), Preferences(tmp_path, memory_bytes=2 * GIB))
    panel = opened(session, qtbot)
    assert is_grey(panel, 300)
    assert "2.0 GiB that the preferences allow" in said(panel)


def test_nothing_is_marked_until_a_gpu_has_answered_and_then_the_table_is_right(session, panel, qtbot):
    session.devices, session.usable = [Device("gpu:0", "NVIDIA H100", mixed_precision=True)], None
    add_image(session)
    session.devices_changed.emit()
    qtbot.waitUntil(lambda: "Asking NVIDIA H100" in said(panel))
    assert not [texts for texts in rows(panel) if texts[-1]]
    assert panel.plan is None
    session.usable = 8 * GIB
    session.devices_changed.emit()
    qtbot.waitUntil(lambda: panel.plan is not None)
    # Half the bytes a value: more fits than on a CPU.
    (marked,) = [texts for texts in rows(panel) if texts[-1]]
    assert int(marked[0]) > 300
    assert panel.plan.bytes_per_value == 2


def test_unknown_devices_are_said(session, panel):
    session.devices = None
    add_image(session)
    panel.refresh()
    assert said(panel).count("Asking the worker which devices there are ..") == 2


def test_a_network_is_set_and_read_back_with_what_the_panel_does_not_show(panel):
    network = NetworkSpec(blocks=1, filters=4, classes=3, channels=2, dropout=0.5)
    panel.network = network
    assert panel.network == network
    assert panel.network.layers == NetworkSpec(blocks=1, filters=4, classes=3, channels=2).layers
    assert rows(panel)[0][:3] == ["44", "4", "20"]
    assert "2 channels, halo 20 voxels on each side, tiles start at multiples of 4" in said(panel)


def test_an_edit_is_answered_a_moment_later(panel, qtbot):
    panel.blocks.value = 1
    qtbot.waitUntil(lambda: rows(panel)[0][0] == "44", timeout=2000)


def test_the_network_of_the_chosen_model_comes_back(session, panel, qtbot):
    panel.filters.value = 32
    panel.refresh()
    assert not panel._other_row.native.isHidden()
    panel.reset.native.click()
    assert panel.network == session.network
    qtbot.waitUntil(panel._other_row.native.isHidden)
    panel.filters.value = 32
    session.model_changed.emit()
    assert panel.network == session.network


def test_a_network_for_which_no_size_up_to_512_fits(session, panel):
    add_image(session)
    panel.network = NetworkSpec(blocks=5)
    assert rows(panel) == []
    # 380 on each side are lost; 764 is the next size that six poolings divide.
    assert "No cube up to 512 voxels fits; the smallest input is 764." in said(panel)


def test_every_network_that_can_be_chosen_gets_an_answer(session, panel):
    add_image(session)
    panel.size.value = "220"
    for blocks in range(6):
        for filters in (1, 256):
            panel.network = NetworkSpec(blocks=blocks, filters=filters, classes=127)
            assert f"halo {6 * 2 ** (blocks + 1) - 4} voxels" in said(panel)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("130", (130, 130, 130)),
        (" 100 220 220 ", (100, 220, 220)),
        ("100, 220, 220", (100, 220, 220)),
        ("100x220 x 220", (100, 220, 220)),
        ("100 220", None),
        ("12.5", None),
        ("-4", None),
        ("many", None),
        ("9" * 400, None),
    ],
)
def test_one_size_or_three_can_be_typed(text, shape):
    assert sizes_typed(text) == shape


def test_a_size_that_does_not_fit_is_explained_and_the_nearest_are_named(panel):
    panel.size.value = "130"
    panel.refresh()
    assert "130 does not fit: the second pooling meets 59 voxels, which is odd. Nearest that fit: 124 and 132." in said(
        panel
    )
    panel.size.value = "100 130 130"
    panel.refresh()
    assert "130 along y and x does not fit: the second pooling" in said(panel)
    assert "100" not in panel._answer.value


def test_a_size_that_fits_says_what_comes_out_what_it_takes_and_whether_it_can_be_held():
    machine = Machine(memory=8 * GIB, whose="that a run may use")
    network = NetworkSpec()
    assert "220 x 220 x 220 fits: 132 x 132 x 132 voxels come out." in describe_try("220", network, machine)
    assert "This machine can hold it: 8.0 GiB may be used." in describe_try("220", network, machine)
    assert "100 x 220 x 220 fits: 12 x 132 x 132" in describe_try("100 220 220", network, machine)
    assert "Too much for this machine" in describe_try("508", network, machine)
    assert "Type one size in voxels" in describe_try("a few", network, machine)
    assert describe_try(" ", network, machine) == ""


def test_without_an_image_the_reason_is_said_and_nothing_can_be_shown(panel):
    assert "Open a volume, or choose an image layer." in said(panel)
    assert "There is no volume to draw on." in said(panel)
    assert not panel.show_tile.enabled
    assert not panel.hide_tile.enabled
    assert panel.state.plan is None


def test_a_layer_that_is_no_volume_is_explained(session, panel):
    add_image(session, (64, 64))
    panel.refresh()
    assert "For 'axons'" in said(panel)
    assert "'axons' is 2D; a volume has the axes z, y and x." in said(panel)
    assert not panel.show_tile.enabled


def test_the_plan_of_the_chosen_image_is_said_in_words(session, panel, qtbot, speed):
    session.usable = 64 * GIB
    add_image(session)
    qtbot.waitUntil(lambda: panel.plan is not None)
    assert "For 'axons'" in said(panel)
    lines = plan_of(panel)
    assert lines["tiles"] == "1, the whole in one piece"
    assert lines["each reads"] == "388 x 388 x 388 voxels"
    assert lines["each returns"] == "300 x 300 x 300 voxels"
    assert lines["memory"].endswith("GiB of the 64.0 GiB that may be used")
    assert lines["time"] == "known after the first run here"
    assert lines["work"] == "as little as in one piece"
    session.usable = 2 * GIB
    speed["CPU, 2 threads"] = 1e12
    panel.refresh()
    lines = plan_of(panel)
    assert lines["tiles"] == f"{len(panel.plan)}, that is {' x '.join(map(str, panel.plan.counts))} along z, y, x"
    assert lines["work"].startswith(f"{panel.plan.flops_over_ideal:.2f} times that of one piece")
    assert lines["time"].startswith("about ")


def test_too_little_memory_is_said_with_what_is_needed(session, panel):
    session.usable = 50 << 20
    add_image(session)
    panel.refresh()
    assert "50 MiB of memory is too little: the smallest tile of this network" in said(panel)
    assert "Not even the smallest fits into the 50 MiB" in said(panel)
    assert not panel.show_tile.enabled
    # What a size loses can be seen although it cannot be run here.
    panel.size.value = "220"
    panel.refresh()
    assert panel.show_tile.enabled


def test_a_name_that_changes_is_followed(session, panel, qtbot):
    add_image(session)
    session.image.name = "dendrites"
    qtbot.waitUntil(lambda: "For 'dendrites'" in said(panel))


def test_a_tile_lies_around_a_voxel_where_a_run_may_lay_one():
    network = NetworkSpec()
    # 150 - 132 / 2 = 84, and down to the next multiple of 8.
    tile = tile_around((150, 0, 299), (300, 300, 300), (220, 220, 220), network)
    assert tile.write == Box((80, 212), (0, 132), (168, 300))
    assert tile.read == Box((36, 256), (-44, 176), (124, 344))
    # An output larger than the volume begins with it.
    assert tile_around((48, 0, 0), (96, 300, 300), (220, 220, 220), network).write.z == (0, 132)


def test_a_tile_of_the_plan_is_the_one_that_writes_the_voxel():
    plan = plan_tiles((300, 300, 300), NetworkSpec(), tile_shape=(220, 220, 220))
    # 132 come out, tiles start at multiples of 8: the next one starts at 128.
    tile = tile_at((127, 128, 299), plan)
    assert tile.write == Box((0, 132), (128, 260), (256, 388))
    assert tile.read == Box((-44, 176), (84, 304), (212, 432))


@pytest.mark.parametrize("scale", [(1.0, 1.0, 1.0), (0.18, 0.1, 0.2), (3.0, 0.5, 0.25)])
def test_what_comes_out_lies_44_voxels_inside_of_what_goes_in_in_physical_space(session, panel, scale):
    add_image(session, **{**SPACE, "scale": scale})
    panel.size.value = "220"
    panel.show_boxes()
    tile_in, tile_out = panel.boxes.layers
    assert tile_in.name == "tile in, 220 x 220 x 220"
    assert tile_out.name == "tile out, 132 x 132 x 132"
    assert tile_in.data.shape == (220, 220, 220)
    assert tile_out.data.shape == (132, 132, 132)
    for corner in ((0, 0, 0), (131, 0, 77)):
        inside = tile_in.data_to_world(np.add(corner, 44))
        np.testing.assert_allclose(tile_out.data_to_world(corner), inside)
    # Its first voxel is a voxel of the image, on the grid of tiles.
    start = np.asarray(session.image.world_to_data(tile_out.data_to_world((0, 0, 0))))
    np.testing.assert_allclose(start / 8, np.rint(start / 8), atol=1e-6)
    np.testing.assert_allclose(tile_in.data_to_world((1, 2, 3)), session.image.data_to_world(start - 44 + (1, 2, 3)))
    for layer in (tile_in, tile_out):
        assert layer.units == session.image.units
        assert layer.axis_labels == session.image.axis_labels
        assert not layer.editable
        assert layer.opacity == 0.25
        assert layer.data.base.nbytes == 1
        assert is_illustration(layer)
    assert not is_illustration(session.image)


def test_the_tile_lies_around_the_present_position(session, panel):
    add_image(session, (1000, 300, 300), scale=(0.5, 1.0, 1.0))
    session.viewer.dims.set_point(0, 250.0)  # voxel 500 along z
    panel.size.value = "220"
    panel.show_boxes()
    # 500 - 66 = 434, down to 432; along y and x the whole is seen, whose centre is 150.
    np.testing.assert_allclose(panel.boxes.layers[1].data_to_world((0, 0, 0)), (216.0, 80.0, 80.0))
    assert session.viewer.dims.point[0] == 250.0


def test_the_same_two_layers_are_moved_and_deleted_ones_are_made_anew(session, panel):
    add_image(session, **SPACE)
    viewer, image = session.viewer, session.image
    panel.size.value = "220"
    panel.show_boxes()
    before = panel.boxes.layers
    before[0].name = "mine"
    panel.size.value = "100 220 220"
    panel.show_boxes()
    assert panel.boxes.layers == before
    assert len(viewer.layers) == 3
    assert [layer.data.shape for layer in before] == [(100, 220, 220), (12, 132, 132)]
    np.testing.assert_allclose(before[1].data_to_world((0, 0, 0)), before[0].data_to_world((44, 44, 44)))
    assert not before[0].editable
    viewer.layers.remove(before[0])
    panel.show_boxes()
    after = panel.boxes.layers
    assert after[0] is not before[0]
    assert after[1] is before[1]
    # What is worked on stays selected.
    assert viewer.layers.selection.active is image


def test_the_layers_of_another_image_move_into_its_space(session, panel):
    add_image(session, **SPACE)
    panel.size.value = "220"
    panel.show_boxes()
    add_image(session, scale=(3.0, 2.0, 1.0), units=("nm", "nm", "nm"))
    panel.show_boxes()
    for layer in panel.boxes.layers:
        assert tuple(layer.scale) == (3.0, 2.0, 1.0)
        assert {str(unit) for unit in layer.units} == {"nanometer"}
        np.testing.assert_allclose(layer.rotate, np.eye(3))
        np.testing.assert_allclose(layer.affine.affine_matrix, np.eye(4))


def test_hide_removes_the_two_layers_and_no_other(session, panel):
    add_image(session)
    panel.refresh()
    panel.show_tile.native.click()
    assert panel.hide_tile.enabled
    panel.hide_tile.native.click()
    assert list(session.viewer.layers) == [session.image]
    assert not panel.hide_tile.enabled


def test_a_panel_that_is_opened_again_finds_the_layers_of_the_first(session, panel, qtbot):
    add_image(session)
    panel.show_boxes()
    second = opened(session, qtbot)
    assert second.hide_tile.enabled
    assert second.boxes.layers == panel.boxes.layers


def test_layers_that_the_user_deletes_are_noticed(session, panel, qtbot):
    add_image(session)
    panel.show_boxes()
    for layer in panel.boxes.layers:
        session.viewer.layers.remove(layer)
    qtbot.waitUntil(lambda: not panel.hide_tile.enabled)


def test_show_draws_the_size_typed_or_else_the_selected_row_or_else_a_tile_of_the_plan(session, panel):
    session.usable = 64 * GIB
    add_image(session)
    panel.refresh()
    assert "Draws a tile of the plan: 388 x 388 x 388 voxels." in said(panel)
    panel.table.size_selected = 148
    panel.refresh()
    assert "Draws the selected row: 148 x 148 x 148 voxels." in said(panel)
    panel.size.value = "220"
    panel.refresh()
    assert "Draws the size typed: 220 x 220 x 220 voxels." in said(panel)
    panel.size.value = "130"  # does not fit
    panel.refresh()
    assert "Draws the selected row" in said(panel)


def test_what_lies_outside_of_the_volume_is_explained_when_it_is_seen(session, panel):
    add_image(session)
    panel.show_boxes()
    assert "Where orange leaves the volume, the volume is continued by reflection." in said(panel)
    panel.size.value = "100"  # 12 voxels come out around 150, and 44 more are read
    panel.show_boxes()
    assert "Orange goes in, green comes out." in said(panel)
    assert "reflection" not in said(panel)


def test_a_level_of_a_multiscale_image_has_larger_voxels(session, panel):
    pyramid = [np.broadcast_to(np.uint8(0), (n, n, n)) for n in (600, 300)]
    session.image = session.viewer.add_image(pyramid, multiscale=True, scale=(1.0, 1.0, 1.0))
    session.level = 1
    panel.size.value = "220"
    panel.show_boxes()
    assert panel.plan.volume_shape == (300, 300, 300)
    for layer in panel.boxes.layers:
        assert tuple(layer.scale) == (2.0, 2.0, 2.0)


def test_channels_before_z_are_no_obstacle(session, panel):
    add_image(session, (2, 300, 300, 300), scale=(1.0, 3.0, 2.0, 1.0), axis_labels=("c", "z", "y", "x"))
    panel.size.value = "220"
    panel.show_boxes()
    assert [layer.ndim for layer in panel.boxes.layers] == [3, 3]
    assert tuple(panel.boxes.layers[0].scale) == (3.0, 2.0, 1.0)


def test_the_selected_row_stays_when_the_network_changes_and_escape_selects_none(session, panel, qtbot):
    panel.table.size_selected = 228
    panel.network = NetworkSpec(filters=16)
    assert panel.table.size_selected == 228
    add_image(session)
    panel.network = NetworkSpec(blocks=3)  # 188, 204, 220, 236, ..
    assert panel.table.size_selected is None
    assert "Draws a tile of the plan" in said(panel)
    panel.network = NetworkSpec()
    panel.table.size_selected = 228
    qtbot.keyClick(panel.table, Qt.Key.Key_Escape)
    assert panel.table.size_selected is None


def test_the_table_cannot_be_edited_and_is_about_8_rows_high(panel, qtbot):
    panel.native.resize(400, 800)
    with qtbot.waitExposed(panel.native):
        panel.native.show()
    table = panel.table
    assert not table.edit(table.model().index(0, 0), table.EditTrigger.AllEditTriggers, None)
    assert table.viewport().height() // table.rowHeight(0) == 8
    assert not table.isColumnHidden(2)
    assert not table.horizontalScrollBar().isVisible()
    seen = table.visualItemRect(table.item(table.currentRow(), 0))
    assert 0 < seen.top() < table.viewport().height()
    assert panel.native.minimumSizeHint().width() < 360


def test_a_panel_that_is_gone_hears_nothing(session, qtbot):
    panel = SizesPanel(session)
    panel.native.deleteLater()
    qtbot.wait(50)
    add_image(session)
    session.model_changed.emit()
    session.devices_changed.emit()
    session.image.name = "other"
    session.viewer.layers.clear()


def test_every_control_has_a_tooltip(panel):
    for widget in (panel.blocks, panel.filters, panel.classes, panel.size, panel.show_tile, panel.hide_tile):
        assert widget.tooltip

"""The tab Sizes: which input sizes fit a network, what they cost, and what the chosen image costs."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import Container, Label, LineEdit, PushButton, SpinBox, Widget
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QSizePolicy, QWidget

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.tiles.plan import TilePlan
from napari_unet3d.core.unet.layers import levels_of, n_flat
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import Unet3dError
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.host.plain import plain_label
from napari_unet3d.widgets.layers.tile_boxes import TileBoxes, tile_around, tile_at
from napari_unet3d.widgets.layers.view import shown_box
from napari_unet3d.widgets.layers.volumes import LayerVolume
from napari_unet3d.widgets.panels.sizes.state import Asked, SizesState, resolve
from napari_unet3d.widgets.panels.sizes.table import SizesTable
from napari_unet3d.widgets.panels.sizes.text import (
    HOW_TO_TRY,
    Machine,
    cubes,
    describe_network,
    describe_sizes,
    describe_try,
    machine_of,
    plan_lines,
)
from napari_unet3d.widgets.runs.session import Session

_REFRESH_MS = 150
_CAPTIONS = {
    "tiles": "Number of tiles, along z, y and x.",
    "each reads": "Size of a tile that goes into the network.",
    "each returns": "Size of a tile that comes out. Where tiles overlap or leave the volume, the surplus is dropped.",
    "memory": "Largest memory that a run takes, without the program itself.",
    "time": "Estimated from the speed of earlier runs on this machine.",
    "work": "Neighbouring tiles overlap, so their borders are computed twice. Larger tiles waste less.",
}


class SizesPanel(Container):
    """Answers what fits and what it costs before anything runs.

    Parameters
    ----------
    session
        What the panels of this window share.

    Attributes
    ----------
    network
        The network that is asked about, read and set as one value.
    state
        What is said of the chosen image, and which tile can be drawn.
    boxes
        The tile that is shown in the viewer.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._asked = session.network
        self._volume: LayerVolume | None = None
        self._leaves_volume = False
        self.state = SizesState()
        self.boxes = TileBoxes(session.viewer)
        self._build()
        super().__init__(widgets=self._parts, labels=False)
        self.margins = (6, 6, 6, 6)
        self.native.layout().setSpacing(6)
        self.native.layout().addStretch()
        self._later = panel.Later(self.refresh, _REFRESH_MS, self.native)
        self._connect()
        # A moment later: the window opens without waiting for a table that is behind another tab.
        self._ask(session.network)
        self._later()

    def _build(self) -> None:
        self.blocks = SpinBox(
            label="blocks", min=0, max=5, tooltip="Number of downsample blocks. The network has one more pooling."
        )
        self.flat = SpinBox(
            label="flat levels",
            min=0,
            max=6,
            tooltip="Number of top levels that leave z alone, for slices thicker than their pixels (kernel 1x3x3, "
            "pooling 1x2x2).",
        )
        self.filters = SpinBox(
            label="filters", min=1, max=256, tooltip="Channels after the first convolution; each block doubles them."
        )
        self.classes = SpinBox(label="classes", min=2, max=127, tooltip="Number of classes, including the background.")
        self.reset = PushButton(
            text="Reset", tooltip="Go back to the numbers of the chosen model, or to the usual ones."
        )
        self.reset.native.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self._other = panel.text(tone="quiet")
        self._facts = panel.text(tooltip="The halo is the border of the input that the network consumes.")
        self.table = SizesTable()
        self._legend = panel.text(tone="quiet")
        self.size = LineEdit(label="Try a size", tooltip=f"{HOW_TO_TRY} The answer appears below.")
        self.size.native.setPlaceholderText("130   or z, y, x   100 220 220")
        self.size.native.setClearButtonEnabled(True)
        self._answer = panel.text()
        self._title = panel.text()
        self._title.native.setStyleSheet("font-weight: bold;")
        self._problem = panel.text()
        self._lines = {caption: panel.text(tooltip=tooltip) for caption, tooltip in _CAPTIONS.items()}
        self._plan_part = panel.column()
        panel.add(self._plan_part, _form(self._lines))
        self.show_tile = panel.main_button(
            "Show in viewer", "Draw what goes into the network and what comes out, around the current position."
        )
        self.hide_tile = PushButton(text="Hide", tooltip="Remove the two layers of the tile.")
        self._hint = panel.text(tone="quiet")
        self._other_row = panel.row(self._other, self.reset)
        numbers = (self.blocks, self.flat, self.filters, self.classes)
        table = panel.column()
        panel.add(table, self.table)
        table.native.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self._parts = [
            panel.row(*(panel.column(_caption(widget), widget, labels=False) for widget in numbers)),
            self._other_row,
            self._facts,
            table,
            self._legend,
            panel.row(_caption(self.size), self.size),
            self._answer,
            self._title,
            self._problem,
            self._plan_part,
            panel.row(self.show_tile, self.hide_tile),
            self._hint,
        ]

    def _connect(self) -> None:
        session, layers = self._session, self._session.viewer.layers.events
        panel.listen(self, session.model_changed, self._on_model)
        for signal in (session.image_changed, session.devices_changed, layers.removed, layers.renamed):
            panel.listen(self, signal, self._on_news)
        for widget in (self.blocks, self.flat, self.filters, self.classes, self.size):
            widget.changed.connect(self._on_news)
        self.table.itemSelectionChanged.connect(self._on_news)
        self.reset.changed.connect(lambda: self._on_model())
        self.show_tile.changed.connect(lambda: self.show_boxes())
        self.hide_tile.changed.connect(lambda: self.hide_boxes())

    def _on_news(self, *_: Any) -> None:
        self._later()

    def _on_model(self) -> None:
        self._ask(self._session.network)
        self._later()

    def _ask(self, network: NetworkSpec) -> None:
        self._asked = network
        self.blocks.value, self.flat.value = network.blocks, n_flat(network.levels)
        self.filters.value, self.classes.value = network.filters, network.classes

    @property
    def network(self) -> NetworkSpec:
        """Return the network that is asked about."""
        levels = self._asked.levels
        if (self.blocks.value, self.flat.value) != (self._asked.blocks, n_flat(levels)):
            levels = levels_of(self.blocks.value, flat=self.flat.value)
        changes = {"levels": levels, "filters": self.filters.value, "classes": self.classes.value}
        return self._asked.model_copy(update=changes)

    @network.setter
    def network(self, network: NetworkSpec) -> None:
        self._ask(network)
        self.refresh()

    def refresh(self) -> None:
        """Derive every text and every enabled state from what is chosen."""
        network, usual = self.network, self._session.network
        machine = machine_of(self._session, network)
        image = self._session.image
        whose = "The usual network has" if self._session.card is None else "The chosen model has"
        numbers = f"{usual.shape_text}, {usual.filters} filters, {usual.classes} classes"
        panel.say(self._other, f"{whose} {numbers}.")
        self._other_row.visible = network != usual
        panel.say(self._facts, describe_network(network))
        self.table.show_sizes(cubes(network, machine), speed=machine.speed, memory=machine.memory)
        panel.say(self._legend, describe_sizes(network, machine))
        panel.say(self._answer, describe_try(self.size.value, network, machine))
        panel.say(self._title, "For the image" if image is None else f"For '{image.name}'")
        # After the table: a row that was selected may be gone with the other network.
        self.state = state = self._resolved(network, machine)
        panel.say(self._problem, state.problem)
        self._plan_part.visible = state.plan is not None
        if state.plan is not None:
            for caption, value in plan_lines(state.plan, machine).items():
                self._lines[caption].value = value
        self.show_tile.enabled, self.hide_tile.enabled = state.can_show, state.can_hide
        panel.say(self._hint, state.hint)

    @property
    def plan(self) -> TilePlan | None:
        """Return the tiles of the chosen image, or None where there are none."""
        return self.state.plan

    def _resolved(self, network: NetworkSpec, machine: Machine) -> SizesState:
        self._volume, problem = None, ""
        try:
            self._volume = self._session.volume()
        except Unet3dError as error:
            problem = str(error)
        shape = None if self._volume is None else self._volume.shape
        asked = Asked(self.size.value, self.table.size_selected, bool(self.boxes.layers), self._leaves_volume)
        return resolve(shape, problem, network, machine, asked)

    def show_boxes(self) -> None:
        """Show one tile around the present position; the layers that are there are moved."""
        self.refresh()
        if self._volume is None or self.state.wanted is None:
            return
        shape, _ = self.state.wanted
        shown = shown_box(self._session.viewer, self._volume)
        centre = [(start + stop) // 2 for start, stop in shown]
        if self.plan is not None and shape == self.plan.input_shape:
            tile = tile_at(centre, self.plan)
        else:
            tile = tile_around(centre, self._volume.shape, shape, self.network)
        self._leaves_volume = tile.read.intersection(Box.whole(self._volume.shape)) != tile.read
        self.boxes.show(tile, self._volume)
        self.refresh()

    def hide_boxes(self) -> None:
        """Remove the layers of the tile."""
        self.boxes.hide()
        self.refresh()


def _form(lines: dict[str, Label]) -> QWidget:
    """Return texts below each other, behind captions of one width."""
    form = QWidget()
    layout = QFormLayout(form)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setVerticalSpacing(4)
    layout.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for caption, line in lines.items():
        label = plain_label(caption)
        label.setToolTip(line.tooltip)
        layout.addRow(label, line.native)
    return form


def _caption(widget: Widget) -> Label:
    caption = Label(value=widget.label)
    caption.native.setBuddy(widget.native)
    return caption

"""The tab Sizes: which input sizes fit a network, what they cost, and what the chosen image costs."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import Container, Label, LineEdit, PushButton, SpinBox, Widget
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QSizePolicy, QWidget

from napari_unet3d.core.architecture import NetworkSpec
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.geometry import Shape
from napari_unet3d.core.tiling import TilePlan, plan_tiles
from napari_unet3d.errors import Unet3dError
from napari_unet3d.widgets import panel
from napari_unet3d.widgets.layers import LayerVolume
from napari_unet3d.widgets.plain import plain_label
from napari_unet3d.widgets.session import Session
from napari_unet3d.widgets.sizes_table import SizesTable
from napari_unet3d.widgets.sizes_text import (
    HOW_TO_TRY,
    Machine,
    cubes,
    describe_network,
    describe_sizes,
    describe_try,
    machine_of,
    misfits,
    plan_lines,
    sizes_typed,
)
from napari_unet3d.widgets.tile_boxes import TileBoxes, tile_around, tile_at
from napari_unet3d.widgets.view import shown_box

_REFRESH_MS = 150
_CAPTIONS = {
    "tiles": "How often the network runs, along z, y and x.",
    "each reads": "What goes into the network at a time.",
    "each returns": "What comes out at a time. Where tiles overlap or leave the volume, the surplus is dropped.",
    "memory": "What a run takes at its worst moment, beyond the program itself.",
    "time": "From the speed of earlier runs on this machine.",
    "work": "Neighbouring tiles overlap, so that their borders are computed twice. Larger tiles waste less.",
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
    plan
        The tiles of the chosen image, or None where there are none.
    boxes
        The tile that is shown in the viewer.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._asked = session.network
        self._volume: LayerVolume | None = None
        self._leaves_volume = False
        self.plan: TilePlan | None = None
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
            label="blocks", min=0, max=5, tooltip="Downsample blocks of the network; it pools once more than that."
        )
        self.filters = SpinBox(
            label="filters", min=1, max=256, tooltip="Channels after the first convolution; each block doubles them."
        )
        self.classes = SpinBox(
            label="classes", min=2, max=127, tooltip="What the network tells apart, the background included."
        )
        self.reset = PushButton(text="Reset", tooltip="Take the numbers of the chosen model, or the usual ones, again.")
        self.reset.native.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self._other = panel.text(tone="quiet")
        self._facts = panel.text(tooltip="The halo is the border of the input that the network consumes.")
        self.table = SizesTable()
        self._legend = panel.text(tone="quiet")
        self.size = LineEdit(label="Try a size", tooltip=f"{HOW_TO_TRY} Whether it fits is said below.")
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
            "Show in viewer", "Draw what goes into the network and what comes out, around the present position."
        )
        self.hide_tile = PushButton(text="Hide", tooltip="Remove the two layers of the tile.")
        self._hint = panel.text(tone="quiet")
        self._other_row = panel.row(self._other, self.reset)
        numbers = (self.blocks, self.filters, self.classes)
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
        for widget in (self.blocks, self.filters, self.classes, self.size):
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
        self.blocks.value, self.filters.value, self.classes.value = network.blocks, network.filters, network.classes

    @property
    def network(self) -> NetworkSpec:
        """Return the network that is asked about."""
        # Not `model_copy`: it would keep the layers of the other network, which are cached.
        rest = self._asked.model_dump(exclude={"blocks", "filters", "classes"})
        return NetworkSpec(blocks=self.blocks.value, filters=self.filters.value, classes=self.classes.value, **rest)

    @network.setter
    def network(self, network: NetworkSpec) -> None:
        self._ask(network)
        self.refresh()

    def refresh(self) -> None:
        """Derive every text and every enabled state from what is chosen."""
        network, usual = self.network, self._session.network
        machine = machine_of(self._session, network)
        problem = self._make_plan(network, machine)
        image = self._session.image
        whose = "Usual are" if self._session.card is None else "The chosen model has"
        numbers = f"{usual.blocks} blocks, {usual.filters} filters, {usual.classes} classes"
        panel.say(self._other, f"{whose} {numbers}.")
        self._other_row.visible = network != usual
        panel.say(self._facts, describe_network(network))
        self.table.show_sizes(cubes(network, machine), speed=machine.speed, memory=machine.memory)
        panel.say(self._legend, describe_sizes(network, machine))
        panel.say(self._answer, describe_try(self.size.value, network, machine))
        panel.say(self._title, "For the image" if image is None else f"For '{image.name}'")
        panel.say(self._problem, problem)
        self._plan_part.visible = self.plan is not None
        if self.plan is not None:
            for caption, value in plan_lines(self.plan, machine).items():
                self._lines[caption].value = value
        # After the table: a row that was selected may be gone with the other network.
        tile = self._wanted(network)
        self.show_tile.enabled = self._volume is not None and tile is not None
        self.hide_tile.enabled = bool(self.boxes.layers)
        panel.say(self._hint, self._hint_text(tile))

    def _make_plan(self, network: NetworkSpec, machine: Machine) -> str:
        """Plan the tiles of the chosen image, and return why there are none."""
        self._volume = self.plan = None
        try:
            self._volume = self._session.volume()
            if machine.memory is None:
                return machine.whose
            self.plan = plan_tiles(
                self._volume.shape, network, memory=machine.memory, bytes_per_value=machine.bytes_per_value
            )
        except Unet3dError as error:
            return str(error)
        return ""

    def _wanted(self, network: NetworkSpec) -> tuple[Shape, str] | None:
        """Return the input shape that Show draws, and where it comes from."""
        typed = sizes_typed(self.size.value)
        if typed is not None and not misfits(typed, network):
            return typed, "the size typed"
        if (selected := self.table.size_selected) is not None:
            return (selected, selected, selected), "the selected row"
        return None if self.plan is None else (self.plan.input_shape, "a tile of the plan")

    def _hint_text(self, wanted: tuple[Shape, str] | None) -> str:
        if self._volume is None:
            return "There is no volume to draw on."
        if wanted is None:
            return "Select a row, or type a size that fits."
        shape, source = wanted
        sentences = [f"Draws {source}: {panel.times(shape)} voxels."]
        if self.boxes.layers:
            sentences.append("Orange goes in, green comes out.")
            if self._leaves_volume:
                sentences.append("Where orange leaves the volume, the volume is continued by reflection.")
        return " ".join(sentences)

    def show_boxes(self) -> None:
        """Show one tile around the present position; the layers that are there are moved."""
        self.refresh()
        wanted = self._wanted(self.network)
        if self._volume is None or wanted is None:
            return
        shape, _ = wanted
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

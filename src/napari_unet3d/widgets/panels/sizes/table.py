"""The table of input sizes: what comes out, what it costs, and which is the largest that this machine can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QEvent, QItemSelectionModel, Qt
from qtpy.QtGui import QColor, QFont, QFontMetrics
from qtpy.QtWidgets import QAbstractItemView, QTableWidget, QTableWidgetItem

from napari_unet3d.core.boxes import Shape
from napari_unet3d.widgets.panels.sizes.text import Cost
from napari_unet3d.words import amount, duration, times

# In two lines, so that seven columns fit a narrow panel.
LARGEST = "largest\nhere"
UNKNOWN = "-"
_HALO = 2
_ROWS_SEEN = 8
_PADDING = 7
_COLUMNS = {
    "input\nvoxels": "Side of the cube that goes into the network, in voxels",
    "output\nvoxels": "Side of the cube that comes out, or its sides z, y, x, in voxels",
    "lost per\nside": "The halo: voxels on each side of the input that give no output",
    "work\nGFLOP": "Billions of operations per tile: a multiplication and an addition count as two",
    "memory\n": "Memory of a run with such tiles, with those that wait in its queues, without the program itself",
    "time\n": "Time per tile on this machine; known after the first run with as many filters",
    "\n": "The largest tile for which the memory suffices; larger ones are grey",
}
_GREY = QColor("#8a8f98")


class SizesTable(QTableWidget):
    """Input sizes with their costs, one of which can be selected."""

    def __init__(self) -> None:
        super().__init__(0, len(_COLUMNS))
        self._shown: tuple[Any, ...] = ()
        self._sizes: list[int] = []
        self._widths = [0] * len(_COLUMNS)
        self.setAccessibleName("Input sizes that fit")
        self.setToolTip("Select a row to show its tile in the viewer; Esc selects none.")
        self.setHorizontalHeaderLabels(list(_COLUMNS))
        for column, tooltip in enumerate(_COLUMNS.values()):
            self.horizontalHeaderItem(column).setToolTip(tooltip)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setTabKeyNavigation(False)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        self.verticalHeader().hide()
        header = self.horizontalHeader()
        header.setHighlightSections(False)
        header.setSectionsClickable(False)
        header.setMinimumSectionSize(20)
        header.setStretchLastSection(True)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._fit()

    @property
    def size_selected(self) -> int | None:
        """Return the input size of the selected row, or None."""
        rows = self.selectionModel().selectedRows()
        return self._sizes[rows[0].row()] if rows else None

    @size_selected.setter
    def size_selected(self, size: int | None) -> None:
        self.clearSelection()
        if size in self._sizes:
            self.selectRow(self._sizes.index(size))

    def show_sizes(self, costs: Sequence[Cost], *, speed: float | None, memory: int | None) -> None:
        """Show sizes; the selected one stays selected if it is among them.

        Parameters
        ----------
        costs
            What each size takes, from small to large.
        speed
            Operations per second; None if it is not known.
        memory
            Bytes that a run may use; None if it is not known.
        """
        fits = [memory is None or cost.memory <= memory for cost in costs]
        largest = None if memory is None or not any(fits) else max(n for n, ok in enumerate(fits) if ok)
        sizes = [cost.tile.input_shape[0] for cost in costs]
        shown = (tuple(costs), speed, tuple(fits), largest)
        if shown != self._shown:
            self._shown = shown
            selected = self.size_selected
            self._sizes = sizes
            self.setRowCount(len(costs))
            for row, (cost, ok) in enumerate(zip(costs, fits, strict=True)):
                self._fill(row, [*_texts(cost, speed), LARGEST if row == largest else ""], ok, row == largest)
            self.size_selected = selected
            self._fit()
            if self.size_selected is None:
                self._go_to(largest or 0)

    def row_texts(self, row: int) -> list[str]:
        """Return what a row says."""
        return [self.item(row, column).text() for column in range(self.columnCount())]

    def _fill(self, row: int, texts: list[str], fits: bool, is_largest: bool) -> None:
        for column, text in enumerate(texts):
            item = QTableWidgetItem(text)
            item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
            item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            if not fits:
                item.setForeground(_GREY)
            font = item.font()
            font.setBold(is_largest)
            item.setFont(font)
            self.setItem(row, column, item)

    def _go_to(self, row: int) -> None:
        """Bring a row into the middle, and let the arrow keys begin there; it is not selected."""
        if row < self.rowCount():
            index = self.model().index(row, 0)
            self.selectionModel().setCurrentIndex(index, QItemSelectionModel.SelectionFlag.NoUpdate)
            self.scrollTo(index, QAbstractItemView.ScrollHint.PositionAtCenter)

    def _fit(self) -> None:
        """Be so many rows high, and leave no room beside the texts."""
        line = QFontMetrics(self.font()).height() + 4
        self.verticalHeader().setMinimumSectionSize(line)
        self.verticalHeader().setDefaultSectionSize(line)
        self._widths = [self._width(title) for title in _COLUMNS]
        for row in range(self.rowCount()):
            items = [self.item(row, column) for column in range(len(_COLUMNS))]
            widths = map(self._width, (item.text() for item in items), (item.font().bold() for item in items))
            self._widths = list(map(max, self._widths, widths))
            self.setRowHeight(row, line if items[-1].text() != LARGEST else 2 * line)
        for column, width in enumerate(self._widths):
            self.setColumnWidth(column, width)
        self._hide_what_is_known()
        self.setFixedHeight(self.horizontalHeader().sizeHint().height() + _ROWS_SEEN * line + 2 * self.frameWidth())

    def _width(self, text: str, is_bold: bool = False) -> int:
        font = QFont(self.font())
        font.setBold(is_bold)
        metrics = QFontMetrics(font)
        return int(max(metrics.horizontalAdvance(line) for line in text.split("\n"))) + _PADDING

    def _hide_what_is_known(self) -> None:
        """Where the panel is too narrow the halo goes first: it is the same in all rows."""
        self.setColumnHidden(_HALO, sum(self._widths) > self.viewport().width())

    def keyPressEvent(self, event: Any) -> None:
        """Select none with Esc."""
        if event.key() == Qt.Key.Key_Escape and self.size_selected is not None:
            self.clearSelection()
        else:
            super().keyPressEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        """Keep so many rows high when the theme brings another font."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.FontChange):
            self._fit()

    def resizeEvent(self, event: Any) -> None:
        """Choose the columns that there is room for."""
        super().resizeEvent(event)
        self._hide_what_is_known()

    def showEvent(self, event: Any) -> None:
        """Bring the marked row into the middle: before, there was nothing to scroll."""
        super().showEvent(event)
        self._fit()
        self._go_to(self.currentRow())


def _side(shape: Shape) -> str:
    """Return the side of a cube, or all three."""
    return str(shape[0]) if len(set(shape)) == 1 else times(shape).replace(" ", "")


def _texts(cost: Cost, speed: float | None) -> list[str]:
    tile, gflop = cost.tile, cost.flops / 1e9
    return [
        f"{tile.input_shape[0]}",
        _side(tile.output_shape),
        _side(tile.spec.geometry.halo),
        f"{gflop:,.1f}" if gflop < 100 else f"{gflop:,.0f}",
        amount(cost.memory),
        UNKNOWN if speed is None else duration(cost.seconds(speed)),
    ]

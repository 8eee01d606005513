"""A table of many rows that is sorted by a click on a title, and tells which row was chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtWidgets import QAbstractItemView, QTableView

_ROWS_SEEN = 6


class Column(NamedTuple):
    """A column.

    Attributes
    ----------
    title
        What stands above it.
    values
        (rows,) by which it is sorted.
    text
        From a value to what is shown.
    is_number
        It stands to the right.
    """

    title: str
    values: npt.NDArray[Any]
    text: Callable[[Any], str]
    is_number: bool = True


class SortedTable(QTableView):
    """Shows rows.

    Parameters
    ----------
    name
        What it lists.
    tooltip
        What a click does.
    on_chosen
        Called with the number of the row, as it was given, that was clicked or reached with the keys.
    """

    def __init__(self, name: str, tooltip: str, on_chosen: Callable[[int], None]) -> None:
        super().__init__()
        self._on_chosen = on_chosen
        self._model: _Rows | None = None
        self.setAccessibleName(name)
        self.setToolTip(tooltip)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setTabKeyNavigation(False)
        self.setShowGrid(False)
        self.setSortingEnabled(True)
        self.verticalHeader().hide()
        self.horizontalHeader().setStretchLastSection(True)
        self.horizontalHeader().setMinimumSectionSize(40)
        row = self.verticalHeader().defaultSectionSize()
        self.setFixedHeight(row * (_ROWS_SEEN + 1))

    def show_columns(self, columns: Sequence[Column], sorted_by: int = 0) -> None:
        """Show other rows, the largest first; no columns show nothing.

        Parameters
        ----------
        columns
            All of one length.
        sorted_by
            Which of them.
        """
        self._model = _Rows(columns) if columns else None
        self.setModel(self._model)
        if self._model is not None:
            self.sortByColumn(sorted_by, Qt.SortOrder.DescendingOrder)
            self.resizeColumnsToContents()
            self.selectionModel().currentRowChanged.connect(self._on_current)

    def _on_current(self, current: QModelIndex, _: QModelIndex) -> None:
        if self._model is not None and current.isValid():
            self._on_chosen(int(self._model.order[current.row()]))


class _Rows(QAbstractTableModel):
    """The columns, and the order in which rows are shown."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        self._columns = columns
        self.order = np.arange(len(columns[0].values))

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008 - Qt's own default
        return 0 if parent.isValid() else len(self.order)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self._columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        column = self._columns[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.text(column.values[self.order[index.row()]])
        if role == Qt.ItemDataRole.TextAlignmentRole and column.is_number:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def headerData(self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        is_title = orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole
        return self._columns[section].title if is_title else None

    def sort(self, column: int, order: Any = Qt.SortOrder.AscendingOrder) -> None:
        self.layoutAboutToBeChanged.emit()
        kept = self.persistentIndexList()
        rows = [int(self.order[index.row()]) for index in kept]
        found = np.argsort(self._columns[column].values, kind="stable")
        self.order = found[::-1] if order == Qt.SortOrder.DescendingOrder else found
        # What is selected stays so, wherever it stands now.
        places = np.argsort(self.order)
        moved = [self.index(int(places[row]), index.column()) for row, index in zip(rows, kept, strict=True)]
        self.changePersistentIndexList(kept, moved)
        self.layoutChanged.emit()

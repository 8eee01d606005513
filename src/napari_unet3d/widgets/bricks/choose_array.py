"""Dialogs of the readers: which arrays of a file are meant, and which of their axes is which."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QDialog,
    QDialogButtonBox,
    QLabel,
    QLineEdit,
    QMainWindow,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_unet3d.errors import shown, visible
from napari_unet3d.volumes import ArrayInfo
from napari_unet3d.widgets.host.plain import plain_label
from napari_unet3d.words import times

_NAME, _SHAPE, _TYPE, _LABELS = range(4)
# What a message says of the command line is not for a window.
_COMMAND_LINE = re.compile(
    r"(;|\. If (that is how it should be read|it is a volume all the same),) name them as they lie in the file.*"
)


def choose_arrays(path: str, arrays: Sequence[ArrayInfo], labels: Collection[str]) -> list[tuple[str, bool]]:
    """Ask which arrays of a file to open; none if it is cancelled.

    Parameters
    ----------
    path
        The file.
    arrays
        What it holds.
    labels
        Names of those that look like labels.

    Returns
    -------
    list of (str, bool)
        The name of each, and whether it shall be a labels layer.
    """
    dialog = ArrayDialog(path, arrays, labels, _window())
    return dialog.chosen if _accepted(dialog) else []


def ask_axes(reason: str, guess: str) -> str | None:
    """Ask which axis of an array is which; None if it is cancelled.

    Parameters
    ----------
    reason
        Why it is asked.
    guess
        What is likely: one letter per axis.
    """
    dialog = AxesDialog(reason, guess, _window())
    return dialog.axes if _accepted(dialog) else None


def _window() -> QWidget | None:
    # Not any active window: a dialog that is about to go would take its child along.
    active = QApplication.activeWindow()
    return active if isinstance(active, QMainWindow) else None


def _accepted(dialog: QDialog) -> bool:
    accepted = dialog.exec() == QDialog.DialogCode.Accepted
    # Its parent is the window, which would keep it.
    dialog.deleteLater()
    return bool(accepted)


class ArrayDialog(QDialog):
    """A list of arrays, of which one or more are chosen.

    Parameters
    ----------
    path
        The file.
    arrays
        What it holds.
    labels
        Names of those that look like labels.
    parent
        The window that waits.
    """

    def __init__(
        self, path: str, arrays: Sequence[ArrayInfo], labels: Collection[str], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Open {shown(Path(path).name)}")
        self.resize(560, 320)
        self.list = QTreeWidget()
        self.list.setRootIsDecorated(False)
        self.list.setHeaderLabels(["Array", "Shape", "Type", "Labels"])
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.list.setToolTip("You can open several together. Tick the arrays that hold labels, not intensities.")
        self._arrays = list(arrays)
        for info in self._arrays:
            self.list.addTopLevelItem(_row(info, is_labels=info.name in labels))
        for column in (_NAME, _SHAPE, _TYPE):
            self.list.resizeColumnToContents(column)
        self.buttons = _lay_out(self, _text("Which arrays of this file should be opened?"), self.list)
        self.list.itemSelectionChanged.connect(self._on_selection)
        self.list.itemDoubleClicked.connect(self._on_double_click)
        self.list.setCurrentItem(self.list.topLevelItem(self._first(labels)))

    @property
    def chosen(self) -> list[tuple[str, bool]]:
        """Return the name of each array that is chosen, and whether it is labels."""
        return [
            (info.name, item.checkState(_LABELS) == Qt.CheckState.Checked)
            for info, item in zip(self._arrays, map(self.list.topLevelItem, range(len(self._arrays))), strict=True)
            if item.isSelected()
        ]

    def _first(self, labels: Collection[str]) -> int:
        """Return the largest 3D array; of two as large the one that is no labels."""

        def rank(at: int) -> tuple[bool, int, bool]:
            info = self._arrays[at]
            n_voxels = 1
            for size in info.shape:
                n_voxels *= size
            return len(info.shape) == 3, n_voxels, info.name not in labels

        return max(range(len(self._arrays)), key=rank)

    def _on_double_click(self, _: QTreeWidgetItem, column: int) -> None:
        # Two quick clicks on the box of labels are no wish to open.
        if column != _LABELS:
            self.accept()

    def _on_selection(self) -> None:
        self.buttons.button(QDialogButtonBox.StandardButton.Open).setEnabled(bool(self.list.selectedItems()))


class AxesDialog(QDialog):
    """A line in which the axes of an array are named.

    Parameters
    ----------
    reason
        Why it is asked.
    guess
        What is likely.
    parent
        The window that waits.
    """

    def __init__(self, reason: str, guess: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Which axis is which?")
        self.resize(480, 160)
        self.line = QLineEdit(guess)
        self.line.setToolTip("One letter for each axis, in the order of the file.")
        hint = "Name each axis in the order of the file: z, y, x, and c for channels."
        _lay_out(self, _text(_COMMAND_LINE.sub(".", reason)), _text(hint), self.line)

    @property
    def axes(self) -> str:
        """Return what was typed."""
        return "".join(letter for letter in self.line.text().lower() if letter.isalpha())


def _row(info: ArrayInfo, *, is_labels: bool) -> QTreeWidgetItem:
    item = QTreeWidgetItem([visible(info.name), times(info.shape), info.dtype, ""])
    if info.is_integral:
        # An item without a check state has no box.
        item.setCheckState(_LABELS, Qt.CheckState.Checked if is_labels else Qt.CheckState.Unchecked)
    return item


def _text(text: str) -> QLabel:
    label = plain_label(text)
    label.setWordWrap(True)
    return label


def _lay_out(dialog: QDialog, *widgets: QWidget) -> QDialogButtonBox:
    buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Open | QDialogButtonBox.StandardButton.Cancel)
    buttons.accepted.connect(dialog.accept)
    buttons.rejected.connect(dialog.reject)
    layout = QVBoxLayout(dialog)
    for widget in (*widgets, buttons):
        layout.addWidget(widget)
    return buttons

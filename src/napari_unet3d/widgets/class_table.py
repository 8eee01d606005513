"""A row a class: its colour, how much of it is annotated, and how well it is found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QSizePolicy, QWidget

from napari_unet3d.widgets.colours import class_colour
from napari_unet3d.widgets.plain import plain_label, unmarked

if TYPE_CHECKING:
    from napari_unet3d.widgets.curves import Curves

_HEADS = {
    "": "",
    "class": "",
    "annotated": "Voxels that are painted, of all pairs.",
    "held out": "Voxels that the scores rest on; they are not learnt from.",
    "Dice": "Of the last score: 1 is a perfect match. The best one is shown when the mouse rests on a number.",
    "IoU": "Of the last score: intersection over union.",
}


class ClassTable(QWidget):
    """The table; empty until there is annotation.

    Attributes
    ----------
    rows
        What it shows, a row a class, without the colours; last the best score.
    """

    def __init__(self) -> None:
        super().__init__()
        self._names: tuple[str, ...] = ()
        self._annotated: Sequence[int] = ()
        self._curves: Curves | None = None
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 2, 0, 2)
        self._grid.setHorizontalSpacing(4)
        self._grid.setVerticalSpacing(1)
        self._grid.setColumnStretch(1, 1)
        self.rows: list[list[str]] = []
        # It takes the width that the panel has: a long name of a class must not widen the dock.
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.hide()

    def show_annotation(self, names: Sequence[str], annotated: Sequence[int]) -> None:
        """Show how much is annotated; no names empty the table."""
        self._names, self._annotated = tuple(names), annotated
        self._show()

    def show_scores(self, curves: Curves | None) -> None:
        """Show how well classes are found; None where nothing was trained."""
        self._curves = curves
        self._show()

    def _show(self) -> None:
        rows = self._derived()
        if rows == self.rows:
            return
        self.rows = rows
        while (item := self._grid.takeAt(0)) is not None:
            item.widget().deleteLater()
        has_scores = any(row[2] for row in rows)
        heads = list(_HEADS) if has_scores else list(_HEADS)[:3]
        for column, head in enumerate(heads):
            self._put(0, column, head, tooltip=_HEADS[head], style="color: #797e87;")
        for number, row in enumerate(rows, start=1):
            self._put(number, 0, "\u25a0", style=f"color: {class_colour(number - 1)};")
            for column, text in enumerate(row[: len(heads) - 1], start=1):
                self._put(number, column, text, tooltip=row[-1] if heads[column] == "Dice" else "")
        self.setVisible(bool(rows))

    def _derived(self) -> list[list[str]]:
        curves = self._curves
        # A run may have had other classes than what is painted now.
        scores = curves if curves is not None and curves.scored and curves.class_names == self._names else None
        rows = []
        for index, name in enumerate(self._names):
            annotated = f"{self._annotated[index]:,}" if index < len(self._annotated) else ""
            row = [name, annotated, "", "", "", ""]
            if scores is not None and index and (best := scores.best_dice(index - 1)) is not None:
                dice, iou, n = scores.dice[-1], scores.iou[-1], scores.voxels[-1]
                row[2:5] = [f"{n[index - 1]:,}", f"{dice[index - 1]:.3f}", f"{iou[index - 1]:.3f}"]
                row[5] = f"best {best[0]:.3f} after step {best[1]:,}"
            rows.append(row)
        return rows

    def _put(self, row: int, column: int, text: str, *, tooltip: str = "", style: str = "") -> None:
        label = plain_label(text)
        label.setToolTip(unmarked(tooltip))
        label.setStyleSheet(style)
        if column == 1:
            label.setMinimumWidth(1)
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
            label.setToolTip(unmarked(tooltip or text))
        if column > 1:
            label.setAlignment(Qt.AlignmentFlag.AlignRight)
        self._grid.addWidget(label, row, column)

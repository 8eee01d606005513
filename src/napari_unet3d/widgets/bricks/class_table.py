"""A row a class: its colour, how much of it is annotated, and how well it is found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QSizePolicy, QWidget

from napari_unet3d.widgets.bricks.tones import Tone, set_tone
from napari_unet3d.widgets.host.plain import disable_markup, plain_label
from napari_unet3d.widgets.layers.colours import class_colour
from napari_unet3d.words import with_interval

if TYPE_CHECKING:
    from napari_unet3d.tasks.train.kept.history import Curves

# Columns without scores.
_FIRST = {"": "", "class": "", "annotated": "Painted voxels in all pairs."}
_HELD_OUT = {"held out": "Voxels kept for the scores; the network does not learn from them."}
_OF_LAST = "The table shows the last score."
_BEST = "Hold the mouse over a number to see how sure it is, and the best one."
_RANGE = "In brackets: where it would be nine times in ten, had other places been held out."
_NO_RANGE = "It is held out at too few places to say how sure that is."
_CHOSEN = "The best model is the latest whose mean over all classes is not clearly below the highest."


class ClassTable(QWidget):
    """The table; empty until there is annotation.

    Attributes
    ----------
    rows
        What it shows, a row a class, without the colours; last what its score is worth.
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
        heads = self._heads() if any(row[2:] for row in rows) else _FIRST
        for column, (head, tooltip) in enumerate(heads.items()):
            self._put(0, column, head, tooltip=tooltip, tone="quiet")
        for number, row in enumerate(rows, start=1):
            self._put(number, 0, "\u25a0", style=f"color: {class_colour(number - 1)};")
            for column, text in enumerate(row[: len(heads) - 1], start=1):
                # The first score says what it is worth.
                self._put(number, column, text, tooltip=row[-1] if column == len(_FIRST) + 1 else "")
        self.setVisible(bool(rows))

    def _heads(self) -> dict[str, str]:
        """Return the titles of all columns with what they mean."""
        if self._curves is None:
            return _FIRST
        first, *others = self._curves.head.score_kinds
        scores = {first.title: f"{first.meaning} {_OF_LAST} {_BEST} {_CHOSEN}"}
        return _FIRST | _HELD_OUT | scores | {kind.title: f"{kind.meaning} {_OF_LAST}" for kind in others}

    def _derived(self) -> list[list[str]]:
        curves = self._curves
        # A run may have had other classes than what is painted now.
        is_alike = curves is not None and bool(curves.scored) and curves.head.names == self._names
        rows = []
        for index, name in enumerate(self._names):
            annotated = f"{self._annotated[index]:,}" if index < len(self._annotated) else ""
            of_class = _score_texts(curves, index) if curves is not None and is_alike else []
            rows.append([name, annotated, *of_class])
        return rows

    def _put(
        self, row: int, column: int, text: str, *, tooltip: str = "", style: str = "", tone: Tone = "plain"
    ) -> None:
        label = plain_label(text)
        label.setToolTip(disable_markup(tooltip))
        if style:
            label.setStyleSheet(style)
        else:
            set_tone(label, tone)
        if column == 1:
            label.setMinimumWidth(1)
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
            label.setToolTip(disable_markup(tooltip or text))
        if column > 1:
            label.setAlignment(Qt.AlignmentFlag.AlignRight)
        self._grid.addWidget(label, row, column)


def _score_texts(curves: Curves, index: int) -> list[str]:
    """Return the voxels that scores rest on, the last score of every kind, and what the first is worth; or nothing."""
    best = curves.best(index)
    if best is None:
        return []
    last, kind = curves.scored[-1], curves.head.score_kinds[0]
    values = [f"{last.scores[kind.name][index]:.3f}" for kind in curves.head.score_kinds]
    worth = [f"Best {best[0]:.3f} after step {best[1]:,}."]
    if last.intervals:
        score = with_interval(last.scores[kind.name][index], last.intervals[index])
        is_known = not math.isnan(last.intervals[index][0])
        worth.insert(0, f"{kind.title} {score}. {_RANGE if is_known else _NO_RANGE}")
    name, trivial = curves.head.scored[index], curves.trivial()[index]
    worth.append(f"Calling every voxel {name} would give {trivial:.3f}.")
    return [f"{last.voxels[index]:,}", *values, "\n".join(worth)]

"""The curves of a training run: loss and scores, as they come."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QFileDialog, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_unet3d.atomic import write_text
from napari_unet3d.errors import OutputError, visible
from napari_unet3d.widgets.colours import class_colour
from napari_unet3d.widgets.notices import notify_error

if TYPE_CHECKING:
    from napari_unet3d.widgets.curves import Curves

_HEIGHT = 105
_SMOOTHED = 25
TRAINING_COLOUR, HELD_OUT_COLOUR = "#56b4e9", "#cc79a7"
# Readable on the dark and on the light theme, like the quiet texts of the panels.
_INK = "#8c929b"


class LossPlot(QWidget):
    """Two plots below each other with one axis of steps: the loss, and the Dice of each class.

    Parameters
    ----------
    parent
        The panel.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._curves: Curves | None = None
        self._canvas = pg.GraphicsLayoutWidget()
        self._canvas.setBackground(None)
        self._canvas.setFixedHeight(2 * _HEIGHT)
        self._canvas.setAttribute(Qt.WidgetAttribute.WA_TranslucentBackground)
        self.loss = self._plot(0, "loss")
        self.dice = self._plot(1, "Dice, held out")
        self.dice.setLabel("bottom", "step", color=_INK)
        self.dice.setXLink(self.loss)
        self.dice.setYRange(0, 1, padding=0.02)
        faint = pg.mkPen(TRAINING_COLOUR + "60", width=1)
        self._steps = self.loss.plot(pen=faint)
        self._smooth = self.loss.plot(pen=pg.mkPen(TRAINING_COLOUR, width=2))
        self._held = self.loss.plot(
            pen=pg.mkPen(HELD_OUT_COLOUR, width=2),
            symbol="o",
            symbolSize=4,
            symbolBrush=HELD_OUT_COLOUR,
            symbolPen=None,
        )
        self._classes: list[Any] = []
        self.log = QCheckBox("log")
        self.log.setToolTip("Logarithmic loss.")
        self.log.toggled.connect(lambda on: self.loss.setLogMode(y=on))
        self.export = QPushButton("Export...")
        self.export.setToolTip("Write the curves as a CSV file.")
        self.export.clicked.connect(self._on_export)
        self.hover = QLabel(f'<span style="color:{TRAINING_COLOUR}">training</span>')
        self._legend()
        below = QHBoxLayout()
        below.addWidget(self.hover, stretch=1)
        below.addWidget(self.log)
        below.addWidget(self.export)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self._canvas)
        layout.addLayout(below)
        self._canvas.scene().sigMouseMoved.connect(self._on_mouse)

    def show_curves(self, curves: Curves) -> None:
        """Draw what has come so far."""
        self._curves = curves
        steps, losses = np.asarray(curves.steps, float), np.asarray(curves.losses, float)
        self._steps.setData(steps, losses)
        if len(losses):
            self._smooth.setData(steps, smoothed(losses))
        self._held.setData(np.asarray(curves.scored, float), np.asarray(curves.held_out, float))
        if len(self._classes) != len(curves.class_names) - 1:
            for item in self._classes:
                self.dice.removeItem(item)
            self._classes = [
                self.dice.plot(
                    pen=pg.mkPen(class_colour(index), width=2),
                    symbol="o",
                    symbolSize=4,
                    symbolBrush=class_colour(index),
                    symbolPen=None,
                )
                for index in range(1, len(curves.class_names))
            ]
            self._legend()
        for index, item in enumerate(self._classes):
            item.setData(np.asarray(curves.scored, float), np.array([dice[index] for dice in curves.dice], float))

    def values_at(self, step: float) -> str:
        """Return what the curves say at a step, as one line."""
        curves = self._curves
        if curves is None or not curves.steps:
            return ""
        at = int(np.abs(np.asarray(curves.steps) - step).argmin())
        text = f"step {curves.steps[at]:,}: loss {curves.losses[at]:.3f}"
        if curves.scored:
            at = int(np.abs(np.asarray(curves.scored) - step).argmin())
            text += f", held out {curves.held_out[at]:.3f} (step {curves.scored[at]:,})"
        return text

    def save(self, path: str) -> None:
        """Write the curves as CSV."""
        if self._curves is None:
            return
        try:
            write_text(Path(path), self._curves.as_csv(), overwrite=True)
        except OutputError as error:
            notify_error(error)

    def _plot(self, row: int, title: str) -> Any:
        plot = self._canvas.addPlot(row=row, col=0)
        plot.setMenuEnabled(False)
        plot.hideButtons()
        plot.showGrid(x=False, y=True, alpha=0.2)
        plot.setLabel("left", title, color=_INK)
        for side in ("left", "bottom"):
            axis = plot.getAxis(side)
            axis.setPen(_INK)
            axis.setTextPen(_INK)
        plot.getAxis("left").setWidth(48)
        return plot

    def _legend(self) -> None:
        names = [("training", TRAINING_COLOUR), ("held out", HELD_OUT_COLOUR)]
        if self._curves is not None:
            names += [(name, class_colour(i)) for i, name in enumerate(self._curves.class_names) if i]
        self.hover.setText(
            " &nbsp; ".join(f'<span style="color:{colour}">{escape(visible(name))}</span>' for name, colour in names)
        )

    def _on_mouse(self, position: Any) -> None:
        for plot in (self.loss, self.dice):
            if plot.sceneBoundingRect().contains(position):
                self.hover.setText(self.values_at(plot.vb.mapSceneToView(position).x()))
                return
        self._legend()

    def _on_export(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "The curves as a table", "curves.csv", "CSV (*.csv)")
        if path:
            self.save(path)


def smoothed(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the mean of the last values at every step.

    Examples
    --------
    >>> smoothed([1.0, 3.0, 5.0]).tolist()
    [1.0, 2.0, 3.0]
    """
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(sums))
    starts = np.maximum(0, ends - _SMOOTHED)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))

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
from napari_unet3d.widgets.host.notices import notify_error
from napari_unet3d.widgets.layers.colours import class_colour

if TYPE_CHECKING:
    from napari_unet3d.tasks.train.kept.history import Curves

_HEIGHT = 105
_SMOOTHED = 25
# More dots than this merge into a line, and each takes its time to draw.
_MOST_DOTS = 100
TRAINING_COLOUR, HELD_OUT_COLOUR = "#56b4e9", "#cc79a7"
# Readable on the dark and on the light theme, like the quiet texts of the panels.
_INK = "#8c929b"


class LossPlot(QWidget):
    """Two plots below each other with one axis of steps: the loss, and a score of each class.

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
        # As many points as there are pixels, its peaks among them: 100,000 steps took 50 ms to draw.
        self.loss.setDownsampling(auto=True, mode="peak")
        self.score = self._plot(1, "score, held out")
        self.score.setLabel("bottom", "step (dashed: everything called that class)", color=_INK)
        self.score.setXLink(self.loss)
        self.score.setDownsampling(auto=True, mode="peak")
        self.score.setYRange(0, 1, padding=0.02)
        faint = pg.mkPen(TRAINING_COLOUR + "60", width=1)
        self._steps = self.loss.plot(pen=faint)
        self._smooth = self.loss.plot(pen=pg.mkPen(TRAINING_COLOUR, width=2))
        self._held = self.loss.plot(
            pen=pg.mkPen(HELD_OUT_COLOUR, width=2),
            symbolSize=4,
            symbolBrush=HELD_OUT_COLOUR,
            symbolPen=None,
        )
        self._classes: list[Any] = []
        self._trivial: list[Any] = []
        self.log = QCheckBox("log")
        self.log.setToolTip("Show the loss on a logarithmic scale.")
        self.log.toggled.connect(lambda on: self.loss.setLogMode(y=on))
        self.export = QPushButton("Export...")
        self.export.setToolTip("Save the curves as a CSV file.")
        self.export.clicked.connect(self._on_export)
        self.hover = QLabel(f'<span style="color:{TRAINING_COLOUR}">training</span>')
        self.hover.setToolTip("A dashed line is the score of a class if every held-out voxel were called that class.")
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
            self._smooth.setData(steps, smooth(losses))
        scored = np.array([score.step for score in curves.scored], float)
        dots = "o" if len(scored) <= _MOST_DOTS else None
        self._held.setData(scored, np.array([score.loss for score in curves.scored], float), symbol=dots)
        kind = curves.head.score_kinds[0]
        self.score.setLabel("left", f"{kind.title}, held out", color=_INK)
        if len(self._classes) != len(curves.head.scored):
            self._draw_classes(len(curves.head.scored))
        for index, item in enumerate(self._classes):
            item.setData(scored, np.array(curves.of(kind.name, index), float), symbol=dots)
        for line, value in zip(self._trivial, curves.trivial(), strict=False):
            line.setVisible(not np.isnan(value))
            if not np.isnan(value):
                line.setValue(value)

    def _draw_classes(self, n: int) -> None:
        """Draw a curve and the line to beat for each of what is scored, instead of those that there are."""
        for item in (*self._classes, *self._trivial):
            self.score.removeItem(item)
        colours = [class_colour(index) for index in range(n)]
        self._classes = [
            self.score.plot(pen=pg.mkPen(colour, width=2), symbolSize=4, symbolBrush=colour, symbolPen=None)
            for colour in colours
        ]
        self._trivial = [
            pg.InfiniteLine(angle=0, pen=pg.mkPen(colour + "a0", width=1, style=Qt.PenStyle.DashLine))
            for colour in colours
        ]
        for line in self._trivial:
            line.hide()
            self.score.addItem(line)
        self._legend()

    def values_at(self, step: float) -> str:
        """Return what the curves say at a step, as one line."""
        curves = self._curves
        if curves is None or not curves.steps:
            return ""
        at = int(np.abs(np.asarray(curves.steps) - step).argmin())
        text = f"step {curves.steps[at]:,}: loss {curves.losses[at]:.3f}"
        if curves.scored:
            score = min(curves.scored, key=lambda score: abs(score.step - step))
            text += f", held out {score.loss:.3f} (step {score.step:,})"
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
            # A loss has no unit that "milli" could stand before.
            axis.enableAutoSIPrefix(False)
            axis.setTextPen(_INK)
        plot.getAxis("left").setWidth(48)
        return plot

    def _legend(self) -> None:
        names = [("training", TRAINING_COLOUR), ("held out", HELD_OUT_COLOUR)]
        if self._curves is not None:
            names += [(name, class_colour(i)) for i, name in enumerate(self._curves.head.scored)]
        self.hover.setText(
            " &nbsp; ".join(f'<span style="color:{colour}">{escape(visible(name))}</span>' for name, colour in names)
        )

    def _on_mouse(self, position: Any) -> None:
        for plot in (self.loss, self.score):
            if plot.sceneBoundingRect().contains(position):
                self.hover.setText(self.values_at(plot.vb.mapSceneToView(position).x()))
                return
        self._legend()

    def _on_export(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the curves as a table", "curves.csv", "CSV (*.csv)")
        if path:
            self.save(path)


def smooth(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the mean of the last values at every step.

    Examples
    --------
    >>> smooth([1.0, 3.0, 5.0]).tolist()
    [1.0, 2.0, 3.0]
    """
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(sums))
    starts = np.maximum(0, ends - _SMOOTHED)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))

"""The curves of a run."""

from __future__ import annotations

from napari_unet3d.core.heads.classes import Classes
from napari_unet3d.tasks.train.kept.history import Curves
from napari_unet3d.widgets.bricks.loss_plot import LossPlot


def test_a_small_loss_is_written_as_it_is(qtbot):
    plot = LossPlot()
    qtbot.addWidget(plot)
    plot.resize(400, 300)
    plot.show()
    plot.show_curves(Curves(Classes(names=("a", "b")), [1, 2, 3], [0.004, 0.003, 0.002], []))
    plot.loss.setYRange(0, 0.004)
    plot.grab()
    axis = plot.loss.getAxis("left")
    assert axis.autoSIPrefixScale == 1.0
    assert "x0.001" not in axis.labelString()

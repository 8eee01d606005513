"""Names and notes of files are shown as text by every widget: no image is loaded, no link made, no order turned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QWidget

from napari_unet3d.core.heads.classes import Classes
from napari_unet3d.errors import VolumeError, visible
from napari_unet3d.network.store import save_model
from napari_unet3d.tasks.events import Validated
from napari_unet3d.tasks.train.kept.history import Curves
from napari_unet3d.volumes.volume import ArrayInfo
from napari_unet3d.widgets.bricks.choose_array import ArrayDialog, AxesDialog
from napari_unet3d.widgets.bricks.class_table import ClassTable
from napari_unet3d.widgets.bricks.loss_plot import LossPlot
from napari_unet3d.widgets.host.notices import notify_error, show_details
from napari_unet3d.widgets.host.plain import disable_markup, plain_label, without_options
from napari_unet3d.widgets.panels.data.tab import DataPanel
from napari_unet3d.widgets.panels.segment.tab import SegmentPanel
from napari_unet3d.widgets.panels.sizes.tab import SizesPanel
from napari_unet3d.widgets.panels.train.tab import TrainPanel
from napari_unet3d.widgets.plugin.workbench import EngineStrip
from tests.support.models import random_model

MARKUP = '<img src="file:///tmp/x.png"><a href="http://x">a</a> [/x] [link=http://x]b[/link] <b>c</b>'
HOSTILE = f"{MARKUP} \x1b[31m \x9b2J \u202egpj \x07"
NAMES = ("background", HOSTILE)
PLAIN = Qt.TextFormat.PlainText


def wrongly_shown(widget: QWidget) -> list[str]:
    """Return the texts of a widget and its children that Qt would take for HTML, or that steer something."""
    children = [widget, *widget.findChildren(QWidget)]
    labels = [child for child in children if isinstance(child, QLabel)]
    guessed = [child.toolTip() for child in children]
    guessed += [label.text() for label in labels if label.textFormat() != PLAIN]
    steering = [label.text() for label in labels if visible(label.text()) != label.text()]
    return [text for text in guessed if Qt.mightBeRichText(text)] + steering


@pytest.fixture
def hostile(session, viewer, tmp_path):
    """Return a session whose image, labels, model and problem bear a hostile name."""
    viewer.add_image(np.zeros((40, 40, 40), np.uint8), name=HOSTILE)
    viewer.add_labels(np.zeros((40, 40, 40), np.uint8), name=HOSTILE)
    model = random_model(blocks=0, filters=2)
    card = model.card.model_copy(update={"class_names": NAMES, "training": {HOSTILE: HOSTILE}, "unit": "um"})
    session.choose_model(save_model(type(model)(card, model.weights), tmp_path / "<b>model [x].unet3d"))
    session.problem = HOSTILE
    return session


@pytest.mark.parametrize("kind", [DataPanel, SizesPanel, SegmentPanel, EngineStrip, TrainPanel])
def test_no_panel_takes_a_name_for_markup(qtbot, hostile, kind):
    parent = QWidget()
    qtbot.addWidget(parent)
    extra = {EngineStrip: (parent,), TrainPanel: (lambda: None,)}.get(kind, ())
    panel = kind(hostile, *extra)
    native = getattr(panel, "native", panel)
    qtbot.addWidget(native)
    if isinstance(panel, DataPanel):
        panel.class_names.value = f"background, {HOSTILE}"
        hostile.annotation.rename(hostile.labels, NAMES)
        qtbot.waitUntil(lambda: bool(hostile.annotation.of(hostile.labels).counts), timeout=30_000)
    if isinstance(panel, SegmentPanel):
        panel.update_plan()
    assert wrongly_shown(native) == []


def test_no_table_legend_or_dialog_takes_a_name_for_markup(qtbot):
    table, plot = ClassTable(), LossPlot()
    scored = Validated(1, 0.5, {"dice": (0.5, 0.5), "iou": (0.4, 0.4)}, (10, 10), True)
    curves = Curves(Classes(names=NAMES), [1], [0.5], [scored])
    table.show_annotation(NAMES, [5, 5])
    table.show_scores(curves)
    plot.show_curves(curves)
    arrays = [ArrayInfo(HOSTILE, (4, 5, 6), "uint8"), ArrayInfo("b", (4, 5, 6), "uint8")]
    dialogs = [ArrayDialog(HOSTILE, arrays, ()), AxesDialog(HOSTILE, "zyx"), show_details(HOSTILE, HOSTILE)]
    for widget in (table, plot, *dialogs):
        qtbot.addWidget(widget)
    assert [text for widget in (table, *dialogs) for text in wrongly_shown(widget)] == []
    # The legend is HTML of our own.
    assert "<img" not in plot.hover.text()
    assert "&lt;img" in plot.hover.text()
    named = dialogs[0].list.topLevelItem(0).text(0)
    assert visible(named) == named


def test_a_notice_of_napari_is_text_and_looks_like_what_was_said(qtbot):
    n = len(notification_manager.records)
    notify_error(VolumeError(HOSTILE))
    (notice,) = notification_manager.records[n:]
    assert not Qt.mightBeRichText(notice.message)
    assert notice.message.replace("\u2060", "") == visible(HOSTILE)


@given(st.text(st.sampled_from('<>/!?-ab= "&;\n\u202e\x1b'), max_size=40) | st.text())
def test_no_text_is_taken_for_markup(text):
    assert not Qt.mightBeRichText(disable_markup(text))
    assert disable_markup(text).replace("\u2060", "") == visible(text)


@given(st.text())
def test_a_label_of_ours_is_plain_and_steers_nothing(qapp, text):
    label = plain_label(text)
    assert label.text().replace("\0", "") == visible(text)
    assert label.textFormat() == PLAIN


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("It exists; allow overwriting (--overwrite).", "It exists; allow overwriting."),
        ("Choose one, with channel=0 (on the command line: --channel 0).", "Choose one, with channel=0."),
        ("12 x 3 (z, y, x) voxels, a - b -- c.", "12 x 3 (z, y, x) voxels, a - b -- c."),
    ],
)
def test_a_window_does_not_talk_of_the_command_line(said, shown):
    assert without_options(said) == shown

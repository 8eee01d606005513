"""Every control of every tab can be read, is explained, and shows names of files and layers as text."""

from __future__ import annotations

import numpy as np
import pytest
from magicgui.widgets import FloatSlider
from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.QtWidgets import QAbstractButton, QLabel, QWidget

from napari_unet3d.widgets.bricks import panel as bricks
from napari_unet3d.widgets.bricks.captions import align_captions, controls_of, name_controls
from napari_unet3d.widgets.bricks.tones import style_of
from napari_unet3d.widgets.panels.augment.tab import AugmentPanel
from napari_unet3d.widgets.panels.data.tab import DataPanel
from napari_unet3d.widgets.panels.segment.tab import SegmentPanel
from napari_unet3d.widgets.panels.sizes.tab import SizesPanel
from napari_unet3d.widgets.panels.train.tab import TrainPanel
from napari_unet3d.widgets.runs.saving import Told

PANELS = {
    "Data": DataPanel,
    "Sizes": SizesPanel,
    "Augment": AugmentPanel,
    "Train": lambda session: TrainPanel(session, lambda: None),
    "Segment": SegmentPanel,
}


@pytest.fixture
def image(viewer):
    return viewer.add_image(np.zeros((20, 30, 40), np.uint8), name="cells")


@pytest.fixture(params=PANELS)
def panel(request, qtbot, session, image, models_folder):
    session.choose_model(models_folder / "two.unet3d")
    panel = PANELS[request.param](session)
    qtbot.addWidget(panel.native)
    return panel


def test_every_control_has_a_tooltip_and_a_name_to_be_read_aloud(panel):
    name_controls(panel.native)
    controls = list(controls_of(panel.native))
    assert len(controls) > 3
    nameless = [control for control in controls if not control.accessibleName()]
    assert nameless == []
    unexplained = [control.accessibleName() for control in controls if not control.toolTip() and not _is_fold(control)]
    assert unexplained == []


def _is_fold(control: QWidget) -> bool:
    """Return whether it only unfolds a part, as its title says."""
    return type(control.parentWidget()).__name__ == "QCollapsible"


def test_no_control_talks_of_the_command_line(panel):
    for control in controls_of(panel.native):
        shown = f"{control.toolTip()} {control.text() if isinstance(control, QAbstractButton) else ''}"
        assert "--" not in shown


def test_captions_of_fields_below_each_other_are_equally_wide(panel, qtbot):
    align_captions(panel.native)
    panel.native.resize(420, 900)
    with qtbot.waitExposed(panel.native):
        panel.native.show()
    starts = {}
    for label in panel.native.findChildren(QLabel):
        layout = label.parentWidget().layout() if label.parentWidget() else None
        is_caption = layout is not None and layout.count() == 2 and layout.itemAt(0).widget() is label
        if is_caption and label.text() and label.isVisible() and layout.direction() == layout.Direction.LeftToRight:
            x = label.mapTo(panel.native, label.rect().topRight()).x()
            starts.setdefault(_fold(label), set()).add(x)
    assert starts
    assert all(len(found) == 1 for found in starts.values())


def _fold(widget):
    around = widget.parentWidget()
    while around is not None and type(around).__name__ != "QCollapsible":
        around = around.parentWidget()
    return around


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2 defines it, from 1 to 21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("tone", ["quiet", "warning"])
def test_text_can_be_read_in_both_themes(theme, tone):
    background = get_theme(theme).background.as_hex(format="long")
    colour = style_of(tone, dark=theme == "dark").split("color: ")[1][:7]
    assert contrast(colour, background) >= 4.5


def test_the_letters_on_the_main_button_can_be_read():
    for style in bricks._MAIN_BUTTON.split("background: ")[1:]:
        assert contrast("#ffffff", style[:7]) >= 4.5


def test_text_follows_the_theme(qtbot, monkeypatch):
    before = get_settings().appearance.theme
    try:
        get_settings().appearance.theme = "dark"
        label = bricks.text("quiet", tone="quiet")
        qtbot.addWidget(label.native)
        dark = label.native.styleSheet()
        get_settings().appearance.theme = "light"
        assert label.native.styleSheet() == style_of("quiet", dark=False) != dark
    finally:
        get_settings().appearance.theme = before


BAD = '<img src="file:///etc/passwd"><b>bold</b><a href="x">link</a>'


def looks_like_markup(widget: QWidget) -> list[str]:
    """Return the texts of a widget that Qt would take for HTML."""
    from qtpy.QtCore import Qt

    found = []
    for label in widget.findChildren(QLabel):
        is_rich = label.textFormat() == Qt.TextFormat.RichText or (
            label.textFormat() == Qt.TextFormat.AutoText and Qt.mightBeRichText(label.text())
        )
        if is_rich and "img" in label.text():
            found.append(label.text())
    return found + [child.toolTip() for child in widget.findChildren(QWidget) if Qt.mightBeRichText(child.toolTip())]


@pytest.mark.parametrize("name", PANELS)
def test_names_of_layers_and_paths_are_shown_as_text(qtbot, session, viewer, name, tmp_path):
    viewer.add_image(np.zeros((20, 30, 40), np.uint8), name=BAD)
    session.labels = viewer.add_labels(np.ones((20, 30, 40), np.uint8), name=f"labels {BAD}")
    panel = PANELS[name](session)
    qtbot.addWidget(panel.native)
    if name == "Segment":
        panel.form.place.value = tmp_path / f"{BAD.replace('/', '_')}.zarr"
        panel._saved.value = f"Saved: {BAD}"
        panel.update_plan()
    if name == "Train":
        panel.look()
    if name == "Data":
        session.saving.tell(session.labels, Told(f"Saved: {BAD}"))
    name_controls(panel.native)
    assert looks_like_markup(panel.native) == []


def test_the_number_beside_a_slider_says_what_the_slider_says(qtbot):
    slider = FloatSlider(min=0, max=1, tooltip="How alike.")
    row = bricks.row(slider, label="alike")
    qtbot.addWidget(row.native)
    name_controls(row.native)
    names = {(control.accessibleName(), control.toolTip()) for control in controls_of(row.native)}
    assert names == {("How alike.", "How alike.")}

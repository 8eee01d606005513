"""Fields below each other begin at one line, and what reads a window aloud knows their names."""

from __future__ import annotations

from collections.abc import Iterator

from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QScrollBar,
    QWidget,
)
from superqt import QCollapsible

_CONTROLS = (QAbstractButton, QComboBox, QAbstractSpinBox, QLineEdit, QAbstractSlider)
# What is made of other controls, of which a person sees one.
_COMPOUND = (QComboBox, QAbstractSpinBox, QLineEdit, QAbstractSlider, QAbstractItemView)


def controls_of(native: QWidget) -> Iterator[QWidget]:
    """Yield what a person can press or type into in a widget, without what such a control is made of."""
    for control in native.findChildren(QWidget):
        if isinstance(control, _CONTROLS) and not isinstance(control, QScrollBar) and not _is_part(control):
            yield control


def _is_part(control: QWidget) -> bool:
    around = control.parentWidget()
    while around is not None:
        if isinstance(around, _COMPOUND):
            return True
        around = around.parentWidget()
    return False


def name_controls(native: QWidget) -> None:
    """Give all controls in a widget a name: what stands on them, or the caption before them, or what they do."""
    for control in controls_of(native):
        if not control.toolTip() and (slider := _slider_beside(control)) is not None:
            control.setToolTip(slider.toolTip())
        if not control.accessibleName():
            text = control.text() if isinstance(control, QAbstractButton) else ""
            control.setAccessibleName(text or _caption_of(control) or control.toolTip())
            control.setAccessibleDescription(control.toolTip())


def _slider_beside(control: QWidget) -> QWidget | None:
    """Return the slider whose number a box shows, or None."""
    around = control.parentWidget()
    is_number = isinstance(control, QAbstractSpinBox) and around is not None
    return around.findChild(QAbstractSlider) if is_number and around is not None else None


def _caption_of(control: QWidget) -> str:
    """Return the captions before a control, from outside in."""
    found: list[str] = []
    inner, around = control, control.parentWidget()
    while around is not None:
        layout = around.layout()
        if isinstance(layout, QHBoxLayout):
            before = [layout.itemAt(at).widget() for at in range(max(0, layout.indexOf(inner)))]
            found[:0] = [label.text() for label in before if isinstance(label, QLabel) and label.text()]
        inner, around = around, around.parentWidget()
    return " ".join(found)


def align_captions(native: QWidget) -> None:
    """Make the captions of fields below each other equally wide; what folds away is aligned for itself."""
    groups: dict[QWidget | None, list[QLabel]] = {}
    for label in native.findChildren(QLabel):
        layout = None if label.parentWidget() is None else label.parentWidget().layout()
        if not isinstance(layout, QHBoxLayout) or layout.count() != 2 or layout.itemAt(0).widget() is not label:
            continue
        if label.text():
            groups.setdefault(_fold_of(label), []).append(label)
        else:
            # It takes no room, so that what is within begins where the rest does.
            label.hide()
    for labels in groups.values():
        widest = max(label.sizeHint().width() for label in labels)
        for label in labels:
            label.setMinimumWidth(widest)


def _fold_of(widget: QWidget) -> QWidget | None:
    around = widget.parentWidget()
    while around is not None and not isinstance(around, QCollapsible):
        around = around.parentWidget()
    return around

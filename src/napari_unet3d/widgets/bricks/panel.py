"""The bricks that all panels are built from: texts, rows, foldable parts, the choice of a layer, the main button.

A panel is a magicgui container that edits one value. It is narrower than `PANEL_WIDTH`, scrolls, and looks the same in
both themes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox, Container, Label, PushButton, Widget
from qtpy import PYSIDE6
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QSizePolicy, QWidget
from superqt import QCollapsible

from napari_unet3d.errors import visible
from napari_unet3d.widgets.bricks.tones import Tone, set_tone
from napari_unet3d.widgets.host.aside import Aside, Every, Later
from napari_unet3d.widgets.host.plain import without_options
from napari_unet3d.widgets.layers.volumes import unwrap

__all__ = [
    "MIN_WIDTH",
    "PANEL_WIDTH",
    "Aside",
    "Every",
    "Foldable",
    "Later",
    "LayerChoice",
    "add",
    "column",
    "highlight",
    "is_alive",
    "listen",
    "main_button",
    "row",
    "say",
    "text",
]

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

PANEL_WIDTH, MIN_WIDTH = 420, 360
_MAIN_BUTTON = (
    "QPushButton:enabled { background: #1f6fd0; color: white; font-weight: bold; }"
    "QPushButton:enabled:hover { background: #1a62b8; }"
)


def text(value: str = "", *, tone: Tone = "plain", tooltip: str = "") -> Label:
    """Return a text that wraps and can be selected.

    Parameters
    ----------
    value
        The text.
    tone
        `plain`, `quiet` or `warning`.
    tooltip
        Shown when the mouse rests on it.
    """
    label = Label(tooltip=tooltip)
    native = label.native
    native.setWordWrap(True)
    native.setTextFormat(Qt.TextFormat.PlainText)
    label.value = visible(value)
    native.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    # A long word, such as a path, must not make the panel wider than its dock, nor keep room for a word a line.
    native.setMinimumSize(1, 1)
    native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    set_tone(native, tone)
    return label


def say(label: Label, value: str, *, tone: Tone | None = None) -> None:
    """Set a text, and hide it where there is nothing to say."""
    label.value = visible(without_options(value))
    if tone is not None:
        set_tone(label.native, tone)
    label.visible = bool(value)


def row(*widgets: Widget, label: str = "") -> Container:
    """Return widgets side by side, with one caption before them."""
    container = Container(widgets=list(widgets), layout="horizontal", labels=False, label=label)
    container.margins = (0, 0, 0, 0)
    container.native.layout().setSpacing(4)
    return container


def column(*widgets: Widget, labels: bool = True) -> Container:
    """Return widgets below each other, each with its caption."""
    container = Container(widgets=list(widgets), layout="vertical", labels=labels)
    container.margins = (0, 0, 0, 0)
    container.native.layout().setSpacing(4)
    return container


class Foldable:
    """A part of a panel that is folded away until it is wanted.

    Parameters
    ----------
    title
        What it holds.
    content
        The widgets.
    """

    def __init__(self, title: str, content: Container) -> None:
        self.native = QCollapsible(title)
        self.native.setContent(content.native)
        self.native.setDuration(0)
        self.native.layout().setContentsMargins(0, 2, 0, 2)
        self.native.layout().setSpacing(2)
        self.native.collapse(False)

    @property
    def is_open(self) -> bool:
        """Return whether it can be seen."""
        return bool(self.native.isExpanded())

    def open(self) -> None:
        """Unfold it."""
        self.native.expand(False)


def add(container: Container, native: QWidget) -> None:
    """Add a Qt widget below what a container holds."""
    container.native.layout().addWidget(native)


def is_alive(native: QWidget) -> bool:
    """Return whether Qt still has a widget; its Python object may outlive it."""
    if PYSIDE6:
        from shiboken6 import isValid

        return bool(isValid(native))
    from qtpy import sip

    return not sip.isdeleted(native)


def listen(widget: Widget, signal: Any, method: Callable[..., Any]) -> None:
    """Connect a signal of what outlives a widget to a method of it: nothing is called once the widget is gone.

    Qt's own `destroyed` cannot be relied on for this: with PyQt6 it may be emitted while Python collects what a slot
    refers to, and that crashes.

    Parameters
    ----------
    widget
        Whose method it is.
    signal
        Of psygnal or of napari.
    method
        Called with what the signal tells.
    """
    widget_ref, method_ref = weakref.ref(widget), weakref.WeakMethod(method)

    def call(*arguments: Any) -> None:
        widget, method = widget_ref(), method_ref()
        if widget is not None and method is not None and is_alive(widget.native):
            method(*arguments)

    signal.connect(call)


def main_button(title: str, tooltip: str) -> PushButton:
    """Return the button for the next sensible step."""
    button = PushButton(text=title, tooltip=tooltip)
    highlight(button)
    return button


def highlight(button: PushButton, on: bool = True) -> None:
    """Show whether a button is the next sensible step; one of a panel is, the others are quiet."""
    button.native.setStyleSheet(_MAIN_BUTTON if on else "")


class LayerChoice(ComboBox):
    """A choice among the layers of a viewer that stays right as layers come, go and get other names.

    Parameters
    ----------
    viewer
        The viewer, without napari's proxy.
    fits
        Which layers are offered.
    takes
        Which of them are chosen by themselves, when they come or the chosen one goes; None: all.
    replaces
        Whether another is chosen where the chosen one goes.
    tooltip
        Shown when the mouse rests on it.
    label
        The caption.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        fits: Callable[[Layer], bool],
        *,
        takes: Callable[[Layer], bool] | None = None,
        replaces: bool = True,
        tooltip: str = "",
        label: str = "",
    ) -> None:
        self._viewer = viewer
        self._fits, self._takes, self._replaces = fits, takes or (lambda _: True), replaces
        super().__init__(choices=self._offered, nullable=True, tooltip=tooltip, label=label)
        if layers := list(filter(self._takes, self._layers())):
            active = unwrap(viewer.layers.selection.active)
            self.value = active if active in layers else layers[-1]
        self.native.setSizeAdjustPolicy(self.native.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.native.setMinimumContentsLength(8)
        events = viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered, events.renamed):
            listen(self, event, self._renew)

    def show_layer(self, layer: Layer | None) -> None:
        """Show which layer was chosen elsewhere, without telling of it."""
        if self.value is not layer:
            with self.changed.blocked():
                # It may have come a moment ago.
                self.reset_choices()
                self.value = layer if layer in self._layers() else None

    def _renew(self, event: Any = None) -> None:
        before, layers = self.value, self._layers()
        # A choice is a layer, whatever it is called. Where there is none, what comes is taken; nothing else, as it may
        # have been cleared. Where the chosen one went, another is.
        came = unwrap(event.value) if getattr(event, "type", "") == "inserted" else None
        taken = list(filter(self._takes, layers))
        other = came if came in taken else taken[-1] if taken and before is not None and self._replaces else None
        kept = before if before in layers else other
        with self.changed.blocked():
            self.reset_choices()
            self.value = kept
        if kept is not before:
            self.changed.emit(kept)

    def _layers(self) -> list[Layer]:
        return [layer for layer in map(unwrap, self._viewer.layers) if self._fits(layer)]

    def _offered(self, _: Any) -> Sequence[tuple[str, Any]]:
        return [(layer.name, layer) for layer in self._layers()]

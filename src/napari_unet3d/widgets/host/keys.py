"""The keys of the workbench: none of them is one of napari's own, for any kind of layer.

napari lists them in its preferences, where they can be changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Key(NamedTuple):
    """A key.

    Attributes
    ----------
    name
        What napari calls the action.
    keys
        What is pressed, unless somebody has chosen otherwise.
    does
        What it does, as the preferences say it.
    """

    name: str
    keys: str
    does: str

    def hint(self, tooltip: str) -> str:
        """Return a tooltip with the key."""
        return f"{tooltip} Key: {self.keys}"


NEXT_CLASS = Key("napari-unet3d:next_class", "N", "3D U-Net: paint with the next class")
CORRECT = Key("napari-unet3d:correct_here", "Shift+C", "3D U-Net: correct here")
START = Key("napari-unet3d:start", "Ctrl+Enter", "3D U-Net: Start in the tab Train or Segment")
ALL = (NEXT_CLASS, CORRECT, START)


def register(key: Key, call: Callable[[Any], None]) -> None:
    """Let a key call a function with its viewer, in every window; not while somebody types.

    Parameters
    ----------
    key
        The key.
    call
        Called with the viewer of the window in which it was pressed.
    """
    from napari.components import ViewerModel
    from napari.settings import get_settings
    from napari.utils.action_manager import action_manager

    def press(viewer: Any) -> None:
        if not is_typing():
            call(viewer)

    action_manager.register_action(key.name, press, key.does, ViewerModel)
    # What somebody has chosen, nothing included, is bound by napari.
    if key.name not in get_settings().shortcuts.shortcuts:
        action_manager.bind_shortcut(key.name, key.keys)


def is_typing() -> bool:
    """Return whether what is typed now goes into a field: fields pass on some keys that they make no use of."""
    from qtpy.QtWidgets import QAbstractSpinBox, QApplication, QComboBox, QLineEdit, QPlainTextEdit, QTextEdit

    widget = QApplication.focusWidget()
    if isinstance(widget, QComboBox):
        return bool(widget.isEditable())
    return isinstance(widget, QLineEdit | QAbstractSpinBox | QPlainTextEdit | QTextEdit)

"""Colours of text that can be read: at least 4.5 times as bright, or as dark, as what is behind it, in both themes."""

from __future__ import annotations

from typing import Any, Literal
from weakref import WeakKeyDictionary

from qtpy.QtWidgets import QWidget

from napari_unet3d.widgets.host.theme import is_dark, listen_to_theme

Tone = Literal["plain", "quiet", "warning"]
_QUIET = {"dark": "#a3a9b3", "light": "#575c65"}
_WARNING = {"dark": "#f0a030", "light": "#8a5200"}

_toned: WeakKeyDictionary[QWidget, Tone] = WeakKeyDictionary()
_is_listening: list[bool] = []


def set_tone(native: QWidget, tone: Tone) -> None:
    """Give a text its colour, now and whenever the theme changes.

    Parameters
    ----------
    native
        The label.
    tone
        `plain`, `quiet` or `warning`.
    """
    if not _is_listening:
        _is_listening.append(True)
        listen_to_theme(_on_theme)
    _toned[native] = tone
    native.setStyleSheet(style_of(tone, dark=is_dark()))


def style_of(tone: Tone, *, dark: bool) -> str:
    """Return the style sheet of a tone on a dark or a light theme."""
    theme = "dark" if dark else "light"
    match tone:
        case "quiet":
            return f"color: {_QUIET[theme]};"
        case "warning":
            return f"color: {_WARNING[theme]}; font-weight: bold;"
    return ""


def _on_theme(*_: Any) -> None:
    from napari_unet3d.widgets.bricks.panel import is_alive

    for native, tone in list(_toned.items()):
        if is_alive(native):
            native.setStyleSheet(style_of(tone, dark=is_dark()))

"""Texts that Qt shows as they are: it takes what looks like HTML for HTML, loads its images and follows its links.

Names and notes come from files. A label of ours is told that its text is plain; where the widget is somebody else's, or
a tooltip, the text is written so that Qt does not take it for anything else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from napari_unet3d.errors import visible

if TYPE_CHECKING:
    from qtpy.QtWidgets import QLabel

# Between "<" and what follows it is no tag, and nothing is to be seen.
_WORD_JOINER = "\u2060"
# What a sentence says to who types: "(on the command line: --channel 0)", "(--overwrite)".
_FOR_THE_SHELL = re.compile(r" ?\((?:[^()]*: )?--[a-z][^()]*\)")


def without_options(text: str) -> str:
    """Return a sentence without what it says of the command line, for a window that has buttons instead.

    Examples
    --------
    >>> without_options("It exists; choose another name, or allow overwriting (--overwrite).")
    'It exists; choose another name, or allow overwriting.'
    """
    return _FOR_THE_SHELL.sub("", text)


def plain_label(text: str = "") -> QLabel:
    """Return a label that shows its text as it is."""
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QLabel

    label = QLabel()
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setText(visible(text))
    return label


def disable_markup(text: str) -> str:
    """Return a text that looks the same, and that no widget takes for HTML."""
    return visible(text).replace("<", f"<{_WORD_JOINER}")

"""Notices of napari: one sentence, and behind "Details" what is known."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from napari_unet3d.errors import EngineError, Unet3dError, visible
from napari_unet3d.widgets.host.plain import disable_markup, plain_label, without_options

_log = logging.getLogger("napari_unet3d")


def notify_error(error: Unet3dError) -> None:
    """Show an error that a user can act on."""
    details = error.details if isinstance(error, EngineError) else ""
    trace = "".join(traceback.format_exception(error)) if error.__traceback__ is not None else ""
    _dispatch(str(error), "error", details or trace)


def notify(sentence: str) -> None:
    """Show something the user should know; the work goes on."""
    _dispatch(sentence, "warning", "")


def tell(sentence: str) -> None:
    """Show that something went as it was asked for."""
    _dispatch(sentence, "info", "")


def _dispatch(sentence: str, severity: str, details: str) -> None:
    from napari.utils.notifications import Notification, notification_manager

    sentence = without_options(sentence)
    _log.log(logging.INFO if severity == "info" else logging.WARNING, "%s %s", visible(sentence), visible(details))
    actions = (("Details", lambda *_: show_details(sentence, details)),) if details else ()
    notification_manager.dispatch(Notification(disable_markup(sentence), severity, actions))


def show_details(sentence: str, details: str) -> Any:
    """Open a window with a text that can be copied, and return it."""
    from qtpy.QtWidgets import QDialog, QDialogButtonBox, QPlainTextEdit, QVBoxLayout

    dialog = QDialog()
    dialog.setWindowTitle("3D U-Net, details")
    dialog.resize(700, 400)
    layout = QVBoxLayout(dialog)
    label = plain_label(sentence)
    label.setWordWrap(True)
    text = QPlainTextEdit(visible(details))
    text.setReadOnly(True)
    buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
    buttons.rejected.connect(dialog.reject)
    for widget in (label, text, buttons):
        layout.addWidget(widget)
    dialog.show()
    return dialog

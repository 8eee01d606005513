"""What a person does in dialogs: choose a file, answer a question."""

from __future__ import annotations

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication


def answer(button: str) -> list[str]:
    """Click a button of the question that is about to be asked; returns what was asked."""
    asked = []

    def click() -> None:
        question = QApplication.activeModalWidget()
        asked.append(question.text())
        (wanted,) = [found for found in question.buttons() if found.text().replace("&", "") == button]
        wanted.click()

    QTimer.singleShot(0, click)
    return asked


def chosen_in_the_dialog(monkeypatch, path, kind="OME-TIFF (*.ome.tif)") -> list[str]:
    """Let the next dialog of the system return a path; returns where each has begun."""
    begun = []

    def ask(parent, title, start, filters, **_):
        begun.append(start)
        assert kind in filters
        return str(path), kind

    monkeypatch.setattr("qtpy.QtWidgets.QFileDialog.getSaveFileName", ask)
    return begun

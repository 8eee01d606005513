"""Asking where a file goes: the dialog begins in the folder where something was saved last, as napari's own does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet3d.errors import shown
from napari_unet3d.widgets.host.plain import disable_markup

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

# What can be written, as the dialog names it, with its suffix.
VOLUME_FORMATS = (("OME-TIFF", ".ome.tif"), ("OME-Zarr", ".zarr"))
_KNOWN = (".tif", ".tiff", ".zarr")


def ask_save_path(
    parent: QWidget, title: str, name: str, formats: Sequence[tuple[str, str]] = VOLUME_FORMATS
) -> Path | None:
    """Ask for the place of a volume; None if the user thinks better of it. What is there is not asked about here.

    Parameters
    ----------
    parent
        What the dialog lies over.
    title
        Of the dialog.
    name
        The name that is proposed, without a suffix.
    formats
        What can be chosen, the first by itself: a name and a suffix each.
    """
    from qtpy.QtWidgets import QFileDialog

    filters = {f"{what} (*{suffix})": suffix for what, suffix in formats}
    start = str(last_folder() / f"{file_name(name)}{formats[0][1]}")
    # A zarr is a folder, which the dialog would not ask about: one question serves for both, later.
    option = QFileDialog.Option.DontConfirmOverwrite
    path, chosen = QFileDialog.getSaveFileName(parent, title, start, ";;".join(filters), options=option)
    if not path:
        return None
    suffix = filters.get(chosen, formats[0][1])
    found = Path(path if path.lower().endswith((*_KNOWN, suffix)) else path + suffix)
    remember_folder(found)
    return found


def confirm_replacing(parent: QWidget, path: Path) -> bool:
    """Ask whether what lies at a path may be replaced; True at once where nothing is there."""
    from qtpy.QtWidgets import QMessageBox

    if not os.path.lexists(path):
        return True
    question = QMessageBox(parent)
    question.setWindowTitle("3D U-Net")
    question.setText(disable_markup(f"{shown(path.name)} exists already. Replace it?"))
    question.setInformativeText(disable_markup(f"It lies in {shown(path.parent)}"))
    replace = question.addButton("Replace", QMessageBox.ButtonRole.DestructiveRole)
    question.setDefaultButton(question.addButton(QMessageBox.StandardButton.Cancel))
    question.exec()
    return question.clickedButton() is replace


def last_folder() -> Path:
    """Return the folder where something was saved last, or the home folder."""
    from napari.utils.history import get_save_history

    return Path(get_save_history()[0])


def remember_folder(path: Path) -> None:
    """Note where something was saved."""
    from napari.utils.history import update_save_history

    update_save_history(str(path))


def file_name(text: str) -> str:
    """Return a name that a file may have, from that of a layer.

    Examples
    --------
    >>> file_name("neurons, segmented"), file_name("a/b: <c>?"), file_name("..")
    ('neurons, segmented', 'a_b_ _c__', 'result')
    """
    kept = "".join("_" if char in '<>:"/\\|?*' or not char.isprintable() else char for char in text).strip(" .")
    return kept[:120] or "result"

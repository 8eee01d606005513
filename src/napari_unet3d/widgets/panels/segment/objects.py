"""The numbered objects of the last result, in the tab Segment."""

from __future__ import annotations

import shutil

import numpy as np
from magicgui.widgets import Container, PushButton

from napari_unet3d.errors import OutputError, shown, visible
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.bricks.sorted_table import Column, SortedTable
from napari_unet3d.widgets.host.files import ask_save_path, confirm_replacing
from napari_unet3d.widgets.host.notices import notify_error, tell
from napari_unet3d.widgets.runs.objects import FoundObjects, show_point
from napari_unet3d.widgets.runs.segmentation import Segmentation
from napari_unet3d.widgets.runs.session import Session

_FORMATS = (("Table", ".csv"),)


class ObjectsPart(Container):
    """How many objects there are, a list of them, and a button that saves it.

    Parameters
    ----------
    session
        What the panels of this window share.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run: Segmentation | None = None
        self._shown: FoundObjects | None = None
        self._text = panel.text()
        self.save = PushButton(
            text="Save table...", tooltip="Save number, class, size and place of each object for a spreadsheet."
        )
        self.list = SortedTable(
            "Objects", "Click a row to go to the object, or a title to sort by it.", self._on_chosen
        )
        super().__init__(widgets=[panel.row(self._text, self.save)], layout="vertical", labels=False)
        self.margins = (0, 0, 0, 0)
        panel.add(self, self.list)
        self.save.changed.connect(lambda: self._on_save())
        self.show_run(None)

    def show_run(self, run: Segmentation | None) -> None:
        """Show the objects of a run, if it has any and its layer is there."""
        is_there = run is not None and run.objects is not None and run.layer in run.viewer.layers
        self._run = run if is_there else None
        found = None if self._run is None else self._run.objects
        if found is not self._shown:
            self._shown = found
            self.list.show_columns([] if found is None else _columns(found), sorted_by=2)
            panel.say(self._text, "" if found is None else _how_many(found))
        self.visible = found is not None

    def _on_chosen(self, row: int) -> None:
        if self._run is not None and self._shown is not None:
            self._run.layer.selected_label = int(self._shown.numbers[row])
            show_point(self._session.viewer, self._run.world_of(self._shown.places[row]))

    def _on_save(self) -> None:
        run = self._run
        if run is None or run.table is None:
            return
        path = ask_save_path(self.native, "Save the table", f"{run.layer.name}, objects", _FORMATS)
        if path is None or not confirm_replacing(self.native, path):
            return
        try:
            shutil.copyfile(run.table, path)
        except OSError as error:
            notify_error(OutputError(f"{shown(path)} cannot be written: {error.strerror or error}."))
            return
        tell(f"Saved {shown(path.name)}.")


def _how_many(found: FoundObjects) -> str:
    n = found.n_all
    only = "" if n == len(found) else f"; the first {len(found):,} are listed"
    return f"{n:,} object{'' if n == 1 else 's'}{only}"


def _columns(found: FoundObjects) -> list[Column]:
    return [
        Column("object", found.numbers, lambda n: f"{n:,}"),
        Column("class", np.array(found.classes), visible, is_number=False),
        Column("voxels", found.voxels, lambda n: f"{n:,}"),
        Column(f"{found.unit}\u00b3", found.volumes, lambda n: f"{n:.4g}"),
    ]

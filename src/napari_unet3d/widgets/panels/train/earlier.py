"""Runs that were begun earlier, perhaps in another window: shown as that of this one, to go on or to train on from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet3d.errors import SpecError, Unet3dError
from napari_unet3d.tasks.train.choosing import TrainChoices
from napari_unet3d.tasks.train.kept.run_folder import newest_run
from napari_unet3d.widgets.host.notices import notify_error
from napari_unet3d.widgets.panels.train.form import TrainForm
from napari_unet3d.widgets.runs.pairs import Pair, voxels_painted
from napari_unet3d.widgets.runs.session import Session
from napari_unet3d.widgets.runs.training import Training

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget


class EarlierRuns:
    """Opens runs.

    Parameters
    ----------
    session
        What the panels of this window share.
    form
        Takes the choices of a run that is opened.
    pairs
        Returns what is painted now.
    parent
        What a dialog lies over.
    """

    def __init__(self, session: Session, form: TrainForm, pairs: Callable[[], list[Pair]], parent: QWidget) -> None:
        self._session, self._form, self._pairs, self._parent = session, form, pairs, parent

    def ask(self) -> None:
        """Ask for the folder of a run, and open it."""
        from qtpy.QtWidgets import QFileDialog

        start = str(self._session.runs_folder)
        if folder := QFileDialog.getExistingDirectory(self._parent, "The folder of a training run", start):
            self.open(Path(folder))

    def open(self, folder: Path) -> None:
        """Show a run as the run of this window, with its choices in the form."""
        session = self._session
        try:
            if session.training is not None and session.training.is_active:
                raise SpecError("Stop the run that is going on first.")
            run = Training.opened(session.viewer, session.engine, self._pairs(), folder)
        except Unet3dError as error:
            notify_error(error)
            return
        self._show(run)

    def show_unfinished(self) -> None:
        """Show the last run of the project if it was stopped or killed: Continue goes on with it."""
        session = self._session
        folder = newest_run(session.runs_folder)
        if folder is None or session.training is not None:
            return
        # With another annotation than it has learnt from, it is not the next thing to do.
        with suppress(Unet3dError):
            run = Training.opened(session.viewer, session.engine, self._pairs(), folder)
            if run.state == "stopped" and run.has_checkpoint:
                self._show(run)

    def _show(self, run: Training) -> None:
        run.n_painted = sum(voxels_painted(run.pairs, self._session.annotation))
        self._form.choices = TrainChoices.of(run.spec)
        self._session.show_training(run)

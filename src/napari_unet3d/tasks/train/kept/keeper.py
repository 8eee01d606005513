"""What keeps a run while it lasts: history, models and checkpoints go into its folder, or stay in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet3d.atomic import writing
from napari_unet3d.core.heads.base import Head
from napari_unet3d.errors import ModelError, OutputError, shown
from napari_unet3d.tasks.events import Checkpointed, Note
from napari_unet3d.tasks.train.kept.checkpoints import TrainState
from napari_unet3d.tasks.train.kept.history import score_columns, score_row
from napari_unet3d.tasks.train.kept.resuming import set_aside
from napari_unet3d.tasks.train.kept.run_folder import BEST, HISTORY_FILE, LAST, RunFolder, RunRecord

if TYPE_CHECKING:
    from napari_unet3d.network.learner import Learner
    from napari_unet3d.network.model import Model
    from napari_unet3d.tasks.train.validate import HeldOutScores


class Keeper:
    """Keeps a run in a folder, as far as that can be written, or in memory.

    Parameters
    ----------
    folder
        Where; None keeps it in memory.
    record
        What run it is.
    head
        Whose scores are in the history.

    Attributes
    ----------
    best
        The model with the best score so far.
    """

    def __init__(self, folder: RunFolder | None, record: RunRecord, head: Head) -> None:
        self._folder, self._record, self._head = folder, record, head
        self._rows: list[dict[str, Any]] = []
        self._is_best_kept = True
        self.best: Model | None = None

    def begin(self, learner: Learner, train_state: TrainState, *, goes_on: bool) -> Iterator[Note]:
        """Begin, or go on after a state; only now it is known that a checkpoint fits."""
        if self._folder is None:
            return
        self._folder.begin(self._record)
        if not goes_on:
            yield from self._spare_curves()
        self._folder.forget_after(train_state.step, score_columns(self._head))
        if not goes_on:
            # From now on a folder without one has lost it.
            try:
                self._folder.save_checkpoint(learner.state(), train_state)
            except OutputError as error:
                yield Note(_describe_failure(error))

    def add_step(self, train_state: TrainState, loss: float, rate: float) -> None:
        """Add a step to the history."""
        self._rows.append(_row("step", train_state, loss) | {"learning_rate": f"{rate:.6g}"})

    def add_scores(self, train_state: TrainState, scores: HeldOutScores) -> None:
        """Add scores to the history."""
        row = _row("score", train_state, scores.loss)
        self._rows.append(row | score_row(self._head, scores))

    def take_best(self, model: Model) -> None:
        """Take a model for the best, to be written with what comes next."""
        self.best, self._is_best_kept = model, False

    def keep(
        self, learner: Learner, train_state: TrainState, last: Callable[[], Model]
    ) -> Iterator[Note | Checkpointed]:
        """Write everything; where that fails the run goes on, and the next time it is tried again."""
        if self._folder is None:
            return
        from napari_unet3d.network.store import save_model

        try:
            self._folder.make()
            if not self._folder.has_record:
                # Somebody has removed the folder.
                self._folder.begin(self._record)
                self._is_best_kept = self.best is None
            self._folder.append(self._rows, score_columns(self._head))
            self._rows = []
            if self.best is not None and not self._is_best_kept:
                save_model(self.best, self._folder.path / BEST, overwrite=True)
                self._is_best_kept = True
            save_model(last(), self._folder.path / LAST, overwrite=True)
            self._folder.save_checkpoint(learner.state(), train_state)
        except OutputError as error:
            yield Note(_describe_failure(error))
            return
        yield Checkpointed(train_state.step)

    def best_or_kept(self) -> Model | None:
        """Return the best model of this run, or of the run that it goes on with."""
        kept = None if self._folder is None else self._folder.path / BEST
        if self.best is None and kept is not None and os.path.isdir(kept):
            from napari_unet3d.network.store import load_model

            with suppress(ModelError):
                self.best = load_model(kept)
        return self.best

    @property
    def earlier_best(self) -> Path | None:
        """Return where the best model of an earlier run lies; None where there is none."""
        kept = None if self._folder is None else self._folder.path / BEST
        return kept if kept is not None and os.path.lexists(kept) else None

    def _spare_curves(self) -> Iterator[Note]:
        """Let the curves of a run that begins again at its first step stay, under another name."""
        history = None if self._folder is None else self._folder.path / HISTORY_FILE
        if history is not None and os.path.lexists(history):
            yield Note(f"The curves so far are kept as {shown(move_aside(history))}.")


def move_aside(path: Path) -> Path:
    """Give a file or folder another name beside its own, and return it.

    Raises
    ------
    OutputError
        If that cannot be done.
    """
    with writing(path, 0):
        return set_aside(path)


def _row(kind: str, train_state: TrainState, loss: float) -> dict[str, Any]:
    return {"kind": kind, "step": train_state.step, "loss": repr(loss), "seconds": f"{train_state.seconds:.1f}"}


def _describe_failure(error: OutputError) -> str:
    return f"The run could not be written and goes on in memory: {error}"

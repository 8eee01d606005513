"""Whether the run in a folder can go on, and what is lost if it is forced to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from napari_unet3d.errors import ModelError, TrainingError, shown
from napari_unet3d.tasks.specs import differences
from napari_unet3d.tasks.train.kept.checkpoints import Checkpoint
from napari_unet3d.tasks.train.kept.run_folder import BEST, HISTORY_FILE, LAST, RunFolder, RunRecord


@dataclass(frozen=True, eq=False)
class Found:
    """Where the run in a folder stands.

    Attributes
    ----------
    checkpoint
        None if it begins at its first step.
    losses
        What is lost by going on, as sentences.
    """

    checkpoint: Checkpoint | None
    losses: tuple[str, ...] = ()


def find_run(folder: RunFolder, record: RunRecord, *, force: bool) -> Found:
    """Return where the run in a folder stands; nothing is changed.

    Raises
    ------
    TrainingError
        If it was begun differently, or something of it is gone or damaged, and it is not forced to go on.
    """
    if not folder.has_run:
        # With the sentence for a folder without a run.
        folder.record()
    losses: list[str] = []
    changed = _list_changes(folder, record, losses)
    checkpoint = _checkpoint(folder, losses)
    if checkpoint is not None and checkpoint.train_state.best_score is not None:
        checkpoint = _with_best(folder, checkpoint, losses)
    if not force:
        _refuse(folder, changed, losses)
    if not os.path.isfile(folder.path / HISTORY_FILE) and checkpoint is not None and checkpoint.train_state.step:
        losses.append(f"{HISTORY_FILE} is gone; the curves begin here.")
    return Found(checkpoint, tuple(losses))


def _list_changes(folder: RunFolder, record: RunRecord, losses: list[str]) -> list[str]:
    try:
        old = folder.record()
    except TrainingError as error:
        losses.append(f"{error} It is not known whether choices and data are those that it was begun with.")
        return []
    changed = differences(old.spec, record.spec, but=("device",))
    if old.data != record.data:
        changed.append("the images or their annotation have changed")
    if old.start != record.start:
        changed.append("it starts from another model")
    return changed


def _checkpoint(folder: RunFolder, losses: list[str]) -> Checkpoint | None:
    try:
        found = folder.load_checkpoint()
    except TrainingError as error:
        losses.append(f"{error} Training begins again at its first step.")
        return None
    if found is None and folder.has_learnt:
        losses.append(f"The checkpoint in {shown(folder.path)} is gone. Training begins again at its first step.")
    return found


def _with_best(folder: RunFolder, checkpoint: Checkpoint, losses: list[str]) -> Checkpoint:
    """Return a checkpoint that asks nothing of its best model if that is lost."""
    from napari_unet3d.network.store import load_model

    try:
        load_model(folder.path / BEST)
    except ModelError as error:
        losses.append(f"The best model is lost: {error} The best of what follows takes its place.")
        train_state = checkpoint.train_state.model_copy(update={"best_score": None, "best_step": 0, "unimproved": 0})
        return Checkpoint(checkpoint.state, train_state)
    return checkpoint


def _refuse(folder: RunFolder, changed: list[str], losses: list[str]) -> None:
    name = shown(folder.path)
    if losses:
        last = folder.path / LAST
        start = f", or start a new run from its last model (--from {shown(last)})" if os.path.isdir(last) else ""
        raise TrainingError(
            f"The run in {name} cannot go on as it was. {' '.join(losses)} Put back what is missing from a copy"
            f"{start}, or go on with that loss (--force)."
        )
    if changed:
        raise TrainingError(
            f"The run in {name} was started differently: {'; '.join(changed)}. "
            "Go on as it was started, or force it (--force), or start a new run in another folder."
        )


def set_aside(kept: Path) -> Path:
    """Give a file or folder of a run that begins again a name under which nothing replaces it, and return that."""
    from napari_unet3d.renames import rename_new

    number = 0
    while True:
        number += 1
        aside = kept.with_name(f"{kept.stem}-{number}{kept.suffix}")
        try:
            rename_new(kept, aside)
        except FileExistsError:
            continue
        return aside

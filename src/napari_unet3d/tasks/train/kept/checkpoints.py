"""A checkpoint: all that the next step of a training run depends on, with a checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.atomic import write_bytes
from napari_unet3d.core.boxes import Shape
from napari_unet3d.errors import TrainingError, shown
from napari_unet3d.small_files import check_regular
from napari_unet3d.tasks.specs import Spec

_POSITION, _CHECKSUM = "position", "sha256"


class TrainState(Spec):
    """How far a training run is, besides its arrays.

    Attributes
    ----------
    step
        Steps that are done.
    patch
        The shape of the patches, which may have become smaller.
    scored_patch
        The shape that the tiles of the scores were chosen by.
    best_score, best_floor
        The highest score so far, and below what another score is clearly worse.
    best_step
        Of the best model: the latest that is not clearly worse.
    ranks_all
        Whether that is the score of all classes; older versions left the first one out.
    unimproved
        Scores since the highest one.
    scored
        The step of the last score.
    seconds
        That training has taken so far.
    shares
        How frequent each class was of late in what was learnt, as the loss weighs it; None before the first step.
    """

    step: int = 0
    patch: Shape
    scored_patch: Shape | None = None
    best_score: float | None = None
    best_floor: float | None = None
    best_step: int = 0
    ranks_all: bool = False
    unimproved: int = 0
    scored: int = 0
    seconds: float = 0.0
    shares: tuple[float, ...] | None = None


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What the next step depends on: arrays by name, and how far the run is."""

    state: dict[str, npt.NDArray[Any]]
    train_state: TrainState


def write_checkpoint(file: Path, state: Mapping[str, npt.NDArray[Any]], train_state: TrainState) -> None:
    """Keep a state, whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from safetensors.numpy import save

    arrays = {name: np.array(a, order="C") for name, a in state.items()}
    text = train_state.model_dump_json()
    content = save(arrays, {_POSITION: text, _CHECKSUM: _checksum(arrays, text)})
    write_bytes(file, content, overwrite=True)


def read_checkpoint(file: Path) -> Checkpoint:
    """Return a state that was kept.

    Raises
    ------
    TrainingError
        If it is not there, or is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        check_regular(file)
        with safe_open(file, "numpy") as opened:
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            notes = opened.metadata()
        if _checksum(state, notes[_POSITION]) != notes[_CHECKSUM]:
            raise ValueError("its numbers are not those that were written")
        return Checkpoint(state, TrainState.model_validate_json(notes[_POSITION]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise TrainingError(f"{shown(file)} cannot be read, it may be damaged: {_reason(error)}.") from error


def step_of(file: Path) -> int | None:
    """Return the step of a checkpoint, whose arrays are not read; None if it cannot be told."""
    from safetensors import SafetensorError, safe_open

    try:
        check_regular(file)
        with safe_open(file, "numpy") as opened:
            return TrainState.model_validate_json(opened.metadata()[_POSITION]).step
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def _checksum(arrays: Mapping[str, npt.NDArray[Any]], text: str) -> str:
    found = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        found.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _reason(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error).rstrip(".")

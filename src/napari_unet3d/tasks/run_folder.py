"""A run folder: what a training run leaves, each file whole or not at all, so that it can always go on.

`run.json` (the choices and the data), `history.csv` (a row a step and a row a score), `checkpoint.safetensors` (all
that the next step depends on), `best.unet3d` and `last.unet3d` (models), and, while a run lasts, `run.lock`.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from pydantic import Field, ValidationError

from napari_unet3d import atomic
from napari_unet3d.core.geometry import Shape
from napari_unet3d.errors import OutputError, TrainingError, shown
from napari_unet3d.tasks.specs import Spec
from napari_unet3d.tasks.train_spec import TrainSpec

RUN_FILE, HISTORY_FILE, CHECKPOINT_FILE, LOCK_FILE = "run.json", "history.csv", "checkpoint.safetensors", "run.lock"
BEST, LAST = "best.unet3d", "last.unet3d"
FORMAT_VERSION = 1
# A lock that nobody has signed yet is being signed.
_SECONDS_TO_SIGN = 10.0
COLUMNS = ("kind", "step", "loss", "learning_rate", "seconds")


class Position(Spec):
    """Where a run is, besides its arrays.

    Attributes
    ----------
    step
        Steps that are done.
    patch
        The shape of the patches, which may have become smaller.
    scored_patch
        The shape that the tiles of the scores were chosen by.
    best_score, best_step
        Of the best model so far.
    unimproved
        Scores since then.
    scored
        The step of the last score.
    seconds
        That training has taken so far.
    """

    step: int = 0
    patch: Shape
    scored_patch: Shape | None = None
    best_score: float | None = None
    best_step: int = 0
    unimproved: int = 0
    scored: int = 0
    seconds: float = 0.0


class RunRecord(Spec):
    """What `run.json` holds."""

    format: str = "napari-unet3d run"
    format_version: int = FORMAT_VERSION
    spec: TrainSpec
    data: tuple[str, ...] = ()
    start: str | None = None
    held_out: tuple[str, ...] = ()
    software: Mapping[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What the next step depends on: arrays by name, and the position."""

    state: dict[str, npt.NDArray[Any]]
    position: Position


class RunFolder:
    """The folder of one run; open it with `with`, which keeps others out.

    Parameters
    ----------
    path
        The folder; it is made where there is none.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._signature = ""

    def __enter__(self) -> RunFolder:
        self.make()
        with atomic.writing(self.path, 0):
            self._lock()
        return self

    def __exit__(self, *_: object) -> None:
        lock = self.path / LOCK_FILE
        with contextlib.suppress(OSError):
            if self._signature and lock.read_text(encoding="utf-8") == self._signature:
                lock.unlink()
        self._signature = ""

    def make(self) -> None:
        """Make the folder if it is not there, or not any more."""
        with atomic.writing(self.path, 0):
            self.path.mkdir(parents=True, exist_ok=True)

    @property
    def has_run(self) -> bool:
        """Return whether a run was begun here."""
        return (self.path / RUN_FILE).is_file()

    def begin(self, record: RunRecord) -> None:
        """Write what the run is; an earlier one is replaced only after it was refused or resumed elsewhere."""
        atomic.write_text(self.path / RUN_FILE, record.model_dump_json(indent=2) + "\n", overwrite=True)

    def record(self) -> RunRecord:
        """Return what the run is.

        Raises
        ------
        TrainingError
            If there is none, or it is damaged or newer.
        """
        file = self.path / RUN_FILE
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            version = content.get("format_version")
            if isinstance(version, int) and version > FORMAT_VERSION:
                raise TrainingError(
                    f"{shown(file)} has format version {version}; this program reads up to {FORMAT_VERSION}."
                )
            return RunRecord.model_validate(content)
        except FileNotFoundError:
            raise TrainingError(f"{shown(self.path)} holds no run to go on with: there is no {RUN_FILE}.") from None
        except (OSError, ValueError, AttributeError, ValidationError) as error:
            raise TrainingError(f"{shown(file)} cannot be read, it may be damaged: {error}") from error

    def save_checkpoint(self, state: Mapping[str, npt.NDArray[Any]], position: Position) -> None:
        """Keep a state, whole or not at all."""
        from safetensors.numpy import save

        content = save(
            {name: np.array(a, order="C") for name, a in state.items()}, {"position": position.model_dump_json()}
        )
        atomic.write_bytes(self.path / CHECKPOINT_FILE, content, overwrite=True)

    def load_checkpoint(self) -> Checkpoint | None:
        """Return the last state that was kept; None before the first.

        Raises
        ------
        TrainingError
            If it is damaged.
        """
        from safetensors import SafetensorError, safe_open

        file = self.path / CHECKPOINT_FILE
        if not file.is_file():
            return None
        try:
            with safe_open(file, "numpy") as opened:
                state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                return Checkpoint(state, Position.model_validate_json(opened.metadata()["position"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValidationError) as error:
            raise TrainingError(f"{shown(file)} cannot be read, it may be damaged: {error}") from error

    def append(self, rows: list[dict[str, Any]], extra: tuple[str, ...]) -> None:
        """Add rows to the history; `extra` are the columns of the scores."""
        file = self.path / HISTORY_FILE
        text = io.StringIO()
        writer = csv.DictWriter(text, (*COLUMNS, *extra), lineterminator="\n")
        if not file.is_file():
            writer.writeheader()
        writer.writerows(rows)
        content = text.getvalue().encode()
        with atomic.writing(file, len(content)), open(file, "ab") as opened:
            before = opened.tell()
            try:
                opened.write(content)
                opened.flush()
            except OSError:
                # Half a row would spoil the next one.
                opened.truncate(before)
                raise

    def history(self, until: int | None = None) -> list[dict[str, str]]:
        """Return the rows of the history, up to a step; what a killed process left half-written is dropped."""
        file = self.path / HISTORY_FILE
        if not file.is_file():
            return []
        text = file.read_text(encoding="utf-8")
        rows = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
        return [row for row in rows if row["step"].isdigit() and (until is None or int(row["step"]) <= until)]

    def forget_after(self, step: int, extra: tuple[str, ...]) -> None:
        """Cut the history after a step, where a run goes on from a checkpoint; `extra` names the columns of scores."""
        rows = self.history(step)
        text = io.StringIO()
        if rows:
            writer = csv.DictWriter(text, (*COLUMNS, *extra), restval="", extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        file = self.path / HISTORY_FILE
        if rows:
            atomic.write_text(file, text.getvalue(), overwrite=True)
        else:
            atomic.remove(file)

    def _lock(self) -> None:
        lock = self.path / LOCK_FILE
        mine = f"{os.getpid()} {psutil.Process().create_time():.0f} {socket.gethostname()}"
        for _ in range(2):
            try:
                descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                self._take_away(lock, self._refuse_if_alive(lock))
                continue
            os.write(descriptor, mine.encode())
            os.close(descriptor)
            self._signature = mine
            return
        raise OutputError(f"{shown(self.path)} is being used by another run.")

    def _take_away(self, lock: Path, dead: str) -> None:
        """Remove the lock of a process that is gone; of several that found it dead only one does."""
        away = lock.with_name(f"{LOCK_FILE}.{os.getpid()}")
        with contextlib.suppress(OSError):
            lock.rename(away)
            if away.read_text(encoding="utf-8") != dead:
                # Somebody else has locked the folder since it was read.
                away.rename(lock)
            else:
                away.unlink()

    def _refuse_if_alive(self, lock: Path) -> str:
        """Return what a lock says whose process is gone.

        Raises
        ------
        TrainingError
            If it is alive, or may be.
        """
        try:
            text, age = lock.read_text(encoding="utf-8"), time.time() - lock.stat().st_mtime
        except OSError:  # gone meanwhile
            return ""
        words = text.split()
        if len(words) != 3 and age < _SECONDS_TO_SIGN:
            raise TrainingError(f"{shown(self.path)} is in use by a run that has just begun.")
        if len(words) != 3:
            return text
        pid, begun, host = int(words[0]), float(words[1]), words[2]
        if host == socket.gethostname() and not _is_running(pid, begun):
            return text
        raise TrainingError(
            f"{shown(self.path)} is in use by a run on {host}, process {pid}. Stop that one, or choose another folder"
            f"{'' if host == socket.gethostname() else f'; if it is gone, remove {shown(lock)}'}."
        )


def _is_running(pid: int, begun: float) -> bool:
    try:
        return bool(abs(psutil.Process(pid).create_time() - begun) < 2)
    except psutil.Error:
        return False

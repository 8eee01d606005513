"""A run folder: what a training run leaves, each file whole or not at all, so that it can always go on.

`run.json` (the choices and the data), `history.csv` (one row per step and one per score), `checkpoint.safetensors` (all
that the next step depends on), `best.unet3d` and `last.unet3d` (models), and, while a run lasts, `run.lock`.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy.typing as npt
from pydantic import Field

from napari_unet3d import atomic
from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.boxes import Shape
from napari_unet3d.errors import TrainingError, shown
from napari_unet3d.small_files import read_json
from napari_unet3d.tasks.run_lock import RunLock
from napari_unet3d.tasks.specs import Spec
from napari_unet3d.tasks.train.annotation import TrainingPair
from napari_unet3d.tasks.train.kept.checkpoints import (
    Checkpoint,
    TrainState,
    read_checkpoint,
    step_of,
    write_checkpoint,
)
from napari_unet3d.tasks.train.kept.history import check_score_column
from napari_unet3d.tasks.train.spec import TrainSpec

RUN_FILE, HISTORY_FILE, CHECKPOINT_FILE = "run.json", "history.csv", "checkpoint.safetensors"
BEST, LAST = "best.unet3d", "last.unet3d"
# Since 2 it says what painted values mean.
FORMAT_VERSION = 2
_LONGEST_LINE = 1 << 18
_MOST_STEPS = 1 << 53
COLUMNS = ("kind", "step", "loss", "learning_rate", "seconds")


class LabelsRecord(Spec):
    """What was painted, in a run: what the labels are called, (z, y, x) of them, and what their values mean."""

    name: str = ""
    shape: Shape
    meanings: Meanings

    @classmethod
    def of(cls, pair: TrainingPair) -> LabelsRecord:
        """Return what a run keeps of the labels of a pair."""
        z, y, x = pair.labels.shape[:3]
        return cls(name=pair.name, shape=(int(z), int(y), int(x)), meanings=pair.meanings)


class RunRecord(Spec):
    """What `run.json` holds."""

    format: str = "napari-unet3d run"
    format_version: int = FORMAT_VERSION
    spec: TrainSpec
    data: tuple[str, ...] = ()
    start: str | None = None
    held_out: tuple[str, ...] = ()
    labels: tuple[LabelsRecord, ...] = ()
    software: Mapping[str, str] = Field(default_factory=dict)


class RunFolder:
    """The folder of one run; open it with `with`, which keeps others out.

    Parameters
    ----------
    path
        The folder; it is made where there is none.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._lock = RunLock(self.path)

    def __enter__(self) -> RunFolder:
        self.make()
        with atomic.writing(self.path, 0):
            self._lock.take()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def make(self) -> None:
        """Make the folder if it is not there, or not any more."""
        with atomic.writing(self.path, 0):
            self.path.mkdir(parents=True, exist_ok=True)

    @property
    def has_run(self) -> bool:
        """Return whether a run was begun here, also if a part of it is gone."""
        return any(os.path.lexists(self.path / name) for name in (RUN_FILE, CHECKPOINT_FILE, HISTORY_FILE, BEST, LAST))

    @property
    def has_record(self) -> bool:
        """Return whether it is written down what the run is."""
        return os.path.isfile(self.path / RUN_FILE)

    @property
    def has_learnt(self) -> bool:
        """Return whether there was something to keep."""
        return any(os.path.lexists(self.path / name) for name in (HISTORY_FILE, BEST, LAST))

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
            content = read_json(file)
            version = content.get("format_version")
            if isinstance(version, int) and version > FORMAT_VERSION:
                raise TrainingError(
                    f"{shown(file)} has format version {version}; this program reads up to {FORMAT_VERSION}."
                )
            return RunRecord.model_validate(content)
        except FileNotFoundError:
            if self.has_run:
                raise TrainingError(f"{RUN_FILE} is gone from {shown(self.path)}.") from None
            raise TrainingError(f"{shown(self.path)} holds no run to go on with: there is no {RUN_FILE}.") from None
        except (OSError, ValueError, AttributeError) as error:
            reason = str(error).rstrip(".")
            raise TrainingError(f"{shown(file)} cannot be read, it may be damaged: {reason}.") from error

    def save_checkpoint(self, state: Mapping[str, npt.NDArray[Any]], train_state: TrainState) -> None:
        """Keep a state, whole or not at all."""
        write_checkpoint(self.path / CHECKPOINT_FILE, state, train_state)

    def load_checkpoint(self) -> Checkpoint | None:
        """Return the last state that was kept; None before the first.

        Raises
        ------
        TrainingError
            If it is damaged.
        """
        file = self.path / CHECKPOINT_FILE
        return read_checkpoint(file) if os.path.lexists(file) else None

    def kept_step(self) -> int | None:
        """Return after which step the last state was kept; None if none was."""
        return step_of(self.path / CHECKPOINT_FILE)

    def append(self, rows: list[dict[str, Any]], extra: tuple[str, ...]) -> None:
        """Add rows to the history; `extra` are the columns of the scores."""
        file = self.path / HISTORY_FILE
        text = io.StringIO()
        writer = csv.DictWriter(text, (*COLUMNS, *extra), lineterminator="\n")
        if not os.path.isfile(file):
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
        """Return the rows of the history, up to a step; what a killed process left half-written is dropped.

        Raises
        ------
        TrainingError
            If it is damaged.
        """
        file = self.path / HISTORY_FILE
        if not os.path.isfile(file):
            return []
        try:
            reader = csv.DictReader(_whole_lines(file))
            rows = list(reader)
            if not set(COLUMNS[:3]) <= set(reader.fieldnames or COLUMNS):
                raise ValueError(f"its first line does not begin with {','.join(COLUMNS[:3])}")
            for row in rows:
                _check_row(row)
        except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
            raise TrainingError(
                f"{shown(file)} cannot be read, it may be damaged ({error}). Remove or rename it; the run goes on "
                "without its curves."
            ) from error
        return [row for row in rows if until is None or int(row["step"]) <= until]

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


def _whole_lines(file: Path) -> Iterator[str]:
    """Yield the lines of a file that end; one that never does would be all of a file that is nearly all hole."""
    with open(file, "rb") as opened:
        while (line := opened.readline(_LONGEST_LINE + 1)).endswith(b"\n"):
            yield line.decode("utf-8")
        if len(line) > _LONGEST_LINE:
            raise ValueError(f"a line of more than {_LONGEST_LINE:,} bytes")


def _check_row(row: Mapping[str, Any]) -> None:
    """Check that what is a number in a row is one."""
    if row["kind"] not in ("step", "score"):
        raise ValueError(f"a row of the kind {str(row['kind'])[:20]!r}")
    if not 0 <= int(row["step"]) < _MOST_STEPS:
        raise ValueError("an impossible step")
    for name, value in row.items():
        if name is None or value is None:
            raise ValueError("a row with another number of columns")
        if name == "loss":
            float(value or "nan")
        else:
            check_score_column(name, value)


def newest_run(runs: Path) -> Path | None:
    """Return the folder of the run that was kept last, of those in a folder; None where there is none."""
    kept = []
    with suppress(OSError):
        for checkpoint in runs.glob(f"*/{CHECKPOINT_FILE}"):
            with suppress(OSError):
                kept.append((checkpoint.stat().st_mtime_ns, checkpoint.parent))
    return max(kept)[1] if kept else None

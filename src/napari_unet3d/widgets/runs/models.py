"""The models that can be chosen: the user's own, newest first, then the one that comes with the package."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from napari_unet3d.errors import ModelError
from napari_unet3d.network.store import CARD_FILE, DEMO_MODEL, SUFFIX, read_card
from napari_unet3d.tasks.train.kept.run_folder import BEST, LAST, RUN_FILE
from napari_unet3d.words import calendar_day

# Of all runs; older ones can be browsed to.
_MOST_RUNS = 30
_STAMP = re.compile(r" \d{4}-\d{2}-\d{2} \d{2}\.\d{2}\.\d{2}( \d+)?$")


@dataclass(frozen=True)
class ListedModel:
    """A model in a list.

    Attributes
    ----------
    path
        The model folder.
    made
        When it was written, in seconds since 1970; None for the one that comes with the package.
    score
        Its mean score on what was held out, with the name of the score; or nothing.
    """

    path: Path
    made: float | None = None
    score: str = ""

    @property
    def label(self) -> str:
        """Return what it is called in a list: name, date, score."""
        when = ""
        if self.made is not None:
            moment = datetime.fromtimestamp(self.made).astimezone()
            when = f"{calendar_day(moment)}, {moment:%H:%M}"
        return ", ".join(part for part in (model_name(self.path), when, self.score) if part)


def list_models(folder: Path) -> list[Path]:
    """Return the models in a folder, by name, and first the one that comes with the package."""
    return [*_bundled(), *_models_in(folder)]


def own_models(models: Path, runs: Iterable[Path]) -> list[ListedModel]:
    """Return the user's models, newest first.

    Parameters
    ----------
    models
        The models folder.
    runs
        Folders that hold run folders; of a run the best model is listed, or the last where nothing was scored.
    """
    newest = sorted({run for folder in runs for run in _runs_in(folder)}, key=_changed, reverse=True)
    found = {*_models_in(models), *filter(None, map(model_of_run, newest[:_MOST_RUNS]))}
    return sorted(map(listed, found), key=lambda model: model.made or 0, reverse=True)


def listed(path: Path) -> ListedModel:
    """Return a model as it is listed."""
    if path in _bundled():
        return ListedModel(path)
    changed = _changed(path / CARD_FILE)
    return ListedModel(path, changed, _score(path, changed))


def model_of_run(folder: Path) -> Path | None:
    """Return the model of a run: the best, or the last where nothing was scored; None before there is one."""
    return next((folder / name for name in (BEST, LAST) if os.path.isfile(folder / name / CARD_FILE)), None)


def model_in(folder: Path) -> Path:
    """Return the model that a person means who browses to a folder: that folder, or the model of the run in it."""
    return folder if os.path.isfile(folder / CARD_FILE) else model_of_run(folder) or folder


def model_name(path: Path) -> str:
    """Return what a model is called; that of a run by the image that it has learnt from."""
    name = path.name.removesuffix(SUFFIX)
    if not os.path.isfile(path.parent / RUN_FILE):
        return name
    run = _STAMP.sub("", path.parent.name)
    return run if path.name == BEST else f"{run} ({name})"


def _bundled() -> list[Path]:
    path = Path(str(files("napari_unet3d"))) / "models" / DEMO_MODEL
    return [path] if (path / CARD_FILE).is_file() else []


def _models_in(folder: Path) -> list[Path]:
    with suppress(OSError):  # there is none, or it may not be read
        return sorted(path for path in folder.iterdir() if os.path.isfile(path / CARD_FILE))
    return []


def _runs_in(folder: Path) -> list[Path]:
    with suppress(OSError):
        return [path for path in folder.iterdir() if os.path.isfile(path / RUN_FILE)]
    return []


def _changed(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


@lru_cache(maxsize=512)
def _score(path: Path, _changed_at: float) -> str:
    """Return the mean score of a model; kept until its card is written again."""
    with suppress(ModelError):
        metrics = read_card(path)[0].metrics
        for name, value in metrics.items():
            if name.startswith("mean ") and "," not in name:
                return f"{name.removeprefix('mean ')} {value:.2f}"
    return ""

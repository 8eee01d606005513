"""The history of a training run: what its curves and its tables show, in memory and in files.

Scores go by name; which there are is for the head to say.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from napari_unet3d.core.heads.base import Head
from napari_unet3d.core.heads.classes import mean_score
from napari_unet3d.tasks.events import Validated
from napari_unet3d.tasks.train.validate import HeldOutScores

_VOXELS, _MEAN = "voxels", "mean"
_BOUNDS = ("low", "high")


def score_columns(head: Head) -> tuple[str, ...]:
    """Return the columns of a score in a history.

    Examples
    --------
    >>> from napari_unet3d.core.heads.classes import Classes
    >>> score_columns(Classes(names=("background", "axon")))[5:]
    ('dice axon', 'iou axon', 'voxels axon', 'low axon', 'high axon', 'mean dice', 'mean low', 'mean high')
    """
    return (*(column for name in head.scored for column in _columns(head, name)), *_mean_columns(head))


def score_row(head: Head, scores: HeldOutScores) -> dict[str, Any]:
    """Return a score as the columns of a history."""
    row: dict[str, Any] = {}
    for index, name in enumerate(head.scored):
        values = [*(scores.scores[kind.name][index] for kind in head.score_kinds)]
        texts = [*map(_text, values), scores.voxels[index], *map(_text, scores.intervals[index])]
        row |= dict(zip(_columns(head, name), texts, strict=True))
    mean = mean_score(scores.first)
    values = [math.nan if mean is None else mean, *scores.mean_interval]
    return row | dict(zip(_mean_columns(head), map(_text, values), strict=True))


def check_score_column(name: str, value: str) -> None:
    """Check that what a history says of a score is a number; raise ValueError if it is none."""
    if name.startswith(f"{_VOXELS} "):
        int(value or 0)
    elif " " in name:
        float(value or "nan")


def scores_in(row: Mapping[str, str], head: Head) -> HeldOutScores | None:
    """Return the scores of a row of a history; None where it is of other classes.

    Rows of older versions leave the first class out: it has no score there, and nothing has an interval.
    """
    first, *others = head.scored
    has_first = bool(row.get(f"{_VOXELS} {first}"))
    if not all(row.get(f"{_VOXELS} {name}") for name in others):
        return None

    def number(column: str) -> float:
        return float(row.get(column) or "nan")

    names = head.scored
    voxels = tuple(int(row.get(f"{_VOXELS} {name}") or 0) for name in names)
    low, high = _BOUNDS
    return HeldOutScores(
        loss=number("loss"),
        scores={kind.name: tuple(number(f"{kind.name} {name}") for name in names) for kind in head.score_kinds},
        voxels=voxels,
        trivial=head.trivial(voxels) if has_first else (math.nan,) * len(names),
        intervals=tuple((number(f"{low} {name}"), number(f"{high} {name}")) for name in names),
        mean_interval=(number(f"{_MEAN} {low}"), number(f"{_MEAN} {high}")),
    )


def _columns(head: Head, name: str) -> list[str]:
    """Return the columns of one of what is scored."""
    kinds = [kind.name for kind in head.score_kinds]
    return [f"{what} {name}" for what in (*kinds, _VOXELS, *_BOUNDS)]


def _mean_columns(head: Head) -> list[str]:
    return [f"{_MEAN} {what}" for what in (head.score_kinds[0].name, *_BOUNDS)]


def _text(value: float) -> str:
    return f"{value:.5f}"


@dataclass
class Curves:
    """The history of a run.

    Attributes
    ----------
    head
        What is scored, and how.
    steps, losses
        Of every step.
    scored
        Of every score, in their order.
    """

    head: Head
    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    scored: list[Validated] = field(default_factory=list)
    # The best of each of what is scored, with minus its step, among as many scores.
    _best: dict[int, tuple[int, tuple[float, int] | None]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def of_history(cls, rows: Iterable[Mapping[str, str]], head: Head) -> Curves:
        """Return the curves of a run that was kept, from the rows of its history."""
        curves = cls(head)
        for row in rows:
            step = int(row["step"])
            if row["kind"] == "step":
                curves.steps.append(step)
                curves.losses.append(float(row["loss"] or "nan"))
            elif (found := scores_in(row, head)) is not None:
                curves.scored.append(
                    Validated(
                        step,
                        found.loss,
                        found.scores,
                        found.voxels,
                        is_best=False,
                        names=head.scored,
                        intervals=found.intervals,
                        mean_interval=found.mean_interval,
                    )
                )
        return curves

    def forget_after(self, step: int) -> None:
        """Cut everything after a step, from which a run goes on."""
        n = sum(at <= step for at in self.steps)
        del self.steps[n:], self.losses[n:]
        self.scored = [score for score in self.scored if score.step <= step]
        self._best.clear()

    def of(self, kind: str, index: int) -> list[float]:
        """Return a score of one of what is scored, from 0 on, after each step of `scored`."""
        return [score.scores[kind][index] for score in self.scored]

    def best(self, index: int) -> tuple[float, int] | None:
        """Return the best of the first kind of score of one of what is scored, and its step; None without a score."""
        # It is asked after each step, so those that it has seen are not looked at again.
        n, best = self._best.get(index, (0, None))
        kind = self.head.score_kinds[0].name
        for score in self.scored[n:]:
            found = (score.scores[kind][index], -score.step)
            # NaN is no score: it, or all but it, is not held out.
            if not math.isnan(found[0]) and (best is None or found > best):
                best = found
        self._best[index] = len(self.scored), best
        return None if best is None else (best[0], -best[1])

    def trivial(self) -> tuple[float, ...]:
        """Return the first score of each of what is scored for whoever calls all so; nothing before the first score."""
        return self.head.trivial(self.scored[-1].voxels) if self.scored else ()

    def as_csv(self) -> str:
        """Return the history as a table: losses, the first kind of score, and the voxels it rests on."""
        names, kind = self.head.scored, self.head.score_kinds[0].name
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        kinds = (kind, _VOXELS)
        table.writerow(["step", "loss", "held-out loss", *(f"{what} {name}" for what in kinds for name in names)])
        scores = {score.step: score for score in self.scored}
        for step, loss in zip(self.steps, self.losses, strict=True):
            score = scores.get(step)
            tail: list[object] = [""] * (1 + 2 * len(names))
            if score is not None:
                tail = [score.loss, *score.scores[kind], *score.voxels]
            table.writerow([step, loss, *tail])
        return text.getvalue()

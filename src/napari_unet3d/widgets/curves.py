"""The history of a training run: what its curves and its table show."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field


@dataclass
class Curves:
    """The history of a run.

    Attributes
    ----------
    class_names
        Of the model.
    steps, losses
        Of every step.
    scored, held_out, dice, iou, voxels
        Of every score: its step, the loss, and one a class but the first.
    """

    class_names: tuple[str, ...]
    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    scored: list[int] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    dice: list[tuple[float, ...]] = field(default_factory=list)
    iou: list[tuple[float, ...]] = field(default_factory=list)
    voxels: list[tuple[int, ...]] = field(default_factory=list)

    def forget_after(self, step: int) -> None:
        """Cut everything after a step, from which a run goes on."""
        n = sum(at <= step for at in self.steps)
        del self.steps[n:], self.losses[n:]
        n = sum(at <= step for at in self.scored)
        for values in (self.scored, self.held_out, self.dice, self.iou, self.voxels):
            del values[n:]

    def as_csv(self) -> str:
        """Return the history as a table."""
        names = self.class_names[1:]
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(
            ["step", "loss", "held-out loss", *(f"dice {n}" for n in names), *(f"voxels {n}" for n in names)]
        )
        scores = {step: at for at, step in enumerate(self.scored)}
        for step, loss in zip(self.steps, self.losses, strict=True):
            at = scores.get(step)
            tail: list[object] = [""] * (1 + 2 * len(names))
            if at is not None:
                tail = [self.held_out[at], *self.dice[at], *self.voxels[at]]
            table.writerow([step, loss, *tail])
        return text.getvalue()

    def best_dice(self, index: int) -> tuple[float, int] | None:
        """Return the best Dice of a class but the background, from 0 on, and its step; None without a score."""
        scores = [(dice[index], -step) for dice, step in zip(self.dice, self.scored, strict=True)]
        # NaN is no score: only one class is held out.
        best, step = max((score for score in scores if score[0] == score[0]), default=(None, 0))
        return None if best is None else (best, -step)

"""What is said of a training run in a terminal, while it lasts and at its end."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from napari_unet3d.cli.report import EXIT_NOT_ALL, EXIT_STOPPED
from napari_unet3d.cli.terminal import Screen, say
from napari_unet3d.errors import shown
from napari_unet3d.stopping import answer_signals, is_interrupt
from napari_unet3d.words import times, with_interval

if TYPE_CHECKING:
    from napari_unet3d.core.heads.base import Head
    from napari_unet3d.tasks.events import Event, StepDone, Validated
    from napari_unet3d.tasks.train.training import TrainResult
    from napari_unet3d.tasks.train.validate import HeldOutScores

_BARS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
_CURVE_WIDTH = 32
# Scores in a history have five decimals.
_ROUNDING = 1e-5


def follow_training(events: Generator[Event, None, TrainResult], output: Path) -> None:
    """Run to the end with curves; Ctrl-C stops it, which keeps everything."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn

    from napari_unet3d.tasks.train.kept.run_folder import RunFolder

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(20),
        TaskProgressColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with _Stop() as stop:
        with Screen(*columns) as screen:
            told = _Told(screen)
            result = _work(events, stop, told)
            if result is None:
                screen.say("Stopping; the run is being saved.")
                events.close()
        if result is None:
            _say_stopped(told.step, output)
    last = told.last
    waiting = "" if last is None else f"{last.waiting:.1%} of the time was spent waiting for patches.\n"
    kept = result.steps if last is None else told.kept
    say(waiting + final_text(result, RunFolder(output).history(), output, kept))
    if kept != result.steps:
        sys.exit(EXIT_NOT_ALL)


def _work(events: Generator[Event, None, TrainResult], stop: _Stop, told: _Told) -> TrainResult | None:
    """Return what a run gave, None if it shall stop before its end."""
    from napari_unet3d.tasks.driving import drive

    def tell(event: Event) -> None:
        told.tell(event)
        stop.has_begun = stop.has_begun or told.has_begun

    try:
        return drive(events, tell, until=lambda: stop.is_asked)
    except (KeyboardInterrupt, SystemError) as error:
        if not is_interrupt(error):
            raise
    return None


def _say_stopped(step: int, output: Path) -> NoReturn:
    """Say what of a run that was stopped is in its folder, and end with the exit code for it."""
    from napari_unet3d.tasks.train.kept.run_folder import RunFolder

    kept = RunFolder(output).kept_step()
    if not step:
        say("Stopped before the first step; nothing was learnt.", to_error=True)
    elif kept is None or kept < step:
        lost = "None of it could be written" if kept is None else f"What came after step {kept:,} could not be written"
        say(f"Stopped after {step:,} steps. {lost}: see the notes above.", to_error=True)
    else:
        say(f"Stopped after {step:,} steps; all is kept in {shown(output)}.", to_error=True)
    if kept:
        say("Run the same command with --resume to go on.", to_error=True)
    sys.exit(EXIT_STOPPED)


class _Told:
    """What has been said of a run so far.

    Attributes
    ----------
    last
        The last step.
    kept
        The step of the last checkpoint.
    has_begun
        There is something to keep.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._part = screen.bar.add_task("preparing", total=None, text="")
        self._losses: list[float] = []
        self.last: StepDone | None = None
        self.kept = 0
        self.has_begun = False

    @property
    def step(self) -> int:
        """Return how many steps were done."""
        return 0 if self.last is None else self.last.step

    def tell(self, event: Event) -> None:
        """Say what an event says."""
        from napari_unet3d.tasks.events import Checkpointed, Note, Started, StepDone, Validated

        bar = self._screen.bar
        match event:
            case Note():
                self._screen.say(f"note: {event.text}")
            case Started():
                shape = times(event.input_shape)
                self._screen.say(f"patches of {shape} voxels, on {event.device}")
                bar.update(self._part, description="training", total=event.total)
                self.has_begun = True
            case StepDone():
                self._losses.append(event.loss)
                self.last = event
                bar.update(self._part, completed=event.step, text=step_text(event, self._losses))
            case Validated():
                self._screen.say(score_text(event, self._losses))
            case Checkpointed():
                self.kept = event.step


class _Stop:
    """Lets Ctrl-C, and what a job scheduler sends, wait for the end of a step and of the saving after it.

    In the midst of a step the state would be ahead of the number of the step, and could not be kept. Only where nothing
    is learnt yet a second signal does not wait.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self.has_begun = False

    def __enter__(self) -> _Stop:
        self._answering = answer_signals(self._ask)
        self._answering.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._answering.__exit__(None, None, None)

    def _ask(self, *_: object) -> None:
        if self.is_asked and not self.has_begun:
            # What follows must not be interrupted.
            self.has_begun = True
            raise KeyboardInterrupt
        self.is_asked = True


def step_text(event: StepDone, losses: Sequence[float]) -> str:
    """Return a step as one line."""
    left = event.seconds_left
    time = f"{left / 60:.0f} min" if left > 90 else f"{left:.0f} s"
    return f"{curve(losses)} loss {event.loss:.3f}, {event.steps_per_second:.2f} steps/s, {time} left"


def score_text(event: Validated, losses: Sequence[float]) -> str:
    """Return a score as one line, with the voxels that it rests on."""
    from napari_unet3d.core.heads.classes import mean_score

    recent = losses[-50:] or [float("nan")]
    kind, values = next(iter(event.scores.items()))
    scored = [
        f"{name} {value:.3f} ({n:,} voxels)"
        for name, value, n in zip(event.names, values, event.voxels, strict=True)
        if not math.isnan(value)
    ]
    best = "  best so far" if event.is_best else ""
    loss = sum(recent) / len(recent)
    text = f"step {event.step:,}: loss {loss:.3f}, held out {event.loss:.3f}"
    if not scored:
        return f"{text}; only one class is held out, so no score{best}"
    return f"{text}, {kind.capitalize()} held out {', '.join(scored)}, mean {mean_score(values):.3f}{best}"


def final_text(result: TrainResult, history: Sequence[Mapping[str, str]], output: Path, kept: int) -> str:
    """Return what came of a run.

    Parameters
    ----------
    result
        What it gave.
    history
        The rows of the history of all of it, also of what was done before it was resumed.
    output
        The run folder.
    kept
        The step of the last checkpoint.
    """
    from napari_unet3d.tasks.train.kept.history import scores_in

    lines = []
    head = result.last.card.head
    losses = [float(row["loss"]) for row in history if row["kind"] == "step"]
    # A run that was forced on may have had other classes before.
    rows = [(int(row["step"]), scores_in(row, head)) for row in history if row["kind"] == "score"]
    scored = {step: found for step, found in rows if found is not None}
    if losses:
        lines.append(f"loss      {curve(losses)}  {losses[0]:.3f} to {losses[-1]:.3f}")
    lines += _score_lines(scored, head, result.best_step)
    if not scored:
        is_lost = result.scores is not None
        lines.append("The scores could not be written." if is_lost else "Nothing was scored: nothing is held out.")
    if kept == result.steps:
        lines.append(f"{shown(output)}: {result.steps:,} steps; {_models_text(output)}.")
    else:
        lines.append(f"{shown(output)}: {result.steps:,} steps, of which those after {kept:,} could not be written.")
    return "\n".join(lines)


def _models_text(output: Path) -> str:
    """Return which models a run folder holds."""
    from napari_unet3d.tasks.train.kept.run_folder import BEST, LAST

    return f"{BEST} and {LAST} are models" if os.path.isdir(output / BEST) else f"{LAST} is the model"


def _score_lines(scored: Mapping[int, HeldOutScores], head: Head, best_step: int) -> list[str]:
    """Return how the first kind of score went, all scores of the best model, and what has none."""
    if not scored:
        return []
    title, last = head.score_kinds[0].title, scored[max(scored)]
    have = [index for index in range(len(head.scored)) if not math.isnan(last.first[index])]
    lines = []
    for index in have:
        # Where an older version began the run, its first class has a score only from where it went on.
        values = [value for scores in scored.values() if not math.isnan(value := scores.first[index])]
        line = f"{curve(values)}  {head.scored[index]}: {values[0]:.3f} to {values[-1]:.3f}, held out"
        lines.append(f"{title:<9} {line}")
    if best_step in scored and have:
        lines += _table(scored[best_step], head, best_step)
    without = [name for index, name in enumerate(head.scored) if index not in have]
    if without:
        lines.append(
            f"No score of {', '.join(without)}: what is held out is not annotated as this and as something else."
        )
    if best_step in scored and have:
        lines += _verdict(scored[best_step], head)
    return lines


def _table(best: HeldOutScores, head: Head, best_step: int) -> list[str]:
    """Return all scores of the best model: a line per class that has one."""
    first, *others = head.score_kinds
    titles = [
        f"{'voxels held out':>16}",
        f"{first.title + ' (90 % interval)':>25}",
        *(f"{kind.title:>7}" for kind in others),
    ]
    lines = [f"{'class':<20} {' '.join(titles)}   best model, step {best_step:,}"]
    for index, name in enumerate(head.scored):
        if not math.isnan(best.first[index]):
            score = with_interval(best.first[index], best.intervals[index])
            values = " ".join(f"{best.scores[kind.name][index]:>7.3f}" for kind in others)
            lines.append(f"{name:<20} {best.voxels[index]:>16,} {score:>25} {values}")
    return lines


def _verdict(best: HeldOutScores, head: Head) -> list[str]:
    """Return the mean score of the best model beside that of whoever calls every voxel the same, as sentences."""
    from napari_unet3d.core.heads.classes import best_trivial

    title, found = head.score_kinds[0].title, best_trivial(best.trivial)
    if found is None:
        # There is a score, so only what it is measured by is missing.
        return [f"An older version scored the best model, without {head.scored[0]}."]
    trivial, index = found
    mean = f"Mean {title} of the best model: {with_interval(best.rank, best.mean_interval)}"
    everything = f"calling everything {head.scored[index]}"
    if best.rank <= trivial + _ROUNDING:
        return [f"{mean}, no better than {everything} ({trivial:.2f})."]
    is_doubtful = best.mean_interval[0] <= trivial
    lines = [f"{mean}, {'hardly ' * is_doubtful}better than {everything} ({trivial:.2f})."]
    for name, value, alone in zip(head.scored, best.first, best.trivial, strict=True):
        if value <= alone + _ROUNDING:
            lines.append(f"{name}: {title} {value:.2f} is no better than calling everything {name} ({alone:.2f}).")
    return lines


def curve(values: Sequence[float]) -> str:
    """Return values as a small curve of characters, averaged to what fits.

    Examples
    --------
    >>> curve([0, 1, 2, 3])
    '\u2581\u2583\u2586\u2588'
    """
    finite = [value for value in values if value == value]
    if not finite:
        return ""
    n = min(_CURVE_WIDTH, len(finite))
    parts = [finite[i * len(finite) // n : (i + 1) * len(finite) // n] for i in range(n)]
    means = [sum(part) / len(part) for part in parts]
    low, high = min(means), max(means)
    return "".join(_BARS[round((value - low) / ((high - low) or 1) * (len(_BARS) - 1))] for value in means)

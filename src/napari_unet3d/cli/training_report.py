"""What is said of a training run in a terminal, while it lasts and at its end."""

from __future__ import annotations

import math
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet3d.cli.report import EXIT_STOPPED, say
from napari_unet3d.errors import shown

if TYPE_CHECKING:
    from napari_unet3d.tasks.events import Event, StepDone, Validated
    from napari_unet3d.tasks.train import TrainResult

_BARS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
_CURVE_WIDTH = 32


def follow_training(events: Generator[Event, None, TrainResult], output: Path) -> None:
    """Run to the end with curves; Ctrl-C stops it, which keeps everything."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    from napari_unet3d.tasks.events import Checkpointed, Note, Started, StepDone, Validated
    from napari_unet3d.tasks.run_folder import RunFolder

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(20), TaskProgressColumn(), TextColumn("{task.fields[text]}"))
    losses: list[float] = []
    last: StepDone | None = None
    kept = 0
    try:
        with (
            _asked_to_stop() as stop,
            Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
        ):
            part = bar.add_task("preparing", total=None, text="")
            while True:
                if stop.is_set():
                    raise KeyboardInterrupt
                match event := next(events):
                    case Note():
                        bar.console.print(f"note: {event.text}", highlight=False)
                    case Started():
                        shape = " x ".join(map(str, event.input_shape))
                        bar.console.print(f"patches of {shape} voxels, on {event.device}", highlight=False)
                        bar.update(part, description="training", total=event.total)
                    case StepDone():
                        losses.append(event.loss)
                        last = event
                        bar.update(part, completed=event.step, text=step_text(event, losses))
                    case Validated():
                        bar.console.print(score_text(event, losses), highlight=False)
                    case Checkpointed():
                        kept = event.step
    except StopIteration as end:
        result: TrainResult = end.value
    except KeyboardInterrupt:
        events.close()
        say(f"Stopped after {0 if last is None else last.step:,} steps; all is kept in {shown(output)}.", to_error=True)
        say("The same command with --resume goes on.", to_error=True)
        sys.exit(EXIT_STOPPED)
    waiting = "" if last is None else f"{last.waiting:.1%} of the time was spent waiting for patches.\n"
    say(waiting + final_text(result, RunFolder(output).history(), output, result.steps if last is None else kept))


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """Let Ctrl-C, and what a job scheduler sends, wait for the end of a step; a second one does not wait.

    In the midst of a step the state would be ahead of the number of the step, and could not be kept.
    """
    stop = threading.Event()

    def asked(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    is_main = threading.current_thread() is threading.main_thread()
    before = {name: signal.signal(getattr(signal, name), asked) for name in names} if is_main else {}
    try:
        yield stop
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def step_text(event: StepDone, losses: Sequence[float]) -> str:
    """Return a step as one line."""
    left = event.seconds_left
    time = f"{left / 60:.0f} min" if left > 90 else f"{left:.0f} s"
    return f"{curve(losses)} loss {event.loss:.3f}, {event.steps_per_second:.2f} steps/s, {time} left"


def score_text(event: Validated, losses: Sequence[float]) -> str:
    """Return a score as one line, with the voxels that it rests on."""
    recent = losses[-50:] or [float("nan")]
    scored = [(value, n) for value, n in zip(event.dice, event.voxels, strict=True) if not math.isnan(value)]
    dice = ", ".join(f"{value:.3f} ({n:,} voxels)" for value, n in scored)
    best = "  best so far" if event.is_best else ""
    loss = sum(recent) / len(recent)
    text = f"step {event.step:,}: loss {loss:.3f}, held out {event.loss:.3f}"
    return f"{text}, Dice held out {dice}{best}" if scored else f"{text}; only one class is held out, so no score{best}"


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
    lines = []
    losses = [float(row["loss"]) for row in history if row["kind"] == "step"]
    names = result.last.card.class_names[1:]
    # A run that was forced on may have had other classes before.
    scores = [row for row in history if row["kind"] == "score" and all(row.get(f"dice {name}") for name in names)]
    without = [name for name in names if scores and math.isnan(float(scores[-1][f"dice {name}"]))]
    names = tuple(name for name in names if name not in without)
    if losses:
        lines.append(f"loss      {curve(losses)}  {losses[0]:.3f} to {losses[-1]:.3f}")
    for name in names if scores else ():
        values = [float(row[f"dice {name}"]) for row in scores]
        lines.append(f"Dice      {curve(values)}  {name}: {values[0]:.3f} to {values[-1]:.3f}, held out")
    best = next((row for row in scores if int(row["step"]) == result.best_step), None)
    if best is not None and names:
        lines.append(
            f"{'class':<20} {'voxels held out':>16} {'Dice':>7} {'IoU':>7}   best model, step {result.best_step:,}"
        )
        for name in names:
            dice, iou = float(best[f"dice {name}"]), float(best[f"iou {name}"])
            lines.append(f"{name:<20} {int(best[f'voxels {name}']):>16,} {dice:>7.3f} {iou:>7.3f}")
    if not scores:
        lines.append("Nothing was scored: nothing is held out.")
    if without:
        lines.append(
            f"No score of {', '.join(without)}: what is held out is not annotated as this and as something else."
        )
    if kept == result.steps:
        lines.append(f"{shown(output)}: {result.steps:,} steps; best.unet3d and last.unet3d are models.")
    else:
        lines.append(f"{shown(output)}: {result.steps:,} steps, of which those after {kept:,} could not be written.")
    return "\n".join(lines)


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

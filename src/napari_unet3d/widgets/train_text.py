"""What is said of a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet3d.widgets.words import duration, times

if TYPE_CHECKING:
    from napari_unet3d.widgets.training import Training


def describe_run(run: Training) -> str:
    """Return how far a run is, in a line or two."""
    total, last = run.spec.steps, run.last
    if run.state == "failed" and run.error is not None:
        return str(run.error)
    if run.state == "queued":
        waiting = len(run.engine.queue)
        return "Waiting for another job .." if waiting and run.phase == "waiting" else f"{run.phase.capitalize()} .."
    if last is None:
        return "Stopped before the first step." if run.state == "stopped" else f"{run.phase.capitalize()} .."
    done = f"step {last.step:,} of {total:,}"
    if run.state in ("stopped", "done"):
        word = "Stopped" if run.state == "stopped" else "Done"
        return f"{word}: {done}. Everything is kept in {run.folder.name}."
    speed = (
        f"{last.steps_per_second:.1f} steps/s"
        if last.steps_per_second >= 1
        else f"{1 / last.steps_per_second:.1f} s a step"
    )
    left = f"{duration(last.seconds_left)} left"
    word = "Stopping after this step; " if run.state == "stopping" else ""
    patch = "" if run.started is None else f", patches of {times(run.started.input_shape)}"
    return f"{word}{done}, {speed}, {left}{patch}; waiting for data {last.waiting:.1%}"

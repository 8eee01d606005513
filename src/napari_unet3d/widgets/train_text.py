"""What is said of a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet3d.widgets.words import duration, times

if TYPE_CHECKING:
    from napari_unet3d.widgets.training import Curves, Training


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


def describe_scores(curves: Curves) -> str:
    """Return the last and the best score of every class, with the voxels that they rest on."""
    if not curves.scored:
        return ""
    lines = []
    for index, name in enumerate(curves.class_names[1:]):
        dice = [scores[index] for scores in curves.dice]
        best = max(range(len(dice)), key=dice.__getitem__)
        lines.append(
            f"{name}: Dice {dice[-1]:.3f}, IoU {curves.iou[-1][index]:.3f} ({curves.voxels[-1][index]:,} voxels held "
            f"out); best {dice[best]:.3f} at step {curves.scored[best]:,}"
        )
    return "\n".join(lines)

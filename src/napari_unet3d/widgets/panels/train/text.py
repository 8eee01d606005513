"""What is said of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.words import duration, times

if TYPE_CHECKING:
    from napari_unet3d.widgets.runs.training import Training


def describe_run(run: Training) -> str:
    """Return how far a run is, in a line or two."""
    total, last = run.spec.steps, run.last
    if run.state == "failed" and run.error is not None:
        return str(run.error)
    if run.state == "queued":
        is_waiting = run.n_before and run.phase == "waiting"
        return "Waiting for another job .." if is_waiting else f"{run.phase.capitalize()} .."
    if last is None:
        return "Stopped before the first step." if run.state == "stopped" else f"{run.phase.capitalize()} .."
    done = f"step {last.step:,} of {total:,}"
    if run.state in ("stopped", "done"):
        word = "Stopped" if run.state == "stopped" else "Done"
        return f"{word}: {done}. Everything is kept in {run.folder.name}."
    speed = (
        f"{last.steps_per_second:.1f} steps/s"
        if last.steps_per_second >= 1
        else f"{1 / last.steps_per_second:.1f} s per step"
    )
    left = f"{duration(last.seconds_left)} left"
    word = "Stopping after this step; " if run.state == "stopping" else ""
    patch = "" if run.started is None else f", patches of {times(run.started.input_shape)}"
    return f"{word}{done}, {speed}, {left}{patch}; waiting for data {last.waiting:.1%}"


def also_set(hidden: Mapping[str, Any]) -> str:
    """Return choices that have no field, as a sentence; what is long is named alone.

    Examples
    --------
    >>> also_set({"warm_up": 0.1, "patch": (44, 124, 124)})
    'Also set: warm up 0.1, patch 44 x 124 x 124.'
    """
    told = []
    for name, value in hidden.items():
        what = name.replace("_", " ")
        if name == "patch":
            what += f" {times(value)}"
        elif name == "levels":
            what += f" {NetworkSpec(levels=value).shape_text}"
        elif isinstance(value, str | int | float) or value is None:
            what += f" {'none' if value is None else value}"
        told.append(what)
    return f"Also set: {', '.join(told)}." if told else ""

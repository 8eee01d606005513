"""What corrections are worth: paint what is most wrong, train on, and score far away, three times.

    python benchmarks/learning_rounds.py DATA [--tasks membranes ..] [--seeds 0] [--minutes 1] [--round-minutes 0.5]

DATA is the folder of `learning.py`, and so are the tasks: those of them where the truth of all of the image that is
learnt from is known. After a first training, the window of 40 x 40 voxels in one slice with the most voxels that are
wrong and not painted is painted as it truly is. Then training goes on from the last model as "Train on with my
corrections" does: with all that is painted, its lower learning rate, and what was held out still held out. Scored is
the part that nobody has painted, as by `learning.py`. All of it uses one core, and the minutes are its user and system
time.

With `--unpainted` nothing is painted in the rounds: what the same minutes of training alone are worth.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before what counts threads is imported.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")

import numpy as np
import numpy.typing as npt
from learning import ClassScores, scores_of
from learning_contestants import _seconds_per_step
from learning_tasks import TASKS, UNPAINTED, Labels, Task

from napari_unet3d import segment
from napari_unet3d.network.model import Model
from napari_unet3d.tasks.driving import drive
from napari_unet3d.tasks.events import Event, HeldOut
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.tasks.train.annotation import Annotation, TrainingPair, read_annotation
from napari_unet3d.tasks.train.choosing import TrainChoices, choose_spec
from napari_unet3d.tasks.train.loop import train
from napari_unet3d.tasks.train.recipes import FINE_TUNING_RATE
from napari_unet3d.tasks.train.spec import HeldOutBox, TrainSpec

N_ROUNDS = 3
# Of what is painted in one round, along y and x.
WINDOW = 40
_FEWEST_STEPS = 10


@dataclass(frozen=True)
class Round:
    """What is known after one round; the first training is round 0.

    Attributes
    ----------
    number
        Of the round.
    seconds
        CPU seconds of training, from the start.
    painted
        Annotated voxels.
    wrong
        Wrong voxels in the window that is painted next, or None after the last round.
    scores
        One for each class, of what is far away.
    """

    number: int
    seconds: float
    painted: int
    wrong: int | None
    scores: list[ClassScores]


def rounds(
    task: Task, seed: int, minutes: float, round_minutes: float, *, n_rounds: int = N_ROUNDS, paints: bool = True
) -> Iterator[Round]:
    """Train, correct and train on.

    Parameters
    ----------
    task
        With the truth of all of its image.
    seed
        Of weights and patches.
    minutes, round_minutes
        CPU minutes of the first training, and of each further one.
    n_rounds
        Rounds after the first training.
    paints
        Whether anything is painted in them.
    """
    if task.full is None:
        raise ValueError(f"The truth of all of the image of {task.name} is not known.")
    painted, used = task.painted.copy(), 0.0
    annotation = _annotation(task, painted)
    choices = {"seed": seed, "device": "cpu"}
    spec = choose_spec(annotation.painted, TrainChoices(None, {}, choices))
    first, each = _seconds_per_step(spec, annotation)
    held_out: list[HeldOutBox] = []

    def tell(event: Event) -> None:
        if isinstance(event, HeldOut):
            held_out.append(HeldOutBox(pair=event.pair, box=event.box))

    model: Model | None = None
    for number in range(n_rounds + 1):
        budget = 60 * (minutes if model is None else round_minutes)
        steps = max(_FEWEST_STEPS, int((budget - first) / each))
        if model is None:
            asked, on_event = spec.changed(steps=steps), tell
        else:
            asked, on_event = _trained_on(spec, steps, held_out), None
        begun = time.process_time()
        model = drive(train(asked, annotation, start=model), on_event).best
        used += time.process_time() - begun
        scores = scores_of(_probabilities(model, task.other), task.truth)
        n_painted, wrong = np.count_nonzero(painted), None
        if number < n_rounds:
            found = _probabilities(model, task.image).argmax(axis=-1)
            window, wrong = worst_window((found != task.full) & (painted == UNPAINTED))
            if paints:
                # What is painted already stays as it is.
                blank = painted[window] == UNPAINTED
                painted[window][blank] = task.full[window][blank] + 1
                annotation = _annotation(task, painted)
        yield Round(number, used, n_painted, wrong, scores)


def worst_window(is_wrong: npt.NDArray[np.bool_]) -> tuple[tuple[int, slice, slice], int]:
    """Return the window in one slice with the most wrong voxels, as z and slices along y and x, and how many they are.

    Parameters
    ----------
    is_wrong
        (z, y, x).
    """
    y_side, x_side = (min(WINDOW, side) for side in is_wrong.shape[1:])
    sums = np.pad(is_wrong.cumsum(axis=1).cumsum(axis=2), ((0, 0), (1, 0), (1, 0)))
    counts = sums[:, y_side:, x_side:] - sums[:, :-y_side, x_side:] - sums[:, y_side:, :-x_side]
    counts = counts + sums[:, :-y_side, :-x_side]
    z, y, x = (int(at) for at in np.unravel_index(counts.argmax(), counts.shape))
    return (z, slice(y, y + y_side), slice(x, x + x_side)), int(counts[z, y, x])


def _trained_on(spec: TrainSpec, steps: int, held_out: Sequence[HeldOutBox]) -> TrainSpec:
    """Return the spec of a run that goes on from the model of another one, as the dock widget chooses it."""
    rate = min(spec.learning_rate, FINE_TUNING_RATE)
    return spec.changed(steps=steps, learning_rate=rate, validation=tuple(held_out) or spec.validation)


def _annotation(task: Task, painted: Labels) -> Annotation:
    return read_annotation([TrainingPair(task.image, painted.copy(), task.meanings, voxel_size=task.voxel_size)])


def _probabilities(model: Model, image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.asarray(segment(image, model, spec=PredictSpec(output="probabilities", device="cpu")).data)


def told(task: Task, seed: int, one: Round) -> str:
    """Return what one round gave, as a line; of the class that is looked for."""
    score = one.scores[-1]
    about = (
        f"{task.name:10s} seed {seed} round {one.number} ({one.seconds / 60:.2f} min, {one.painted:,} voxels painted)"
    )
    found = f"AP {score.precision:.3f} Dice {score.dice:.3f} of {score.best_dice:.3f}, ECE {score.calibration:.3f}"
    return f"{about}: {found}" + ("" if one.wrong is None else f"; {one.wrong} wrong voxels in the window that is next")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the scores of each round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["membranes", "nuclei", "tubes", "spots"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="CPU minutes of the first training")
    parser.add_argument("--round-minutes", type=float, default=0.5, help="CPU minutes of each round")
    parser.add_argument("--rounds", type=int, default=N_ROUNDS)
    parser.add_argument("--unpainted", action="store_true", help="train on without painting anything")
    asked = parser.parse_args(arguments)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for name in asked.tasks:
        for seed in asked.seeds:
            task = TASKS[name](asked.data, seed)
            ours = rounds(
                task, seed, asked.minutes, asked.round_minutes, n_rounds=asked.rounds, paints=not asked.unpainted
            )
            for one in ours:
                print(told(task, seed, one), flush=True)


if __name__ == "__main__":
    main()

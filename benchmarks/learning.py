"""The judge of learning: what a few minutes of one processor core find in what nobody has painted.

    python benchmarks/learning.py DATA [--tasks axons ..] [--contestants ours ..] [--minutes 1 3 10] [--seeds 0 1 2]
    python benchmarks/learning.py DATA --report FOLDER

DATA is a folder with `trailmap/sparse`, `em`, `ovule` and `ovule_mini` (`learning_tasks.py` says what is read).
Each contestant learns each task with each seed in a process of its own that may use one core; time is its user and
system time, imports apart. It must stop by itself once its minutes are used. Then it gives the probabilities of each
class in what is scored: average precision, Dice where the class has the largest probability, Dice at the best
threshold, which nobody knows beforehand, and the expected calibration error.

Scores are kept in FOLDER (`--keep`), one file per run, and are not computed again; the report makes the table and the
plot of the docs from them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from contest import clean_environment
from learning_contestants import CONTESTANTS
from learning_tasks import TASKS, UNKNOWN, Labels

NAMES = {
    "ours": "the defaults",
    "original": "as the original",
    "forest": "random forest",
    "unet3d": "pytorch-3dunet, UNet3D",
    "residual": "pytorch-3dunet, ResidualUNet3D",
    "nnunet": "nnU-Net v2",
}
N_BINS = 15
# Of one run beyond its minutes: imports, and the probabilities of what is scored.
_LONGEST_SECONDS = 3600


@dataclass(frozen=True)
class ClassScores:
    """How well one class is found.

    Attributes
    ----------
    precision
        Average precision: the area under precision over recall.
    dice
        Where the class has the largest probability.
    best_dice, threshold
        The best Dice that any threshold of its probability gives, and which.
    calibration
        Expected calibration error: the mean difference of its probability and its frequency, in `N_BINS` bins.
    """

    precision: float
    dice: float
    best_dice: float
    threshold: float
    calibration: float


def class_scores(probabilities: npt.NDArray[np.float32], is_found: Any, is_true: Any) -> ClassScores:
    """Return how well a class is found.

    Parameters
    ----------
    probabilities
        (n,), of the class.
    is_found, is_true
        (n,) bool: whether it has the largest probability, and whether it is there.
    """
    order = np.argsort(-probabilities, kind="stable")
    ranked, true = probabilities[order], np.asarray(is_true)[order]
    found = np.arange(1, len(true) + 1)
    both = np.cumsum(true)
    # Voxels of one probability are found together.
    ends = np.flatnonzero(np.append(np.diff(ranked) != 0, True))
    precision, recall = both[ends] / found[ends], both[ends] / max(1, both[-1])
    dice = 2 * both[ends] / (found[ends] + both[-1])
    best = int(dice.argmax())
    bins = np.minimum((probabilities * N_BINS).astype(int), N_BINS - 1)
    weights = np.bincount(bins, minlength=N_BINS)
    gaps = np.abs(np.bincount(bins, probabilities, N_BINS) - np.bincount(bins, is_true, N_BINS))
    n_found, n_true = np.count_nonzero(is_found), np.count_nonzero(is_true)
    overlap = np.count_nonzero(np.asarray(is_found) & is_true)
    return ClassScores(
        precision=float(np.sum(np.diff(recall, prepend=0.0) * precision)),
        dice=float(2 * overlap / max(1, n_found + n_true)),
        best_dice=float(dice[best]),
        threshold=float(ranked[ends[best]]),
        calibration=float(gaps.sum() / weights.sum()),
    )


def scores_of(probabilities: npt.NDArray[np.float32], truth: Labels) -> list[ClassScores]:
    """Return the scores of every class.

    Parameters
    ----------
    probabilities
        (z, y, x, classes).
    truth
        (z, y, x) classes from 0 on, `UNKNOWN` where it does not count.
    """
    counts = truth != UNKNOWN
    known, found = truth[counts], probabilities[counts]
    largest = found.argmax(axis=1)
    return [class_scores(found[:, index], largest == index, known == index) for index in range(found.shape[1])]


def work(asked: argparse.Namespace) -> None:
    """Be one contestant at one task, and print a line of JSON for each of the minutes asked for."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    task = TASKS[asked.tasks[0]](asked.data, asked.seeds[0])
    for minutes, used, probabilities, notes in CONTESTANTS[asked.worker](task, asked.minutes, asked.seeds[0]):
        scores = scores_of(probabilities, task.truth)
        line = {
            "task": task.name,
            "contestant": asked.worker,
            "seed": asked.seeds[0],
            "minutes": minutes,
            "used": round(used / 60, 3),
            "notes": notes,
            "scores": {name: vars(score) for name, score in zip(task.classes, scores, strict=True)},
        }
        print(json.dumps(line), file=answers, flush=True)


def run_one(asked: argparse.Namespace, contestant: str, task: str, seed: int, core: int) -> list[dict[str, Any]]:
    """Return what a contestant did, from its file, or from a new run."""
    file = asked.keep / f"{contestant}-{task}-{seed}.jsonl"
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    missing = [minutes for minutes in asked.minutes if minutes not in {line["minutes"] for line in done}]
    if missing:
        command = [sys.executable, __file__, str(asked.data), "--worker", contestant, "--tasks", task]
        command += ["--seeds", str(seed), "--minutes", *map(str, missing)]
        if hasattr(os, "sched_setaffinity"):
            command = ["taskset", "-c", str(core), *command]
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
        log = open(asked.keep / f"{contestant}-{task}-{seed}.log", "a")  # noqa: SIM115
        with log:
            ended = subprocess.run(
                command,
                env=clean_environment() | one,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                timeout=_LONGEST_SECONDS,
                check=False,
            )
        if ended.returncode:
            why = Path(log.name).read_text().strip().rpartition("\n")[2]
            print(f"{contestant} {task} {seed}: exit status {ended.returncode}, {why} See {log.name}", flush=True)
        done += [json.loads(line) for line in ended.stdout.splitlines()]
        file.write_text("".join(json.dumps(line) + "\n" for line in done))
    return done


def told(line: dict[str, Any]) -> str:
    """Return what a contestant did with its minutes, as a line."""
    parts = [
        f"{name} AP {score['precision']:.3f} Dice {score['dice']:.3f} of {score['best_dice']:.3f} "
        f"at {score['threshold']:.2f}, ECE {score['calibration']:.3f}"
        for name, score in list(line["scores"].items())[1:]
    ]
    about = (
        f"{line['task']:10s} {line['contestant']:22s} seed {line['seed']} {line['minutes']:4g} min ({line['used']:.2f})"
    )
    return f"{about}: {'; '.join(parts)}  {line['notes']}"


def judge(asked: argparse.Namespace) -> None:
    """Let all contestants learn all tasks, as many at once as there are cores given."""
    asked.keep.mkdir(parents=True, exist_ok=True)
    cores = list(range(asked.jobs))

    def go(entry: tuple[str, str, int]) -> None:
        task, contestant, seed = entry
        core = cores.pop()
        try:
            for line in run_one(asked, contestant, task, seed, core):
                if line["minutes"] in asked.minutes:
                    print(told(line), flush=True)
        finally:
            cores.append(core)

    entries = [(task, name, seed) for seed in asked.seeds for task in asked.tasks for name in asked.contestants]
    with ThreadPoolExecutor(asked.jobs) as pool:
        list(pool.map(go, entries))


def lines_of(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield everything that was kept."""
    for file in sorted(folder.glob("*.jsonl")):
        yield from map(json.loads, file.read_text().splitlines())


def kept_lines(folder: Path) -> dict[tuple[str, str, float], list[dict[str, Any]]]:
    """Return what was kept, by task, contestant and minutes; of who is done early, the least minutes alone."""
    kept: dict[tuple[str, str, float], list[dict[str, Any]]] = defaultdict(list)
    seen: set[tuple[str, str, int, float]] = set()
    for line in sorted(lines_of(folder), key=lambda line: line["minutes"]):
        # The forest does not learn more in more time.
        same = (line["task"], line["contestant"], line["seed"], line["used"])
        if same not in seen:
            kept[line["task"], line["contestant"], line["minutes"]].append(line)
        seen.add(same)
    return kept


def report(folder: Path) -> str:
    """Return the table of the docs: means over the seeds, of the class that is looked for."""
    rows = [
        "| task | who | CPU minutes | seeds | average precision | Dice | best Dice | calibration error |",
        "|" + " --- |" * 8,
    ]
    previous = None
    order = list(TASKS)
    kept = sorted(kept_lines(folder).items(), key=lambda item: (order.index(item[0][0]), item[0][2], item[0][1]))
    for (task, contestant, _), lines in kept:
        scores = [list(line["scores"].values())[-1] for line in lines]
        means = [np.mean([score[key] for score in scores]) for key in ("precision", "dice", "best_dice", "calibration")]
        minutes = float(np.mean([line["used"] for line in lines]))
        told = " | ".join(f"{mean:.2f}" for mean in means)
        name = "" if task == previous else task.replace("_", " ")
        rows.append(f"| {name} | {NAMES[contestant]} | {minutes:.1f} | {len(lines)} | {told} |")
        previous = task
    return "\n".join(rows)


def plot(folder: Path, to: Path) -> None:
    """Draw the average precision of all contestants over the minutes, one panel per task."""
    from matplotlib.figure import Figure

    kept: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for (task, contestant, _), lines in kept_lines(folder).items():
        precision = np.mean([list(line["scores"].values())[-1]["precision"] for line in lines])
        kept[task][contestant].append((float(np.mean([line["used"] for line in lines])), float(precision)))
    figure = Figure(figsize=(10, 6), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True)
    for panel, task in zip(panels.flat, (task for task in TASKS if task in kept), strict=False):
        for name in (name for name in CONTESTANTS if name in kept[task]):
            panel.plot(*zip(*sorted(kept[task][name]), strict=True), "o-", label=NAMES[name])
        panel.set(title=task, xscale="log", ylabel="average precision", xlabel="CPU minutes")
        panel.set_xticks([1, 3, 10], ["1", "3", "10"])
    panels.flat[0].legend(fontsize=7)
    figure.savefig(to, dpi=110)


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge, or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--contestants", nargs="+", default=["ours", "original", "forest"])
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, each on a core of its own")
    parser.add_argument("--keep", type=Path, default=Path("build/learning"), help="folder for the scores")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="print the table of what is kept, draw the plot")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.worker:
        work(asked)
    elif asked.report:
        print(report(asked.report))
        plot(asked.report, asked.report / "learning.png")
    else:
        judge(asked)


if __name__ == "__main__":
    main()

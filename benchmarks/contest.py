"""Contestants in processes of their own, one at work at a time.

What a library finds in its environment while it is imported decides how fast it is, so two settings of one library
cannot meet in one process. Each contestant is the same script, started again with `--worker NAME`; it prepares its
piece of work, warms up, and then does it once whenever it is told to. Taking turns spreads what else the machine is
doing over all of them.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil

THREADS = 2
ROUNDS = 5
# What a shell may have set for other work, and what would make a library something else than it is as it comes.
_FOREIGN = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "ONEDNN_MAX_CPU_ISA",
)
# Thread pools spin for a moment after their work; the next contestant shall not meet that.
_PAUSE = 0.3


class Contestant:
    """A process that does one piece of work whenever it is told to.

    Parameters
    ----------
    name
        What the script is asked for, as `--worker NAME`.
    arguments
        Further arguments of the script.

    Attributes
    ----------
    name
        As above.
    note
        What the worker said of itself when it was ready, for example the variant it found best.
    """

    def __init__(self, name: str, *arguments: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, sys.argv[0], *arguments, "--worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean_environment(),
        )
        self.note = self._answer()

    @property
    def cpu_seconds(self) -> float:
        """Return the CPU time that it has used so far."""
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    def seconds(self) -> float:
        """Let it work once, and return the time that took in its process."""
        time.sleep(_PAUSE)
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with exit status {self._process.wait()}.")
        return line.strip()


def clean_environment() -> dict[str, str]:
    """Return this process's environment without settings that are meant for other work."""
    return {name: value for name, value in os.environ.items() if name not in _FOREIGN}


@contextmanager
def contestants(names: Sequence[str], *arguments: str) -> Iterator[list[Contestant]]:
    """Start a contestant of every name, each after the one before is ready, and end them all afterwards."""
    started: list[Contestant] = []
    try:
        for name in names:
            started.append(Contestant(name, *arguments))
        yield started
    finally:
        for contestant in started:
            contestant.close()


def take_turns(entered: Sequence[Contestant], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Return the seconds of every round by name; in a round each works once, in the order given.

    Prints how much of the machine other programs took meanwhile: figures taken beside a busy program are worth little.
    """
    seconds: dict[str, list[float]] = {contestant.name: [] for contestant in entered}
    begun, used = time.perf_counter(), _foreign_cpu_seconds(entered)
    for _ in range(rounds):
        for contestant in entered:
            seconds[contestant.name].append(contestant.seconds())
    busy = (_foreign_cpu_seconds(entered) - used) / (time.perf_counter() - begun)
    print(f"(meanwhile other programs kept {max(0, busy):.1f} of {psutil.cpu_count()} cores busy)", flush=True)
    return seconds


def _foreign_cpu_seconds(entered: Sequence[Contestant]) -> float:
    times = psutil.cpu_times()
    busy = times.user + times.system + getattr(times, "nice", 0) + getattr(times, "steal", 0)
    return busy - sum(contestant.cpu_seconds for contestant in entered)


def ratio_line(what: str, ours: list[float], peer: list[float], name: str, target: float) -> str:
    """Return one line: the median of the rounds' ratios, that of the best times, and whether it reaches the target."""
    ratios = [theirs / mine for mine, theirs in zip(ours, peer, strict=True)]
    ratio = statistics.median(ratios)
    verdict = "reached" if ratio >= target else "NOT REACHED"
    if len(ratios) == 1:
        once = f"{ours[0]:.1f} s against {peer[0]:.1f} s, once each"
        return f"{what}: {ratio:.2f}x {name} ({once}); at least {target:g}x: {verdict}"
    return (
        f"{what}: {ratio:.2f}x {name} ({min(ratios):.2f} to {max(ratios):.2f} over {len(ratios)} rounds, median "
        f"{statistics.median(ours):.2f} s against {statistics.median(peer):.2f} s; best {min(peer) / min(ours):.2f}x, "
        f"{min(ours):.2f} s against {min(peer):.2f} s); at least {target:g}x: {verdict}"
    )


def serve(prepare: Callable[[], tuple[Callable[[], Any], str]]) -> None:
    """Be a worker: prepare, say so, then work once for every line that comes in.

    Parameters
    ----------
    prepare
        Returns the work, warmed up, and a note on it.
    """
    # Libraries print what they like to standard output; only answers may reach the pipe.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    work, note = prepare()
    print(note, file=answers, flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        work()
        print(time.perf_counter() - begun, file=answers, flush=True)

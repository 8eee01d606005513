"""What workers of the tests do; they import it from here."""

from __future__ import annotations

import os
import signal
import time


def process() -> dict[str, int]:
    """Return which process a worker is."""
    return {"pid": os.getpid()}


def perform(task: tuple[str, str]) -> str:
    """Do as the name of a task says."""
    name, path = task
    if name == "twice":
        with open(path, "a") as file:
            file.write("1")
        if os.path.getsize(path) < 3:
            raise ValueError("again")
    if name == "never":
        raise ValueError("never")
    if name in ("stuck", "slow"):
        time.sleep(1000)
    if name == "deadly":
        os.kill(os.getpid(), signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    return name

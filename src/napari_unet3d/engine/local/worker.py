"""The worker process: what it must be before it does any work.

Started as ``python -m napari_unet3d.engine.local.worker``.

It speaks Appose's protocol over the pipe that is its standard output; what libraries print goes to a log file. It
runs at a lower priority than the window, and never outlives the process that started it.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import time
from typing import Any, TextIO

import psutil

from napari_unet3d.engine.local.appose_patches import patch_worker
from napari_unet3d.processes import process_start

_SECONDS_BETWEEN_LOOKS = 1.0
_NICENESS = 10
KEEPS_PRIORITY = "keeps-priority"


def main() -> None:
    """Become a worker: ``worker LOG PARENT_PID [keeps-priority]``."""
    log, parent = sys.argv[1], int(sys.argv[2])
    channel = claim_standard_output(log)
    if KEEPS_PRIORITY not in sys.argv[3:]:
        lower_priority()
    threading.Thread(target=end_with, args=(parent,), name="unet3d-watch", daemon=True).start()
    # Before standard input is read by another thread: on Windows the import hangs afterwards (Appose issue 23).
    import numpy  # noqa: F401
    from appose import python_worker

    patch_worker(python_worker, channel)
    python_worker.main()


def claim_standard_output(log: str) -> TextIO:
    """Return the pipe that was standard output, and send both standard streams to a log file from now on.

    Descriptors and not only Python's streams: TensorFlow prints from C++. A log that cannot be written is done without.
    """
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    try:
        file = open(log, "a", encoding="utf-8")  # noqa: SIM115 - its descriptor is copied
    except OSError:
        file = open(os.devnull, "a", encoding="utf-8")  # noqa: SIM115
    with file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = _Lossy(1), _Lossy(2)
    return channel


class _Lossy(io.TextIOWrapper):
    """A stream that drops what the disk has no room for, and lets whoever prints go on.

    Parameters
    ----------
    descriptor
        Where it writes.
    """

    def __init__(self, descriptor: int) -> None:
        raw = io.FileIO(descriptor, "w", closefd=False)
        super().__init__(_Unbuffered(raw), encoding="utf-8", errors="backslashreplace", write_through=True)


class _Unbuffered(io.BufferedIOBase):
    """Writes at once, or not at all."""

    name = ""

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def write(self, data: Any, /) -> int:
        with contextlib.suppress(OSError):
            self._raw.write(data)
        return len(data)


def lower_priority() -> None:
    """Give way to the window, and take what is left of the processor, which is nearly all.

    On Linux by the idle class of its scheduler: a niceness alone lets the window wait half as long again for its next
    redraw where cores are few (`benchmarks/window.py`).
    """
    process = psutil.Process()
    try:
        process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if sys.platform == "win32" else _NICENESS)
        if sys.platform == "linux":
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (psutil.Error, OSError) as error:
        print(f"The priority stays as it is: {error}", file=sys.stderr)  # noqa: T201


def end_with(parent: int) -> None:
    """Wait until the parent has ended, in whatever way, and end this process."""
    start = process_start(parent)
    while start is not None and process_start(parent) == start:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(1)


if __name__ == "__main__":
    main()

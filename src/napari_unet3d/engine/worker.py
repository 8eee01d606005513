"""The worker process: what it must be before it does any work. Started as ``python -m napari_unet3d.engine.worker``.

It speaks Appose's protocol over the pipe that is its standard output; what libraries print goes to a log file. It
runs at a lower priority than the window, and never outlives the process that started it.
"""

from __future__ import annotations

import ast
import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, TextIO

import psutil

from napari_unet3d.locks import process_start

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

    parse_one_at_a_time()
    lock = threading.Lock()

    def print_line(line: str, flush: bool = True, file: TextIO | None = None) -> None:
        if file is not None:
            print(line, file=file, flush=flush)
            return
        # The built-in writes text and newline apart; two threads would mix their lines.
        with lock:
            channel.write(line + "\n")
            channel.flush()

    # Appose prints its messages; nothing else may reach the pipe.
    python_worker.print = print_line
    python_worker.Worker._process_input = never_deaf(python_worker.Worker._process_input)
    python_worker.Worker._cleanup_threads = never_tired(python_worker.Worker._cleanup_threads)
    python_worker.main()


def parse_one_at_a_time() -> None:
    """Let threads take turns with `ast.parse`, with which Appose begins every task, and TensorFlow every graph.

    Before Python 3.11.8 and 3.12.2 threads count their depth together, and now and then one fails (CPython issue
    106905); the box that it was to take would never arrive.
    """
    lock, parse = threading.RLock(), ast.parse

    def parse_alone(*arguments: Any, **keywords: Any) -> Any:
        with lock:
            return parse(*arguments, **keywords)

    ast.parse = parse_alone


def never_deaf(listen: Callable[[Any], None]) -> Callable[[Any], None]:
    """Let the process end with an error of the thread that reads the pipe: otherwise nobody would ever hear of it."""

    def listen_or_end(worker: Any) -> None:
        try:
            listen(worker)
        except BaseException:  # noqa: BLE001 - whoever asked sees a process that has ended, and its log
            traceback.print_exc()
            os._exit(1)

    return listen_or_end


def never_tired(clean: Callable[[Any], None]) -> Callable[[Any], None]:
    """Let the thread that forgets finished tasks go on when others came while it looked through them."""

    def clean_on(worker: Any) -> None:
        while worker.running:
            with contextlib.suppress(RuntimeError):
                clean(worker)

    return clean_on


def claim_standard_output(log: str) -> TextIO:
    """Return the pipe that was standard output, and send both standard streams to a log file from now on.

    Descriptors and not only Python's streams: TensorFlow prints from C++.
    """
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    with open(log, "a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    return channel


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

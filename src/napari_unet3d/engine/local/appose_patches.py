"""What of Appose is changed or used although it is private: all in one place, for the versions in `TESTED`.

Four things are changed, in the worker alone: how `ast.parse` is called, how messages are printed, what happens when the
thread that reads the pipe fails, and when the thread that forgets finished tasks does. Two are read, in the program:
the process of a service, and the thread that reads what it says.
"""

from __future__ import annotations

import ast
import contextlib
import os
import threading
import traceback
from collections.abc import Callable
from typing import Any, TextIO

# From the first on, below the second. A test says what to look at before a new one is put in.
TESTED = ("0.12", "0.13")


def patch_worker(python_worker: Any, channel: TextIO) -> None:
    """Change Appose's worker, before its `main` is called.

    Parameters
    ----------
    python_worker
        The module `appose.python_worker`.
    channel
        The pipe to the program, where its messages go, and nothing else.
    """
    parse_one_at_a_time()
    python_worker.print = whole_lines(channel)
    python_worker.Worker._process_input = never_deaf(python_worker.Worker._process_input)
    python_worker.Worker._cleanup_threads = never_tired(python_worker.Worker._cleanup_threads)


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


def whole_lines(channel: TextIO) -> Callable[..., None]:
    """Return what prints whole lines to a pipe: the built-in writes text and newline apart, and threads mix them."""
    lock = threading.Lock()

    def print_line(line: str, flush: bool = True, file: TextIO | None = None) -> None:
        if file is not None:
            print(line, file=file, flush=flush)
            return
        with lock:
            channel.write(line + "\n")
            channel.flush()

    return print_line


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


def process_of(service: Any) -> Any:
    """Return the process of a service, a `subprocess.Popen`, or None before it was started."""
    return service._process


def is_heard(service: Any) -> bool:
    """Return whether somebody still reads what a worker says: the thread that does ends at what it cannot decode."""
    listener = service._stdout_thread
    return listener is None or bool(listener.is_alive())

"""Processes: whether one that left its number is still the same, and what this one holds that it does not use."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import sys
from pathlib import Path

import psutil

_PROCESSES = Path("/proc")


def host() -> str:
    """Return the name of this machine, of characters that a file name may hold."""
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname()) or "host"


def process_start(pid: int) -> int | None:
    """Return when a process began, to be compared and nothing else; None if there is none.

    On Linux in ticks since the machine began: seconds of the clock change when the clock is set.
    """
    try:
        if os.path.isdir(_PROCESSES / "self"):
            # The name of the program stands in parentheses, and may hold some.
            words = (_PROCESSES / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
            return None if words[0] in (b"Z", b"X") else int(words[19])
        return int(psutil.Process(pid).create_time())
    except (OSError, IndexError, psutil.Error):
        return None


def is_running(pid: int, start: int | None) -> bool:
    """Return whether the process with this number and start is still there; a start of None is not compared."""
    found = process_start(pid)
    return _is_hidden(pid) if found is None else start in (None, found)


def _is_hidden(pid: int) -> bool:
    """Return whether there is a process that is not shown, as those of others are on many clusters (hidepid)."""
    if os.name == "nt" or pid < 1:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except (OSError, OverflowError):
        return False
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        return True


def return_free_memory() -> None:
    """Give the memory that was freed back to the system, where the C library would keep it (glibc does)."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)

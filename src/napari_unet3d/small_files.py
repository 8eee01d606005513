"""Reading small files of this program: bounded, never waiting, and with two kinds of error."""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import Any

# What is read whole: descriptions, jobs, choices. Something larger is none.
SMALL_BYTES = 64 << 20


def read_small(path: str | os.PathLike[str], limit: int = SMALL_BYTES) -> bytes:
    """Return what a small file holds.

    Raises
    ------
    OSError
        If it cannot be read, is something other than a file, or is larger than `limit` bytes: a file that is nearly
        all hole takes no room on the disk, and all memory.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        check_regular(file.fileno())
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit:,} bytes")
    return content


def check_regular(file: int | str | os.PathLike[str]) -> None:
    """Check that something, open or not, is a file.

    Raises
    ------
    OSError
        If it is not there, or is a pipe, which would be waited for, a device or a folder.
    """
    if not stat.S_ISREG(os.stat(file).st_mode):
        raise OSError(errno.EINVAL, "it is a pipe, a device or a folder, not a file")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return what a small JSON file holds.

    Raises
    ------
    OSError
        As `read_small`.
    ValueError
        If it is no JSON, or is nested too deep.
    """
    try:
        return json.loads(read_small(path).decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _open_at_once(path: str, flags: int) -> int:
    # A pipe without a writer would be waited for, for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))

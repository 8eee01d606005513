"""New names for files and folders in one step, as far as the system can do that."""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache
from pathlib import Path
from typing import Any

_AT_FDCWD = -100
_NO_REPLACE, _EXCHANGE = 1, 2
# Of macOS.
_RENAME_EXCL, _RENAME_SWAP = 4, 2
# The file system, or the kernel, has no such step.
_UNKNOWN = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


def exchange(one: Path, other: Path) -> bool:
    """Let two files or folders swap their names; at no moment is one of the names empty.

    Returns
    -------
    bool
        False where the system cannot do it; nothing has changed then.

    Raises
    ------
    OSError
        If one of them is not there, or may not be renamed.
    """
    return _rename(one, other, _EXCHANGE, _RENAME_SWAP)


def rename_new(source: Path, target: Path) -> None:
    """Rename, but replace nothing.

    Raises
    ------
    FileExistsError
        If the target is there.
    OSError
        If it cannot be renamed.
    """
    if _rename(source, target, _NO_REPLACE, _RENAME_EXCL):
        return
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    os.rename(source, target)


def _rename(source: Path, target: Path, linux: int, macos: int) -> bool:
    call, is_linux = _system_call()
    if call is None:
        return False
    one, other = os.fsencode(source), os.fsencode(target)
    done = call(_AT_FDCWD, one, _AT_FDCWD, other, linux) if is_linux else call(one, other, macos)
    if done == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNKNOWN:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))


@cache
def _system_call() -> tuple[Any, bool]:
    """Return the call that renames with flags, and whether it is Linux's; None where there is none."""
    if os.name == "nt":
        return None, False
    library = ctypes.CDLL(None, use_errno=True)
    for name in ("renameat2", "renamex_np"):
        if hasattr(library, name):
            return getattr(library, name), name == "renameat2"
    return None, False

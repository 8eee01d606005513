"""One run at a time in a folder: a lock of the operating system, which ends with the process that holds it.

The file also says who holds it, for the message, and for disks that keep the locks of different machines apart.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from napari_unet3d.errors import TrainingError, Unet3dError, shown

LOCK_FILE = "run.lock"
_MOST_BYTES = 4096
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class _Signature:
    """Who holds a lock, by its own words."""

    pid: int
    host: str

    @classmethod
    def parse(cls, text: str) -> _Signature | None:
        """Return what a lock says; None if that is nothing, or not what this program writes."""
        words = text.split()
        if not 2 <= len(words) <= 3 or not (words[0].isascii() and words[0].isdigit() and len(words[0]) < 20):
            return None
        # Earlier versions wrote when the process began in between.
        return cls(int(words[0]), words[-1])


class RunLock:
    """The lock of a folder; take it, and release it.

    Parameters
    ----------
    folder
        What nobody else may write to.
    error
        What is raised where somebody does.
    """

    def __init__(self, folder: Path, error: type[Unet3dError] = TrainingError) -> None:
        self._folder, self._error = folder, error
        self._path = folder / LOCK_FILE
        self._lock: BaseFileLock | None = None

    def take(self) -> None:
        """Lock the folder.

        Raises
        ------
        Unet3dError
            The one that was chosen, if a run is using it, or may be.
        """
        lock: BaseFileLock = FileLock(self._path, blocking=False, thread_local=False, on_acquired=self._sign)
        try:
            lock.acquire()
        except Timeout:
            raise self._error(self._in_use()) from None
        except (NotImplementedError, OSError) as error:
            if not isinstance(error, NotImplementedError) and error.errno not in _NO_LOCKS:
                raise
            # The disk knows no locks: the file itself is one, and who left it there and is gone is found out.
            lock = SoftFileLock(self._path, blocking=False, thread_local=False)
            try:
                lock.acquire()
            except Timeout:
                raise self._error(self._in_use()) from None
        self._lock = lock

    def release(self) -> None:
        """Let others have the folder."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        if os.name != "nt":
            # While it is held, so that nobody loses a lock that was taken in between; Windows removes no open file.
            with suppress(OSError):
                self._path.unlink()
        lock.release()

    def _sign(self, descriptor: int) -> None:
        """Write who holds the lock, unless another machine does, whose locks this one may not see."""
        os.lseek(descriptor, 0, os.SEEK_SET)
        holder = _Signature.parse(os.read(descriptor, _MOST_BYTES).decode("utf-8", "replace"))
        if holder is not None and holder.host != socket.gethostname():
            raise self._error(
                f"{_describe_holder(self._folder, holder)[:-1]}; if it is gone, remove {shown(self._path)}."
            )
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()} {socket.gethostname()}".encode())

    def _in_use(self) -> str:
        holder = None
        with suppress(OSError), open(self._path, "rb") as file:
            holder = _Signature.parse(file.read(_MOST_BYTES).decode("utf-8", "replace"))
        return _describe_holder(self._folder, holder)


def _describe_holder(folder: Path, holder: _Signature | None) -> str:
    who = "a run that has just begun" if holder is None else f"a run on {holder.host}, process {holder.pid}"
    return f"{shown(folder)} is in use by {who}. Stop that one, or choose another folder."

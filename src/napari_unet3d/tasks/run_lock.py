"""One run at a time in a folder: a lock of the operating system, which ends with the process that holds it.

The file also says who holds it, for the message, and for the few file systems that know no locks or keep those of
different machines apart.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from napari_unet3d.errors import OutputError, TrainingError, shown
from napari_unet3d.locks import is_running, process_start, try_lock

LOCK_FILE = "run.lock"
_MOST_BYTES = 4096
_TRIES = 5


@dataclass(frozen=True)
class _Signature:
    """Who holds a lock, by its own words."""

    pid: int
    start: int
    host: str

    @classmethod
    def ours(cls) -> _Signature:
        return cls(os.getpid(), process_start(os.getpid()) or 0, socket.gethostname())

    @classmethod
    def parse(cls, text: str) -> _Signature | None:
        """Return what a lock says; None if that is nothing, or not what this program writes."""
        words = text.split()
        if len(words) != 3 or not all(word.isascii() and word.isdigit() and len(word) < 20 for word in words[:2]):
            return None
        return cls(int(words[0]), int(words[1]), words[2])

    def __str__(self) -> str:
        return f"{self.pid} {self.start} {self.host}"


class RunLock:
    """The lock of a folder; take it, and release it.

    Parameters
    ----------
    folder
        What nobody else may write to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / LOCK_FILE
        self._descriptor: int | None = None

    def take(self) -> None:
        """Lock the folder.

        Raises
        ------
        TrainingError
            If a run is using it, or may be.
        """
        for _ in range(_TRIES):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            try:
                is_taken = self._is_taken(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            if is_taken:
                self._descriptor = descriptor
                return
            # Whoever had it has just removed it.
            os.close(descriptor)
        raise OutputError(f"{shown(self._folder)} is being used by another run.")

    def release(self) -> None:
        """Let others have the folder."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        with suppress(OSError):
            # While it is held, so that nobody loses a lock taken in between; Windows removes no open file.
            if os.name != "nt" and _is_at(descriptor, self._path):
                self._path.unlink()
        os.close(descriptor)
        if os.name == "nt":
            with suppress(OSError):
                self._path.unlink()

    def _is_taken(self, descriptor: int) -> bool:
        """Lock an open file and sign it; return False if it has been removed meanwhile."""
        is_locked = try_lock(descriptor)
        os.lseek(descriptor, 0, os.SEEK_SET)
        holder = _Signature.parse(os.read(descriptor, _MOST_BYTES).decode("utf-8", "replace"))
        if is_locked is False:
            raise TrainingError(self._in_use(holder))
        if not _is_at(descriptor, self._path):
            return False
        if holder is not None and holder.host != socket.gethostname():
            raise TrainingError(f"{self._in_use(holder)[:-1]}; if it is gone, remove {shown(self._path)}.")
        if is_locked is None and holder is not None and is_running(holder.pid, holder.start):
            raise TrainingError(self._in_use(holder))
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.truncate(descriptor, 0)
        os.write(descriptor, str(_Signature.ours()).encode())
        return True

    def _in_use(self, holder: _Signature | None) -> str:
        who = "a run that has just begun" if holder is None else f"a run on {holder.host}, process {holder.pid}"
        return f"{shown(self._folder)} is in use by {who}. Stop that one, or choose another folder."


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False

"""Files that appear whole or not at all.

What is being written lies under a hidden name beside its target, `.NAME.partial-PID-HOST`, and is renamed
when it is complete and on the disk. What dead processes left is removed by the next one that writes the same
target. The host is part of the name because process numbers of another machine say nothing here.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import psutil

from napari_unet3d.errors import OutputError, shown

_lock = Lock()
_claimed: set[Path] = set()


def claim_partial(target: Path) -> Path:
    """Return the hidden path to write to.

    Raises
    ------
    OutputError
        If this process is already writing the same target.
    """
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}-{_host()}")
    with _lock:
        if partial in _claimed:
            raise OutputError(f"{shown(target)} is being written already; wait for that, or choose another name.")
        _claimed.add(partial)
    return partial


def tidy(target: Path) -> None:
    """Remove what dead processes left of `target`; an old version that had stepped aside comes back."""
    pattern = re.compile(rf"\.{re.escape(target.name)}\.(partial|replaced)-(\d+)(?:-(.+))?")
    with os.scandir(target.parent) as entries:
        matches = [match for entry in entries if (match := pattern.fullmatch(entry.name))]
    for match in matches:
        left, pid = target.with_name(match[0]), int(match[2])
        with _lock:
            is_ours = left in _claimed
        # Containers give every run the same process number: our own, unclaimed, was another's.
        is_dead = pid == os.getpid() or not psutil.pid_exists(pid)
        if is_ours or not is_dead or match[3] not in (None, _host()):
            continue
        if match[1] == "replaced" and not os.path.lexists(target):
            os.rename(left, target)
        else:
            remove(left)


def release_partial(partial: Path) -> None:
    """Forget the claim and remove what is still there under the hidden name."""
    remove(partial)
    with _lock:
        _claimed.discard(partial)


def put_in_place(partial: Path, target: Path, *, overwrite: bool) -> None:
    """Give what was written its name; what had that name is kept until then.

    Raises
    ------
    OutputError
        If the target exists and may not be replaced.
    """
    if os.path.lexists(target) and not overwrite:
        raise OutputError(exists_already(target))
    if os.path.lexists(target) and (partial.is_dir() or target.is_dir()):
        # A folder cannot be replaced in one step: the old one steps aside, and back if anything fails.
        old = target.with_name(f".{target.name}.replaced-{os.getpid()}-{_host()}")
        remove(old)
        os.rename(target, old)
        try:
            os.rename(partial, target)
        except OSError:
            os.rename(old, target)
            raise
        remove(old)
    else:
        os.replace(partial, target)
    sync_folder(target.parent)
    with _lock:
        _claimed.discard(partial)


def write_text(target: Path, text: str, *, overwrite: bool = False) -> None:
    """Write a text file, whole or not at all; see `write_bytes`."""
    write_bytes(target, text.encode(), overwrite=overwrite)


def write_bytes(target: Path, content: bytes, *, overwrite: bool = False) -> None:
    """Write a file, whole or not at all.

    Raises
    ------
    OutputError
        If the target exists and may not be replaced, or cannot be written.
    """
    with writing(target, len(content)):
        tidy(target)
        partial = claim_partial(target)
        try:
            with open(partial, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            put_in_place(partial, target, overwrite=overwrite)
        except BaseException:
            release_partial(partial)
            raise


def exists_already(target: Path) -> str:
    """Return the sentence for a target that may not be replaced."""
    return f"{shown(target)} exists already; choose another name, or allow overwriting (--overwrite)."


def remove(path: Path) -> None:
    """Remove a file or a folder with all it holds; what is gone already is no error."""
    if not os.path.lexists(path):
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make sure that new names in a folder survive a power cut, where the system can do that."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Make sure that every file below `folder` is on the disk."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            with open(os.path.join(parent, name), "rb+") as file:
                os.fsync(file.fileno())
        sync_folder(Path(parent))


def preallocate(descriptor: int, n_bytes: int, folder: Path) -> None:
    """Reserve the bytes of a file, so that a full disk is found now and not in mid-write.

    Raises
    ------
    OSError
        With ENOSPC if the disk has no room.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, n_bytes)
        except OSError as error:
            # Some file systems cannot reserve; for them the free space is compared, as elsewhere.
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
        else:
            return
    if shutil.disk_usage(folder).free < n_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def writing(target: Path, n_bytes: int) -> Iterator[None]:
    """Turn errors of the operating system into one `OutputError` about `target`.

    Parameters
    ----------
    target
        What is to be written.
    n_bytes
        What it needs when it is complete and not compressed.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(_explain(error, target, n_bytes)) from error


def _explain(error: OSError, target: Path, n_bytes: int) -> str:
    name, folder = shown(target), shown(target.parent)
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        try:
            free = f"{shutil.disk_usage(target.parent).free:,} bytes are free"
        except OSError:
            free = "the free space is not known"
        return (
            f"{name} does not fit on the disk: {n_bytes:,} bytes are needed and {free} in {folder}. "
            "Free some space, or choose another disk."
        )
    if error.errno == errno.EFBIG:
        return f"{name} needs {n_bytes:,} bytes, more than a file may have in {folder}; write a .zarr instead."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{name} cannot be written: {folder} is not writable for you ({error.strerror}). Choose another folder."
    if error.errno == errno.ENAMETOOLONG:
        return f"{name} cannot be written: the name is too long; choose a shorter one."
    return f"{name} cannot be written: {error.strerror or error}. Check that {folder} is still there."


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname()) or "host"

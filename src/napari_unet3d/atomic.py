"""Files that appear whole or not at all.

What is being written lies under a hidden name beside its target, `.NAME.partial-PID.START-HOST`, and is renamed
when it is complete and on the disk. What dead processes left is removed by the next one that writes into the same
folder. The start is part of the name because numbers of processes come again, and the host because they say nothing
on another machine.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from napari_unet3d.errors import OutputError, shown
from napari_unet3d.processes import host, is_running, process_start
from napari_unet3d.renames import exchange, rename_new
from napari_unet3d.stopping import defer_signals

_HIDDEN = re.compile(r"\.(?P<name>.+)\.(?P<kind>partial|replaced)-(?P<pid>\d+)(?:\.(?P<start>\d+))?(?:-(?P<host>.+))?")

_lock = Lock()
_claimed: set[Path] = set()


@dataclass(frozen=True)
class Hidden:
    """What a process has put under a hidden name: a result in the making, or an old version that stepped aside."""

    path: Path
    target: Path
    is_replaced: bool
    pid: int
    start: int | None
    host: str | None

    @property
    def is_ours(self) -> bool:
        """Return whether this process is writing it."""
        with _lock:
            return self.path in _claimed

    @property
    def is_left(self) -> bool:
        """Return whether nobody is writing it any more. What is on another machine may be alive."""
        if self.host not in (None, host()) or self.is_ours:
            return False
        # Containers give every run the same process number: our own, unclaimed, was another's.
        return self.pid == os.getpid() or not is_running(self.pid, self.start)


def list_hidden(folder: Path) -> list[Hidden]:
    """Return what lies in a folder under hidden names."""
    with os.scandir(folder) as entries:
        found = [match for entry in entries if (match := _HIDDEN.fullmatch(entry.name))]
    return [
        Hidden(
            folder / match[0],
            folder / match["name"],
            match["kind"] == "replaced",
            int(match["pid"]),
            int(match["start"]) if match["start"] else None,
            match["host"],
        )
        for match in found
    ]


def count_left(folder: Path) -> tuple[int, int]:
    """Return how many hidden files and folders of dead processes lie in a folder, and their bytes."""
    found = [hidden for hidden in list_hidden(folder) if hidden.is_left]
    return len(found), sum(_size(hidden.path) for hidden in found)


def claim_partial(target: Path) -> Path:
    """Return the hidden path to write to.

    Raises
    ------
    OutputError
        If the same target is being written already, by this process or another one.
    """
    partial = _hidden_name(target, "partial")
    for found in list_hidden(target.parent):
        if found.target == target and found.host == host() and not found.is_left and not found.is_ours:
            raise OutputError(
                f"{shown(target)} is being written already, by process {found.pid}; wait for that, or choose another "
                "name."
            )
    with _lock:
        if partial in _claimed:
            raise OutputError(f"{shown(target)} is being written already; wait for that, or choose another name.")
        _claimed.add(partial)
    return partial


def tidy(target: Path) -> None:
    """Remove what dead processes left in the folder of `target`; an old version that had stepped aside comes back."""
    for found in list_hidden(target.parent):
        # Of another target, perhaps of somebody else: nothing of ours depends on it.
        with nullcontext() if found.target == target else suppress(OSError):
            if not found.is_left:
                continue
            if found.is_replaced and not os.path.lexists(found.target):
                os.rename(found.path, found.target)
            else:
                remove(found.path)


def release_partial(partial: Path) -> None:
    """Forget the claim and remove what is still there under the hidden name, now or at the next chance."""
    try:
        with suppress(OSError):
            remove(partial)
    finally:
        _forget(partial)


def put_in_place(partial: Path, target: Path, *, overwrite: bool) -> None:
    """Give what was written its name; what had that name is there until then. No signal interrupts it.

    Raises
    ------
    OutputError
        If the target exists and may not be replaced: what was written is kept under another name then.
    """
    with defer_signals():
        if overwrite:
            _replace(partial, target)
        else:
            try:
                rename_new(partial, target)
            except FileExistsError:
                raise OutputError(_keep_beside(partial, target)) from None
        _forget(partial)
        _sync_names(target.parent)


def _sync_names(folder: Path) -> None:
    """Make sure that new names survive a power cut, if that is possible: what they name is whole in any case."""
    with suppress(OSError):
        sync_folder(folder)


def _replace(partial: Path, target: Path) -> None:
    if not os.path.lexists(target) or not (partial.is_dir() or target.is_dir()):
        os.replace(partial, target)
    elif exchange(partial, target):
        remove(partial)
    else:
        # Here a folder cannot be replaced in one step: the old one steps aside, and back if anything fails.
        old = _hidden_name(target, "replaced")
        remove(old)
        try:
            os.rename(target, old)
            os.rename(partial, target)
        except BaseException:
            if os.path.lexists(old) and not os.path.lexists(target):
                os.rename(old, target)
            raise
        remove(old)


def _keep_beside(partial: Path, target: Path) -> str:
    """Give what was written a name that is free, and return the sentence that says so."""
    end = "".join(Path(target.name.lower()).suffixes[-2:])
    n = len(target.name) - len(end if end.startswith(".ome.") else target.suffix)
    number = 0
    while True:
        number += 1
        beside = target.with_name(f"{target.name[:n]}-{number}{target.name[n:]}")
        with suppress(FileExistsError):
            rename_new(partial, beside)
            break
    _forget(partial)
    _sync_names(target.parent)
    return (
        f"{shown(target)} exists already: it has appeared since the work began, and is not replaced. "
        f"The finished result is {shown(beside)}."
    )


def _size(path: Path) -> int:
    files = (Path(parent, name) for parent, _, names in os.walk(path) for name in names)
    total = 0
    for file in files if path.is_dir() and not path.is_symlink() else (path,):
        with suppress(OSError):
            total += file.lstat().st_size
    return total


def _forget(partial: Path) -> None:
    with _lock:
        _claimed.discard(partial)


def _hidden_name(target: Path, kind: str) -> Path:
    pid = os.getpid()
    return target.with_name(f".{target.name}.{kind}-{pid}.{process_start(pid) or 0}-{host()}")


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
    with write_whole(target, overwrite=overwrite, n_bytes=len(content)) as partial, open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def write_whole(target: Path, *, overwrite: bool = False, n_bytes: int = 0) -> Iterator[Path]:
    """Give the hidden name to write a file to, which gets its own name at the end of the block.

    Parameters
    ----------
    target
        Where the file goes.
    overwrite
        Replace what is there.
    n_bytes
        What it needs, if that is known.

    Raises
    ------
    OutputError
        If the target exists and may not be replaced, or cannot be written.
    """
    with writing(target, n_bytes):
        tidy(target)
        if not overwrite and os.path.lexists(target):
            raise OutputError(exists_already(target))
        partial = claim_partial(target)
        try:
            yield partial
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


def sync_files(paths: Iterable[Path], top: Path) -> None:
    """Make sure that some files are on the disk, and their names in all folders up to `top`."""
    folders = {top}
    for path in paths:
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
        folders.update(parent for parent in path.parents if parent.is_relative_to(top))
    for folder in folders:
        sync_folder(folder)


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

"""A project: the folder beside an image that keeps what was painted on it, its runs, and what was chosen.

`project.json`, `annotation/NAME.ome.zarr`, `runs/`, and, while somebody works on it, `project.lock`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from threading import RLock

from filelock import FileLock, Timeout
from pydantic import ValidationError

from napari_unet3d import atomic
from napari_unet3d.errors import OutputError, ProjectError, shown
from napari_unet3d.small_files import read_json
from napari_unet3d.tasks.projects.record import FORMAT_VERSION, ImageRecord, ProjectRecord
from napari_unet3d.volumes.paths import image_file

SUFFIX = ".unet3d-project"
# Of the projects in a folder that are called after other images.
_MOST_LOOKED_AT = 200
RECORD_FILE, LOCK_FILE, ANNOTATIONS, RUNS = "project.json", "project.lock", "annotation", "runs"


class Project:
    """One project folder.

    Parameters
    ----------
    path
        The folder.
    record
        What its `project.json` says.

    Attributes
    ----------
    record
        Changed by `update` alone.
    """

    def __init__(self, path: Path, record: ProjectRecord) -> None:
        self.path = path.absolute()
        self.record = record
        self._lock = FileLock(self.path / LOCK_FILE, blocking=False, thread_local=False)
        self._writing = RLock()

    @classmethod
    def open(cls, path: Path) -> Project:
        """Return the project in a folder.

        Raises
        ------
        ProjectError
            If there is none, or it is damaged, or of a newer version.
        """
        file = path / RECORD_FILE
        try:
            content = read_json(file)
            version = content.get("format_version")
            if isinstance(version, int) and version > FORMAT_VERSION:
                raise ProjectError(
                    f"{shown(path)} has format version {version}; this program reads up to {FORMAT_VERSION}."
                )
            return cls(path, ProjectRecord.model_validate(content))
        except FileNotFoundError:
            raise ProjectError(f"{shown(path)} is no project: there is no {RECORD_FILE} in it.") from None
        except (OSError, ValueError, AttributeError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise ProjectError(f"{shown(file)} cannot be read, it may be damaged: {reason.rstrip('.')}.") from error

    @property
    def runs(self) -> Path:
        """Return the folder of its training runs."""
        return self.path / RUNS

    @property
    def annotations(self) -> Path:
        """Return the folder of what is painted."""
        return self.path / ANNOTATIONS

    def update(self, change: Callable[[ProjectRecord], ProjectRecord]) -> None:
        """Change what `project.json` says, whole or not at all.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        with self._writing:
            changed = change(self.record)
            if changed != self.record or not (self.path / RECORD_FILE).is_file():
                text = changed.model_dump_json(indent=2) + "\n"
                with atomic.writing(self.path, len(text)):
                    self.path.mkdir(parents=True, exist_ok=True)
                atomic.write_text(self.path / RECORD_FILE, text, overwrite=True)
                self.record = changed

    def new_annotation_file(self, name: str) -> Path:
        """Return where an annotation may be written that is called `name`; nothing is there yet."""
        with atomic.writing(self.annotations, 0):
            self.annotations.mkdir(parents=True, exist_ok=True)
        safe = safe_name(name, "annotation")
        numbered = (f"{safe}{'' if number == 1 else f' {number}'}.ome.zarr" for number in _counted())
        return next(self.annotations / file for file in numbered if not os.path.lexists(self.annotations / file))

    def take(self) -> bool:
        """Keep other windows out, and return whether none has it and it can be written to.

        Where a disk knows no locks, nobody is kept out.
        """
        if self.is_read_only:
            return False
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            return False
        except (NotImplementedError, OSError):
            if not os.access(self.path, os.W_OK):
                return False
        # Another window may have had it since it was read.
        with suppress(ProjectError):
            self.record = Project.open(self.path).record
        return True

    @property
    def is_read_only(self) -> bool:
        """Return whether its folder is there and cannot be written to."""
        return self.path.is_dir() and not os.access(self.path, os.W_OK)

    def release(self) -> None:
        """Let other windows have it."""
        with suppress(OSError):
            self._lock.release()


def find_projects(image: ImageRecord, homes: Iterable[Path]) -> list[Project]:
    """Return the projects of an image: those that are called after it first, that in which was painted last first.

    It may have been renamed: all projects beside it, and where projects are kept, are looked at. Damaged projects are
    passed over: they are neither used nor changed.
    """
    homes = list(homes)
    named = list(_places(image, homes))
    beside = _beside(image.path)
    others = [path for folder in ([] if beside is None else [beside], homes) for path in _projects_in(folder)]
    found = []
    for path in dict.fromkeys([*named, *others]):
        if (path / RECORD_FILE).is_file():
            with suppress(ProjectError):
                found.append(Project.open(path))
    ours = [project for project in found if project.record.image.is_same(image)]
    names = {path.absolute() for path in named}
    return sorted(ours, key=lambda project: (project.path in names, _last_painted(project.record)), reverse=True)


def _projects_in(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield the projects in some folders, whatever they are called; of very many the newest."""
    for folder in folders:
        found = []
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.name.endswith(SUFFIX) and entry.is_dir():
                        found.append((entry.stat().st_mtime_ns, entry.path))
        for _, path in sorted(found, reverse=True)[:_MOST_LOOKED_AT]:
            yield Path(path)


def _last_painted(record: ProjectRecord) -> float:
    return 0.0 if record.latest is None else record.latest.saved.timestamp()


def begin_project(image: ImageRecord, homes: Iterable[Path], *, is_beside: bool = True) -> Project:
    """Make a project for an image, lock it, and return it: in the first place that can be written to.

    Parameters
    ----------
    image
        The image.
    homes
        The folders where projects are kept that do not lie beside their image, in the order in which they are tried.
    is_beside
        Try the folder of the image first.

    Raises
    ------
    OutputError
        If no folder can be written to.
    """
    failure: OutputError | None = None
    for path in _places(image, homes, is_beside=is_beside):
        if os.path.lexists(path):
            continue
        project = Project(path, ProjectRecord(image=image))
        try:
            with atomic.writing(path, 0):
                path.mkdir(parents=True)
            project.update(lambda record: record)
        except OutputError as error:
            failure = failure or error
            continue
        if project.take():
            return project
    raise failure or OutputError("There is no folder where the annotation can be kept.")


def _places(image: ImageRecord, homes: Iterable[Path], *, is_beside: bool = True) -> Iterator[Path]:
    """Yield where the project of an image may lie, the best place first."""
    beside = _beside(image.path)
    folders = [*([beside] if beside is not None and is_beside else []), *homes]
    called = image.name if beside is None else os.path.relpath(image.path, beside)
    name = safe_name(called, "image")
    # A few of each: another window may have the first one, or another image of that name.
    for folder in folders:
        for number in range(1, 10):
            yield folder / f"{name}{'' if number == 1 else f' {number}'}{SUFFIX}"


def _beside(path: str) -> Path | None:
    """Return the folder that an image lies in; not one within a Zarr."""
    found = image_file(path)
    if found is None:
        return None
    if found.is_file():
        return found.parent
    # From the image upwards, without a gap: a stray file far above makes no Zarr of all that lies below it.
    inside = list(takewhile(_is_zarr, (found, *found.parents) if _is_zarr(found) else found.parents))
    return (inside[-1] if inside else found).parent


def _is_zarr(folder: Path) -> bool:
    return any((folder / name).exists() for name in _ZARR_FILES)


_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")


def safe_name(name: str, otherwise: str) -> str:
    """Return a name as a file may have it on every system."""
    return re.sub(r"[^\w.,()+ -]+", "-", name).strip("-. ")[:80] or otherwise


def _counted() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number

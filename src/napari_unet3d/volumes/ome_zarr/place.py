"""Where a Zarr lies: a folder, or a zip file, and a path inside it. Only its own regular files are read.

A folder that was sent by somebody may hold links that lead out of it, or a pipe that is waited for without end:
each file is looked at before the zarr library opens it.
"""

from __future__ import annotations

import json
import lzma
import os
import posixpath
import stat
import zipfile
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath
from typing import Any

from zarr.storage import LocalStore, ZipStore

from napari_unet3d.errors import VolumeError, shown

# What a damaged zip file raises while one of its files is read; also for passwords and methods that are not known.
ZIP_ERRORS = (EOFError, NotImplementedError, RuntimeError, lzma.LZMAError, zipfile.BadZipFile, zlib.error)
METADATA = ("zarr.json", ".zarray", ".zgroup")
_TEXT_LIMIT = 64 * 2**20
_MOST_DEPTH = 12
_MOST_NODES = 20_000


@dataclass(frozen=True)
class ZarrPlace:
    """A node of a Zarr hierarchy.

    Parameters
    ----------
    root
        The folder or the zip file.
    inner
        The path inside it, with "/"; "" is its top.
    members
        The files of a zip with their sizes; None for a folder.
    """

    root: Path
    inner: str = ""
    members: dict[str, int] | None = None
    _checked: set[str] = field(default_factory=set, repr=False)

    def __str__(self) -> str:
        return shown(self.root) + (f"/{self.inner}" if self.inner else "")

    def child(self, relative: str) -> ZarrPlace:
        """Return a node below this one.

        Raises
        ------
        VolumeError
            If the path leads out of it.
        """
        if ".." in relative.replace("\\", "/").split("/") or PureWindowsPath(relative).drive or "\0" in relative:
            raise VolumeError(f"{self} points outside itself ({relative!r}), which is not followed.")
        return replace(self, inner=_joined(self.inner, posixpath.normpath(relative.strip("/"))))

    def parents(self) -> list[tuple[ZarrPlace, str]]:
        """Return the nodes above, the nearest first, each with the path from it to this one."""
        found: list[tuple[ZarrPlace, str]] = []
        here, below = self.inner, ""
        while here:
            here, _, name = here.rpartition("/")
            below = _joined(name, below)
            found.append((replace(self, inner=here), below))
        if self.members is None:
            root = self.root.absolute()
            for folder in root.parents:
                below = _joined(root.name, below)
                root = folder
                found.append((ZarrPlace(folder), below))
        return found

    @property
    def store(self) -> Any:
        """Return the zarr library's store of the whole."""
        return LocalStore(self.root, read_only=True) if self.members is None else ZipStore(self.root, mode="r")

    def is_node(self) -> bool:
        """Return whether there is an array or a group here."""
        return any(self.has(name) for name in METADATA)

    def has(self, name: str) -> bool:
        """Return whether a file is there."""
        key = _joined(self.inner, name)
        return os.path.isfile(os.path.join(self.root, key)) if self.members is None else key in self.members

    def n_bytes(self, name: str) -> int:
        """Return the bytes of a file, as they are in a folder and inflated in a zip; 0 if it is missing."""
        key = _joined(self.inner, name)
        if self.members is not None:
            return self.members.get(key, 0)
        try:
            return (self.root / key).stat().st_size
        except OSError:
            return 0

    def look(self, name: str) -> tuple[int, bool]:
        """Return the bytes of a file, -1 if it is missing, and whether it leads out of this Zarr.

        Raises
        ------
        VolumeError
            As `leads_out`.
        """
        key = _joined(self.inner, name)
        if self.members is not None:
            return self.members.get(key, -1), False
        path = os.path.join(self.root, key)
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return -1, False
        if stat.S_ISREG(found.st_mode) and os.path.dirname(path) in self._checked:
            return found.st_size, False
        leads_out = self.leads_out(name)
        return found.st_size if leads_out or os.path.exists(path) else -1, leads_out

    def leads_out(self, name: str) -> bool:
        """Return whether a file, or a folder above it, is a link that leads out of this Zarr.

        Raises
        ------
        VolumeError
            If it is no regular file, such as a pipe that would be waited for without end.
        """
        if self.members is not None:
            return False
        # Asked for each chunk: texts are several times faster here than `Path`.
        path = os.path.join(self.root, _joined(self.inner, name))
        folder = os.path.dirname(path)
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return False
        if stat.S_ISREG(mode) and folder in self._checked:
            return False
        top, real = os.path.realpath(self.root), os.path.realpath(path)
        if not Path(real).is_relative_to(top):
            return True
        if os.path.exists(real) and not stat.S_ISREG(os.stat(real).st_mode):
            raise VolumeError(f"{self}: {name!r} is not a regular file, so it is not read.")
        self._checked.add(folder)
        return False

    def check(self, name: str) -> None:
        """Refuse a file of metadata that leads out of this Zarr, or is none; one that is missing is right.

        Raises
        ------
        VolumeError
            With what it leads to.
        """
        if self.leads_out(name):
            target = os.path.realpath(self.root / _joined(self.inner, name))
            raise VolumeError(f"{self}: {name!r} is a link that leads out of it ({shown(target)}), and not followed.")

    def attributes(self) -> dict[str, Any]:
        """Return the attributes of the node, v3 or v2; none if it is no node, or cannot be read."""
        for name in ("zarr.json", ".zattrs"):
            document = self.document(name)
            found = document.get("attributes") if name == "zarr.json" else document
            if isinstance(found, dict) and found:
                return found
        return {}

    def document(self, name: str) -> dict[str, Any]:
        """Return a JSON file as a mapping; an empty one if it is missing, or is something else.

        Raises
        ------
        VolumeError
            If it is larger than is plausible, or leads elsewhere.
        """
        try:
            found = json.loads(self._text(name))
        except (OSError, ValueError, KeyError, RecursionError, *ZIP_ERRORS):
            return {}
        return found if isinstance(found, dict) else {}

    def _text(self, name: str) -> str:
        self.check(name)
        key = _joined(self.inner, name)
        n_bytes = self.n_bytes(name)
        if n_bytes > _TEXT_LIMIT:
            raise VolumeError(f"{self}: {name} has {n_bytes:,} bytes, which is not plausible for metadata.")
        if self.members is None:
            return (self.root / key).read_text("utf-8")
        with zipfile.ZipFile(self.root) as archive:
            return archive.read(key).decode("utf-8")

    def nodes(self) -> list[ZarrPlace]:
        """Return the nodes below, and those below them, in the order of their names; not deeper than is plausible."""
        found: list[ZarrPlace] = []
        open_nodes = [(self, 0)]
        while open_nodes and len(found) < _MOST_NODES:
            node, depth = open_nodes.pop(0)
            if node.document(".zarray") or node.document("zarr.json").get("node_type") == "array":
                continue
            for name in node._folders() if depth < _MOST_DEPTH else []:
                below = node.child(name)
                if below.is_node() or depth == 0:
                    found.append(below)
                    open_nodes.append((below, depth + 1))
        return sorted((node for node in found if node.is_node()), key=lambda node: node.inner)

    def _folders(self) -> list[str]:
        if self.members is not None:
            start = f"{self.inner}/" if self.inner else ""
            names = {key[len(start) :].partition("/")[0] for key in self.members if key.startswith(start)}
            return sorted(name for name in names if f"{start}{name}" not in self.members)
        try:
            with os.scandir(self.root / self.inner) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError:
            return []


def place_of(path: Path) -> ZarrPlace | None:
    """Return the Zarr in a folder or a zip file; None if there is none.

    Raises
    ------
    VolumeError
        If a zip file is damaged.
    """
    if path.is_dir():
        place = ZarrPlace(path)
        return place if place.is_node() else None
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info.file_size for info in archive.infolist() if not info.is_dir()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise VolumeError(f"{shown(path)} is a damaged zip archive: {error}. Copy or download it again.") from error
    place = ZarrPlace(path, members=members)
    # macOS adds a folder for its own purposes.
    tops = {key.partition("/")[0] for key in members} - {"__MACOSX"}
    if not place.is_node() and len(tops) == 1:
        # Some programs put the folder itself into the archive.
        place = replace(place, inner=tops.pop())
    return place if place.is_node() else None


def _joined(start: str, end: str) -> str:
    return "/".join(part for part in (start, end) if part and part != ".")

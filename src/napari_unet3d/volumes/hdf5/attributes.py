"""Reading the attributes of an array in an HDF5 file, of which a damaged one may never come to an end.

Texts of any length lie in a heap of their own. Where that is damaged the library can run in a circle, inside a call
that nothing interrupts: so such attributes are read by another process first, which is given a few seconds.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py

from napari_unet3d.volumes.space.attributes import NAMES

_SECONDS = 5
_READ = """
import sys, h5py
with h5py.File(sys.argv[1], "r") as file:
    array = file[sys.argv[2]]
    for name in sys.argv[3:]:
        array.attrs[name]
"""
_ERRORS = (OSError, RuntimeError, TypeError, ValueError, KeyError, OverflowError)


def read_attributes(array: Any, path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the attributes that say something about axes and sizes, and a note if some cannot be read.

    Parameters
    ----------
    array
        The dataset.
    path
        Its file.
    """
    names = [name for name in NAMES if _has(array, name)]
    texts = [name for name in names if _is_of_any_length(array, name)]
    unreadable = texts if texts and not _come_to_an_end(path, str(array.name), texts) else []
    found: dict[str, Any] = {}
    for name in names:
        if name in unreadable:
            continue
        try:
            found[name] = array.attrs[name]
        except _ERRORS:
            unreadable.append(name)
    if not unreadable:
        return found, []
    return found, [f"Attributes of {array.name} are damaged and not used: {', '.join(unreadable)}."]


def _has(array: Any, name: str) -> bool:
    try:
        return name in array.attrs
    except _ERRORS:
        return False


def _is_of_any_length(array: Any, name: str) -> bool:
    """Return whether an attribute lies in the heap: its type is looked at, and not its value."""
    try:
        kind = h5py.h5a.open(array.id, name.encode()).get_type()
        return bool(kind.detect_class(h5py.h5t.VLEN)) or (
            kind.get_class() == h5py.h5t.STRING and bool(kind.is_variable_str())
        )
    except _ERRORS:
        return True


def _come_to_an_end(path: Path, array: str, names: Sequence[str]) -> bool:
    command = [sys.executable, "-c", _READ, str(path), array, *names]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0

"""Where this program writes what went wrong, and for how long that is kept."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from platformdirs import user_log_path

_DAYS_OF_LOGS = 7
_NAMES = ("worker-*.log", "preview-*.log", "command-*.log")


def log_file(name: str) -> Path:
    """Return an empty log file: in the user's log folder, or, where that cannot be written, in a temporary folder.

    Raises
    ------
    OSError
        If neither can be written.
    """
    try:
        return new_log(user_log_path("napari-unet3d", appauthor=False) / name)
    except OSError:  # a home that is full, read-only or not there
        return new_log(Path(tempfile.mkdtemp(prefix="napari-unet3d-")) / name)


def new_log(path: Path) -> Path:
    """Make a log file, empty, beside which old ones are removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_old_logs(path.parent)
    path.write_text("", encoding="utf-8")
    return path


def remove_old_logs(folder: Path) -> None:
    """Remove the logs of this program that nobody needs any more."""
    for path in (found for name in _NAMES for found in folder.glob(name)):
        try:
            if time.time() - path.stat().st_mtime > _DAYS_OF_LOGS * 86_400:
                path.unlink()
        except OSError:  # somebody else's, or gone already
            continue

"""Paths of volumes, which may name an array in a file."""

from __future__ import annotations

import os
from pathlib import Path


def image_file(path: str) -> Path | None:
    """Return the file or folder of an image, without what chooses an array in a file; None if it is not there."""
    ends = [len(path), *(at for at, letter in enumerate(path) if letter == ":" and at > 1)]
    return next((Path(path[:end]) for end in ends if path[:end] and os.path.exists(path[:end])), None)

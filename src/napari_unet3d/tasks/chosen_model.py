"""The model that a job names, read from its folder or from memory."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet3d.errors import ModelError, shown

if TYPE_CHECKING:
    from napari_unet3d.network.model import Model


def load_chosen(path: Path, weights_sha256: str | None) -> Model:
    """Return a model if it still is the one that was chosen.

    Raises
    ------
    ModelError
        If it is not there, or has other weights than when it was chosen.
    """
    from napari_unet3d.network.store import read_card

    if weights_sha256 not in (None, read_card(path)[1]):
        raise ModelError(f"The model in {shown(path)} has changed since you chose it. Choose it again.")
    return load_cached(path)


def load_cached(path: Path) -> Model:
    """Return a model, from memory if it is the one that was used last and its folder has not changed."""
    from napari_unet3d.network.store import CARD_FILE

    card = path / CARD_FILE
    changed = card.stat().st_mtime_ns if os.path.isfile(card) else 0
    return _load(path, changed)


# One: with a model goes what TensorFlow has compiled for it, and that is large.
@lru_cache(maxsize=1)
def _load(path: Path, changed: int) -> Model:
    from napari_unet3d.network.store import load_model

    return load_model(path)

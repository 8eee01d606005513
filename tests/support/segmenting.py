"""Segmentation to an array, for tests that compare voxels."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_unet3d import notebook


def segment(volume: Any, model: Any, **choices: Any) -> np.ndarray:
    """Return the voxels of what `segment` gives."""
    return notebook.segment(volume, model, **choices).data

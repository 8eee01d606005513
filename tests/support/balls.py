"""A small volume to learn: bright balls, three slices of it painted."""

from __future__ import annotations

import numpy as np


def balls(seed=0, shape=(60, 64, 64)):
    """Return an image of bright balls, and labels in which three slices are painted."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.indices(shape))
    is_ball = np.zeros(shape, bool)
    for _ in range(25):
        centre = rng.uniform(0, shape)[:, None, None, None]
        is_ball |= ((grid - centre) ** 2).sum(0) < rng.uniform(16, 49)
    image = (1000 + 700 * is_ball + rng.normal(0, 120, shape)).astype(np.uint16)
    labels = np.zeros(shape, np.uint8)
    for z in (8, 30, 52):
        labels[z] = 1 + is_ball[z]
    return image, labels

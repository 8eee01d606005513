"""Scores as the card of a model has them: numbers by name, for whoever reads the file, and as text.

What follows a comma in a name qualifies it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from napari_unet3d.core.heads.base import Head
from napari_unet3d.core.heads.classes import best_trivial
from napari_unet3d.core.scores.bootstrap import COVERAGE, Interval
from napari_unet3d.tasks.train.validate import HeldOutScores
from napari_unet3d.words import with_interval

_LOW, _HIGH = (f", {COVERAGE:.0%} interval {word}".replace("%", " %") for word in ("from", "to"))
_VOXELS = "held-out voxels of "


def card_metrics(scores: HeldOutScores, head: Head) -> dict[str, float]:
    """Return scores by name: those that there are with their intervals, and the voxels that they rest on."""
    metrics: dict[str, float] = {}
    kind = head.score_kinds[0].name
    for name, value, of_class, n in zip(head.scored, scores.first, scores.intervals, scores.voxels, strict=True):
        metrics |= _metric(f"{kind} {name}", value, of_class)
        metrics[f"{_VOXELS}{name}"] = n
    if (trivial := best_trivial(scores.trivial)) is not None:
        metrics |= _metric(f"mean {kind}", scores.rank, scores.mean_interval)
        value, index = trivial
        metrics[f"mean {kind}, everything called {head.scored[index]}"] = round(value, 4)
    return metrics


def metric_texts(metrics: Mapping[str, float]) -> list[str]:
    """Return the scores of a card as texts.

    Examples
    --------
    >>> metric_texts({"dice axon": 0.812, "dice axon, seed 1": 0.8, "held-out voxels of axon": 1290})
    ['dice axon 0.81 of 1,290 voxels']
    """
    texts = []
    for name, value in metrics.items():
        if "," in name or name.startswith(_VOXELS):
            continue
        low, high = (metrics.get(name + end, math.nan) for end in (_LOW, _HIGH))
        number = f"{value:.2f}" if math.isnan(low) else with_interval(value, (low, high))
        n = metrics.get(_VOXELS + name.partition(" ")[2])
        texts.append(f"{name} {number}" + ("" if n is None else f" of {n:,.0f} voxels"))
    return texts


def _metric(name: str, value: float, of_it: Interval) -> dict[str, float]:
    named = zip((name, name + _LOW, name + _HIGH), (value, *of_it), strict=True)
    return {key: round(number, 4) for key, number in named if not math.isnan(number)}

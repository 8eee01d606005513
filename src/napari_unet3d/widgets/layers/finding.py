"""What a labels layer holds, in words: how much of it is each class, or how many objects there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.annotation.survey import Survey, survey_labels
from napari_unet3d.widgets.layers.volumes import LayerVolume
from napari_unet3d.widgets.layers.writers import class_names, label_boxes

_MOST_CLASSES = 4


def describe_found(found: LayerVolume) -> str:
    """Return what was found; nothing for an image. Reads all of it, so not in the thread of the window.

    Parameters
    ----------
    found
        Labels: of classes, where the layer's features name them, or else of objects.
    """
    if found.layer._type_string != "labels":
        return ""
    counts: Counter[int] = Counter()
    for values in label_boxes(found):
        numbers, times = np.unique(values, return_counts=True)
        counts.update(dict(zip(numbers.tolist(), times.tolist(), strict=True)))
    names = class_names(found.layer.features)
    return share_text(counts, names) if names else object_text(counts)


def describe_annotated(labels: LayerVolume, meanings: Meanings) -> str:
    """Return how much was annotated, and as what. Reads all of it, so not in the thread of the window.

    Parameters
    ----------
    labels
        Annotation, or a complete mask.
    meanings
        What its values mean.
    """
    return annotated_text(survey_labels(labels.volume.data), meanings)


def annotated_text(survey: Survey, meanings: Meanings) -> str:
    """Return how many slices are annotated, and how much of what is annotated is each class but the first.

    Examples
    --------
    >>> survey = survey_labels(np.array([[[0, 1, 1, 1, 2]], [[0, 0, 0, 0, 0]]]))
    >>> annotated_text(survey, Meanings.painted(("background", "axon")))
    '1 slice annotated, 25 % axon'
    >>> annotated_text(survey, Meanings.everything_above_zero(("background", "axon")))
    'all slices annotated, 40 % axon'
    """
    profile = survey.profile(meanings)
    n = int(np.count_nonzero(profile.sum(axis=1)))
    if not n:
        return "nothing annotated"
    slices = "all slices" if n == len(profile) else f"{n:,} slice{'s' if n > 1 else ''}"
    counts = Counter(dict(enumerate(profile.sum(axis=0).tolist())))
    return f"{slices} annotated, {share_text(counts, meanings.class_names)}"


def share_text(counts: Counter[int], names: Sequence[str]) -> str:
    """Return how much of a volume is each class but the first.

    Examples
    --------
    >>> share_text(Counter({0: 880, 1: 120}), ("background", "axon"))
    '12 % axon'
    >>> share_text(Counter({0: 99990, 1: 10}), ("background", "axon", "soma"))
    '0.01 % axon, no soma'
    """
    total = counts.total()
    shares = [(name, counts.get(value, 0) / max(total, 1)) for value, name in enumerate(names) if value]
    told = [f"{100 * share:.2g} % {name}" if share else f"no {name}" for name, share in shares[:_MOST_CLASSES]]
    return ", ".join([*told, ".."] if len(shares) > _MOST_CLASSES else told)


def object_text(counts: Counter[int]) -> str:
    """Return how many objects there are.

    Examples
    --------
    >>> object_text(Counter({0: 10, 1: 2, 7: 1})), object_text(Counter({0: 10, 3: 2})), object_text(Counter({0: 1}))
    ('2 objects', '1 object', 'no objects')
    """
    n = len(counts) - (0 in counts)
    return "no objects" if not n else f"{n:,} object{'s' if n > 1 else ''}"

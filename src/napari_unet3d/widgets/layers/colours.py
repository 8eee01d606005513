"""Colours of classes: the same for annotation, segmentation, legends and files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.utils.colormaps import DirectLabelColormap

# Okabe and Ito's colours, which most people with a colour deficiency tell apart; the first is for the first object.
CLASS_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
BACKGROUND_COLOUR = "#7a7a7a"
# What 0 is called in annotation.
UNLABELLED = "unlabelled"


def class_colour(index: int) -> str:
    """Return the colour of a class; 0 is the background."""
    return BACKGROUND_COLOUR if index == 0 else CLASS_COLOURS[(index - 1) % len(CLASS_COLOURS)]


def class_colormap(class_names: Sequence[str]) -> DirectLabelColormap:
    """Return the colours of labels that are class indices: the background cannot be seen."""
    return _colormap({index: class_colour(index) for index in range(1, len(class_names))})


def annotation_colormap(class_names: Sequence[str]) -> DirectLabelColormap:
    """Return the colours of annotation: 0 is unlabelled and cannot be seen, 1 is the background."""
    return _colormap({index + 1: class_colour(index) for index in range(len(class_names))})


def class_features(class_names: Sequence[str]) -> dict[str, Any]:
    """Return what each number of a segmentation means, as the features of its layer."""
    return {"index": range(len(class_names)), "class": list(class_names)}


def annotation_features(class_names: Sequence[str]) -> dict[str, Any]:
    """Return what each number of an annotation means, as the features of its layer."""
    return {"index": range(len(class_names) + 1), "class": [UNLABELLED, *class_names]}


def _colormap(colours: dict[int | None, Any]) -> DirectLabelColormap:
    from napari.utils.colormaps import DirectLabelColormap

    # None is every other number: seen, because it is not expected.
    return DirectLabelColormap(color_dict={None: "magenta", 0: "transparent", **colours})

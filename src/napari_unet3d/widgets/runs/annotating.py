"""Annotation of the chosen image: a new layer to paint in, and what a network found as a start of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.errors import Unet3dError
from napari_unet3d.widgets.host.notices import notify, tell
from napari_unet3d.widgets.layers.colours import annotation_colormap, annotation_features
from napari_unet3d.widgets.layers.meanings import metadata_of
from napari_unet3d.widgets.layers.placing import place_of, time_text
from napari_unet3d.widgets.layers.volumes import unwrap
from napari_unet3d.widgets.runs.corrections import correct

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_unet3d.widgets.runs.session import Session


def new_annotation(session: Session, names: Sequence[str]) -> Labels:
    """Add a layer to paint in: where the image lies, with a colour for each class, and the brush in hand.

    Raises
    ------
    VolumeError
        If there is no image that is a volume.
    """
    chosen, names = session.volume(), tuple(names)
    place = place_of(chosen)
    layer: Labels = unwrap(
        session.viewer.add_labels(
            place.spread(np.zeros(chosen.shape, np.uint8)),
            name=f"{chosen.volume.name}, annotation{time_text(chosen)}",
            colormap=annotation_colormap(names),
            features=annotation_features(names),
            metadata=metadata_of(Meanings.painted(names)),
            **place.keywords,
        )
    )
    # The first object: what most people paint first.
    layer.selected_label = 2
    take_brush(session, layer)
    session.labels = layer
    return layer


def take_brush(session: Session, layer: Any) -> None:
    """Make a layer ready to be painted in."""
    layer.brush_size = max(3, min(layer.data.shape[-2:]) // 40)
    layer.mode = "paint"
    session.viewer.layers.selection.active = layer


def take_next_class(session: Session) -> str:
    """Take the value of the next class to paint with, after the last one the first; return what is painted with."""
    layer = session.labels
    meanings = session.annotation.of(layer).meanings
    if layer is None or meanings is None:
        return "There is no annotation to paint in."
    values = sorted(value for value, index in meanings.classes.items() if index is not None and value)
    if not values:
        return "No value stands for a class."
    following = [value for value in values if value > layer.selected_label]
    layer.selected_label = following[0] if following else values[0]
    if layer.mode != "paint":
        take_brush(session, layer)
    index = meanings.of(layer.selected_label)
    return f"Painting {meanings.class_names[index or 0]} ({layer.selected_label})"


def correct_annotation(session: Session, found: Labels, class_names: Sequence[str]) -> None:
    """Copy what a network found in the middle of the view into the annotation, to be corrected there; and say so.

    Where there is no annotation of the image, one is begun with the classes of the network.
    """
    try:
        labels = session.labels
        if labels is None or labels is found or labels not in session.viewer.layers:
            labels = new_annotation(session, class_names)
        known = session.annotation.of(labels).meanings or Meanings.painted(tuple(class_names))
        tell(correct(session.viewer, found, class_names, labels, known))
        # What else a network has found would lie over what is corrected.
        for other in session.found_layers:
            other.visible = False
    except Unet3dError as error:
        notify(str(error))

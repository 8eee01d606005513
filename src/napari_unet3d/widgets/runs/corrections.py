"""From a model to a better one: what it finds becomes annotation to correct, and what it learns next.

What was held out stays held out, and is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet3d.tasks.train.recipes import FINE_TUNING_RATE
from napari_unet3d.tasks.train.spec import HeldOutBox, TrainSpec
from napari_unet3d.widgets.layers.tile_boxes import OUT_COLOUR
from napari_unet3d.widgets.layers.volumes import ILLUSTRATION, unwrap

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_unet3d.widgets.runs.pairs import Pair
    from napari_unet3d.widgets.runs.training import Training

# In the metadata of the outlines of what is held out.
_OUTLINE = "held out"


def choose_corrections(run: Training, pairs: Sequence[Pair], *, steps: int) -> TrainSpec:
    """Return the choices for a run on `pairs` that goes on from the model of another one."""
    changes: dict[str, Any] = {"learning_rate": min(run.spec.learning_rate, FINE_TUNING_RATE), "steps": steps}
    # What this model was scored on stays held out, if its image is still learnt from: the rest it may have learnt.
    numbers = {id(pair.image.layer): number for number, pair in reversed(list(enumerate(pairs)))}
    boxes = [(numbers.get(id(run.pairs[part.pair].image.layer)), part.box) for part in run.held_out]
    kept = tuple(HeldOutBox(pair=number, box=box) for number, box in boxes if number is not None)
    if run.held_out:
        changes["validation"] = kept or "auto"
    return run.spec.changed(**changes)


def copy_prediction(run: Training, labels: Labels) -> str:
    """Copy what a network found in the shown slice, where it was looked at, into annotation that is empty there.

    Parameters
    ----------
    run
        Whose live preview it is.
    labels
        What is painted; it is changed as by a stroke, which can be undone.

    Returns
    -------
    str
        Why nothing was copied, or nothing.
    """
    pair = next((pair for pair in run.pairs if pair.labels is labels), None)
    if run.previewed is None:
        return "There is no preview yet to copy from."
    if pair is not run.pairs[0]:
        return "Choose the labels of the first pair in Data: the preview is of its image."
    if pair.meanings.of(0) is not None:
        return "In these labels 0 is a class and not unlabelled, so there is nothing to fill in."
    value_of = {
        index: value for value, index in sorted(pair.meanings.classes.items(), reverse=True) if index is not None
    }
    origin, box = np.array(pair.place().origin), run.previewed
    shown = round(float(labels.world_to_data(run.viewer.dims.point)[-3])) + origin[0]
    z = int(shown)
    if not box.z[0] <= z < box.z[1]:
        return "There is no preview of this slice; the last preview was of another place."
    corner = np.array([z, box.y[0], box.x[0]])
    plane = run.preview[z - box.z[0]]
    found = np.argwhere(np.isin(plane, list(value_of)))
    places = np.insert(found, 0, 0, axis=1) + corner - origin
    places = places[((places >= 0) & (places < labels.data.shape)).all(axis=1)]
    places = places[np.asarray(labels.data)[tuple(places.T)] == 0]
    if not len(places):
        return "Nothing to copy: everything that the network found here is painted already."
    classes = plane[tuple((places + origin - corner)[:, 1:].T)]
    values = np.array([value_of[int(index)] for index in classes], labels.data.dtype)
    labels.data_setitem(tuple(places.T), values)
    return ""


def outline_held_out(run: Training) -> None:
    """Outline the annotation that is held out, each box in a layer of its own."""
    viewer = run.viewer
    for old in [layer for layer in viewer.layers if layer.metadata.get(_OUTLINE)]:
        viewer.layers.remove(old)
    for part in run.held_out:
        chosen = run.pairs[part.pair].image
        name = f"{chosen.volume.name}, held out"
        data = np.broadcast_to(np.uint8(0), part.box.shape)
        keywords = chosen.space.moved([start for start, _ in part.box]).keywords
        active = viewer.layers.selection.active
        layer = unwrap(viewer.add_labels(data, name=name, metadata=ILLUSTRATION | {_OUTLINE: True}, **keywords))
        layer.bounding_box.line_color = OUT_COLOUR
        layer.bounding_box.line_thickness = 2
        layer.bounding_box.points = False
        layer.bounding_box.visible = True
        layer.editable = False
        viewer.layers.selection.active = active

"""From a model to a better one: what it finds becomes annotation to correct, and what it learns next.

What was held out stays held out, and is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.boxes import Box
from napari_unet3d.errors import SpecError
from napari_unet3d.tasks.train.recipes import FINE_TUNING_RATE
from napari_unet3d.tasks.train.spec import HeldOutBox, TrainSpec
from napari_unet3d.widgets.layers.painting import paint_voxels, voxels_of
from napari_unet3d.widgets.layers.placing import has_one_position, place_of, position_at
from napari_unet3d.widgets.layers.space import Space
from napari_unet3d.widgets.layers.tile_boxes import OUT_COLOUR
from napari_unet3d.widgets.layers.view import shown_box
from napari_unet3d.widgets.layers.volumes import ILLUSTRATION, LayerVolume, layer_volume, unwrap

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_unet3d.widgets.runs.pairs import Pair
    from napari_unet3d.widgets.runs.training import Training

# In the metadata of the outlines of what is held out.
_OUTLINE = "held out"
# Voxels along an axis of the view that are copied at once.
_WIDEST = 256


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


@dataclass(frozen=True, eq=False)
class Copied:
    """What was copied into annotation: how many voxels, and in which slice."""

    n_voxels: int
    z: int


def copy_found(
    viewer: ViewerModel, found: Labels, class_names: Sequence[str], labels: Labels, known: Meanings
) -> Copied:
    """Copy what a network found, in the middle of the view, into annotation where nothing is painted yet.

    Parameters
    ----------
    viewer
        Whose view it is; of the slice that is shown, at most 256 x 256 voxels are copied.
    found
        Class indices: a result, or a live preview. It may lie anywhere and have other voxels than the annotation.
    class_names
        Of the indices.
    labels
        What is painted; it is changed as by a stroke, which can be undone.
    known
        What the values of `labels` mean; classes are told apart by their names.

    Raises
    ------
    SpecError
        If nothing can be copied; the message says why.
    """
    if viewer.dims.ndisplay == 3:
        raise SpecError("Turn to the 2D view first: one slice is copied.")
    if known.of(0) is not None:
        raise SpecError("In these labels 0 is a class and not unlabelled, so there is nothing to fill in.")
    ours, theirs = layer_volume(labels), layer_volume(found)
    for layer in (labels, found):
        if has_one_position(layer) and position_at(layer, viewer.dims.point) != 0:
            raise SpecError(f"'{layer.name}' is of another time point. Go to that one first.")
    box = _middle(shown_box(viewer, ours))
    empty = np.argwhere(voxels_of(ours)[box.slices] == 0) + np.array([start for start, _ in box])
    empty, values = found_at(ours, theirs, values_of(class_names, known), empty)
    if values is None:
        raise SpecError("Nothing was found here that could be copied: go to where the result or the preview is.")
    if not len(values):
        raise SpecError("Nothing to copy: everything that the network found here is painted already.")
    paint_voxels(ours, empty, values.astype(labels.data.dtype))
    return Copied(len(values), box.z[0])


def correct(viewer: ViewerModel, found: Labels, class_names: Sequence[str], labels: Labels, known: Meanings) -> str:
    """Copy what was found, take the annotation with the brush in hand, and return what was done, as a sentence.

    Raises
    ------
    SpecError
        As `copy_found`.
    """
    copied = copy_found(viewer, found, class_names, labels, known)
    found.visible = False
    labels.mode = "paint"
    viewer.layers.selection = {labels}
    return (
        f"{copied.n_voxels:,} voxels of this slice were copied to '{labels.name}'. Paint over what is wrong, "
        f"and press Ctrl-Z to take the copy back. '{found.name}' is hidden meanwhile."
    )


def found_at(
    labels: LayerVolume, found: LayerVolume, value_of: npt.NDArray[np.int64], places: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None]:
    """Return which of some places have an answer, and the values that they would be painted with.

    Parameters
    ----------
    labels, found
        Annotation, and class indices that may lie anywhere and have other voxels.
    value_of
        The value that each class is painted with; 0 for one that the annotation does not have.
    places
        (n, 3) voxels of the annotation.

    Returns
    -------
    places, values
        (m, 3) and (m,); None in place of the values where none of the places lies in what was found.
    """
    matrix, shift = labels.space.matrix
    theirs = np.rint(_to_voxels(found.space, places @ matrix.T + shift)).astype(np.int64)
    is_inside = ((theirs >= 0) & (theirs < found.shape)).all(axis=1)
    places, theirs = places[is_inside], theirs[is_inside]
    if not len(theirs):
        return places, None
    values = value_of[_read(found, theirs)]
    return places[values > 0], values[values > 0]


def values_of(class_names: Sequence[str], known: Meanings) -> npt.NDArray[np.int64]:
    """Return the value that each class is painted with; 0 for a class that the annotation does not have."""
    first = {index: value for value, index in sorted(known.classes.items(), reverse=True) if index is not None}
    named = {known.class_names[index]: value for index, value in first.items()}
    values = np.array([named.get(name, 0) for name in class_names], np.int64)
    if not values.any():
        raise SpecError(f"The annotation has none of the classes {', '.join(class_names)}. Give them the same names.")
    return values


def _middle(box: Box) -> Box:
    """Return the middle of what is shown, no wider than a person can look over."""
    sides = []
    for start, stop in box:
        start += max(0, stop - start - _WIDEST) // 2
        sides.append((start, min(stop, start + _WIDEST)))
    return Box(*sides)


def _to_voxels(space: Space, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    matrix, shift = space.matrix
    return np.asarray(np.linalg.solve(matrix, (points - shift).T).T)


def _read(chosen: LayerVolume, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the values of single voxels (n, 3), of which the box around them is read."""
    low, high = places.min(axis=0), places.max(axis=0) + 1
    part = np.asarray(chosen.volume.data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
    return np.asarray(part[tuple((places - low).T)], np.int64)


def outline_held_out(run: Training) -> None:
    """Outline the annotation that is held out, each box in a layer of its own."""
    viewer = run.viewer
    for old in [layer for layer in viewer.layers if layer.metadata.get(_OUTLINE)]:
        viewer.layers.remove(old)
    for part in run.held_out:
        chosen = run.pairs[part.pair].image
        name = f"{chosen.volume.name}, held out"
        place = place_of(chosen, [start for start, _ in part.box])
        data, keywords = place.spread(np.broadcast_to(np.uint8(0), part.box.shape)), place.keywords
        active = viewer.layers.selection.active
        layer = unwrap(viewer.add_labels(data, name=name, metadata=ILLUSTRATION | {_OUTLINE: True}, **keywords))
        layer.bounding_box.line_color = OUT_COLOUR
        layer.bounding_box.line_thickness = 2
        layer.bounding_box.points = False
        layer.bounding_box.visible = True
        layer.editable = False
        viewer.layers.selection.active = active

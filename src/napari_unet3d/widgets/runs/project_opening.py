"""What of a project is found and read beside the window, and what becomes of it there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.errors import Unet3dError, VolumeError
from napari_unet3d.tasks.projects.annotation import KeptAnnotation
from napari_unet3d.tasks.projects.folder import Project, find_projects
from napari_unet3d.tasks.projects.record import AnnotationRecord, ImageRecord
from napari_unet3d.widgets.layers.colours import annotation_colormap, annotation_features
from napari_unet3d.widgets.layers.meanings import metadata_of
from napari_unet3d.widgets.layers.placing import is_time, name_extra_axis, place_of
from napari_unet3d.widgets.layers.volumes import image_path, layer_volume, unwrap

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels


@dataclass(frozen=True, eq=False)
class GoneOn:
    """What was opened of a project: its layers, what could not be read, and what the tabs were set to."""

    project: Project
    layers: tuple[Labels, ...]
    problems: tuple[str, ...]
    settings: Mapping[str, Any]


Loaded = tuple[AnnotationRecord, KeptAnnotation, Any] | str


def load_annotations(project: Project, open_already: set[Path]) -> list[Loaded]:
    """Return what was painted and is not open, the latest last; or why it cannot be read. In any thread."""
    found: list[Loaded] = []
    for record in sorted(project.record.annotations, key=lambda one: one.saved):
        if not record.voxels_painted or project.annotations / record.file in open_already:
            continue
        try:
            store = KeptAnnotation(project.annotations / record.file)
            found.append((record, store, store.load()))
        except Unet3dError as error:
            found.append(str(error))
    return found


def find_project(image: Image, homes: Sequence[Path], wanted: Path | None) -> tuple[ImageRecord | None, Project | None]:
    """Return which image it is, and its project; the wanted one, if that is among them. In any thread."""
    try:
        record = record_of(image)
    except Unet3dError:
        return None, None
    found = find_projects(record, homes)
    return record, next((project for project in found if project.path == wanted), found[0] if found else None)


def record_of(image: Image) -> ImageRecord:
    """Return which image it is.

    Raises
    ------
    VolumeError
        If its voxels cannot be read.
    """
    data = image.data[0] if getattr(image, "multiscale", False) else image.data
    try:
        return ImageRecord.of(data, path=image_path(image), name=str(image.name))
    except Exception as error:  # arrays of other plugins raise what they like
        raise VolumeError(f"'{image.name}' cannot be read: {type(error).__name__}: {error}") from error


def add_annotation(viewer: ViewerModel, image: Image, record: AnnotationRecord, labels: npt.NDArray[Any]) -> Labels:
    """Add annotation as a layer, with its name, its place and the look that it had."""
    names = record.meanings.class_names if record.meanings is not None else record.class_names
    looks: dict[str, Any] = {}
    if record.meanings is not None:
        looks["metadata"] = metadata_of(record.meanings)
        if record.meanings == Meanings.painted(names):
            looks |= {"colormap": annotation_colormap(names), "features": annotation_features(names)}
    shown, place = _place_again(image, record, labels)
    layer: Labels = unwrap(viewer.add_labels(shown, name=record.name, **looks, **place))
    return layer


def _place_again(image: Image, record: AnnotationRecord, labels: npt.NDArray[Any]) -> tuple[Any, dict[str, Any]]:
    """Return annotation as its layer has it, and where that lies."""
    if labels.ndim == 4 == image.ndim:
        return labels, {name: getattr(image, name) for name in ("scale", "translate", "units", "axis_labels")}
    if labels.ndim != 3:
        return labels, {}
    if not record.lies_on_image:
        return labels, {"scale": record.voxel_size, "translate": record.translate, "units": (record.unit,) * 3}
    if record.time_axis is not None and image.ndim == 4:
        name_extra_axis(image, record.time_axis, "t")
    if record.time_point is None and is_time(image):
        # It belongs to all of it.
        return labels, layer_volume(image).space.keywords
    place = place_of(layer_volume(image, position=record.time_point or 0))
    return place.spread(labels), place.keywords


def write_settings(project: Project, settings: Mapping[str, Any]) -> bool:
    """Write what the tabs are set to, and return whether that was possible; in any thread."""
    try:
        project.update(lambda record: record.model_copy(update={"settings": dict(settings)}))
    except Unet3dError:
        return False
    return True

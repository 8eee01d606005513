"""A labels layer whose voxels are kept on disk: what has changed, when it was saved, and what is written of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy.typing as npt

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.tasks.projects.annotation import KeptAnnotation
from napari_unet3d.tasks.projects.folder import Project
from napari_unet3d.tasks.projects.record import AnnotationRecord
from napari_unet3d.widgets.layers.strokes import StrokeWatch

if TYPE_CHECKING:
    from napari.layers import Image, Labels

_SAVE_AFTER_MS = 2000
_TRY_AGAIN_MS = 20_000


@dataclass(frozen=True, eq=False)
class Painting:
    """What the window knows of an annotation when it is saved: taken in its thread, written in another."""

    labels: npt.NDArray[Any]
    name: str
    meanings: Meanings | None
    class_names: tuple[str, ...]
    lies_on_image: bool
    voxel_size: tuple[float, float, float]
    translate: tuple[float, float, float]
    unit: str


class KeptLayer:
    """One labels layer whose voxels are kept.

    Attributes
    ----------
    project, store
        Where they are; None before the first stroke.
    is_changed, is_saving
        Since it was saved; in a thread, now.
    saved
        When the last voxel was written, in seconds of `time.monotonic`; None before that.
    problem
        Why it could not be saved, as a sentence, or nothing.
    """

    def __init__(self, layer: Labels, image: Image, call: Callable[[KeptLayer], None]) -> None:
        from napari_unet3d.widgets.host.aside import Aside, Later

        self.layer, self.image = ref(layer), ref(image)
        self.project: Project | None = None
        self.store: KeptAnnotation | None = None
        self.saved: float | None = None
        self.is_changed = self.is_saving = False
        self.problem = ""
        self.aside = Aside()
        self.later = Later(lambda: call(self), _SAVE_AFTER_MS)
        self.again = Later(lambda: call(self), _TRY_AGAIN_MS)
        self._watch = StrokeWatch(layer, self._on_stroke)

    def _on_stroke(self) -> None:
        self.is_changed = True
        # No later than two seconds after the first of many strokes.
        self.later.soon()

    def end(self) -> None:
        """Save nothing more."""
        self.later.cancel()
        self.again.cancel()


def save_annotation(project: Project, kept: KeptLayer, told: Painting) -> None:
    """Write the chunks that have changed, and what is known of the annotation; in any thread.

    Raises
    ------
    OutputError
        If something cannot be written.
    """
    store = kept.store
    if store is None or not store.is_there or (store.shape, store.dtype) != (told.labels.shape, told.labels.dtype):
        store = kept.store = KeptAnnotation.create(
            project.new_annotation_file(told.name),
            told.labels.shape,
            told.labels.dtype,
            voxel_size=told.voxel_size,
            translate=told.translate,
            unit=told.unit,
        )
    record = AnnotationRecord(
        file=store.path.name,
        name=told.name,
        class_names=told.class_names,
        meanings=told.meanings,
        saved=datetime.now(UTC),
        voxels_painted=store.save(told.labels),
        lies_on_image=told.lies_on_image,
        voxel_size=told.voxel_size,
        translate=told.translate,
        unit=told.unit,
    )
    project.update(lambda known: known.with_annotation(record))

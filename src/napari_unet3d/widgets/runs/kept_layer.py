"""A labels layer whose voxels are kept on disk: what has changed, when it was saved, and what is written of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
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

# Labels of more bytes are not written while the window waits.
LARGE_BYTES = 1 << 26
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
    time_axis: int | None
    time_point: int | None

    @property
    def called(self) -> tuple[Any, ...]:
        """Return what it is called and what its values mean."""
        return self.name, self.meanings, self.class_names


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
    writing
        Held by whoever writes.
    called
        What it was called and meant when it was saved last.
    is_ended
        The layer is gone, or its window.
    """

    def __init__(self, layer: Labels, image: Image, call: Callable[[KeptLayer], None]) -> None:
        from napari_unet3d.widgets.host.aside import Aside, Later

        self.layer, self.image = ref(layer), ref(image)
        self.project: Project | None = None
        self.store: KeptAnnotation | None = None
        self.saved: float | None = None
        self.is_changed = self.is_saving = False
        self.problem = ""
        self.aside = Aside(is_kept=True)
        self.later = Later(lambda: call(self), _SAVE_AFTER_MS)
        self.again = Later(lambda: call(self), _TRY_AGAIN_MS)
        self.is_ended = False
        self.writing = Lock()
        self.called: tuple[Any, ...] | None = None
        self._watch = StrokeWatch(layer, self.on_change)
        if self._watch.has_strokes:
            # Painted before anybody looked.
            self.on_change()

    def on_change(self) -> None:
        """Save, a moment later."""
        self.is_changed = True
        # No later than two seconds after the first of many strokes.
        self.later.soon()

    def end(self) -> None:
        """Save nothing more."""
        self.is_ended = True
        self.later.cancel()
        self.again.cancel()


def is_large(layer: Labels) -> bool:
    """Return whether the voxels of a layer take so long to write that the window does not wait for them."""
    n_bytes: int = math.prod(layer.data.shape) * layer.data.dtype.itemsize
    return n_bytes > LARGE_BYTES


def save_annotation(project: Project, kept: KeptLayer, told: Painting) -> None:
    """Write the chunks that have changed, and what is known of the annotation; in any thread.

    Raises
    ------
    OutputError
        If something cannot be written.
    """
    store = kept.store
    dtype = told.labels.dtype.newbyteorder("=")
    if store is None or not store.is_there or (store.shape, store.dtype) != (told.labels.shape, dtype):
        store = kept.store = KeptAnnotation.create(
            project.new_annotation_file(told.name),
            told.labels.shape,
            dtype,
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
        time_axis=told.time_axis,
        time_point=told.time_point,
    )
    project.update(lambda known: known.with_annotation(record))

"""What `project.json` says: which image it is, what was painted on it, and what was chosen."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
from pydantic import Field

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.tiles.plan import Readable
from napari_unet3d.tasks.specs import Spec

FORMAT_VERSION = 1
# The part of an image that is compared, in the middle of each axis.
_FINGERPRINT_VOXELS = 32


class ImageRecord(Spec):
    """Which image it is, whatever it is called.

    Attributes
    ----------
    path
        Where it lay, with what chooses an array in a file; empty for an image that is in no file.
    name
        What it was called in the window.
    shape, dtype
        As it is stored, all axes.
    fingerprint
        A checksum of the voxels in the middle.
    """

    path: str = ""
    name: str = ""
    shape: tuple[int, ...]
    dtype: str
    fingerprint: str

    @classmethod
    def of(cls, voxels: Readable, *, path: str = "", name: str = "") -> ImageRecord:
        """Return the record of an image; reads its middle alone."""
        shape = tuple(int(n) for n in voxels.shape)
        half = _FINGERPRINT_VOXELS // 2
        box = tuple(slice(max(0, n // 2 - half), min(n, n // 2 + half)) for n in shape)
        middle = np.asarray(voxels[box])
        return cls(
            path=path,
            name=name,
            shape=shape,
            dtype=str(middle.dtype),
            fingerprint=f"{zlib.crc32(middle.tobytes()):08x}",
        )

    def is_same(self, other: ImageRecord) -> bool:
        """Return whether both are the same voxels, wherever they lie."""
        ours, theirs = ((one.shape, one.dtype, one.fingerprint) for one in (self, other))
        return ours == theirs


class AnnotationRecord(Spec):
    """What is known of one annotation.

    Attributes
    ----------
    file
        The OME-Zarr in the folder `annotation` of the project.
    name
        Of the layer.
    class_names, meanings
        Of its values; None where nobody has said what they mean.
    saved
        When a voxel of it was last written.
    voxels_painted
        How many voxels are not 0.
    lies_on_image
        Its voxels are those of the image, one for one.
    voxel_size, translate, unit
        Where it lies otherwise; (z, y, x).
    time_axis, time_point
        Which time point of the image it belongs to, and the axis of the image along which that is counted; None where
        the image has no such axis, or it belongs to all of it.
    """

    file: str = Field(pattern=r"^[^/\\]+\.ome\.zarr$")
    name: str
    class_names: tuple[str, ...] = ()
    meanings: Meanings | None = None
    saved: datetime
    voxels_painted: int = 0
    lies_on_image: bool = True
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    translate: tuple[float, float, float] = (0.0, 0.0, 0.0)
    unit: str = "pixel"
    time_axis: int | None = None
    time_point: int | None = None


class ProjectRecord(Spec):
    """What `project.json` holds.

    Attributes
    ----------
    image
        The image that the project belongs to.
    annotations
        What was painted on it, in the order in which it was begun.
    settings
        What the tabs were set to, by the name of the tab.
    """

    format: str = "napari-unet3d project"
    format_version: int = FORMAT_VERSION
    image: ImageRecord
    annotations: tuple[AnnotationRecord, ...] = ()
    settings: Mapping[str, Any] = Field(default_factory=dict)

    @property
    def latest(self) -> AnnotationRecord | None:
        """Return the annotation that was painted in last, or None."""
        return max(self.annotations, key=lambda found: found.saved, default=None)

    def with_annotation(self, annotation: AnnotationRecord) -> ProjectRecord:
        """Return the record with an annotation added, or in place of the one in the same file."""
        others = [found for found in self.annotations if found.file != annotation.file]
        return self.model_copy(update={"annotations": (*others, annotation)})

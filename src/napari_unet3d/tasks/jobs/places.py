"""Where a job finds what it reads: among its arrays, or on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from napari_unet3d.core.objects.clean_up import Writable
from napari_unet3d.core.tiles.plan import Readable
from napari_unet3d.tasks.on_disk import OnDisk
from napari_unet3d.tasks.segment.files import notes_on_numbers
from napari_unet3d.tasks.specs import Spec
from napari_unet3d.volumes import Volume
from napari_unet3d.volumes.space.calibration import Calibration, calibrate

IMAGE, LABELS = "image", "labels"


class ImageCalibration(Spec):
    """What is known of the voxels of an image, where the file does not say it, or says it wrongly.

    Attributes
    ----------
    voxel_size, translate
        (z, y, x), in `unit`.
    """

    voxel_size: tuple[float, float, float]
    translate: tuple[float, float, float] = (0.0, 0.0, 0.0)
    unit: str

    @property
    def known(self) -> Calibration:
        """Return the same as a volume has it."""
        sizes, positions = (dict(zip("zyx", numbers, strict=True)) for numbers in (self.voxel_size, self.translate))
        return calibrate(sizes, self.unit, positions)


def open_image(place: OnDisk, calibration: ImageCalibration | None) -> Volume:
    """Return an image with what is known of its voxels.

    Raises
    ------
    VolumeError
        As `read_volume`.
    """
    return with_calibration(place.read(), calibration)


def with_calibration(volume: Volume, calibration: ImageCalibration | None) -> Volume:
    """Return a volume with what is known of its voxels instead of what its file says; None changes nothing."""
    if calibration is None:
        return volume
    return replace(volume, calibration=calibration.known, notes=notes_on_numbers(volume))


def open_readable(
    place: OnDisk | None, name: str, arrays: Mapping[str, Writable], kind: Literal["image", "labels"] = "image"
) -> Readable | None:
    """Return what a job reads: from disk, or else the array of that name; None if there is neither."""
    return open_with_notes(place, name, arrays, kind)[0]


def open_with_notes(
    place: OnDisk | None, name: str, arrays: Mapping[str, Writable], kind: Literal["image", "labels"] = "image"
) -> tuple[Readable | None, tuple[str, ...]]:
    """Return what a job reads, with what should be known of its numbers."""
    if place is None:
        return arrays.get(name), ()
    volume = place.read(kind)
    return volume.data, notes_on_numbers(volume)

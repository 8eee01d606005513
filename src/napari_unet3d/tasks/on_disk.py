"""A volume on disk as a value: which file, and what of it."""

from __future__ import annotations

from typing import Literal

from napari_unet3d.tasks.specs import PathText, Spec
from napari_unet3d.volumes import Volume, read_volume


class OnDisk(Spec):
    """A volume that whoever does the job reads by itself; see `read_volume`."""

    path: PathText
    axes: str | None = None
    dataset: str | None = None
    channel: int | None = None
    timepoint: int | None = None

    def read(self, kind: Literal["image", "labels"] = "image") -> Volume:
        """Return the volume.

        Raises
        ------
        VolumeError
            As `read_volume`.
        """
        return read_volume(**self.model_dump(), kind=kind)

"""The job of making augmented patches."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Literal

from napari_unet3d.errors import VolumeError
from napari_unet3d.tasks.augment.files import augment_files
from napari_unet3d.tasks.augment.patches import AugmentRequest, AugmentResult, augment
from napari_unet3d.tasks.events import Event, Note
from napari_unet3d.tasks.jobs.base import Arrays, FileJob, FileOptions
from napari_unet3d.tasks.jobs.places import IMAGE, LABELS, open_image, open_readable
from napari_unet3d.tasks.on_disk import OnDisk
from napari_unet3d.tasks.segment.files import notes_on_numbers


class AugmentJob(FileJob):
    """Make augmented patches of a volume.

    Where the volumes do not lie on disk, it reads the arrays `image` and `labels` (if there are labels). It writes the
    arrays that `augment` writes.

    Attributes
    ----------
    request
        Which patches.
    image, labels
        Where the volumes lie; None takes the arrays.
    """

    kind: Literal["augment"] = "augment"
    request: AugmentRequest
    image: OnDisk | None = None
    labels: OnDisk | None = None

    def perform(self, arrays: Arrays) -> Generator[Event, None, AugmentResult]:
        """Make the patches; see `augment`."""
        image, labels = open_readable(self.image, IMAGE, arrays), open_readable(self.labels, LABELS, arrays, "labels")
        if image is None:
            raise VolumeError("There is no image to augment.")
        return (yield from augment(self.request, image, labels, arrays))

    @property
    def is_on_disk(self) -> bool:
        """Return whether its image lies on disk."""
        return self.image is not None

    def run(self, output: Path, options: FileOptions) -> Generator[Event, None, AugmentResult]:
        """Write the patch; see `augment_files`."""
        self._refuse_cluster(options)
        self._refuse_resuming(options)
        if self.image is None:
            raise VolumeError("The job does not say where its image lies.")
        image = open_image(self.image, options.calibration)
        labels = None if self.labels is None else self.labels.read("labels")
        notes = (*image.notes, *(() if labels is None else notes_on_numbers(labels)))
        yield from map(Note, dict.fromkeys(notes))
        return (yield from augment_files(image, labels, self.request, output, overwrite=options.overwrite))

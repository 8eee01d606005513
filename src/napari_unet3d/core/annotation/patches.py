"""Where training patches are cut: around annotated voxels, every class equally often.

The rule: a class is drawn, all that are annotated with the same chance; then one of its voxels, all with the same
chance, whatever volume it lies in; then the patch is laid so that the voxel is in the middle half of what the network
gives. A patch whose deformation moved all annotation out of it is drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_unet3d.core.annotation.targets import IGNORED, Targets
from napari_unet3d.core.augment.choices import AugmentSpec
from napari_unet3d.core.augment.draw import PatchFrame
from napari_unet3d.core.augment.sampler import Patch, PatchSource
from napari_unet3d.core.normalize import Scaling
from napari_unet3d.core.tiles.plan import Readable
from napari_unet3d.errors import SpecError, VolumeError

# The number of the stream that places patches; see the streams of `core.augment.draw`.
_PLACE = 18
_ATTEMPTS = 8
_NEXT_ATTEMPT = 1 << 40


@dataclass(frozen=True, eq=False)
class AnnotatedVolume:
    """An image, what is annotated in it, and how its intensities reach the network.

    Attributes
    ----------
    image
        (z, y, x) or (z, y, x, c): anything that threads may read boxes of.
    targets
        Of the same box.
    scaling
        From intensities to the network's units.
    voxel_size
        (z, y, x), in the unit that all volumes have.
    """

    image: Readable
    targets: Targets
    scaling: Scaling
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)


class AnnotatedSource:
    """Patches around annotated voxels, one per seed.

    Parameters
    ----------
    volumes
        Volumes that patches are cut from, with their targets but without the part that is held out.
    augment
        The augmentation choices.
    frame
        The patch that is cut out; its voxel size is replaced by that of each volume.

    Raises
    ------
    SpecError
        If nothing is annotated.
    """

    def __init__(self, volumes: Sequence[AnnotatedVolume], augment: AugmentSpec, frame: PatchFrame) -> None:
        self._volumes = tuple(volumes)
        self._counts = np.array([volume.targets.counts for volume in volumes])
        self._classes = np.flatnonzero(self._counts.sum(axis=0)) if len(volumes) else np.array([], int)
        if not len(self._classes):
            raise SpecError("There are no annotated voxels to learn from.")
        self._augment = augment
        self._frame = frame

    def patch(self, seed: int, *, threads: int = 1) -> Patch:
        """Return the patch with a seed; its labels are classes, or `IGNORED`.

        Raises
        ------
        VolumeError
            If the image holds NaN or infinity there.
        """
        for attempt in range(_ATTEMPTS):
            patch = self._drawn(seed + attempt * _NEXT_ATTEMPT, threads)
            if patch.labels is not None and (patch.labels != IGNORED).any():
                break
        if not np.isfinite(patch.image).all():
            raise VolumeError(
                f"The image holds NaN, infinity or numbers that are too large in {patch.sample.place} (z, y, x); "
                "replace them first."
            )
        return patch

    def place(self, seed: int) -> tuple[int, tuple[int, int, int]]:
        """Return the volume that a patch is cut from, and where."""
        rng = np.random.default_rng([seed, _PLACE])
        index = int(rng.choice(self._classes))
        counts = self._counts[:, index]
        number = int(rng.integers(0, counts.sum()))
        which = int(np.searchsorted(np.cumsum(counts), number, side="right"))
        targets = self._volumes[which].targets
        voxel = targets.voxel(index, number - int(counts[:which].sum()))
        corner = []
        for at, (start, stop), n in zip(voxel, self._frame.output, targets.shape, strict=True):
            length = stop - start
            first = at - int(rng.integers(length // 4, length - length // 4))
            # What the network gives lies in the volume, or around it where the volume is smaller.
            first = min(max(first, 0), n - length) if n >= length else (n - length) // 2
            corner.append(first - start)
        return which, (corner[0], corner[1], corner[2])

    def _drawn(self, seed: int, threads: int) -> Patch:
        which, corner = self.place(seed)
        volume = self._volumes[which]
        frame = self._frame.model_copy(update={"voxel_size": volume.voxel_size})
        source = PatchSource(
            volume.image, volume.targets, self._augment, frame, volume.scaling, corner=lambda _: corner
        )
        return source.patch(seed, threads=threads)

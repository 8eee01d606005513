"""Ready patches for training: made in background threads, in an order that depends on the seed alone.

Every patch is made by one thread from its own seed, so what comes is the same for any number of threads. The patches
that are ready wait in a ring of fixed length, which bounds the memory.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.augment.choices import AugmentSpec
from napari_unet3d.core.augment.draw import PatchFrame, Sample, augment_image, augment_labels, draw_corner, draw_sample
from napari_unet3d.core.normalize import Scaling
from napari_unet3d.core.tiles.plan import Readable


@dataclass(frozen=True, eq=False)
class Patch:
    """An augmented patch.

    Attributes
    ----------
    sample
        What was done to it.
    image
        (z, y, x) or (z, y, x, c) float32.
    labels
        (z, y, x) of the labels' type: the part that the network gives; None where there are none.
    """

    sample: Sample
    image: npt.NDArray[np.float32]
    labels: npt.NDArray[Any] | None


@dataclass(frozen=True, eq=False)
class PatchSource:
    """A volume with its labels, and how patches of it are augmented.

    Attributes
    ----------
    image, labels
        (z, y, x[, c]) and (z, y, x), or None: anything that threads may read boxes of.
    spec, frame
        The augmentation choices, and the patch that is cut out.
    scaling
        Scaling to the network's units; None leaves intensities as they are.
    corner
        Gives the first voxel of the patch with a seed; None takes the whole volume evenly.
    """

    image: Readable
    labels: Readable | None
    spec: AugmentSpec
    frame: PatchFrame
    scaling: Scaling | None = None
    corner: Callable[[int], tuple[int, int, int]] | None = None

    def sample(self, seed: int) -> Sample:
        """Return what is done to the patch with a seed, and where it is cut."""
        z, y, x = self.image.shape[:3]
        corner = draw_corner(self.frame, (z, y, x), seed) if self.corner is None else self.corner(seed)
        return draw_sample(self.spec, self.frame, corner, seed)

    def patch(self, seed: int, *, threads: int = 1) -> Patch:
        """Return the patch with a seed."""
        sample = self.sample(seed)
        image = augment_image(sample, self.image, scaling=self.scaling, threads=threads)
        labels = None if self.labels is None else augment_labels(sample, self.labels, threads=threads)
        return Patch(sample, image, labels)


class Source(Protocol):
    """Something that has a patch for every seed, the same one whenever it is asked, in any thread."""

    def patch(self, seed: int, *, threads: int = 1) -> Patch:
        """Return the patch with a seed."""


class PatchSampler:
    """Yields the patches with the seeds `seed`, `seed` + 1, ..; a context manager that ends its threads.

    Parameters
    ----------
    source
        The volume and its augmentation.
    seed
        Seed of the first patch.
    threads
        Number of threads, one patch each.
    ahead
        Number of patches that may be ready or in the making.

    Attributes
    ----------
    waited
        Seconds that the consumer has waited for patches so far.
    next_seed
        Seed of the patch that comes next, to go on after a break.

    Examples
    --------
    ::

        with PatchSampler(source, seed=0, threads=2) as patches:
            for patch in patches:
                step(patch.image, patch.labels)
    """

    def __init__(self, source: Source, *, seed: int = 0, threads: int = 1, ahead: int = 4) -> None:
        if threads < 1 or ahead < 1:
            raise ValueError(f"at least one thread and one patch are needed, not {threads} and {ahead}")
        self.waited = 0.0
        self.next_seed = seed
        self._source = source
        self._ahead = ahead
        self._asked = seed
        self._pool = ThreadPoolExecutor(threads, "unet3d-patches")
        self._ring: deque[Future[Patch]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Patch]:
        return self

    def __next__(self) -> Patch:
        self._fill()
        begun = time.perf_counter()
        patch = self._ring[0].result()
        self.waited += time.perf_counter() - begun
        self._ring.popleft()
        self.next_seed += 1
        self._fill()
        return patch

    def close(self) -> None:
        """End the threads; what is in the making is waited for and dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._ring.clear()

    def _fill(self) -> None:
        while len(self._ring) < self._ahead:
            self._ring.append(self._pool.submit(self._source.patch, self._asked))
            self._asked += 1

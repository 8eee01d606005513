"""Augmented patches to look at or to keep: the same samples, by the same functions, that training gets.

One patch, or several side by side for comparison; box by box, so that what is looked at comes first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, model_validator

from napari_unet3d.core.augment.choices import AugmentSpec
from napari_unet3d.core.augment.deformation import Deformation
from napari_unet3d.core.augment.draw import PatchFrame, Sample, augment_image, augment_labels
from napari_unet3d.core.augment.intensity import Intensity
from napari_unet3d.core.augment.resample import hold, resample, resample_labels
from napari_unet3d.core.augment.sampler import PatchSource
from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.normalize import Normalization, Scaling, ScalingNumbers, measure
from napari_unet3d.core.objects.clean_up import Writable
from napari_unet3d.core.tiles.plan import Readable
from napari_unet3d.core.unet.geometry import LONGEST_PATCH
from napari_unet3d.errors import SpecError, VolumeError
from napari_unet3d.tasks.events import Event, Note, Progress, TileDone
from napari_unet3d.tasks.specs import Spec
from napari_unet3d.words import times

# The names of the arrays that a job writes.
PATCH, PATCH_LABELS, GRID = "patch", "patch labels", "grid"
# Distance of the sheets of the grid that is shown deformed, as parts of the longest side of the patch.
_SHEETS = 8
_PLANES_A_STEP = 32


class AugmentRequest(Spec):
    """Which patches of a volume are wanted.

    Attributes
    ----------
    augment
        What may be done to them.
    frame
        What is cut out.
    seeds
        Of the patches; more than one are laid side by side, each the part that the network gives.
    corner
        Where the patches lie, (z, y, x) in voxels of the volume; None draws a place for each.
    normalization
        From intensities to the network's units.
    scaling
        The numbers of a `Scaling`, if they were measured before; None measures them.
    first
        What is wanted before the rest, in voxels of the patch.
    replay
        A sample that was drawn before, to be made again; then nothing is drawn.
    """

    augment: AugmentSpec = AugmentSpec()
    frame: PatchFrame
    seeds: tuple[NonNegativeInt, ...] = Field(default=(0,), min_length=1)
    corner: Shape | None = None
    normalization: Normalization = Normalization(kind="background")
    scaling: ScalingNumbers | None = None
    first: Box | None = None
    replay: Sample | None = None

    @model_validator(mode="after")
    def _fits_a_memory(self) -> AugmentRequest:
        if max(self.frame.shape) > LONGEST_PATCH:
            raise SpecError(
                f"A patch of {max(self.frame.shape):,} voxels along an axis is too long; at most {LONGEST_PATCH:,} are "
                "possible."
            )
        return self


class AugmentResult(Spec):
    """What was done.

    Attributes
    ----------
    samples
        One a seed.
    folded
        For each, the share of the patch in which the displacement folds the volume over itself.
    normalization, scaling
        As it was asked for, and the numbers of the `Scaling` that it gave.
    preparing_seconds, seconds
        How long the compiler took, or the reading of what it made before; and the rest.
    """

    kind: Literal["augment"] = "augment"
    samples: tuple[Sample, ...]
    folded: tuple[float, ...]
    normalization: Normalization
    scaling: ScalingNumbers
    preparing_seconds: float
    seconds: float


def source_of(request: AugmentRequest, image: Readable, labels: Readable | None, scaling: Scaling) -> PatchSource:
    """Return where the patches come from: what the sampler of training is given."""
    corner = request.corner
    return PatchSource(
        image,
        labels,
        request.augment,
        request.frame,
        scaling,
        None if corner is None else lambda seed: corner,
    )


def augment(
    request: AugmentRequest,
    image: Readable,
    labels: Readable | None,
    sinks: Mapping[str, Writable],
    *,
    threads: int = 2,
) -> Generator[Event, None, AugmentResult]:
    """Make patches; a generator whose every event is a safe point to stop.

    Parameters
    ----------
    request
        Which.
    image, labels
        (z, y, x[, c]) and (z, y, x) of the same shape, or None.
    sinks
        `PATCH` takes the image, float32, and `PATCH_LABELS` the labels, of their type; both are optional, and so is
        `GRID`, which takes the sheets of a regular grid, deformed like the image. For one patch they have the shape of
        the frame, of its output and of the frame; for several that of `mosaic`.
    threads
        How many work on a patch.

    Raises
    ------
    VolumeError
        If the labels have another shape, or the image holds NaN or infinity where it is needed.
    """
    check_shapes(image, labels)
    yield Progress("preparing", 0, 1)
    begun = time.perf_counter()
    prepare(_dtype(image), None if labels is None else _dtype(labels))
    preparing = time.perf_counter() - begun
    scaling = measure(request.normalization, image) if request.scaling is None else Scaling(*request.scaling)
    for note in scaling.notes:
        yield Note(note)
    source = source_of(request, image, labels, scaling)
    samples = (request.replay,) if request.replay is not None else tuple(map(source.sample, request.seeds))
    frame = request.frame
    if len(samples) == 1:
        yield from _one(samples[0], source, sinks, request.first, threads)
    else:
        places = mosaic(len(samples), frame.output.shape)[1]
        for number, (sample, place) in enumerate(zip(samples, places, strict=True), start=1):
            _write(sample, source, sinks, (frame.output, place), (frame.output, place), threads)
            yield TileDone(place, number, len(samples), 0.0)
    return AugmentResult(
        samples=samples,
        folded=tuple(sample.folded for sample in samples),
        normalization=request.normalization,
        scaling=scaling.numbers,
        preparing_seconds=preparing,
        seconds=time.perf_counter() - begun - preparing,
    )


def prepare(image: np.dtype[Any], labels: np.dtype[Any] | None) -> None:
    """Compile what volumes of these types need, or read what was compiled before: seconds once, then nothing."""
    box, small = Box.whole((2, 2, 2)), Deformation(shape=(2, 2, 2), centre=(0.5, 0.5, 0.5))
    Intensity(blur=(1.0, 1.0, 1.0)).apply(resample(np.zeros((2, 2, 2), image), small), box, box.shape)
    if labels is not None:
        resample_labels(np.zeros((2, 2, 2), labels), small)


def _dtype(volume: Readable) -> np.dtype[Any]:
    return np.asarray(volume[0:1, 0:1, 0:1]).dtype


def mosaic(n: int, shape: Shape) -> tuple[Shape, list[Box]]:
    """Return where `n` patches of a shape lie side by side in y and x, and the shape of all.

    Examples
    --------
    >>> shape, places = mosaic(3, (8, 30, 30))
    >>> shape, places[2]
    ((8, 62, 62), Box(z=(0, 8), y=(32, 62), x=(0, 30)))
    """
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    depth, height, width = shape
    gap = max(2, max(height, width) // 32)
    places = [
        Box.whole(shape).shifted((0, number // columns * (height + gap), number % columns * (width + gap)))
        for number in range(n)
    ]
    return (depth, rows * (height + gap) - gap, columns * (width + gap) - gap), places


def _one(
    sample: Sample, source: PatchSource, sinks: Mapping[str, Writable], first: Box | None, threads: int
) -> Generator[Event, None, None]:
    whole, inner = Box.whole(sample.frame.shape), sample.frame.output
    starts = range(0, whole.z[1], _PLANES_A_STEP)
    boxes = [Box((z, min(z + _PLANES_A_STEP, whole.z[1])), whole.y, whole.x) for z in starts]
    has_first = first is not None and first.intersection(whole).n_voxels > 0
    if first is not None and has_first:
        boxes.insert(0, first.intersection(whole))
        # That may be all.
        boxes = boxes[:1] if boxes[0] == whole else boxes
    for number, box in enumerate(boxes, start=1):
        if number == 1 + has_first:
            # Read once: turned planes are made from nearly the same voxels, all of them.
            held = hold(source.image, sample.deformation, whole)
            held_labels = None if source.labels is None else hold(source.labels, sample.deformation, whole)
            source = replace(source, image=held, labels=held_labels)
        part = box.intersection(inner)
        at = part.shifted((-inner.z[0], -inner.y[0], -inner.x[0]))
        _write(sample, source, sinks, (box, box), (part, at), threads)
        yield TileDone(box, number, len(boxes), 0.0)


def _write(
    sample: Sample,
    source: PatchSource,
    sinks: Mapping[str, Writable],
    image: tuple[Box, Box],
    labels: tuple[Box, Box],
    threads: int,
) -> None:
    """Make a box of a patch, and one of its labels, and put each into its place in its sink."""
    box, place = image
    if PATCH in sinks:
        values = augment_image(sample, source.image, box, scaling=source.scaling, threads=threads)
        if not np.isfinite(values).all():
            raise VolumeError(
                "Where the patch lies the image holds NaN, infinity or numbers that are too large; replace them first."
            )
        sinks[PATCH][place.slices] = values
    if GRID in sinks:
        sinks[GRID][place.slices] = resample(_Sheets(source.image, sample), sample.deformation, box, threads=threads)
    part, at = labels
    if PATCH_LABELS in sinks and source.labels is not None and part.n_voxels:
        sinks[PATCH_LABELS][at.slices] = augment_labels(sample, source.labels, part, threads=threads)


class _Sheets:
    """A volume with a regular grid in it, 1 on the sheets and 0 between: what a deformation does to it can be seen."""

    dtype = np.dtype(np.uint8)

    def __init__(self, image: Readable, sample: Sample) -> None:
        z, y, x = image.shape[:3]
        self.shape = (z, y, x)
        self._corner = sample.corner
        self._distance = max(4, max(sample.frame.shape) // _SHEETS)
        # Planes that stay planes would fill the slices they lie in.
        self._axes = (1, 2) if np.allclose(sample.deformation.matrix[0], [1, 0, 0]) else (0, 1, 2)

    def __getitem__(self, box: tuple[slice, slice, slice]) -> Any:
        is_sheet = np.zeros([part.stop - part.start for part in box], bool)
        for axis in self._axes:
            at = (np.arange(box[axis].start, box[axis].stop) - self._corner[axis]) % self._distance == 0
            is_sheet |= at.reshape([-1 if a == axis else 1 for a in range(3)])
        return is_sheet.view(np.uint8)


def check_shapes(image: Readable, labels: Readable | None) -> None:
    """Refuse labels that do not cover the image.

    Raises
    ------
    VolumeError
        With both shapes.
    """
    if labels is not None and tuple(image.shape[:3]) != tuple(labels.shape):
        raise VolumeError(
            f"The image has {times(image.shape[:3])} voxels and the labels {times(labels.shape)} (z, y, x); they must "
            "cover the same box."
        )

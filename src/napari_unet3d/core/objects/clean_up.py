"""From probabilities to clean labels: hysteresis, small objects, instances, out of core.

A component of weak evidence stays if it holds strong evidence and has enough voxels. Components are
followed through a volume of any size in slabs along z: memory is bounded by the slab, the result does
not know how thick the slabs were. No files here: arrays are read and written by boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_unet3d.core.objects.components import Booleans, Survey, label_slab
from napari_unet3d.core.tiles.plan import Readable
from napari_unet3d.errors import SpecError

SLAB_VOXELS = 1 << 25
# What a voxel of a slab may take at the most. It takes some 20, but TensorFlow keeps what its largest tile took.
BYTES_PER_SLAB_VOXEL = 128
MAX_CLASSES = 127


class Writable(Readable, Protocol):
    """A `Readable` that is written by boxes of slices, too: a NumPy array, or an output on disk."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the integer type that values are cast to."""

    def __setitem__(self, box: Any, values: Any, /) -> None:
        """Write the voxels of a tuple of slices."""


class Cleanup(BaseModel):
    """How objects are cleaned up: which are kept, and how they grow.

    Attributes
    ----------
    high
        Object probability above which a voxel is a seed, strong evidence.
    low
        Object probability above which a voxel belongs to the component of a seed, weak evidence.
    min_voxels
        Components with fewer voxels are removed.
    connectivity
        Neighbours of a voxel: 6 over faces, 18 over edges too, 26 over corners too.
    instances
        Number the components 1 .. n instead of writing their classes.

    Raises
    ------
    pydantic.ValidationError
        If `low` is above `high`, or one of them lies outside [0, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    high: float = Field(default=0.98, ge=0.0, le=1.0)
    low: float = Field(default=0.2, ge=0.0, le=1.0)
    min_voxels: int = Field(default=2000, ge=0, lt=1 << 63)
    connectivity: Literal[6, 18, 26] = 6
    instances: bool = False

    @model_validator(mode="after")
    def _low_is_not_above_high(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low is {self.low}, above high, {self.high}: seeds grow from high down to low")
        return self

    @property
    def structure(self) -> Booleans:
        """Return the neighbours of a voxel, (3, 3, 3) bool."""
        # SciPy is imported with the first array: the window opens without it.
        from scipy import ndimage

        return np.asarray(ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[self.connectivity]))


def evidence(probabilities: npt.NDArray[np.floating[Any]], cleanup: Cleanup) -> npt.NDArray[np.uint8]:
    """Return all that `clean_up` needs to know of a box, in one byte per voxel.

    Parameters
    ----------
    probabilities
        (z, y, x, classes) float in [0, 1]; class 0 is background.
    cleanup
        Where its thresholds come from.

    Returns
    -------
    numpy.ndarray
        (z, y, x) uint8: 0 where the object probability ``1 - p[background]`` is at most `low`; else
        ``2 * k`` where it is above `high` and ``2 * k - 1`` elsewhere, with k the most probable class
        other than background.

    Raises
    ------
    ValueError
        If there are not 2 to 127 classes.

    Examples
    --------
    >>> evidence(np.array([[[[0.9, 0.1], [0.5, 0.5], [0.01, 0.99]]]]), Cleanup())
    array([[[0, 1, 2]]], dtype=uint8)
    """
    n_classes = probabilities.shape[-1]
    if not 2 <= n_classes <= MAX_CLASSES:
        raise ValueError(f"probabilities have {n_classes} classes; 2 to {MAX_CLASSES} are possible")
    found = np.empty(probabilities.shape[:-1], np.uint8)
    # Plane by plane: what argmax gives has eight bytes per voxel, and a tile is as large as the memory.
    for plane, numbers in zip(probabilities, found, strict=True):
        objects = 1 - plane[..., 0]
        numbers[:] = 2 * plane[..., 1:].argmax(axis=-1) + 1
        numbers += objects > cleanup.high
        numbers[~(objects > cleanup.low)] = 0
    return found


def evident_classes(found: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the class of every voxel with evidence, weak or strong, and 0 elsewhere.

    Examples
    --------
    >>> evident_classes(np.array([0, 1, 2, 3], np.uint8))
    array([0, 1, 1, 2], dtype=uint8)
    """
    return np.asarray((found + 1) // 2, np.uint8)


def clean_up(
    evidence_in: Readable, out: Writable, cleanup: Cleanup, *, slab_voxels: int = SLAB_VOXELS
) -> Iterator[tuple[int, int]]:
    """Write the components that hold a seed and are large enough.

    Two passes over slabs along z, of which the first only reads. The memory needed is about 12 bytes for each
    voxel of a slab, and some 50 bytes for each component that touches the face of a slab.

    Parameters
    ----------
    evidence_in
        (z, y, x) integers, as from `evidence`.
    out
        (z, y, x) integers; every voxel is written. May be `evidence_in` itself.
    cleanup
        What counts as an object; its thresholds were used by `evidence`.
    slab_voxels
        Voxels of a slab; it has at least one plane.

    Yields
    ------
    tuple of int
        Slabs done, and slabs in all, both passes counted. A safe point to stop: nothing is half-written, but
        where `out` is `evidence_in`, slabs of the second pass cannot be cleaned up again.

    Raises
    ------
    SpecError
        If `out` cannot hold the number of instances. Nothing is written then.
    ValueError
        If the shapes differ.
    """
    if tuple(evidence_in.shape) != tuple(out.shape):
        raise ValueError(f"the evidence has shape {evidence_in.shape}, but the output has {out.shape}")
    slabs = _slabs(tuple(evidence_in.shape), slab_voxels)
    survey = Survey(cleanup.structure, cleanup.min_voxels)
    for done, box in enumerate(slabs, start=1):
        survey.add(label_slab(np.asarray(evidence_in[box]), cleanup.structure, cleanup.min_voxels))
        yield done, 2 * len(slabs)
    census = survey.join()
    if cleanup.instances:
        _check_that_numbers_fit(census.n_objects, out.dtype)
    for done, box in enumerate(slabs, start=len(slabs) + 1):
        found = np.asarray(evidence_in[box])
        slab = label_slab(found, cleanup.structure, cleanup.min_voxels)
        out[box] = _cleaned(found, slab.labels, census.numbers(slab), out.dtype, instances=cleanup.instances)
        yield done, 2 * len(slabs)


def _cleaned(
    found: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    numbers: npt.NDArray[np.int64],
    dtype: np.dtype[Any],
    *,
    instances: bool,
) -> npt.NDArray[Any]:
    """Return what is written of a slab, (z, y, x): the numbers of its objects, or their classes."""
    cleaned = np.empty(found.shape, dtype)
    numbers_written, stays = numbers.astype(dtype), numbers > 0
    for here, plane, ids in zip(cleaned, found, labels, strict=True):
        here[:] = numbers_written[ids] if instances else np.where(stays[ids], (plane + 1) // 2, 0)
    return cleaned


def _slabs(shape: tuple[int, ...], slab_voxels: int) -> list[tuple[slice, slice, slice]]:
    n_z, n_y, n_x = shape
    depth = max(1, slab_voxels // max(1, n_y * n_x))
    return [(slice(z, min(z + depth, n_z)), slice(0, n_y), slice(0, n_x)) for z in range(0, n_z, depth)]


def _check_that_numbers_fit(n_objects: int, dtype: np.dtype[Any]) -> None:
    largest = np.iinfo(dtype).max
    if n_objects > largest:
        fitting = np.min_scalar_type(n_objects)
        raise SpecError(
            f"There are {n_objects:,} objects, but labels of type {dtype} number at most {largest:,}. "
            f"Choose {fitting} for the output, or raise min_voxels to keep fewer objects."
        )

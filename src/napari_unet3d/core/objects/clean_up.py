"""From probabilities to clean labels: hysteresis, small objects, instances, out of core.

A component of weak evidence stays if it holds strong evidence and has enough voxels. Components are followed through a
volume of any size in blocks: memory is bounded by the block, and the result does not depend on the blocks. No files
here: arrays are read and written by boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_unet3d.core.objects.blocks import BlockGrid, Placed, cut_into_blocks
from napari_unet3d.core.objects.components import Block, Booleans, Survey, label_block
from napari_unet3d.core.objects.table import ObjectTable
from napari_unet3d.core.tiles.plan import Readable
from napari_unet3d.errors import SpecError

BLOCK_VOXELS = 1 << 25
# What a voxel of a block may take at the most. It takes some 20, but TensorFlow keeps what its largest tile took.
BYTES_PER_BLOCK_VOXEL = 128
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
    evidence_in: Readable,
    out: Writable | Callable[[int], Writable],
    cleanup: Cleanup,
    *,
    block_voxels: int = BLOCK_VOXELS,
    table: ObjectTable | None = None,
) -> Iterator[tuple[int, int]]:
    """Write the components that hold a seed and are large enough.

    Two passes over blocks, of which the first only reads. The memory needed is about 12 bytes for each voxel of a
    block, 8 for each object, and some 50 for each component that touches the face of a block.

    Parameters
    ----------
    evidence_in
        (z, y, x) integers, as from `evidence`. What is stored in files says of what shape they are (`file_shape`).
    out
        (z, y, x) integers; every voxel is written. May be `evidence_in` itself. Or what makes it from the number of
        objects, once that is known.
    cleanup
        What counts as an object; its thresholds were used by `evidence`.
    block_voxels
        Voxels of a block at most.
    table
        What takes note of each object.

    Yields
    ------
    tuple of int
        Blocks done, and blocks in all, both passes counted. A safe point to stop: nothing is half-written, but
        where `out` is `evidence_in`, blocks of the second pass cannot be cleaned up again.

    Raises
    ------
    SpecError
        If `out` cannot hold the number of instances. Nothing is written then.
    ValueError
        If the shapes differ.
    """
    if not callable(out):
        _check_shapes(evidence_in, out)
    z, y, x = evidence_in.shape
    blocks = cut_into_blocks((z, y, x), block_voxels, getattr(evidence_in, "file_shape", (1, 1, 1)))
    survey = Survey(cleanup.structure, cleanup.min_voxels)
    for done, (_, block, placed) in enumerate(_labelled(evidence_in, blocks, cleanup), start=1):
        survey.add(block, placed)
        yield done, 2 * len(blocks)
    census = survey.join()
    if callable(out):
        out = out(census.n_objects)
        _check_shapes(evidence_in, out)
    if cleanup.instances:
        _check_that_numbers_fit(census.n_objects, out.dtype)
    if table is not None:
        table.begin(census.n_objects)
    for done, (found, block, placed) in enumerate(_labelled(evidence_in, blocks, cleanup), start=len(blocks) + 1):
        numbers = census.numbers(block)
        out[placed.box.slices] = _cleaned(found, block.labels, numbers, out.dtype, instances=cleanup.instances)
        if table is not None:
            table.add(found, block.labels, numbers, placed.box)
        yield done, 2 * len(blocks)


def _labelled(
    evidence_in: Readable, blocks: BlockGrid, cleanup: Cleanup
) -> Iterator[tuple[npt.NDArray[Any], Block, Placed]]:
    for placed in blocks:
        found = np.asarray(evidence_in[placed.box.slices])
        yield found, label_block(found, placed, blocks.shape, cleanup.structure, cleanup.min_voxels), placed


def _cleaned(
    found: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    numbers: npt.NDArray[np.int64],
    dtype: np.dtype[Any],
    *,
    instances: bool,
) -> npt.NDArray[Any]:
    """Return what is written of a block, (z, y, x): the numbers of its objects, or their classes."""
    cleaned = np.empty(found.shape, dtype)
    numbers_written, stays = numbers.astype(dtype), numbers > 0
    for here, plane, ids in zip(cleaned, found, labels, strict=True):
        here[:] = numbers_written[ids] if instances else np.where(stays[ids], (plane + 1) // 2, 0)
    return cleaned


def _check_shapes(evidence_in: Readable, out: Writable) -> None:
    if tuple(evidence_in.shape) != tuple(out.shape):
        raise ValueError(f"the evidence has shape {evidence_in.shape}, but the output has {out.shape}")


def _check_that_numbers_fit(n_objects: int, dtype: np.dtype[Any]) -> None:
    largest = np.iinfo(dtype).max
    if n_objects > largest:
        fitting = np.min_scalar_type(n_objects)
        raise SpecError(
            f"There are {n_objects:,} objects, but labels of type {dtype} number at most {largest:,}. "
            f"Choose {fitting} for the output, or raise min_voxels to keep fewer objects."
        )

"""What the values of a layer are: the range of an image, the counts of labels. Runs in threads, reads box by box."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.annotation import MAX_VALUES, add_counts, count_values
from napari_unet3d.core.normalize import SAMPLE_VOXELS, sample_voxels
from napari_unet3d.errors import Unet3dError
from napari_unet3d.volumes import Volume

_SLAB_VOXELS = 1 << 24


@dataclass(frozen=True)
class Findings:
    """What an image holds: a line, and what looks wrong."""

    line: str
    warnings: tuple[str, ...] = ()


def survey_image(volume: Volume) -> Findings:
    """Return the range of the intensities and what looks wrong with them, from a bounded sample."""
    try:
        voxels = sample_voxels(volume.data)
    except Unet3dError as error:
        return Findings("", (str(error),))
    except Exception as error:  # noqa: BLE001 - arrays of other plugins raise what they like
        return Findings("", (f"The voxels cannot be read: {type(error).__name__}: {error}",))
    is_sample = np.prod(volume.shape, dtype=float) > SAMPLE_VOXELS
    finite = voxels[np.isfinite(voxels)] if voxels.dtype.kind == "f" else voxels
    warnings = []
    if finite.size < voxels.size:
        warnings.append(f"{voxels.size - finite.size:,} values are NaN or infinite.")
    if not finite.size:
        return Findings("no finite value", tuple(warnings))
    low, high = finite.min(), finite.max()
    if low == high:
        warnings.append(f"Every voxel is {low:g}: there is nothing to see.")
    of_sample = " in a sample" if is_sample else ""
    return Findings(f"values {_number(low)} .. {_number(high)}{of_sample}", tuple(warnings))


def _number(value: Any) -> str:
    return f"{int(value):,}" if np.asarray(value).dtype.kind in "ui" else f"{float(value):.4g}"


def count_labels(data: Any) -> dict[int, int]:
    """Return how many voxels of labels have each value; slab by slab, so that memory stays small.

    Parameters
    ----------
    data
        (z, y, x) integers, or floats that are whole; in memory or not.

    Raises
    ------
    SpecError
        If a value is not a whole number.
    """
    counts: dict[int, int] = {}
    for slab in _slabs(data):
        counts = add_counts(counts, count_values(slab))
        if len(counts) > 100 * MAX_VALUES:  # instances: nobody reads a table of them
            break
    return counts


def _slabs(data: Any) -> Iterator[npt.NDArray[Any]]:
    depth = max(1, _SLAB_VOXELS // max(1, int(np.prod(data.shape[1:]))))
    for start in range(0, data.shape[0], depth):
        yield np.asarray(data[start : start + depth])

"""What the values of an image are: their range, and what looks wrong. Runs in threads, reads a bounded sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_unet3d.core.normalize import SAMPLE_VOXELS, sample_voxels
from napari_unet3d.errors import Unet3dError
from napari_unet3d.volumes import Volume


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

"""Finding out where a volume is looked at: where it is bright enough, and where a mask says so."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Shape
from napari_unet3d.core.objects.blocks import cut_into_blocks
from napari_unet3d.core.tiles.plan import Readable, TilePlan
from napari_unet3d.core.tiles.where import CELL, Cells, Packed, Where
from napari_unet3d.errors import SpecError, shown
from napari_unet3d.tasks.events import Event, Note, Progress
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes import read_volume

_BLOCK_VOXELS = 1 << 24


def look_where(volume: Readable, spec: PredictSpec, plan: TilePlan) -> Generator[Event, None, tuple[Packed, ...]]:
    """Return where a volume is looked at; none means everywhere. A note says what that saves.

    Parameters
    ----------
    volume
        (z, y, x) or (z, y, x, c). All of it is read once if it is compared with a value.
    spec
        The choices for the run.
    plan
        Its tiles.

    Raises
    ------
    SpecError
        If the mask does not suit the volume.
    """
    z, y, x = volume.shape[:3]
    found: list[Cells] = []
    if spec.mask is not None:
        found.append(read_mask(spec.mask, (z, y, x)))
    if spec.skip_below is not None:
        found.append((yield from _bright_cells(volume, spec.skip_below)))
    if found:
        n, total = Where(found).n_skipped(plan), len(plan)
        yield Note(f"{n:,} of {total:,} tiles are skipped, as there is nothing to look at: {n / total:.0%} less work.")
    return tuple(cells.pack() for cells in found)


def read_mask(path: str, shape: Shape) -> Cells:
    """Return where a mask says to look: a volume of any resolution, which covers the same place; 0 is not looked at.

    Raises
    ------
    SpecError
        If it has more voxels along an axis than the volume, or looks nowhere.
    VolumeError
        If it cannot be read.
    """
    mask = read_volume(path, kind="labels")
    if mask.n_channels > 1 or any(a > b for a, b in zip(mask.shape, shape, strict=True)):
        raise SpecError(
            f"The mask {shown(path)} has the shape {tuple(mask.data.shape)}; it covers a volume of {shape} (z, y, x), "
            "so it has one channel and no more voxels than that along any axis."
        )
    flags = np.asarray(mask.data[:, :, :]) > 0
    if not flags.any():
        raise SpecError(f"The mask {shown(path)} is 0 everywhere: there would be nothing to segment.")
    return Cells.of(flags.reshape(mask.shape), shape)


def _bright_cells(volume: Readable, value: float) -> Generator[Event, None, Cells]:
    """Return the cells with a voxel of at least `value`, and those beside them: an object ends in the dark."""
    from scipy import ndimage

    z, y, x = volume.shape[:3]
    counts = [-(-n // CELL) for n in (z, y, x)]
    flags = np.zeros(counts, bool)
    blocks = cut_into_blocks((z, y, x), _BLOCK_VOXELS, (CELL, CELL, CELL))
    for done, placed in enumerate(blocks, start=1):
        voxels = np.asarray(volume[placed.box.slices])
        where = tuple(slice(start // CELL, -(-stop // CELL)) for start, stop in placed.box)
        flags[where] |= _any_in_cells(voxels >= value)
        yield Progress("looking where it is dark", done, len(blocks))
    edges = tuple((*range(0, n, CELL), n) for n in (z, y, x))
    return Cells((edges[0], edges[1], edges[2]), ndimage.binary_dilation(flags, np.ones((3, 3, 3))))


def _any_in_cells(found: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return whether something is found in each cell of a block that begins with one."""
    for axis in range(3):
        found = np.logical_or.reduceat(found, np.arange(0, found.shape[axis], CELL), axis=axis)
    return np.asarray(found if found.ndim == 3 else found.any(axis=3), bool)

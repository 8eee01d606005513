"""The objects of a segmentation as a table in a CSV file, for a spreadsheet or for pandas."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from napari_unet3d import atomic
from napari_unet3d.core.boxes import AXES
from napari_unet3d.core.objects.table import ObjectTable
from napari_unet3d.errors import OutputError, SpecError, shown
from napari_unet3d.tasks.segment.output_place import has_numbers
from napari_unet3d.tasks.specs import PredictSpec


class Placed(Protocol):
    """What lies in space: an `OutputSpec`, or a `Calibration`."""

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Return (z, y, x) in `unit`."""

    @property
    def unit(self) -> str:
        """Return a length."""

    @property
    def translate(self) -> tuple[float, float, float]:
        """Return the position (z, y, x) of the first voxel, in `unit`."""


def check_table(path: Path, spec: PredictSpec, *, overwrite: bool) -> None:
    """Refuse a table that could not be written at the end of a run.

    Raises
    ------
    SpecError
        If the result numbers no objects.
    OutputError
        If it is there already, or its folder is not.
    """
    if not has_numbers(spec):
        raise SpecError("A table lists numbered objects: ask for these, too (--instances).")
    if not os.path.isdir(path.absolute().parent):
        raise OutputError(
            f"The folder {shown(path.absolute().parent)} does not exist; create it, or choose another one."
        )
    if not overwrite and os.path.lexists(path):
        raise OutputError(atomic.exists_already(path))


def write_table(
    path: Path, table: ObjectTable, found: Placed, class_names: Sequence[str], *, overwrite: bool = False
) -> None:
    """Write a table, whole or not at all.

    Volumes and centroids are in the unit of the voxel size, which stands in the heads of their columns; boxes are in
    voxels of the result, half open.

    Parameters
    ----------
    path
        Of the CSV file.
    table
        From `clean_up`.
    found
        The result that it belongs to: its voxel size and position count.
    class_names
        Of all classes.
    overwrite
        Replace a file that is there.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    unit = found.unit
    head = ["id", "class", "voxels", f"volume_{unit}3", *(f"centroid_{axis}_{unit}" for axis in AXES)]
    head += [f"{end}_{axis}" for axis in AXES for end in ("start", "stop")]
    voxel = found.voxel_size[0] * found.voxel_size[1] * found.voxel_size[2]
    with (
        atomic.write_whole(path.absolute(), overwrite=overwrite) as partial,
        open(partial, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(head)
        for row in table.rows():
            places = zip(row.centroid, found.voxel_size, found.translate, strict=True)
            centroid = (f"{at * size + offset:.6g}" for at, size, offset in places)
            ends = (end for interval in row.box for end in interval)
            name = class_names[row.label]
            writer.writerow([row.number, name, row.voxels, f"{row.voxels * voxel:.6g}", *centroid, *ends])
        file.flush()
        os.fsync(file.fileno())

"""What is known of the numbered objects of a result: columns for a table and for the features of its layer."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import AXES

if TYPE_CHECKING:
    from napari.components import ViewerModel

# More make napari's features, and sorting, slow; the table in the file has them all.
MOST = 200_000


@dataclass(frozen=True, eq=False)
class FoundObjects:
    """The objects of a result, one row each.

    Attributes
    ----------
    numbers, voxels
        (n,) which label it is, and how many voxels it has.
    classes
        What each is, by name.
    volumes, unit
        (n,) in `unit` cubed.
    centroids
        (n, 3) in `unit`, (z, y, x).
    places
        (n, 3) of the same in voxels of the result.
    n_all
        How many objects there are, those without a row included.
    """

    numbers: npt.NDArray[np.int64]
    classes: list[str]
    voxels: npt.NDArray[np.int64]
    volumes: npt.NDArray[np.float64]
    centroids: npt.NDArray[np.float64]
    places: npt.NDArray[np.float64]
    unit: str
    n_all: int

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def features(self) -> dict[str, Any]:
        """Return the same for a labels layer, whose background has a row too."""
        unit = self.unit
        numbers = {
            "voxels": self.voxels,
            f"volume_{unit}3": self.volumes,
            **{f"centroid_{axis}_{unit}": self.centroids[:, at] for at, axis in enumerate(AXES)},
        }
        padded = {name: np.concatenate([[0], values]) for name, values in numbers.items()}
        return {"index": np.concatenate([[0], self.numbers]), "class": ["", *self.classes], **padded}


def read_objects(
    path: Path, voxel_size: tuple[float, float, float], translate: tuple[float, float, float]
) -> FoundObjects:
    """Return the objects of a table that `write_table` has written, at most `MOST`, the first ones; all are counted.

    Parameters
    ----------
    path
        Of the table.
    voxel_size, translate
        Of the result, as the table was written with.
    """
    with open(path, newline="", encoding="utf-8") as file:
        table = csv.reader(file)
        head = next(table)
        rows = list(islice(table, MOST))
        n_all = len(rows) + sum(1 for _ in table)
    unit = head[3].removeprefix("volume_").removesuffix("3")
    columns = list(zip(*rows, strict=True)) or [()] * len(head)
    centroids = np.array(columns[4:7], float).reshape(3, -1).T
    return FoundObjects(
        np.array(columns[0], np.int64),
        list(columns[1]),
        np.array(columns[2], np.int64),
        np.array(columns[3], float),
        centroids,
        (centroids - np.array(translate)) / np.array(voxel_size),
        unit,
        n_all,
    )


def show_point(viewer: ViewerModel, world: npt.NDArray[np.float64]) -> None:
    """Bring a point into view: its slice, with the point in the middle.

    Parameters
    ----------
    viewer
        What shows it.
    world
        (n,) where it lies along the last axes of the window.
    """
    first = viewer.dims.ndim - len(world)
    viewer.dims.point = (*viewer.dims.point[:first], *map(float, world))
    centre = np.array(viewer.scene.camera.center, float)
    for at, axis in enumerate(reversed(viewer.dims.displayed), start=1):
        if axis >= first:
            centre[-at] = world[axis - first]
    viewer.scene.camera.center = tuple(map(float, centre))

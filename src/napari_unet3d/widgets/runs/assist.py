"""Painting with help, on the chosen annotation: regions that look alike, and objects between two slices.

Both paint with the label that is in hand, only where nothing is painted yet, as a stroke that can be undone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.annotation.assist import between_slices, grow_alike, usual_tolerance
from napari_unet3d.errors import SpecError
from napari_unet3d.widgets.layers.painting import paint_voxels, voxels_of
from napari_unet3d.widgets.layers.placing import has_one_position, position_at
from napari_unet3d.widgets.layers.volumes import lies_on

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_unet3d.widgets.runs.session import Session

# How far a region reaches from where it was clicked, in voxels: in a slice, and in 3D.
REACH_2D, REACH_3D = 128, 40


@dataclass(frozen=True, eq=False)
class _Fill:
    """The last region that was grown: around a voxel of a part of an image, whose first voxel is `corner`."""

    labels: Labels
    part: npt.NDArray[Any]
    seed: tuple[int, ...]
    corner: npt.NDArray[np.int64]
    tolerance: float
    value: int
    stroke: Any


class PaintingHelp:
    """Fills regions in the annotation of a window.

    Parameters
    ----------
    session
        What the panels of this window share.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._last: _Fill | None = None

    def fill_alike(self, voxel: tuple[int, int, int], *, looseness: float = 1.0, in_3d: bool = False) -> int:
        """Fill what looks like a voxel and hangs together with it, and return how many voxels were painted.

        Parameters
        ----------
        voxel
            (z, y, x) of the annotation.
        looseness
            1 takes what differs no more than the noise around the voxel does; more takes more.
        in_3d
            In all directions; otherwise in the slice.

        Raises
        ------
        SpecError
            If there is no annotation on the image, or the voxel is not in it.
        """
        labels = self._labels()
        ours, volume = self._session.labels_volume(), self._session.volume(channels=1, beside=labels).volume
        reach = (REACH_3D,) * 3 if in_3d else (0, REACH_2D, REACH_2D)
        if not all(0 <= at < n for at, n in zip(voxel, ours.shape, strict=True)):
            raise SpecError("Click on the image.")
        corner = np.array([max(0, at - far) for at, far in zip(voxel, reach, strict=True)], np.int64)
        box = tuple(slice(a, at + far + 1) for a, at, far in zip(corner, voxel, reach, strict=True))
        part = np.asarray(volume.data[box])
        seed = tuple(int(at) for at in np.array(voxel) - corner)
        tolerance = usual_tolerance(part, seed)
        return self._paint(labels, part, seed, corner, tolerance, looseness, int(labels.selected_label))

    def loosen(self, looseness: float) -> int | None:
        """Fill the last region again with another tolerance; None where something was painted since.

        Parameters
        ----------
        looseness
            As for `fill_alike`.
        """
        last = self._last
        if last is None or last.labels is not self._session.labels:
            return None
        if last.stroke is not None and _last_stroke(last.labels) is not last.stroke:
            return None
        if last.stroke is not None:
            labels: Any = last.labels
            labels.undo()
        return self._paint(last.labels, last.part, last.seed, last.corner, last.tolerance, looseness, last.value)

    def fill_between(self) -> int:
        """Fill the label in hand between the two nearest slices on which it is painted, around the one that is shown.

        Returns
        -------
        int
            How many voxels were painted.

        Raises
        ------
        SpecError
            If it is not painted on both sides of the shown slice; the message says so.
        """
        labels = self._labels()
        ours = self._session.labels_volume()
        value, data = int(labels.selected_label), voxels_of(ours)
        point = np.asarray(labels.world_to_data(self._session.viewer.dims.point))
        shown = round(float(point[ours.spatial_axes[0]]))
        z0, z1 = (next((z for z in way if (data[z] == value).any()), None) for way in _outwards(shown, len(data)))
        if z0 is None or z1 is None:
            raise SpecError(
                f"Label {value} is to be painted on one slice before and one after slice {shown}; "
                "then what lies between is filled."
            )
        between = between_slices(data[z0] == value, data[z1] == value, z1 - z0 - 1)
        places = np.argwhere(between) + np.array([z0 + 1, 0, 0])
        return self._set(labels, places, value)

    def _labels(self) -> Labels:
        labels, image = self._session.labels, self._session.image
        if labels is None or labels not in self._session.viewer.layers:
            raise SpecError("Make a new annotation first.")
        if image is None or not lies_on(labels, image) or not isinstance(labels.data, np.ndarray):
            raise SpecError(f"'{labels.name}' does not have the voxels of the image.")
        if has_one_position(labels) and position_at(labels, self._session.viewer.dims.point) != 0:
            raise SpecError(f"'{labels.name}' is of another time point. Go to that one, or make a new annotation.")
        return labels

    def _paint(
        self,
        labels: Labels,
        part: npt.NDArray[Any],
        seed: tuple[int, ...],
        corner: npt.NDArray[np.int64],
        tolerance: float,
        looseness: float,
        value: int,
    ) -> int:
        region = grow_alike(part, seed, looseness * tolerance)
        n = self._set(labels, np.argwhere(region) + corner, value)
        stroke = _last_stroke(labels) if n else None
        self._last = _Fill(labels, part, seed, corner, tolerance, value, stroke)
        return n

    def _set(self, labels: Labels, places: npt.NDArray[Any], value: int) -> int:
        ours = self._session.labels_volume()
        empty = places[voxels_of(ours)[tuple(places.T)] == 0]
        if len(empty):
            paint_voxels(ours, empty, value)
        return len(empty)


def _last_stroke(labels: Any) -> Any:
    """Return the stroke that would be undone; undo and redo make another object of it."""
    history = labels._undo_history
    return history[-1] if history else None


def _outwards(shown: int, n: int) -> tuple[range, range]:
    """Return the slices before one, the nearest first, and those after it."""
    return range(min(shown, n) - 1, -1, -1), range(max(shown, -1) + 1, n)

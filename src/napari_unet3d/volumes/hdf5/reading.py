"""From an HDF5 file to a volume: which of its arrays is meant, its axes and its voxel size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py

from napari_unet3d.errors import VolumeError, shown
from napari_unet3d.volumes.arrays import arrange
from napari_unet3d.volumes.axes import EVERYTHING, Pick, name_axes, unnamed_axes
from napari_unet3d.volumes.hdf5.attributes import read_attributes
from napari_unet3d.volumes.hdf5.chunks import Hdf5Array
from napari_unet3d.volumes.hdf5.imaris import ImarisImage, coarser_names, imaris_calibration, is_imaris
from napari_unet3d.volumes.hdf5.kinds import own_arrays, understand
from napari_unet3d.volumes.hdf5.links import arrays_in, explain_errors, foreign, foreign_links, resolve
from napari_unet3d.volumes.space.attributes import axes_in_attributes, size_in_attributes
from napari_unet3d.volumes.volume import ArrayInfo, Volume, likely_array


def read_hdf5(path: Path, dataset: str | None = None, pick: Pick = EVERYTHING) -> Volume:
    """Return the volume in an array of an HDF5 file.

    Parameters
    ----------
    path
        The file.
    dataset
        The path of the array inside the file; None if it holds one volume.
    pick
        Which axes, channel and point in time are wanted; without axes (z, y, x), or those that the writer names.

    Raises
    ------
    VolumeError
        If the array is missing, ambiguous, lies in another file, or the file is damaged or in use.
    """
    with explain_errors(path):
        file = h5py.File(path, "r")
        try:
            if is_imaris(file):
                return _read_imaris(file, path, dataset, pick)
            return _read_array(file, path, dataset, pick)
        except BaseException:
            # The traceback would keep the file open, and with that locked for others.
            file.close()
            raise


def list_hdf5(path: Path) -> list[ArrayInfo]:
    """Return the arrays in an HDF5 file; those that lie in other files are left out."""
    with explain_errors(path), h5py.File(path, "r") as file:
        return arrays_in(file)


def coarser_levels(path: Path, dataset: str | None) -> list[str]:
    """Return the names of the smaller copies of the volume in an Imaris file; none in other files."""
    with explain_errors(path), h5py.File(path, "r") as file:
        return coarser_names(file, (dataset or "").strip("/")) if is_imaris(file) else []


def _read_array(file: Any, path: Path, dataset: str | None, pick: Pick) -> Volume:
    """Return the volume in an open file, which its array keeps open."""
    where = shown(path)
    array = resolve(file, dataset or _only_array(file, where, pick), where)
    label = f"{where}:{array.name}"
    stored = Hdf5Array(array, path)
    meant = understand(stored, array)
    attributes, damaged = read_attributes(array, path)
    found = axes_in_attributes(attributes, stored.ndim) or meant.axes or unnamed_axes(stored.shape, stored.dtype)
    named = name_axes(label, stored.shape, found, pick)
    data, notes = arrange(meant.data, named, label, pick)
    calibration = size_in_attributes(attributes, named)
    return Volume(
        data, calibration, notes=(*calibration.notes, *damaged, *meant.notes, *notes, *stored.note_on_chunks())
    )


def _read_imaris(file: Any, path: Path, dataset: str | None, pick: Pick) -> Volume:
    where = shown(path)
    image = ImarisImage(file, path, (dataset or "").strip("/"))
    named = name_axes(where, image.shape, "tczyx", pick)
    data, notes = arrange(image, named, where, pick)
    full = ImarisImage(file, path, "") if dataset else image
    calibration = imaris_calibration(file, image.shape, full.shape)
    return Volume(data, calibration, notes=(*calibration.notes, *notes))


def _only_array(file: Any, where: str, pick: Pick) -> str:
    """Return the name of the only array in a file that can be a volume.

    Raises
    ------
    VolumeError
        If there are several, with the list: labels, thumbnails and images cannot be told apart by their shape.
    """
    arrays = arrays_in(file)
    volumes = own_arrays([info for info in arrays if info.is_volume])
    # A single array of numbers that are none is refused with its type.
    volumes = volumes or [info for info in arrays if len(info.shape) > 2][:2]
    if len(volumes) == 1:
        return volumes[0].name
    links = foreign_links(file)
    if not arrays and links:
        raise foreign(where, *links[0])
    listed = "; ".join(map(str, volumes or arrays)) or "no arrays"
    what = "several arrays" if volumes else "no 3D array"
    likely = likely_array(volumes, is_labels=pick.is_labels)
    example = f" Name one: {where}:{likely.name}" if likely else ""
    raise VolumeError(f"{where} holds {what}: {listed}.{example}")

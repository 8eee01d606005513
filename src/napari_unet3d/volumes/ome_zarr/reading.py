"""From a Zarr to a volume: an array, an OME-Zarr image or a level of one, or what bioformats2raw makes.

An array's place in an image gives its voxel size, so a level inside an image is looked up in the metadata of the
nodes above it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from napari_unet3d.errors import VolumeError, shown
from napari_unet3d.volumes.arrays import arrange
from napari_unet3d.volumes.axes import EVERYTHING, Pick, name_axes, unnamed_axes
from napari_unet3d.volumes.blame import is_mistake
from napari_unet3d.volumes.ome_zarr.array import ZarrArray
from napari_unet3d.volumes.ome_zarr.ome import Level, find_level, level_of, multiscales, version_of
from napari_unet3d.volumes.ome_zarr.place import METADATA, ZIP_ERRORS, ZarrPlace, place_of
from napari_unet3d.volumes.space.attributes import axes_in_attributes, size_in_attributes
from napari_unet3d.volumes.space.calibration import calibrate
from napari_unet3d.volumes.volume import ArrayInfo, Volume, likely_array

_LISTED = 20
# What zarr raises for metadata that are damaged or hostile.
_METADATA_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    *ZIP_ERRORS,
)


def read_zarr(path: Path, dataset: str | None = None, pick: Pick = EVERYTHING) -> Volume:
    """Return the volume in a Zarr array, an OME-Zarr image (its first level), or a level of one.

    Parameters
    ----------
    path
        The folder of the array or group, or a zip file of it.
    dataset
        The path of an array or image inside a group.
    pick
        Which axes, channel and point in time are wanted; without axes the metadata are believed.

    Raises
    ------
    VolumeError
        If there is a group without an image, the metadata lead outside, or chunks were lost.
    """
    top = place_of(path)
    if top is None:
        raise VolumeError(f"{shown(path)} is not a Zarr array or group.")
    place = top.child(dataset) if dataset else top
    if not place.is_node():
        raise VolumeError(f"{top} has no array {dataset!r}; {_listed(top, pick)}")
    notes: list[str] = []
    node = _open(place)
    if isinstance(node, zarr.Array):
        return _volume(place, node, find_level(place), pick, notes)
    attributes = place.attributes()
    if not multiscales(attributes) and (series := _series(place, attributes)):
        place, more = _only_series(place, series)
        notes += more
        attributes = place.attributes()
    scales = multiscales(attributes)
    if not scales:
        raise VolumeError(f"{place} is a Zarr group, not an array or an image; {_listed(place, pick)}")
    number = _largest_level(place, scales[0])
    level = level_of(scales[0], number, str(place), version_of(attributes, scales[0]))
    if number:
        notes.append(f"Its levels begin with a smaller copy; the largest is read ({level.path}).")
    if len(scales) > 1:
        notes.append(_note_on_images(place, scales))
    array_place = place.child(level.path)
    if not array_place.is_node():
        raise VolumeError(f"{place} is incomplete: its array {level.path!r} is missing. Copy it again.")
    array = _open(array_place)
    if not isinstance(array, zarr.Array):
        raise VolumeError(f"{place}: {level.path!r} is a group where an array is needed; {_listed(place, pick)}")
    return _volume(array_place, array, level, pick, notes)


def list_zarr(path: Path) -> list[ArrayInfo]:
    """Return the arrays in a Zarr group, or the array itself under the name "/"; what cannot be read is left out.

    Raises
    ------
    VolumeError
        If there is no Zarr.
    """
    place = place_of(path)
    if place is None:
        raise VolumeError(f"{shown(path)} is not a Zarr array or group.")
    if isinstance(node := _open(place), zarr.Array):
        return [ArrayInfo("/", tuple(node.shape), str(node.dtype))]
    return _arrays(place)


def coarser_arrays(path: Path, dataset: str | None = None) -> list[str]:
    """Return the paths of the smaller levels of the image that `read_zarr` reads in full size, the largest first.

    Parameters
    ----------
    path, dataset
        As for `read_zarr`.
    """
    top = place_of(path)
    place = None if top is None else top.child(dataset) if dataset else top
    scales = [] if place is None or not place.is_node() else multiscales(place.attributes())
    listed = scales[0].get("datasets") if scales and isinstance(scales[0], dict) else None
    paths = [one.get("path") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    sizes = {}
    for name in paths:
        if isinstance(name, str) and place is not None:
            sizes[f"{dataset.strip('/')}/{name}" if dataset else name] = _n_voxels(place.child(name))
    ordered = sorted((name for name, n in sizes.items() if n), key=lambda name: -sizes[name])
    return ordered[1:]


def _arrays(place: ZarrPlace) -> list[ArrayInfo]:
    found = []
    for below in place.nodes():
        try:
            node = _open(below)
        except VolumeError:
            continue
        if isinstance(node, zarr.Array):
            name = below.inner[len(place.inner) :].strip("/")
            found.append(ArrayInfo(f"/{name}", tuple(node.shape), str(node.dtype)))
    return found


def _listed(place: ZarrPlace, pick: Pick) -> str:
    arrays = _arrays(place)
    if not arrays:
        return "it holds no arrays."
    listed = "; ".join(map(str, arrays[:_LISTED])) + ("; .." if len(arrays) > _LISTED else "")
    likely = likely_array(arrays, is_labels=pick.is_labels)
    return f"its arrays are: {listed}." + (f" Pass one of them, such as {place}:{likely.name}" if likely else "")


def _open(place: ZarrPlace) -> Any:
    for name in (*METADATA, ".zattrs", ".zmetadata"):
        place.check(name)
    _refuse_pickle(place)
    try:
        node = zarr.open(place.store, path=place.inner, mode="r")
        # Attributes that are no mapping show themselves here and not in the middle of the work.
        node.attrs.asdict()
        if isinstance(node, zarr.Array):
            np.dtype(node.dtype)
            math.prod(node.shards or node.chunks)
        return node
    except FileNotFoundError as error:
        raise VolumeError(f"{place} is not a Zarr array or group.") from error
    except _METADATA_ERRORS as error:
        if is_mistake(error):
            raise
        raise VolumeError(f"{place} cannot be read as Zarr: {error}.") from error


def _refuse_pickle(place: ZarrPlace) -> None:
    """Refuse chunks that are Python objects: reading those would run code that came with the file."""
    metadata = place.document(".zarray")
    filters = metadata.get("filters")
    codecs = [metadata.get("compressor"), *(filters if isinstance(filters, list) else [])]
    if any(isinstance(codec, dict) and codec.get("id") == "pickle" for codec in codecs):
        raise VolumeError(f"{place} holds pickled Python objects, which can run code; it is not read.")


def _series(place: ZarrPlace, attributes: Mapping[str, Any]) -> list[str]:
    """Return the images that bioformats2raw has put under numbers; none if it did not write the group."""
    ome = attributes.get("ome")
    layout = ome if isinstance(ome, dict) else attributes
    if "bioformats2raw.layout" not in layout:
        return []
    inside = place.child("OME").attributes()
    nested = inside.get("ome")
    listed = (nested if isinstance(nested, dict) else inside).get("series")
    names = [str(name) for name in listed] if isinstance(listed, list) else [str(at) for at in range(1000)]
    found = []
    for name in names[:1000]:
        if not place.child(name).is_node():
            break
        found.append(name)
    return found


def _only_series(place: ZarrPlace, series: list[str]) -> tuple[ZarrPlace, list[str]]:
    if len(series) == 1:
        return place.child(series[0]), []
    note = (
        f"The Zarr holds {len(series)} images; the first is read ({series[0]}). "
        f"Another one is read by its name, such as {place}:{series[1]}"
    )
    return place.child(series[0]), [note]


def _largest_level(place: ZarrPlace, multiscale: Any) -> int:
    """Return which level of an image is the largest: the first, as the standard has it, unless its writer did not."""
    datasets = multiscale.get("datasets") if isinstance(multiscale, dict) else None
    listed = datasets if isinstance(datasets, list) else []
    paths = [one.get("path") if isinstance(one, dict) else None for one in listed]
    sizes = [_n_voxels(place.child(path)) if isinstance(path, str) else 0 for path in paths]
    return sizes.index(max(sizes)) if sizes else 0


def _n_voxels(place: ZarrPlace) -> int:
    """Return how many voxels the metadata of an array declare; 0 if they do not say."""
    for name in (".zarray", "zarr.json"):
        shape = place.document(name).get("shape")
        if isinstance(shape, list) and all(isinstance(size, int) for size in shape):
            return math.prod(shape)
    return 0


def _note_on_images(place: ZarrPlace, scales: list[Any]) -> str:
    paths = []
    for multiscale in scales[1:]:
        datasets = multiscale.get("datasets") if isinstance(multiscale, dict) else None
        first = datasets[0] if isinstance(datasets, list) and datasets else None
        paths.append(str(first.get("path")) if isinstance(first, dict) else "?")
    listed = ", ".join(paths[:_LISTED])
    return (
        f"The group holds {len(scales)} images; the first is read. Left out: {listed}. "
        f"Another one is read by its array, such as {place}:{paths[0]}"
    )


def _volume(place: ZarrPlace, array: Any, level: Level | None, pick: Pick, notes: list[str]) -> Volume:
    source = ZarrArray(array, place)
    attributes = array.attrs.asdict()
    if level is not None and len(level.axes) == array.ndim:
        found = level.axes
    else:
        found = _named_by_array(array, attributes) or unnamed_axes(array.shape, array.dtype)
    named = name_axes(str(place), array.shape, found, pick)
    data, converted = arrange(source, named, str(place), pick)
    if level is None:
        calibration = size_in_attributes(attributes, named)
    else:
        level = level.with_letters(named)
        calibration = calibrate(level.by_axis(level.scale), level.units, level.by_axis(level.translation))
        notes = [*notes, *level.notes]
    return Volume(data, calibration, notes=(*calibration.notes, *notes, *converted, *source.check_chunks()))


def _named_by_array(array: Any, attributes: Mapping[str, Any]) -> str | None:
    """Return the letters of a bare array's axes, from its dimension names or its attributes."""
    names = getattr(array.metadata, "dimension_names", None)
    listed = list(names) if names else None
    return axes_in_attributes({"axis_names": listed} if listed else attributes, array.ndim)

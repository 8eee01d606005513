"""What napari saves with this plugin: an image or a labels layer as a volume with its voxel size, unit and position.

Written box by box, so that a layer that lies on disk is not loaded whole, and in place only when it is complete.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_unet3d.errors import OutputError, VolumeError, shown
from napari_unet3d.volumes import create_output
from napari_unet3d.volumes.arrays import Slices
from napari_unet3d.volumes.outputs.base import Kind
from napari_unet3d.volumes.paths import image_file
from napari_unet3d.volumes.space.calibration import Calibration, calibrate
from napari_unet3d.widgets.host.notices import notify
from napari_unet3d.widgets.host.plain import disable_markup
from napari_unet3d.widgets.layers.space import Space
from napari_unet3d.widgets.layers.volumes import TIME_AXES, LayerVolume, extra_axis, layer_volume

_BOX_BYTES = 1 << 28
# The chunks of a zarr output: a box that ends inside one makes it be written twice.
_ZARR_CHUNK = 128
_LABEL_TYPES = (np.uint8, np.uint16, np.uint32, np.int8, np.int16, np.int32)


@dataclass(frozen=True)
class _Voxels:
    """What is written: how a box is read, and what it gives."""

    read: Callable[[Slices], npt.NDArray[Any]]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def boxes(self, chunk: int = 1) -> list[Slices]:
        """Return boxes that are read at once, in the order of z: all planes, or else all rows, where they fit.

        Parameters
        ----------
        chunk
            They begin at multiples of this, in voxels.
        """
        z, y, *rest = self.shape
        row = math.prod(rest) * self.dtype.itemsize
        rows = y if y * row * min(chunk, z) <= _BOX_BYTES else _multiple(_BOX_BYTES // (row * min(chunk, z)), chunk)
        depth = _multiple(_BOX_BYTES // (row * rows), chunk)
        starts = product(range(0, z, depth), range(0, y, rows))
        whole = tuple(slice(0, n) for n in rest)
        return [(slice(a, min(a + depth, z)), slice(b, min(b + rows, y)), *whole) for a, b in starts]


def write_image(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """Write an image layer and return where it is.

    Parameters
    ----------
    path
        `.tif`, `.ome.tif` or `.zarr`. What is there is replaced: napari has asked.
    data, meta
        The layer as napari gives it to writers.

    Raises
    ------
    OutputError
        If the layer is no volume, or it cannot be written there.
    """
    with _explain_errors():
        layer = _layer(data, meta, "image")
        axis = extra_axis(layer)
        found = layer_volume(layer, channels=1 if axis is None else int(layer.data.shape[axis]))
        if found.volume.n_channels > 1 and str(layer.axis_labels[axis]).lower() in TIME_AXES:
            raise OutputError(f"'{layer.name}' holds several points in time; save one of them at a time.")
        return [write_volume(path, found)]


def write_labels(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """Write a labels layer in the smallest type that holds its numbers, and return where it is.

    Parameters
    ----------
    path
        `.tif`, `.ome.tif` or `.zarr`, which keeps the names of classes too. What is there is replaced.
    data, meta
        The layer as napari gives it to writers.

    Raises
    ------
    OutputError
        If the layer is no volume, or it cannot be written there.
    """
    with _explain_errors():
        layer = _layer(data, meta, "labels")
        found = layer_volume(layer)
        if found.extra_axis is not None and (n := layer.data.shape[found.extra_axis]) > 1:
            raise OutputError(
                f"'{layer.name}' holds {n} volumes of labels along its axis {found.extra_axis}; save one of them."
            )
        return [write_volume(path, found)]


class Written(NamedTuple):
    """Where a volume was written, and what was not kept of it."""

    path: str
    notes: tuple[str, ...]


def write_volume(path: str, found: LayerVolume) -> str:
    """Write the volume of a layer, of its kind, and return where it is; napari shows how far it is.

    Raises
    ------
    OutputError
        If it cannot be written there.
    """
    from napari.utils import progress

    def watch(boxes: list[Slices]) -> Iterable[Slices]:
        shown_as = disable_markup(f"Saving {Path(path).name}")
        return boxes if len(boxes) == 1 else progress(boxes, desc=shown_as)

    written = write_quietly(path, found, watch)
    if written.notes:
        notify(f"{Path(path).name}: {' '.join(written.notes)}")
    return written.path


def write_quietly(path: str, found: LayerVolume, watch: Callable[[list[Slices]], Iterable[Slices]] = iter) -> Written:
    """Write the volume of a layer, of its kind; in any thread.

    Parameters
    ----------
    path
        `.tif`, `.ome.tif` or `.zarr`. What is there is replaced.
    found
        The volume.
    watch
        Passes on the boxes that are written, one after the other.

    Raises
    ------
    OutputError
        If it cannot be written there.
    """
    if found.layer._type_string == "labels":
        names = class_names(found.layer.features)
        return _write(path, found, _label_voxels(found), "labels", names, watch=watch)
    voxels = found.volume.data
    source = _Voxels(lambda box: np.asarray(voxels[box]), tuple(voxels.shape), np.dtype(voxels.dtype))
    return _write(path, found, source, "image", watch=watch)


def label_boxes(found: LayerVolume) -> Iterator[npt.NDArray[Any]]:
    """Yield the values of a labels layer, box by box."""
    stored = _stored_labels(found)
    yield from map(stored.read, stored.boxes())


def class_names(features: Any) -> tuple[str, ...]:
    """Return the names of the classes 0, 1, .. that a layer's features hold; none if one is missing.

    Examples
    --------
    >>> class_names({"index": [1, 0], "class": ["axon", "background"]})
    ('background', 'axon')
    >>> class_names({"index": [1, 3], "class": ["axon", "soma"]})
    ()
    """
    if features is None or "class" not in features:
        return ()
    names = list(features["class"])
    index = list(features["index"]) if "index" in features else list(range(len(names)))
    named = dict(zip(index, names, strict=True))
    if set(named) != set(range(len(names))) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(named[value] for value in range(len(names)))


@contextmanager
def _explain_errors() -> Iterator[None]:
    """Turn what is wrong with a layer into an `OutputError`."""
    try:
        yield
    except VolumeError as error:
        raise OutputError(str(error)) from error


def _layer(data: Any, meta: Mapping[str, Any], kind: str) -> Any:
    """Return the layer that a writer was given, as a layer again, so that one place knows what its metadata means."""
    from napari.layers import Layer

    layer = Layer.create(data, dict(meta), kind)
    if 0 in layer.data.shape:
        raise OutputError(f"'{layer.name}' holds no voxels; there is nothing to save.")
    return layer


def _stored_labels(found: LayerVolume) -> _Voxels:
    source = found.source

    def read(box: Slices) -> npt.NDArray[Any]:
        key: list[Any] = list(box)
        if found.extra_axis is not None:
            key.insert(found.extra_axis, found.position or 0)
        return np.asarray(source[tuple(key)])

    return _Voxels(read, found.shape, np.dtype(source.dtype))


def _label_voxels(found: LayerVolume) -> _Voxels:
    layer, stored = found.layer, _stored_labels(found)
    ranges = [(int(values.min()), int(values.max())) for values in map(stored.read, stored.boxes())]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    for dtype in _LABEL_TYPES:
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return _Voxels(stored.read, found.shape, np.dtype(dtype))
    raise OutputError(
        f"'{layer.name}' holds labels from {low} to {high}, which no output can hold. Number them from 1."
    )


def _write(
    path: str,
    found: LayerVolume,
    source: _Voxels,
    kind: Kind,
    names: tuple[str, ...] = (),
    *,
    watch: Callable[[list[Slices]], Iterable[Slices]],
) -> Written:
    check_apart_from(found, path)
    where, is_kept = _place(found.space)
    chunk = _ZARR_CHUNK if Path(path).suffix.lower() == ".zarr" else 1
    with create_output(
        path,
        source.shape,
        source.dtype,
        voxel_size=where.voxel_size,
        unit=where.unit,
        translate=where.translate,
        kind=kind,
        class_names=names,
        overwrite=True,
    ) as output:
        for box in watch(source.boxes(chunk)):
            output[box] = source.read(box)
        target = output.commit()
    notes = list(where.notes)
    if not is_kept:
        notes.append("The layer is rotated, sheared, mirrored or has an affine; only scale and translate are kept.")
    if kind == "image" and (given := np.dtype(found.layer.dtype)).itemsize > source.dtype.itemsize:
        notes.append(f"{given} is written as {source.dtype}.")
    return Written(str(target), tuple(notes))


def check_apart_from(found: LayerVolume, path: str | Path) -> None:
    """Refuse to write over the volume that a layer still reads from.

    Raises
    ------
    OutputError
        If it would.
    """
    if found.on_disk is None:
        return
    file = image_file(found.on_disk.path)
    source, target = (file or Path(found.on_disk.path)).resolve(), Path(path).resolve()
    if target == source or target in source.parents or (source in target.parents and target.exists()):
        raise OutputError(
            f"{shown(target)} would overwrite the volume that '{found.layer.name}' still reads from. "
            "Choose another name."
        )


def _place(space: Space) -> tuple[Calibration, bool]:
    """Return voxel size, unit and position as a file can hold them, and whether that is the whole transform."""
    from napari.utils.transforms import Affine

    own = Affine(rotate=space.rotate, scale=space.scale, shear=space.shear, ndim=3).linear_matrix
    linear = space.affine[:3, :3] @ own
    sizes, position = np.diag(linear), space.affine[:3, :3] @ space.translate + space.affine[:3, 3]
    is_kept = bool((sizes > 0).all()) and np.allclose(linear, np.diag(sizes), rtol=0, atol=1e-9 * sizes.max())
    if not is_kept:
        sizes, position = np.abs(space.scale), space.translate
    named = [dict(zip("zyx", map(float, numbers), strict=True)) for numbers in (sizes, position)]
    return calibrate(named[0], dict(zip("zyx", space.units, strict=True)), named[1]), is_kept


def _multiple(number: int, of: int) -> int:
    """Return the largest multiple that is not more than a number, or else the first."""
    return max(of, number - number % of)

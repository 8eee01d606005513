"""Layers and volumes: the only reader and writer of napari's layers.

What of a layer is a volume, where it lies in physical space, and how a result comes to lie in the same place. A layer
may have one axis more than z, y, x: channels, or another that one position is chosen from.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import numpy as np
import numpy.typing as npt

from napari_unet3d.errors import VolumeError
from napari_unet3d.tasks.on_disk import OnDisk
from napari_unet3d.volumes.arrays import arrange
from napari_unet3d.volumes.axes import Pick
from napari_unet3d.volumes.reading import read_coarser
from napari_unet3d.volumes.space.calibration import UNKNOWN_UNIT, Calibration, normalize_unit
from napari_unet3d.volumes.volume import Volume
from napari_unet3d.widgets.layers.space import AXES, Space, space_of
from napari_unet3d.words import times

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

# A volume that is smaller is read when it is opened, so that slices show at once.
LOADED_BYTES = 1 << 30
# In the metadata of layers that are illustrations.
ILLUSTRATION = {"napari-unet3d": {"illustration": True}}
LayerData = tuple[Any, dict[str, Any], str]
TIME_AXES = {"t", "time", "frame", "frames"}
# A longer axis without a name is time, or positions.
_MOST_CHANNELS = 16
_CHANNEL_AXES = {"c", "ch", "channel", "channels"}
# The data of layers that a worker can open by itself; kept by the data, so a layer whose data is replaced is not in it.
_on_disk: WeakKeyDictionary[Any, OnDisk] = WeakKeyDictionary()
# Arrays that were read from a file, by number: they have no hash.
_loaded: dict[int, tuple[ref[Any], OnDisk]] = {}


def unwrap(thing: Any) -> Any:
    """Return a viewer or a layer without napari's proxy for plugins.

    Each access through a proxy makes new ones, so that no two of them are the same object.
    """
    return getattr(thing, "__wrapped__", thing)


def is_illustration(layer: Layer) -> bool:
    """Return whether a layer only shows a tile or an augmented patch: neither an image nor annotation to work with."""
    return "illustration" in layer.metadata.get("napari-unet3d", {})


def image_path(layer: Layer) -> str:
    """Return where the volume of a layer lies, absolute, with what chooses an array in a file; or nothing."""
    told = layer.metadata.get("napari-unet3d", {}).get("path") or layer.source.path
    return os.path.abspath(told) if told else ""


def is_result(layer: Layer) -> bool:
    """Return whether a layer is what a network has found: it becomes annotation only where a person chooses it."""
    return "model" in layer.metadata.get("napari-unet3d", {})


def lies_on(layer: Layer, image: Layer) -> bool:
    """Return whether the voxels of a layer are those of an image, one for one."""
    try:
        ours, theirs = layer_volume(layer), layer_volume(image)
    except VolumeError:
        return False
    return ours.shape == theirs.shape and ours.space.equals(theirs.space)


@dataclass(frozen=True, eq=False)
class LayerVolume:
    """What of a layer is a volume.

    Attributes
    ----------
    layer
        The layer.
    volume
        Its voxels (z, y, x) or (z, y, x, c), with their size and what looks wrong.
    space
        Where they lie.
    on_disk
        Where a worker reads them by itself, or None.
    file
        Where they were read from, also where they are in memory by now and may have been changed there; or None.
    level
        Which level of a multiscale layer it is.
    extra_axis
        The axis of the layer that is not z, y or x, or None.
    position
        The position along the extra axis that was taken; None where that axis holds the channels, or is not there.
    factors
        How much larger (z, y, x) its voxels are than those of the full resolution.
    source
        The layer's data, of which this is a view.
    """

    layer: Image | Labels
    volume: Volume
    space: Space
    on_disk: OnDisk | None = None
    level: int = 0
    extra_axis: int | None = None
    position: int | None = None
    factors: tuple[float, float, float] = (1.0, 1.0, 1.0)
    source: Any = None
    file: OnDisk | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (z, y, x) in voxels."""
        return self.volume.shape

    @property
    def spatial_axes(self) -> tuple[int, ...]:
        """Return which axes of the layer are z, y and x."""
        return tuple(axis for axis in range(self.layer.ndim) if axis != self.extra_axis)

    def spatial(self, point: Sequence[float]) -> list[float]:
        """Return the coordinates along z, y and x of a point of the window."""
        first = len(point) - self.layer.ndim
        return [float(point[first + axis]) for axis in self.spatial_axes]

    def is_same(self, other: LayerVolume) -> bool:
        """Return whether it is the same voxels of the same layer in the same place."""
        same = self.source is other.source and (self.level, self.position) == (other.level, other.position)
        return same and self.layer is other.layer and self.space.equals(other.space)


def why_no_volume(layer: Layer | None) -> str | None:
    """Return why a layer is no volume, as a sentence, or None if it is one."""
    if layer is None:
        return "Open a volume, or choose an image layer."
    if getattr(layer, "rgb", False):
        return f"'{layer.name}' is a colour (RGB) image; a volume has one number per voxel. Split its channels."
    if layer.ndim < 3:
        return f"'{layer.name}' is 2D; a volume has the axes z, y and x."
    if layer.ndim > 4:
        return f"'{layer.name}' has {layer.ndim} axes; at most one besides z, y and x can be used."
    return None


def n_levels(layer: Layer) -> int:
    """Return how many levels of resolution a layer has."""
    return len(layer.data) if getattr(layer, "multiscale", False) else 1


def extra_axis(layer: Layer) -> int | None:
    """Return the axis of a layer with four that is not z, y or x: by its name, or else the first."""
    if layer.ndim != 4:
        return None
    names = [str(name).lower() for name in layer.axis_labels]
    for axis, name in enumerate(names):
        if name in _CHANNEL_AXES:
            return axis
    for axis, name in enumerate(names):
        if set(names) - {name} == set(AXES):
            return axis
    return 0


def n_channels(layer: Layer) -> int:
    """Return how many channels a layer has; 1 where its fourth axis is time, or is too long for channels."""
    axis = extra_axis(layer)
    if axis is None or str(layer.axis_labels[axis]).lower() in TIME_AXES:
        return 1
    n = int((layer.data[0] if n_levels(layer) > 1 else layer.data).shape[axis])
    return n if n <= _MOST_CHANNELS else 1


def layer_volume(layer: Image | Labels, *, level: int = 0, channels: int = 1, position: int = 0) -> LayerVolume:
    """Return the volume of a layer; no voxel is read.

    Parameters
    ----------
    layer
        An image or labels layer with three or four axes.
    level
        Which level of a multiscale layer.
    channels
        How many numbers a voxel should have: with more than one the extra axis holds them.
    position
        Otherwise the position along the extra axis.

    Raises
    ------
    VolumeError
        If the layer is no volume; the message says why.
    """
    reason = why_no_volume(layer)
    if reason is not None:
        raise VolumeError(reason)
    data = layer.data[level] if n_levels(layer) > 1 else layer.data
    extra = extra_axis(layer)
    axes = [axis for axis in range(layer.ndim) if axis != extra]
    factors = level_factors(layer, level, axes)
    space = space_of(layer, axes).coarser(factors)
    where = f"The layer '{layer.name}'"
    letters = "zyx"
    taken: int | None = None
    source: Any = data
    if extra is not None:
        # One channel is asked for by its position; several are the channels of the network.
        taken = None if channels > 1 else min(position, data.shape[extra] - 1)
        letters = "zyx"[:extra] + ("c" if taken is None else "1") + "zyx"[extra:]
        if taken is not None:
            source = _At(data, extra, taken)
    voxels, notes = arrange(source, letters, where, Pick(is_labels=hasattr(layer, "selected_label")))
    unit, notes_on_units = _unit(layer, axes)
    size = tuple(float(abs(n)) for n in space.scale)
    volume = Volume(
        data=voxels,
        calibration=Calibration((size[0], size[1], size[2]), unit),
        name=str(layer.name),
        notes=(*notes, *notes_on_units),
    )
    return LayerVolume(
        layer,
        volume,
        space,
        on_disk=_source_on_disk(data) if extra is None else None,
        level=level,
        extra_axis=extra,
        position=taken,
        factors=factors,
        source=data,
        file=None if extra is not None else _source_on_disk(data) or _file_of_array(data),
    )


def labels_like(layer: Labels, image: LayerVolume) -> LayerVolume:
    """Return the volume of a labels layer that belongs to an image: at the same position, where both have such an axis.

    Raises
    ------
    VolumeError
        If the layer is no volume, or does not lie at that position.
    """
    extra = extra_axis(layer)
    if extra is None:
        return layer_volume(layer)
    n, position = int(layer.data.shape[extra]), _position_of(layer, extra, image)
    if not 0 <= position < n:
        shown = image.position or 0
        has = f"has only {n}" if n > 1 else "lies at another one"
        raise VolumeError(
            f"'{image.layer.name}' is shown at position {shown} of its fourth axis; '{layer.name}' {has}."
        )
    return layer_volume(layer, position=position)


def _position_of(layer: Labels, extra: int, image: LayerVolume) -> int:
    """Return where along the fourth axis of a layer the position of an image lies."""
    if image.extra_axis is None:
        return 0
    voxel = np.zeros(image.layer.ndim)
    voxel[image.extra_axis] = image.position or 0
    return math.floor(float(np.asarray(layer.world_to_data(image.layer.data_to_world(voxel)))[extra]) + 0.5)


class _At:
    """An array at one position along an axis, which keeps length 1."""

    def __init__(self, source: Any, axis: int, position: int) -> None:
        self._source, self._axis, self._position = source, axis, position
        self.shape = tuple(1 if at == axis else int(n) for at, n in enumerate(source.shape))
        self.dtype = source.dtype

    def __getitem__(self, box: tuple[slice, ...]) -> npt.NDArray[Any]:
        wanted = list(box)
        wanted[self._axis] = slice(self._position, self._position + 1)
        return np.asarray(self._source[tuple(wanted)])


def level_factors(layer: Layer, level: int, axes: Sequence[int]) -> tuple[float, float, float]:
    """Return how much larger the voxels of a level are than those of the full resolution, along three axes."""
    if n_levels(layer) == 1:
        return (1.0, 1.0, 1.0)
    whole, part = layer.data[0].shape, layer.data[level].shape
    z, y, x = (whole[axis] / part[axis] for axis in axes)
    return z, y, x


def describe_levels(layer: Layer) -> list[str]:
    """Return what each level of resolution of a layer with z, y and x is, in words: which voxels, of what size."""
    extra = extra_axis(layer)
    axes = [axis for axis in range(layer.ndim) if axis != extra]
    unit, _ = _unit(layer, axes)
    lines = []
    for level in range(n_levels(layer)):
        factors = level_factors(layer, level, axes)
        sizes = [float(abs(layer.scale[axis]) * factor) for axis, factor in zip(axes, factors, strict=True)]
        lines.append(f"{_which_voxels(factors)}, {times(float(f'{size:.3g}') for size in sizes)} {unit}")
    return lines


def _which_voxels(factors: Sequence[float]) -> str:
    """Return which voxels of the full resolution a level has, (z, y, x).

    Examples
    --------
    >>> _which_voxels((1, 1, 1)), _which_voxels((4, 4, 4)), _which_voxels((1, 2, 2)), _which_voxels((1, 2, 3))
    ('all voxels', 'every 4th voxel', 'every 2nd voxel along y and x', 'every 2nd voxel along y, every 3rd along x')
    """
    steps = [round(factor) for factor in factors]
    coarser = {step: [name for name, other in zip(AXES, steps, strict=True) if other == step] for step in steps}
    coarser.pop(1, None)
    if not coarser:
        return "all voxels"
    if len(set(steps)) == 1:
        return f"every {_ordinal(steps[0])} voxel"
    parts = [f"every {_ordinal(step)} along {' and '.join(names)}" for step, names in coarser.items()]
    return ", ".join(parts).replace(" along", " voxel along", 1)


def _ordinal(number: int) -> str:
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10 if number % 100 not in (11, 12, 13) else 0, 'th') }"


def _unit(layer: Layer, axes: list[int]) -> tuple[str, list[str]]:
    spelled = [str(layer.units[axis]) for axis in axes]
    units = {normalize_unit(text)[0] for text in spelled}
    if len(set(spelled)) > 1:
        return UNKNOWN_UNIT, [f"The axes have different units: {', '.join(spelled)} (z, y, x)."]
    unit = units.pop()
    if unit == UNKNOWN_UNIT:
        return unit, ["The voxel size has no unit; set it here if you know it."]
    if normalize_unit(spelled[0])[1] != 1.0:
        return UNKNOWN_UNIT, [f"The unit is {spelled[0]}; um, nm and mm can be compared with a model's."]
    return unit, []


def _source_on_disk(data: Any) -> OnDisk | None:
    try:
        return _on_disk.get(data)
    except TypeError:  # no weak reference, as of an array
        return None


def _file_of_array(data: Any) -> OnDisk | None:
    found, place = _loaded.get(id(data), (None, None))
    return place if found is not None and found() is data else None


def add_layer(viewer: ViewerModel, made: LayerData) -> Image | Labels:
    """Add what `layer_data` has made to a viewer, and return the layer."""
    data, keywords, kind = made
    add = viewer.add_labels if kind == "labels" else viewer.add_image
    return unwrap(add(data, **keywords))


def layer_data(volume: Volume, *, kind: str = "image", name: str = "", place: OnDisk | None = None) -> LayerData:
    """Return a volume as napari's readers give it: data, keywords, and the kind of layer.

    Reads a part of the volume to choose its contrast, so not in the thread of the window.

    Parameters
    ----------
    volume
        From `read_volume`.
    kind, name
        Of the layer.
    place
        Where the volume lies on disk, where it is not all of its file; None is its path.
    """
    keywords: dict[str, Any] = {
        "name": name or volume.name,
        "scale": volume.voxel_size,
        "translate": volume.translate,
        "units": (volume.unit,) * 3,
        "axis_labels": AXES,
    }
    if volume.path:
        keywords["metadata"] = {"napari-unet3d": {"path": os.path.abspath(volume.path)}}
    data: Any = volume.data
    if len(data.shape) == 4:
        data = _ChannelsFirst(data) if volume.is_lazy else np.moveaxis(data, -1, 0)
        keywords["scale"] = (1.0, *volume.voxel_size)
        keywords["translate"] = (0.0, *volume.translate)
        keywords["units"] = ("pixel", *keywords["units"])
        keywords["axis_labels"] = ("c", *AXES)
    elif volume.is_lazy and volume.path:
        _on_disk[data] = place or OnDisk(path=os.path.abspath(volume.path))
    elif volume.path and isinstance(data, np.ndarray):
        number = id(data)
        _loaded[number] = (
            ref(data, lambda _: _loaded.pop(number, None)),
            place or OnDisk(path=os.path.abspath(volume.path)),
        )
    if kind == "image":
        low, high = _contrast(volume)
        keywords["contrast_limits"] = (low, high)
        # Otherwise a volume 3 or 4 voxels wide is taken for a colour image.
        keywords["rgb"] = False
        if volume.is_lazy and (levels := read_coarser(volume)):
            if len(volume.data.shape) == 4:
                return [data, *(_ChannelsFirst(level.data) for level in levels)], {**keywords, "multiscale": True}, kind
            for level in levels:
                _on_disk[level.data] = OnDisk(path=os.path.abspath(level.path))
            return [data, *(level.data for level in levels)], {**keywords, "multiscale": True}, kind
    elif np.dtype(data.dtype).kind == "f":
        data = _integral(data, volume.name)
    return data, keywords, kind


def load_if_small(volume: Volume) -> Volume:
    """Return a volume with its voxels in memory if it is small, or else as it is."""
    if not volume.is_lazy or volume.nbytes > LOADED_BYTES:
        return volume
    return replace(volume, data=np.asarray(volume.data[...]))


class _ChannelsFirst:
    """A lazy array (z, y, x, c) as (c, z, y, x)."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.shape = (source.shape[3], *source.shape[:3])
        self.dtype = source.dtype
        self.ndim = 4
        self.size = math.prod(self.shape)
        self.nbytes = self.size * np.dtype(self.dtype).itemsize

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        from napari_unet3d.volumes.arrays import normalize_key

        box, pick = normalize_key(key, self.shape)
        c, z, y, x = box
        return np.asarray(np.moveaxis(self._source[z, y, x, c], -1, 0)[pick])


def _contrast(volume: Volume) -> tuple[float, float]:
    """Return limits from a small part of the volume, so that opening a terabyte takes no longer."""
    z, y, x = (slice(n // 2 - min(n, 128) // 2, n // 2 + (min(n, 128) + 1) // 2) for n in volume.shape)
    voxels = np.asarray(volume.data[z, y, x])
    finite = voxels[np.isfinite(voxels)] if voxels.dtype.kind == "f" else voxels.ravel()
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(n) for n in np.percentile(finite, (1, 99.8)))
    return low, high if high > low else low + 1


def _integral(data: Any, name: str) -> npt.NDArray[Any]:
    values = np.asarray(data[...])
    if not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        raise VolumeError(f"'{name}' holds numbers that are not whole, so it does not hold labels.")
    return values.astype(np.int32)

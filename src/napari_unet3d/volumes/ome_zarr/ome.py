"""What OME-Zarr metadata (0.4, 0.5, and 0.6 as far as it is settled) say about an array: axes, voxel size, place.

Only the metadata, as they lie in JSON; they come from anybody, so nothing in them is believed to have the
right type or length. Sizes and positions are in the units of the axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from napari_unet3d.errors import VolumeError
from napari_unet3d.volumes.ome_zarr.place import ZarrPlace
from napari_unet3d.volumes.space.attributes import letter_of

_DEEPEST_LEVEL = 3
_KNOWN_VERSIONS = ("0.1", "0.2", "0.3", "0.4", "0.5")
_LETTERS_OF_TYPES = {"channel": "c", "time": "t"}


@dataclass(frozen=True)
class Level:
    """One array of an OME-Zarr image.

    Parameters
    ----------
    path
        Of the array, in the group of the image.
    axes
        A letter for each axis.
    axis_units
        The unit of each axis; None where it has none.
    scale, translation
        One number per axis; None where the metadata give none that can be used.
    notes
        What in the metadata was passed over.
    """

    path: str
    axes: str
    axis_units: Sequence[str | None]
    scale: Sequence[float] | None
    translation: Sequence[float] | None
    notes: tuple[str, ...] = ()

    @property
    def units(self) -> dict[str, str | None]:
        """Return the unit of each axis under its letter."""
        return dict(zip(self.axes, self.axis_units, strict=True))

    def with_letters(self, letters: str) -> Level:
        """Return the level with letters for the axes that it does not name in a way that is known."""
        if len(letters) != len(self.axes):
            return self
        known = "".join(new if old == "?" else old for old, new in zip(self.axes, letters, strict=True))
        return replace(self, axes=known)

    def by_axis(self, numbers: Sequence[float] | None) -> dict[str, float | None]:
        """Return the numbers under the letters of their axes."""
        return {} if numbers is None else dict(zip(self.axes, numbers, strict=True))


def multiscales(attributes: Mapping[str, Any]) -> list[Any]:
    """Return the images that a group describes: 0.5 under "ome", 0.4 and before beside it."""
    ome = attributes.get("ome")
    found = ome.get("multiscales") if isinstance(ome, dict) else attributes.get("multiscales")
    return found if isinstance(found, list) else []


def version_of(attributes: Mapping[str, Any], multiscale: Any) -> str:
    """Return the version of OME-Zarr that a group names; nothing if it names none."""
    ome = attributes.get("ome")
    found = ome.get("version") if isinstance(ome, dict) else None
    found = found if found is not None or not isinstance(multiscale, dict) else multiscale.get("version")
    return str(found) if isinstance(found, str | int | float) else ""


def level_of(multiscale: Any, index: int, where: str, version: str = "") -> Level:
    """Return one level of an image; 0 is the one in full size.

    Raises
    ------
    VolumeError
        If the metadata have no such level.
    """
    try:
        dataset = multiscale["datasets"][index]
        path = dataset["path"]
        axes = _axes(multiscale, dataset)
        letters = "".join(_letter(axis) for axis in axes)
        given = [axis.get("unit") if isinstance(axis, dict) else None for axis in axes]
        units = [None if unit is None else str(unit) for unit in given]
        inner, outer = (part.get("coordinateTransformations") or [] for part in (dataset, multiscale))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise VolumeError(f"{where} has damaged OME-Zarr metadata: multiscales lack {error}.") from error
    if not isinstance(path, str):
        raise VolumeError(f"{where} has damaged OME-Zarr metadata: the path {path!r} is not text.")
    notes: list[str] = []
    n = len(letters)
    if version and version not in _KNOWN_VERSIONS:
        notes.append(f"Its metadata are of OME-Zarr {version}, of which scales and translations are read.")
    # From 0.6 on, those of the image lead from its own coordinates to further ones.
    is_named = "coordinateSystems" in multiscale
    scale, translation = _compose(_pair(inner, n, notes), (None, None) if is_named else _pair(outer, n, notes))
    return Level(path, letters, units, scale, translation, tuple(notes))


def _axes(multiscale: Any, dataset: Any) -> Any:
    """Return the axes of an image: its own, or those of the coordinates that a level leads to."""
    systems = multiscale.get("coordinateSystems")
    if not systems:
        return multiscale.get("axes", ["t", "c", "z", "y", "x"])
    outputs = [transform.get("output") for transform in dataset.get("coordinateTransformations") or []]
    wanted = [system for system in systems if system.get("name") in outputs]
    return (wanted or systems)[0]["axes"]


def find_level(array: ZarrPlace) -> Level | None:
    """Return what an image in one of the nodes above says about an array; None if it is in no image."""
    for group, relative in array.parents()[:_DEEPEST_LEVEL]:
        attributes = group.attributes()
        for multiscale in multiscales(attributes):
            datasets = multiscale.get("datasets") if isinstance(multiscale, dict) else None
            for index, dataset in enumerate(datasets if isinstance(datasets, list) else []):
                if isinstance(dataset, dict) and str(dataset.get("path")).strip("/") == relative:
                    return level_of(multiscale, index, str(group), version_of(attributes, multiscale))
    return None


def _letter(axis: Any) -> str:
    name = axis.get("name") if isinstance(axis, dict) else axis
    letter = letter_of(str(name))
    kind = axis.get("type") if isinstance(axis, dict) else None
    if letter != "?" or kind in (None, "space"):
        return letter
    return _LETTERS_OF_TYPES.get(str(kind), "o")


_Pair = tuple[list[float] | None, list[float] | None]


def _pair(transforms: Any, n_axes: int, notes: list[str]) -> _Pair:
    """Return scale and translation of one list of transformations."""
    found: dict[str, list[float] | None] = {"scale": None, "translation": None}
    for transform in _flat(transforms):
        kind = transform.get("type") if isinstance(transform, dict) else None
        numbers = transform.get(kind) if isinstance(kind, str) and kind in found else None
        is_list = isinstance(numbers, list) and len(numbers) == n_axes
        if numbers and is_list and all(isinstance(number, int | float) for number in numbers):
            values = [_finite(number) for number in numbers]
            # A scale after a translation moves it too.
            if kind == "scale" and found["translation"] is not None:
                found["translation"] = [a * b for a, b in zip(found["translation"], values, strict=True)]
            found[str(kind)] = _combined(str(kind), found[str(kind)], values)
        elif kind != "identity":
            notes.append(f"A coordinate transformation of type {kind!r} in the OME-Zarr metadata cannot be used.")
    return found["scale"], found["translation"]


def _flat(transforms: Any) -> list[Any]:
    """Return transformations with those inside a sequence in its place."""
    flat: list[Any] = []
    for transform in transforms if isinstance(transforms, list) else []:
        is_sequence = isinstance(transform, dict) and transform.get("type") == "sequence"
        inside = transform.get("transformations") if is_sequence else None
        flat.extend(inside if isinstance(inside, list) else [transform])
    return flat


def _finite(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _combined(kind: str, before: list[float] | None, values: list[float]) -> list[float]:
    if before is None:
        return values
    return [a * b if kind == "scale" else a + b for a, b in zip(before, values, strict=True)]


def _compose(inner: _Pair, outer: _Pair) -> _Pair:
    """Return scale and translation of `inner` followed by `outer`."""
    (scale, translation), (outer_scale, outer_translation) = inner, outer
    if outer_scale is not None:
        if translation is not None:
            translation = [a * b for a, b in zip(translation, outer_scale, strict=True)]
        scale = outer_scale if scale is None else [a * b for a, b in zip(scale, outer_scale, strict=True)]
    if outer_translation is not None:
        start = translation or [0.0] * len(outer_translation)
        translation = [a + b for a, b in zip(start, outer_translation, strict=True)]
    return scale, translation

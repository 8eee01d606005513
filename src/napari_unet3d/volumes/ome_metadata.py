"""What OME-Zarr metadata (0.4 and 0.5) say about an array: its axes, its voxel size, where it lies.

Only the metadata, as they lie in JSON; they come from anybody, so nothing in them is believed to have the
right type or length. Sizes and positions are in the units of the axes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_unet3d.errors import VolumeError

_DEEPEST_LEVEL = 3
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
    units
        The unit of each axis that has one, by letter.
    scale, translation
        One number an axis; None where the metadata give none that can be used.
    notes
        What in the metadata was passed over.
    """

    path: str
    axes: str
    units: Mapping[str, str | None]
    scale: Sequence[float] | None
    translation: Sequence[float] | None
    notes: tuple[str, ...] = ()

    def by_axis(self, numbers: Sequence[float] | None) -> dict[str, float | None]:
        """Return the numbers under the letters of their axes."""
        return {} if numbers is None else dict(zip(self.axes, numbers, strict=True))


def multiscales(attributes: Mapping[str, Any]) -> list[Any]:
    """Return the images that a group describes: 0.5 under "ome", 0.4 and before beside it."""
    ome = attributes.get("ome")
    found = ome.get("multiscales") if isinstance(ome, dict) else attributes.get("multiscales")
    return found if isinstance(found, list) else []


def level_of(multiscale: Any, index: int, where: str) -> Level:
    """Return one level of an image; 0 is the one in full size.

    Raises
    ------
    VolumeError
        If the metadata have no such level.
    """
    try:
        dataset = multiscale["datasets"][index]
        path = dataset["path"]
        axes = multiscale.get("axes", ["t", "c", "z", "y", "x"])
        letters = "".join(_letter(axis) for axis in axes)
        units = {
            letter: None if axis.get("unit") is None else str(axis["unit"])
            for letter, axis in zip(letters, axes, strict=True)
            if isinstance(axis, dict)
        }
        inner, outer = (part.get("coordinateTransformations") or [] for part in (dataset, multiscale))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise VolumeError(f"{where} has damaged OME-Zarr metadata: multiscales lack {error}.") from error
    if not isinstance(path, str):
        raise VolumeError(f"{where} has damaged OME-Zarr metadata: the path {path!r} is no text.")
    notes: list[str] = []
    n = len(letters)
    scale, translation = _compose(_pair(inner, n, notes), _pair(outer, n, notes))
    return Level(path, letters, units, scale, translation, tuple(notes))


def find_level(array: Path) -> Level | None:
    """Return what an image in one of the folders above says about an array; None if it is in no image."""
    for group in list(array.parents)[:_DEEPEST_LEVEL]:
        relative = array.relative_to(group).as_posix()
        for multiscale in multiscales(_attributes(group)):
            datasets = multiscale.get("datasets") if isinstance(multiscale, dict) else None
            for index, dataset in enumerate(datasets if isinstance(datasets, list) else []):
                if isinstance(dataset, dict) and str(dataset.get("path")).strip("/") == relative:
                    return level_of(multiscale, index, str(group))
    return None


def _attributes(group: Path) -> dict[str, Any]:
    """Return the attributes of a Zarr group, v3 or v2; none if it is no group."""
    for name in ("zarr.json", ".zattrs"):
        try:
            document = json.loads((group / name).read_text("utf-8"))
        except (OSError, ValueError):
            continue
        found = document.get("attributes") if name == "zarr.json" and isinstance(document, dict) else document
        return found if isinstance(found, dict) else {}
    return {}


def _letter(axis: Any) -> str:
    name = axis.get("name") if isinstance(axis, dict) else axis
    letter = str(name).lower()
    if letter in ("z", "y", "x", "c", "t"):
        return letter
    kind = axis.get("type") if isinstance(axis, dict) else None
    return _LETTERS_OF_TYPES.get(str(kind), "?")


_Pair = tuple[list[float] | None, list[float] | None]


def _pair(transforms: Any, n_axes: int, notes: list[str]) -> _Pair:
    """Return scale and translation of one list of transformations."""
    found: dict[str, list[float] | None] = {"scale": None, "translation": None}
    for transform in transforms if isinstance(transforms, list) else []:
        kind = transform.get("type") if isinstance(transform, dict) else None
        numbers = transform.get(kind) if isinstance(kind, str) and kind in found else None
        is_list = isinstance(numbers, list) and len(numbers) == n_axes
        if numbers and is_list and all(isinstance(number, int | float) for number in numbers):
            found[str(kind)] = [float(number) for number in numbers]
        elif kind != "identity":
            notes.append(f"A coordinate transformation of type {kind!r} in the OME-Zarr metadata cannot be used.")
    return found["scale"], found["translation"]


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

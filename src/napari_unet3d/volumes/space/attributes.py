"""The voxel size in the attributes of an array, as the programs write it that use HDF5 and bare Zarr.

=====================  ==========================================  =========================================
writer                 attributes                                  how
=====================  ==========================================  =========================================
PlantSeg, ImageJ       ``element_size_um``                         (z, y, x) micrometres
ilastik                ``axistags``, ``axis_units``                JSON, a resolution and a unit by axis
gunpowder, CREMI       ``resolution``, ``offset``, ``units``       in the order of the axes; nm without units
funlib, daisy          ``voxel_size``, ``offset``, ``units``       in the order of the axes
N5, Paintera           ``pixelResolution``                         dimensions (x, y, z) and a unit
COSEM                  ``transform``                               axes, scale, translate, units
=====================  ==========================================  =========================================

Attributes come from anybody: nothing in them is believed to have the right type or length.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_unet3d.volumes.space.calibration import Calibration, calibrate

ByAxis = Mapping[str, float | None]
_LETTERS_OF_NAMES = {
    **{letter: letter for letter in "zyxct"},
    **dict.fromkeys(("depth", "plane", "slice"), "z"),
    **dict.fromkeys(("height", "row"), "y"),
    **dict.fromkeys(("width", "column", "col"), "x"),
    **dict.fromkeys(("channel", "channels"), "c"),
    "time": "t",
    **dict.fromkeys(("angle", "lifetime", "phase", "position", "scene", "tile", "view", "wavelength"), "o"),
}
# All that is looked at: what else an array has is not read.
NAMES = (
    "element_size_um",
    "axistags",
    "axis_units",
    "axis_names",
    "_ARRAY_DIMENSIONS",
    "resolution",
    "voxel_size",
    "spacing",
    "units",
    "unit",
    "offset",
    "pixelResolution",
    "transform",
)
_TEXT_LIMIT = 1 << 20


@dataclass(frozen=True)
class AttributeSize:
    """What one convention gives, by axis."""

    sizes: ByAxis
    units: Mapping[str, str | None]
    positions: ByAxis = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def calibrate(self) -> Calibration:
        """Return it as one voxel size in one unit."""
        found = calibrate(self.sizes, self.units, self.positions)
        return Calibration(found.sizes, found.unit, found.positions, notes=(*self.notes, *found.notes))


def size_in_attributes(attributes: Mapping[str, Any], axes: str) -> Calibration:
    """Return the voxel size in the attributes of an array whose axes have these letters; nothing if there is none."""
    for read in _CONVENTIONS:
        found = read(attributes, axes)
        if found is not None and any(size for size in found.sizes.values()):
            return found.calibrate()
    return calibrate({}, None)


def axes_in_attributes(attributes: Mapping[str, Any], n_axes: int) -> str | None:
    """Return the letters of the axes that attributes name, such as "zyxc"; None if there is not one for each axis."""
    tags = _axistags(attributes)
    names = [str(tag.get("key")) for tag in tags] or _texts(attributes.get("axis_names"))
    names = names or _texts(attributes.get("_ARRAY_DIMENSIONS"))
    letters = "".join(letter_of(name) for name in names)
    return letters if len(letters) == n_axes and {"y", "x"} <= set(letters) else None


def letter_of(name: str) -> str:
    """Return our letter for the name of an axis; "o" for one that is none of ours, "?" for a name that is not known."""
    return _LETTERS_OF_NAMES.get(name.strip().rstrip("^").lower(), "?")


def _element_size(attributes: Mapping[str, Any], axes: str) -> AttributeSize | None:
    numbers = _numbers(attributes.get("element_size_um"))
    return (
        AttributeSize(dict(zip("zyx", numbers, strict=True)), dict.fromkeys("zyx", "um")) if len(numbers) == 3 else None
    )


def _ilastik(attributes: Mapping[str, Any], axes: str) -> AttributeSize | None:
    units = _mapping(attributes.get("axis_units"))
    sizes, spelled = {}, {}
    for tag in _axistags(attributes):
        letter, size = letter_of(str(tag.get("key"))), tag.get("resolution")
        # vigra writes 0 where it knows nothing.
        if letter in ("z", "y", "x") and isinstance(size, int | float) and size > 0:
            sizes[letter] = float(size)
            spelled[letter] = _text(units.get(str(tag.get("key"))))
    return AttributeSize(sizes, spelled) if sizes else None


def _gunpowder(attributes: Mapping[str, Any], axes: str) -> AttributeSize | None:
    names = ("resolution", "voxel_size", "spacing")
    numbers = next((found for name in names if (found := _numbers(attributes.get(name)))), ())
    spatial = [letter for letter in axes if letter in "zyx"] or list("zyx")
    spatial = list("zyx") if len(spatial) != 3 else spatial
    if len(numbers) == len(axes) != 3:
        numbers = tuple(number for number, letter in zip(numbers, axes, strict=True) if letter in "zyx")
    if len(numbers) != 3:
        return None
    units = _texts(attributes.get("units")) or _texts(attributes.get("unit"))
    units = (
        [unit for unit, letter in zip(units, axes, strict=True) if letter in "zyx"]
        if len(units) == len(axes)
        else units
    )
    offset = _numbers(attributes.get("offset"))[-3:]
    notes: tuple[str, ...] = ()
    if not units and "resolution" in attributes:
        units = ["nm"]
        notes = ("Its attributes give a resolution without a unit; nm is used, as in CREMI's files.",)
    spelled = dict(zip(spatial, units if len(units) == 3 else [units[0] if units else None] * 3, strict=True))
    positions = dict(zip(spatial, offset, strict=True)) if len(offset) == 3 else {}
    return AttributeSize(dict(zip(spatial, numbers, strict=True)), spelled, positions, notes)


def _n5(attributes: Mapping[str, Any], axes: str) -> AttributeSize | None:
    found = attributes.get("pixelResolution")
    unit = _text(found.get("unit")) if isinstance(found, Mapping) else None
    numbers = _numbers(found.get("dimensions") if isinstance(found, Mapping) else found)
    if len(numbers) != 3:
        return None
    return AttributeSize(dict(zip("xyz", numbers, strict=True)), dict.fromkeys("zyx", unit))


def _cosem(attributes: Mapping[str, Any], axes: str) -> AttributeSize | None:
    found = _mapping(attributes.get("transform"))
    letters = [letter_of(name) for name in _texts(found.get("axes"))]
    scale, translate = _numbers(found.get("scale")), _numbers(found.get("translate"))
    if not letters or len(scale) != len(letters):
        return None
    units = _texts(found.get("units"))
    spelled = dict(zip(letters, units, strict=True)) if len(units) == len(letters) else {}
    positions = dict(zip(letters, translate, strict=True)) if len(translate) == len(letters) else {}
    return AttributeSize(dict(zip(letters, scale, strict=True)), spelled, positions)


_CONVENTIONS: tuple[Callable[[Mapping[str, Any], str], AttributeSize | None], ...] = (
    _element_size,
    _ilastik,
    _gunpowder,
    _n5,
    _cosem,
)


def _axistags(attributes: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    axes = _mapping(attributes.get("axistags")).get("axes")
    return [tag for tag in axes if isinstance(tag, Mapping)] if isinstance(axes, list) else []


def _mapping(found: Any) -> Mapping[str, Any]:
    """Return a mapping that stands there as it is or as JSON; an empty one for anything else."""
    if isinstance(found, Mapping):
        return found
    text = _text(found)
    if text is None or len(text) > _TEXT_LIMIT:
        return {}
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _text(found: Any) -> str | None:
    if isinstance(found, bytes):
        return found.decode("utf-8", "replace")
    return str(found) if isinstance(found, str) else None


def _texts(found: Any) -> list[str]:
    """Return the texts in a list or an array, or a single one as a list."""
    single = _text(found)
    if single is not None:
        return [single]
    values = list(found) if isinstance(found, list | tuple | np.ndarray) and np.ndim(found) == 1 else []
    texts = [_text(value) for value in values]
    return [text for text in texts if text is not None] if None not in texts else []


def _numbers(found: Any) -> tuple[float, ...]:
    """Return the numbers in a list or an array, of any length up to 5; none for anything else."""
    if not isinstance(found, list | tuple | np.ndarray):
        return ()
    try:
        values = np.ravel(np.asarray(found, dtype=float))
    except (TypeError, ValueError):
        return ()
    return tuple(float(value) for value in values) if values.size <= 5 else ()

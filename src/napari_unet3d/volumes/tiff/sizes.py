"""The voxel size that a TIFF gives: the conventions of its writers, in the order in which they are believed.

========================  ======================================================  =============================
writer                    where                                                   how
========================  ======================================================  =============================
OME, Bio-Formats          OME-XML in the description                              PhysicalSize, with units
Micro-Manager             private tag 51123, JSON                                 PixelSizeUm, z-step_um
MetaMorph                 XML in the description                                  spatial-calibration, with units
FEI                       private tag 34682, lines                                PixelWidth, PixelHeight; metres
Zeiss LSM, MetaMorph STK  private tags, as tifffile gives them                    metres; their own unit
ImageJ                    lines in the description, and the resolution            spacing, unit, pixels per unit;
                                                                                  inches as below
tifffile                  JSON in the description, and the resolution             spacing, unit, PhysicalSizeZ
any                       the resolution, in pixels per centimetre                as it is
any                       the resolution, in pixels per inch, also where it       nominal; 72 is none at all
                          was turned into centimetres
========================  ======================================================  =============================

Printing programs write 72 pixels per inch where they know nothing, as ImageJ has it too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from napari_unet3d.volumes.space.calibration import Calibration, calibrate, micrometers
from napari_unet3d.volumes.tiff.descriptions import imagej_metadata, is_imagej, shaped_metadata
from napari_unet3d.volumes.tiff.directories import TiffFile
from napari_unet3d.volumes.tiff.ome import OmeImage

_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _MICRO_MANAGER = 282, 283, 296, 51123
_FEI = 34682
_SIDES = ("Height", "Width")
_PROPERTY = re.compile(r'<prop id="([\w-]+)"[^>]*?\bvalue="([^"]*)"')
_LOOKED_AT = 100_000
_NO_RESOLUTION = 72
# Pixels per inch of screens and printers, which some programs turn into centimetres.
_OF_PRINTING = (96, 150, 300, 600, 1200)
# The last two are not in the standard; tifffile writes them.
_UNIT_OF_TAG = {2: "inch", 3: "cm", 4: "mm", 5: "um"}


@dataclass(frozen=True)
class Found:
    """What one convention gives, by axis, as the file has it."""

    sizes: Mapping[str, float | None] = field(default_factory=dict)
    units: Mapping[str, str | None] = field(default_factory=dict)
    positions: Mapping[str, float | None] = field(default_factory=dict)
    is_nominal: bool = False
    notes: tuple[str, ...] = ()

    @property
    def has_slices(self) -> bool:
        """Return whether the file knows how thick a slice is, so that even a single plane is a volume."""
        return self.sizes.get("z") is not None

    def calibrate(self) -> Calibration:
        """Return it as one voxel size in one unit."""
        found = calibrate(self.sizes, self.units, self.positions, is_nominal=self.is_nominal)
        return Calibration(found.sizes, found.unit, found.positions, found.is_nominal, (*self.notes, *found.notes))


def sizes_of(file: TiffFile, ome: OmeImage | None = None, foreign: Found | None = None) -> Found:
    """Return what a file says about its voxels; `foreign` is what only tifffile could read."""
    if ome is not None:
        return from_ome(ome)
    micro_manager = from_micro_manager(file)
    if micro_manager is not None:
        return micro_manager
    if foreign is not None and foreign.sizes:
        return foreign
    if is_imagej(file.description):
        return from_imagej(file)
    if (written := from_metaseries(file) or from_microscope(file)) is not None:
        return written
    if metadata := shaped_metadata(file.description):
        return from_tifffile(file, metadata)
    return from_resolution(file)


def from_ome(image: OmeImage) -> Found:
    """Return what OME-XML gives."""
    positions = {}
    for axis, (position, spelled) in image.positions.items():
        measured, wanted = micrometers(spelled), micrometers(image.units.get(axis))
        if measured is not None and wanted is not None:
            positions[axis] = position * measured / wanted
    return Found(image.sizes, image.units, positions)


def from_micro_manager(file: TiffFile) -> Found | None:
    """Return what Micro-Manager gives; None if it did not write the file, or knows no pixel size."""
    text = file.text(_MICRO_MANAGER)
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    summary = found.get("Summary") if isinstance(found.get("Summary"), dict) else {}
    pixel = _positive(found.get("PixelSizeUm")) or _positive(summary.get("PixelSize_um"))
    if pixel is None:
        return None
    step = _positive(summary.get("z-step_um")) or _positive(file.micro_manager_summary().get("z-step_um"))
    if step is None and is_imagej(file.description):
        step = _positive(imagej_metadata(file.description).get("spacing"))
    return Found({"z": step, "y": pixel, "x": pixel}, dict.fromkeys("zyx", "um"))


def from_imagej(file: TiffFile) -> Found:
    """Return what ImageJ gives: the distance of slices, pixels per unit, and the voxel at the origin."""
    metadata = imagej_metadata(file.description)
    unit = metadata.get("unit")
    thickness = _number(metadata.get("spacing"))
    sizes = {"z": thickness, "y": _step(file, _Y_RESOLUTION), "x": _step(file, _X_RESOLUTION)}
    units = {"z": metadata.get("zunit", unit), "y": metadata.get("yunit", unit), "x": unit}
    if micrometers(unit) is None and sizes["x"] in (None, 1.0) and sizes["z"] in (None, 1.0):
        # ImageJ writes 1 pixel where it knows nothing.
        sizes = {"z": thickness if micrometers(units["z"]) is not None else None}
    if micrometers(unit) == micrometers("inch") or (unit is None and "spacing" not in metadata):
        plain = from_resolution(file)
        if plain.sizes or unit is not None:
            return plain
    positions = {}
    for axis in "zyx":
        origin, size = _number(metadata.get(f"{axis}origin")), sizes.get(axis)
        if origin is not None and size is not None:
            positions[axis] = _rounded(-origin * abs(size))
    return Found(sizes, units, positions)


def from_tifffile(file: TiffFile, metadata: Mapping[str, Any]) -> Found:
    """Return what tifffile's own description gives besides the resolution: spacing and unit, or OME's names."""
    named = {axis: _positive(metadata.get(f"PhysicalSize{axis.upper()}")) for axis in "zyx"}
    if any(named.values()):
        spelled = {axis: metadata.get(f"PhysicalSize{axis.upper()}Unit", "um") for axis in "zyx"}
        return Found(named, {axis: _text(unit) for axis, unit in spelled.items()})
    plain = from_resolution(file)
    spacing, unit = _number(metadata.get("spacing")), _text(metadata.get("unit"))
    if spacing is None:
        return plain
    if plain.is_nominal and _means_its_unit(plain, spacing, unit):
        # tifffile writes inches where no unit of the resolution is given.
        sizes = {"z": spacing, "y": _step(file, _Y_RESOLUTION), "x": _step(file, _X_RESOLUTION)}
        return Found(sizes, dict.fromkeys("zyx", unit))
    if plain.sizes:
        return Found(
            {**plain.sizes, "z": spacing}, {**plain.units, "z": unit}, is_nominal=plain.is_nominal, notes=plain.notes
        )
    # Without a unit of the resolution, that of the spacing is meant, as in ImageJ's files.
    sizes = {"z": spacing, "y": _step(file, _Y_RESOLUTION), "x": _step(file, _X_RESOLUTION)}
    has_resolution = int(next(iter(file.numbers(_RESOLUTION_UNIT)), 1)) == 1 and sizes["x"] not in (None, 1.0)
    return Found(sizes if has_resolution else {"z": spacing}, dict.fromkeys("zyx", unit))


def _means_its_unit(plain: Found, spacing: float, unit: str | None) -> bool:
    """Return whether pixels are as large as slices are thick in the unit of the spacing rather than in inches."""
    length, x = micrometers(unit), plain.sizes.get("x")
    if length is None or not x or not spacing:
        return False
    as_inches = x * 25_400 / (abs(spacing) * length)
    return abs(math.log(as_inches / 25_400 * length)) < abs(math.log(as_inches))


def from_metaseries(file: TiffFile) -> Found | None:
    """Return what MetaMorph gives in the XML of a plane; None if it did not write it, or it is not calibrated."""
    found = dict(_PROPERTY.findall(file.description[:_LOOKED_AT])) if "<MetaData>" in file.description[:200] else {}
    sizes = {axis: _positive(found.get(f"spatial-calibration-{axis}")) for axis in "yx"}
    if found.get("spatial-calibration-state", "on") != "on" or None in sizes.values():
        return None
    return Found(sizes, dict.fromkeys("yx", found.get("spatial-calibration-units")))


def from_microscope(file: TiffFile) -> Found | None:
    """Return what electron microscopes of FEI give in a tag of their own, in metres; None if there is none."""
    text = file.text(_FEI)
    found = {
        axis: re.search(rf"^Pixel{name}=(\S+)", text, re.MULTILINE) for axis, name in zip("yx", _SIDES, strict=True)
    }
    sizes = {axis: _positive(match[1]) if match else None for axis, match in found.items()}
    return Found(sizes, dict.fromkeys("yx", "m")) if all(sizes.values()) else None


def from_resolution(file: TiffFile) -> Found:
    """Return what the resolution gives: in centimetres as it is, in inches as a nominal size, 72 per inch nothing."""
    unit = _UNIT_OF_TAG.get(int(next(iter(file.numbers(_RESOLUTION_UNIT)), 2 if file.numbers(_X_RESOLUTION) else 1)))
    x, y = (next(iter(file.numbers(tag)), 0.0) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
    if unit is None or not (x > 0 or y > 0):
        return Found()
    sizes = {"y": _step(file, _Y_RESOLUTION), "x": _step(file, _X_RESOLUTION)}
    per_inch = x if unit == "inch" else x * 2.54
    is_of_printing = any(math.isclose(per_inch, usual, rel_tol=1e-3) for usual in (_NO_RESOLUTION, *_OF_PRINTING))
    if unit != "inch" and not is_of_printing:
        return Found(sizes, dict.fromkeys("yx", unit))
    if math.isclose(per_inch, _NO_RESOLUTION, rel_tol=1e-3) or per_inch <= 1:
        return Found()
    note = (
        f"The size of its pixels is nominal: {per_inch:.5g} per inch, which programs write for printing without "
        "measuring it. Check it."
    )
    return Found(sizes, dict.fromkeys("yx", unit), is_nominal=True, notes=(note,))


def _step(file: TiffFile, tag: int) -> float | None:
    """Return the size of a pixel from a resolution tag, in the tag's unit; None if there is no tag."""
    found = file.numbers(tag)
    if not found:
        return None
    # A rational holds ten digits; the rounding gives back what was typed, such as 0.235.
    return _rounded(1 / found[0]) if found[0] else 0.0


def _rounded(number: float) -> float:
    return float(f"{number:.9g}")


def _number(found: object) -> float | None:
    """Return a finite number from a number or its text; None for anything else."""
    if isinstance(found, bool) or not isinstance(found, int | float | str):
        return None
    try:
        number = float(found)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _positive(found: object) -> float | None:
    number = _number(found)
    return number if number is not None and number > 0 else None


def _text(found: object) -> str | None:
    return found if isinstance(found, str) else None

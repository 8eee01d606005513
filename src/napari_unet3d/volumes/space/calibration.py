"""The size of voxels and where they lie: what was found, apart from what has to be assumed.

Units are spelled in one way ("um", "nm", "mm", or "pixel" where nothing gives a length). What a file does not
give stays None, so that it agrees with everything; whoever needs a number asks for `voxel_size` and
`translate`, which are always finite, so that nobody divides by zero later. No files here.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

UNKNOWN_UNIT = "pixel"

ByAxis = tuple[float | None, float | None, float | None]
_NOTHING: ByAxis = (None, None, None)

_LENGTHS = {
    "um": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "dm": 1e5,
    "m": 1e6,
    "km": 1e9,
    "pm": 1e-6,
    "fm": 1e-9,
    "a": 1e-4,
    "inch": 25_400.0,
    "thou": 25.4,
}
_METRE = ("meter", "meters", "metre", "metres")
_SPELLINGS = {
    **dict.fromkeys(("um", "micron", "microns", *(f"micro{metre}" for metre in _METRE)), "um"),
    **dict.fromkeys(("nm", *(f"nano{metre}" for metre in _METRE)), "nm"),
    **dict.fromkeys(("mm", *(f"milli{metre}" for metre in _METRE)), "mm"),
    **dict.fromkeys(("cm", *(f"centi{metre}" for metre in _METRE)), "cm"),
    **dict.fromkeys(("dm", *(f"deci{metre}" for metre in _METRE)), "dm"),
    **dict.fromkeys(("km", *(f"kilo{metre}" for metre in _METRE)), "km"),
    **dict.fromkeys(("pm", *(f"pico{metre}" for metre in _METRE)), "pm"),
    **dict.fromkeys(("fm", *(f"femto{metre}" for metre in _METRE)), "fm"),
    **dict.fromkeys(("m", *_METRE), "m"),
    **dict.fromkeys(("inch", "in", "inches"), "inch"),
    **dict.fromkeys(("thou", "mil", "mils"), "thou"),
    **dict.fromkeys(("a", "\N{LATIN SMALL LETTER A WITH RING ABOVE}", "angstrom", "angstroms", "\xe5ngstr\xf6m"), "a"),
}
_NO_LENGTHS = ("", "pixel", "pixels", "px", "voxel", "voxels", "none", "null", "unitless", "reference frame")
_KEPT = ("um", "nm", "mm")
# Micro sign, Greek mu, and what is left of them where UTF-8 was read as Latin-1.
_MICRO = re.compile("\xc2\xb5|\xce\xbc|\u03bc|\xb5|(?<![a-z])mu(?=m)")
_ESCAPED = re.compile(r"\\u([0-9a-f]{4})|\\x([0-9a-f]{2})|<([0-9a-f]{2})>", re.IGNORECASE)


@dataclass(frozen=True)
class Calibration:
    """What is known of the voxels of a volume.

    Parameters
    ----------
    sizes
        (z, y, x) size of a voxel in `unit`, each finite and positive; None where nothing gives it.
    unit
        "um", "nm", "mm", or "pixel" where the size is no length.
    positions
        (z, y, x) of the centre of the first voxel, in `unit`, each finite; None where nothing gives it.
    is_nominal
        Whether the size is a resolution for printing, which programs write without having measured it.
    notes
        What was missing, assumed or converted, a sentence each.
    """

    sizes: ByAxis = _NOTHING
    unit: str = UNKNOWN_UNIT
    positions: ByAxis = _NOTHING
    is_nominal: bool = False
    notes: tuple[str, ...] = ()

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Return (z, y, x) in `unit`, 1 where the size is not known."""
        z, y, x = (1.0 if size is None else size for size in self.sizes)
        return z, y, x

    @property
    def translate(self) -> tuple[float, float, float]:
        """Return (z, y, x) of the centre of the first voxel in `unit`, 0 where it is not known."""
        z, y, x = (0.0 if position is None else position for position in self.positions)
        return z, y, x

    def coarser(self, factors: Sequence[float]) -> Calibration:
        """Return the calibration of a smaller copy, whose voxels are `factors` (z, y, x) larger.

        Sizes that are unknown stay so; unknown positions count from 0.

        Examples
        --------
        >>> coarser = calibrate({"x": 0.5, "y": 0.5}, "um", {"x": 7}).coarser((1, 2, 4))
        >>> coarser.sizes, coarser.positions
        ((None, 1.0, 2.0), (None, 0.25, 7.75))
        """
        z, y, x = (None if size is None else size * factor for size, factor in zip(self.sizes, factors, strict=True))
        kept = zip(self.positions, self.voxel_size, factors, strict=True)
        at_z, at_y, at_x = (at if factor == 1 else (at or 0.0) + (factor - 1) / 2 * size for at, size, factor in kept)
        return replace(self, sizes=(z, y, x), positions=(at_z, at_y, at_x))

    def moved(self, corner: Sequence[int]) -> Calibration:
        """Return the calibration of what begins at a voxel (z, y, x); unknown positions count from 0.

        Examples
        --------
        >>> calibrate({"x": 0.5, "y": 0.5}, "um").moved((0, 0, 4)).positions
        (None, None, 2.0)
        """
        z, y, x = (
            position if not start else (position or 0.0) + start * size
            for position, start, size in zip(self.positions, corner, self.voxel_size, strict=True)
        )
        return replace(self, positions=(z, y, x))

    @property
    def has_unit(self) -> bool:
        """Return whether sizes and positions are lengths."""
        return self.unit != UNKNOWN_UNIT


UNCALIBRATED = Calibration()


def normalize_unit(text: str | None) -> tuple[str, float]:
    r"""Return the unit that `text` means, and the factor that brings a size into it.

    Units of length that are not nm, um or mm become micrometres. What is no length is "pixel".

    Examples
    --------
    >>> normalize_unit("\N{MICRO SIGN}m"), normalize_unit("micron"), normalize_unit("\\u03BCm")
    (('um', 1.0), ('um', 1.0), ('um', 1.0))
    >>> normalize_unit("cm"), normalize_unit(None)
    (('um', 10000.0), ('pixel', 1.0))
    """
    unit = _SPELLINGS.get(_plain(text))
    if unit is None:
        return UNKNOWN_UNIT, 1.0
    return (unit, 1.0) if unit in _KEPT else ("um", _LENGTHS[unit])


def micrometers(text: str | None) -> float | None:
    """Return the length of a unit in micrometres, in any spelling; None for what is no length."""
    unit = _SPELLINGS.get(_plain(text))
    return None if unit is None else _LENGTHS[unit]


def _plain(text: str | None) -> str:
    """Return a unit in lower case, its micro sign as "u", without quotes, escapes and brackets around it."""
    spelled = html.unescape(str(text or "")).strip().strip("\"'()[]\0").strip()
    # ImageJ and programs that stay within ASCII write the micro sign as escapes.
    spelled = _ESCAPED.sub(lambda found: chr(int(found[1] or found[2] or found[3], 16)), spelled)
    spelled = _MICRO.sub("u", unicodedata.normalize("NFC", spelled)).lower()
    return spelled.removesuffix("/pixel").removesuffix("/voxel").removesuffix("/px")


def calibrate(
    sizes: Mapping[str, float | None],
    units: str | Mapping[str, str | None] | None,
    positions: Mapping[str, float | None] | None = None,
    *,
    is_nominal: bool = False,
) -> Calibration:
    """Return one voxel size in one unit from what a file says about each axis.

    Parameters
    ----------
    sizes
        The size of a voxel for "z", "y" and "x", each in its unit; None or absent where the file is silent.
    units
        The unit as the file spells it, for all axes or by axis.
    positions
        The position of the first voxel's centre by axis, in the same units.
    is_nominal
        Whether the sizes are a resolution for printing.

    Notes
    -----
    A negative size is taken without its sign, one that is zero or not finite is not known; both with a note.
    """
    spelled = dict(units) if isinstance(units, Mapping) else dict.fromkeys("zyx", units)
    factors, unit = _one_unit(spelled)
    size = [_scale(sizes.get(axis), factors[axis], is_size=True) for axis in "zyx"]
    position = [_scale((positions or {}).get(axis), factors[axis]) for axis in "zyx"]
    return Calibration(
        (size[0], size[1], size[2]),
        unit,
        (position[0], position[1], position[2]),
        is_nominal,
        (*_notes_on_sizes(sizes, unit), *_notes_on_units(sizes, spelled, unit)),
    )


def _one_unit(spelled: Mapping[str, str | None]) -> tuple[dict[str, float | None], str]:
    """Return for each axis what brings its numbers into the common unit, and that unit.

    An axis without a unit has that of the others; one that says that it has none cannot be compared: None.
    """
    found = {axis: normalize_unit(spelled.get(axis)) for axis in "zyx"}
    known = {unit for unit, _ in found.values()} - {UNKNOWN_UNIT}
    common = known.pop() if len(known) == 1 else "um" if known else UNKNOWN_UNIT
    factors: dict[str, float | None] = {}
    for axis, (unit, factor) in found.items():
        if unit == UNKNOWN_UNIT:
            is_silent = common == UNKNOWN_UNIT or not _plain(spelled.get(axis))
            factors[axis] = 1.0 if is_silent else None
        else:
            factors[axis] = factor if unit == common else factor * _LENGTHS[unit] / _LENGTHS[common]
    return factors, common


def _scale(number: float | None, factor: float | None, *, is_size: bool = False) -> float | None:
    if number is None or factor is None:
        return None
    scaled = abs(number) * factor if is_size else number * factor
    return scaled if math.isfinite(scaled) and (scaled > 0 or not is_size) else None


def _notes_on_sizes(sizes: Mapping[str, float | None], unit: str) -> list[str]:
    notes = []
    for axis in "zyx":
        size = sizes.get(axis)
        if size is not None and not (math.isfinite(size) and size > 0):
            used = f"{-size:g}" if math.isfinite(size) and size < 0 else "1"
            notes.append(f"The voxel size along {axis} is {size:g} in the file; {used} is used instead.")
    missing = [axis for axis in "zyx" if sizes.get(axis) is None]
    if missing:
        where = "" if len(missing) == 3 else f" along {', '.join(missing)}"
        notes.append(f"The file gives no voxel size{where} that this program reads; 1 {unit} is used.")
    return notes


def _notes_on_units(sizes: Mapping[str, float | None], spelled: Mapping[str, str | None], unit: str) -> list[str]:
    texts = {text for axis in "zyx" if (text := spelled.get(axis))}
    if unit != UNKNOWN_UNIT:
        # Of an axis without a length, beside others that have one, the size says nothing.
        return [
            f"The voxel size along {axis} is {size:g} {spelled[axis]}, which is not a length; 1 {unit} is used."
            for axis in "zyx"
            if (size := sizes.get(axis)) is not None
            and micrometers(spelled.get(axis)) is None
            and _plain(spelled.get(axis))
        ]
    odd = sorted(text for text in texts if _plain(text) not in _NO_LENGTHS)
    if odd:
        return [f"The unit {', '.join(map(repr, odd))} is not a length that is known here; 'pixel' is used."]
    if not texts and any(sizes.get(axis) is not None for axis in "zyx"):
        return ["The file gives no unit for its voxel size that this program reads; 'pixel' is used."]
    return []

"""What a volume is: an array (z, y, x[, c]), the size of its voxels, and where it lies.

Units are spelled in one way ("um", "nm", "mm", or "pixel" where the file does not say), and a voxel
size is always finite and positive, so that nobody divides by zero later. No files here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

UNKNOWN_UNIT = "pixel"

# Lower case, with the Greek mu (U+03BC) and the micro sign (U+00B5, what keyboards give) already made "u".
_UNITS = {
    **dict.fromkeys(("um", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"), "um"),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), "nm"),
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), "mm"),
    **dict.fromkeys(("", "pixel", "pixels", "px", "voxel", "voxels", "none", "unitless", "reference frame"), "pixel"),
}
_MICROMETERS = {
    "um": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre"), 1e4),
    **dict.fromkeys(("m", "meter", "meters", "metre"), 1e6),
    **dict.fromkeys(("inch", "in", "inches"), 25_400.0),
    **dict.fromkeys(("pm", "picometer", "picometre"), 1e-6),
    **dict.fromkeys(("a", "å", "angstrom", "ångström"), 1e-4),
}


class VolumeData(Protocol):
    """What the data of a volume can do: give a box as a NumPy array, and say how big it is."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (z, y, x) or (z, y, x, c)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the number type of what a read gives, in native byte order."""

    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D image with its voxel size.

    Parameters
    ----------
    data
        (z, y, x) or (z, y, x, c); ``data[slice, slice, slice]`` gives a NumPy array in native byte
        order. Lazy where the file allows it: nothing is read before it is asked for.
    voxel_size
        (z, y, x), in `unit`; finite and positive.
    unit
        "um", "nm", "mm", or "pixel" where the size is not known.
    translate
        (z, y, x) of the centre of the first voxel, in `unit`.
    name
        The file's stem, for the names of layers.
    path
        What the user passed.
    notes
        What was converted or looks wrong, a sentence each.
    """

    data: VolumeData
    voxel_size: tuple[float, float, float]
    unit: str
    translate: tuple[float, float, float] = (0.0, 0.0, 0.0)
    name: str = ""
    path: str = ""
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (z, y, x), in voxels, without the channels."""
        z, y, x = self.data.shape[:3]
        return z, y, x

    @property
    def n_channels(self) -> int:
        """Return how many numbers a voxel has."""
        return self.data.shape[3] if len(self.data.shape) == 4 else 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the number type that a read gives."""
        return np.dtype(self.data.dtype)

    @property
    def nbytes(self) -> int:
        """Return the bytes of the whole volume in memory."""
        return math.prod(self.data.shape) * self.dtype.itemsize

    @property
    def is_lazy(self) -> bool:
        """Return whether the voxels are still on disk."""
        return not isinstance(self.data, np.ndarray)


def normalize_unit(text: str | None) -> tuple[str, float]:
    r"""Return the unit that `text` means, and the factor that brings a size into it.

    Units of length that are not nm, um or mm become micrometres. What is no length is "pixel".

    Examples
    --------
    >>> normalize_unit("µm"), normalize_unit("micron"), normalize_unit("\\u00B5m")
    (('um', 1.0), ('um', 1.0), ('um', 1.0))
    >>> normalize_unit("cm"), normalize_unit(None)
    (('um', 10000.0), ('pixel', 1.0))
    """
    spelled = (text or "").strip().strip('"').lower()
    # ImageJ writes the micro sign as six ASCII characters.
    for micro in ("\\u00b5", "µ", "μ"):
        spelled = spelled.replace(micro, "u")
    unit = _UNITS.get(spelled)
    if unit is not None:
        return unit, 1.0
    if spelled in _MICROMETERS:
        return "um", _MICROMETERS[spelled]
    return UNKNOWN_UNIT, 1.0


def micrometers(text: str | None) -> float | None:
    """Return the length of a unit in micrometres, in any spelling; None for what is no length."""
    unit, factor = normalize_unit(text)
    return None if unit == UNKNOWN_UNIT else factor * _MICROMETERS[unit]


def agreed(image: Volume, mask: Volume) -> tuple[Volume, Volume]:
    """Return an image and its mask in one physical space; what does not agree is among the notes of the image.

    Masks are often PNG, which has no voxel size: the one that is not known is taken from the other.
    """
    notes: list[str] = []
    if image.shape != mask.shape:
        notes.append(f"The image has {times(image.shape)} voxels and the mask {times(mask.shape)} (z, y, x).")
    elif (image.unit == UNKNOWN_UNIT) != (mask.unit == UNKNOWN_UNIT):
        known = mask if image.unit == UNKNOWN_UNIT else image
        space: dict[str, Any] = {"voxel_size": known.voxel_size, "unit": known.unit, "translate": known.translate}
        return replace(image, **space, notes=known.notes), replace(mask, **space, notes=())
    elif not np.allclose(_in_micrometers(image), _in_micrometers(mask), rtol=1e-3):
        notes.append(
            f"The voxels of the image are {times(image.voxel_size)} {image.unit} and those of the mask "
            f"{times(mask.voxel_size)} {mask.unit} (z, y, x)."
        )
    return replace(image, notes=(*notes, *image.notes)), mask


def _in_micrometers(volume: Volume) -> list[float]:
    factor = micrometers(volume.unit) or 1.0
    return [factor * size for size in volume.voxel_size]


def times(numbers: Iterable[float]) -> str:
    """Return sizes as text.

    Examples
    --------
    >>> times((96, 192, 192)), times((0.18, 0.1, 0.1))
    ('96 x 192 x 192', '0.18 x 0.1 x 0.1')
    """
    return " x ".join(f"{n:.4g}" if isinstance(n, float) else f"{n:,}" for n in numbers)


@dataclass(frozen=True)
class Calibration:
    """The voxel size as it was found, checked: a size for each axis, one unit, and what was wrong."""

    voxel_size: tuple[float, float, float]
    unit: str
    translate: tuple[float, float, float] = (0.0, 0.0, 0.0)
    notes: tuple[str, ...] = ()


def calibrate(
    sizes: Mapping[str, float | None],
    units: str | Mapping[str, str | None] | None,
    positions: Mapping[str, float | None] | None = None,
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

    Notes
    -----
    A size that is missing, zero, negative or not finite becomes 1, with a note.
    """
    spelled = dict(units) if isinstance(units, Mapping) else dict.fromkeys("zyx", units)
    found = {axis: normalize_unit(spelled.get(axis)) for axis in "zyx"}
    known = {unit for unit, _ in found.values()} - {UNKNOWN_UNIT}
    common = known.pop() if len(known) == 1 else "um" if known else UNKNOWN_UNIT
    size: dict[str, float] = {}
    position: dict[str, float] = {}
    for axis, (unit, factor) in found.items():
        if unit not in (common, UNKNOWN_UNIT):
            factor *= _MICROMETERS[unit] / _MICROMETERS[common]
        step, offset = sizes.get(axis), (positions or {}).get(axis)
        size[axis] = step * factor if step is not None and _is_size(step) else 1.0
        position[axis] = offset * factor if offset is not None and math.isfinite(offset) else 0.0
    return Calibration(
        (size["z"], size["y"], size["x"]),
        common,
        (position["z"], position["y"], position["x"]),
        (*_notes_on_sizes(sizes, common), *_notes_on_units(sizes, spelled)),
    )


def _is_size(number: float) -> bool:
    return math.isfinite(number) and number > 0


def _notes_on_sizes(sizes: Mapping[str, float | None], unit: str) -> list[str]:
    notes = [
        f"The voxel size along {axis} is {size:g} in the file; 1 is used instead."
        for axis in "zyx"
        if (size := sizes.get(axis)) is not None and not _is_size(size)
    ]
    missing = [axis for axis in "zyx" if sizes.get(axis) is None]
    if missing:
        where = "" if len(missing) == 3 else f" along {', '.join(missing)}"
        notes.append(f"The file does not say the voxel size{where}; 1 {unit} is used.")
    return notes


def _notes_on_units(sizes: Mapping[str, float | None], spelled: Mapping[str, str | None]) -> list[str]:
    texts = {text for axis in "zyx" if (text := spelled.get(axis))}
    odd = sorted(text for text in texts if not _is_known(text))
    if odd:
        return [f"The unit {', '.join(map(repr, odd))} is not a length that is known here; 'pixel' is used."]
    if not texts and any(sizes.get(axis) is not None for axis in "zyx"):
        return ["The file does not say the unit of its voxel size; 'pixel' is used."]
    return []


def _is_known(text: str) -> bool:
    """Return whether the unit is a length, or a usual way to say that there is none."""
    return micrometers(text) is not None or text.strip().strip('"').lower() in _UNITS


@dataclass(frozen=True)
class ArrayInfo:
    """An array inside an HDF5 file or a zarr group."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def is_integral(self) -> bool:
        """Return whether its numbers are whole, so that they can be labels."""
        return np.dtype(self.dtype).kind in "bui"

    def __str__(self) -> str:
        return f"{self.name} {' x '.join(map(str, self.shape))} {self.dtype}"

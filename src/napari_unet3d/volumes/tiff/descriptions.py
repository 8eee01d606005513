r"""What the description of a TIFF says about its planes: how many, in which order, along which axes.

ImageJ's lines, tifffile's JSON, and (in `ome`) OME's XML. Text in, letters and sizes out: "t", "c", "z", "?"
for axes that count planes, the slowest first.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

# tifffile's letters that are ours, and two that explain nothing; others are axes of their own, such as angles.
_LETTERS = {"Z": "z", "C": "c", "T": "t", "S": "s", "Y": "y", "X": "x", "I": "?", "Q": "?"}
_IMAGEJ_ORDERS = ("czt", "ctz", "zct", "ztc", "tcz", "tzc")
_IMAGEJ_COUNTS = {"c": "channels", "z": "slices", "t": "frames"}


@dataclass(frozen=True)
class Lead:
    """The axes that count planes.

    Parameters
    ----------
    letters, shape
        A letter and a size for each axis, the slowest first.
    is_named
        Whether the file itself names them.
    """

    letters: str
    shape: tuple[int, ...]
    is_named: bool = True

    @property
    def n_planes(self) -> int:
        """Return how many planes that makes."""
        return math.prod(self.shape)


def declared_planes(description: str) -> int | None:
    r"""Return how many planes an ImageJ, OME or tifffile description speaks of; None if it is silent.

    Examples
    --------
    >>> declared_planes("ImageJ=1.54f\nimages=12\nslices=12\n")
    12
    >>> declared_planes('<OME><Image><Pixels SizeX="9" SizeY="9" SizeZ="4" SizeC="2" SizeT="1">')
    8
    >>> declared_planes('{"shape": [5, 32, 32]}')
    5
    """
    if is_imagej(description):
        return imagej_lead(imagej_metadata(description)).n_planes
    if match := re.search(r"<(?:\w+:)?Pixels\b[^>]*>", description):
        sizes = [re.search(rf'\bSize{axis}="([0-9]{{1,18}})"', match[0]) for axis in "ZCT"]
        return math.prod(int(size[1]) for size in sizes if size)
    if (shape := shaped_metadata(description).get("shape")) is not None:
        return math.prod(shape[:-2]) if len(shape) > 2 else 1
    return None


def is_imagej(description: str) -> bool:
    """Return whether a description is ImageJ's."""
    return description.startswith(("ImageJ=", "SCIFIO="))


def imagej_metadata(description: str) -> dict[str, str]:
    r"""Return what ImageJ wrote, by name.

    Examples
    --------
    >>> imagej_metadata("ImageJ=1.54f\nslices=3\nunit=\\u00B5m\n")["slices"]
    '3'
    """
    lines = (line.partition("=") for line in description.splitlines())
    return {name.strip(): value.strip() for name, mark, value in lines if mark}


def imagej_lead(metadata: dict[str, str]) -> Lead:
    """Return the axes that count planes: time, slices, channels, the slowest first, unless an order is given."""
    order = metadata.get("order", "czt").lower()
    letters = (order if order in _IMAGEJ_ORDERS else "czt")[::-1]
    sizes = {letter: _count(metadata.get(name)) for letter, name in _IMAGEJ_COUNTS.items()}
    n_images = _count(metadata.get("images"))
    if n_images > math.prod(sizes.values()):
        # Stacks from before hyperstacks say only how many images there are.
        if math.prod(sizes.values()) > 1:
            return Lead("?", (n_images,))
        sizes["z"] = n_images
    return Lead(letters, tuple(sizes[letter] for letter in letters))


def _count(text: str | None) -> int:
    return int(text) if text is not None and re.fullmatch(r"[1-9]\d{0,17}", text) else 1


def shaped_metadata(description: str) -> dict[str, Any]:
    """Return what tifffile writes, with a "shape" of whole numbers; nothing if it is something else.

    It is JSON, in which older versions put the shape last; the oldest wrote ``shape=(5, 32, 32)``.
    """
    if found := re.match(r"shape=\(([\d, ]+)\)", description):
        return _with_shape({"shape": [int(size) for size in re.findall(r"\d{1,18}", found[1])]})
    if not description.startswith("{") or '"shape":' not in description:
        return {}
    try:
        return _with_shape(json.loads(description))
    except (ValueError, RecursionError):
        # What is cut in the middle still says how many planes there were.
        cut = re.search(r'"shape": \[([\d, ]+)\]', description)
        return _with_shape({"shape": [int(size) for size in re.findall(r"\d{1,18}", cut[1])]}) if cut else {}


def _with_shape(found: object) -> dict[str, Any]:
    """Return a mapping if its "shape" is whole numbers above 0; nothing otherwise."""
    shape = found.get("shape") if isinstance(found, dict) else None
    is_shape = isinstance(shape, list) and shape and all(type(size) is int and 0 < size < 2**60 for size in shape)
    return dict(found) if is_shape and isinstance(found, dict) else {}


def is_shaped(description: str) -> bool:
    """Return whether a description is tifffile's own, with a shape."""
    return bool(shaped_metadata(description))


def letters_of(axes: object, n_axes: int) -> str | None:
    """Return our letters for tifffile's, such as "ZCYX"; None if there is not one for each axis."""
    if not isinstance(axes, str) or len(axes) != n_axes:
        return None
    return "".join(_LETTERS.get(letter, "o") for letter in axes.upper())

"""From the words that were typed to the values that a run takes."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

from napari_unet3d.errors import SpecError

if TYPE_CHECKING:
    from napari_unet3d.tasks.specs import PredictSpec

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def predict_spec(shape: tuple[int, int, int], **choices: Any) -> PredictSpec:
    """Return the spec of a run from what was typed."""
    from pydantic import ValidationError

    from napari_unet3d.core.boxes import Box
    from napari_unet3d.tasks.specs import PredictSpec

    region, memory = choices.pop("region"), choices.pop("memory")
    try:
        return PredictSpec(
            region=None if region is None else Box.parse(region, shape),
            memory_bytes=None if memory is None else parse_bytes(memory),
            **choices,
        )
    except ValidationError as error:
        first = error.errors()[0]
        reason = first["msg"].removeprefix("Value error, ")
        where = ", ".join(f"--{part}".replace("_", "-") for part in first["loc"] if isinstance(part, str))
        if first["type"] == "string_pattern_mismatch":
            reason = f"{first['input']!r} is none of auto, cpu, gpu, gpu:1, .."
        raise SpecError(f"{where}: {reason}." if where else f"{reason[0].upper()}{reason[1:]}.") from error


def parse_bytes(text: str) -> int:
    """Return the bytes that `8GiB`, `8GB`, `8G` or `8000000000` mean; GiB and G are powers of 1024.

    Examples
    --------
    >>> parse_bytes("1GiB"), parse_bytes("1.5 GB"), parse_bytes("4096")
    (1073741824, 1500000000, 4096)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?\s*", text.lower())
    if found is None:
        raise SpecError(f"{text!r} is not an amount of memory; 8GiB or 500MB would be.")
    base = 1000 if found[3] == "b" else 1024
    n_bytes = int(float(found[1]) * base ** _POWERS[found[2]])
    if n_bytes < 1:
        raise SpecError(f"{text!r} is less than a byte of memory; 8GiB or 500MB would be an amount.")
    return n_bytes


def has_display() -> bool:
    """Return whether a window can be opened here."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

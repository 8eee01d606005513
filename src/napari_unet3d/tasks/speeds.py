"""What was measured of this machine: how fast it was, and whether its tiles give the bytes of one pass.

One small JSON file in the user's cache folder; losing it costs an estimate and a check, and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

from platformdirs import user_cache_path

from napari_unet3d import atomic
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import OutputError
from napari_unet3d.small_files import read_json

# Tiles of 0.1, 1, 10, .. GFLOP, and all that are larger.
_SIZE_CLASSES = 6


def known_speed(device: str, spec: NetworkSpec, tile_flops: float = math.inf) -> float | None:
    """Return how fast a device last was with such a network, or None.

    Parameters
    ----------
    device
        Its label.
    spec
        The network.
    tile_flops
        Operations of a tile: small ones are slower, so what is kept of tiles nearest in size is taken.

    Returns
    -------
    float or None
        Operations per second.
    """
    kept = [
        (abs(_size_class(tile_flops) - size), -size, speed)
        for size in range(_SIZE_CLASSES)
        if (speed := _known_speed(_tile_key(device, spec, size))) is not None
    ]
    return min(kept)[2] if kept else _known_speed(_key(device, spec))


def remember_speed(device: str, spec: NetworkSpec, flops_per_second: float, tile_flops: float) -> None:
    """Keep the speed of tiles of so many operations; where the folder cannot be written nothing is kept."""
    _keep(_tile_key(device, spec, _size_class(tile_flops)), flops_per_second)


def known_training_speed(device: str, spec: NetworkSpec) -> float | None:
    """Return the operations per second that a device last did in training steps of such a network, or None."""
    return _known_speed(f"training | {_key(device, spec)}")


def remember_training_speed(device: str, spec: NetworkSpec, flops_per_second: float) -> None:
    """Keep the speed for the next run; where the folder cannot be written nothing is kept."""
    _keep(f"training | {_key(device, spec)}", flops_per_second)


def known_difference(conditions: str, spec: NetworkSpec) -> float | None:
    """Return by how much tiles were found to differ from one pass with such a network, or None."""
    difference = _read().get(_difference_key(conditions, spec))
    return difference if isinstance(difference, (int, float)) and difference >= 0 else None


def remember_difference(conditions: str, spec: NetworkSpec, difference: float) -> None:
    """Keep the difference for the next run; where the folder cannot be written nothing is kept."""
    _keep(_difference_key(conditions, spec), difference)


def _known_speed(key: str) -> float | None:
    speed = _read().get(key)
    return speed if isinstance(speed, (int, float)) and speed > 0 else None


def _keep(key: str, value: float) -> None:
    speeds = {**_read(), key: value}
    path = _path()
    with contextlib.suppress(OSError, OutputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(path, json.dumps(speeds, indent=1), overwrite=True)


def _path() -> Path:
    return user_cache_path("napari-unet3d", appauthor=False) / "speeds.json"


def _key(device: str, spec: NetworkSpec) -> str:
    # The speed depends on the width of the layers, hardly on their number.
    return f"{device} | {spec.filters} filters"


def _tile_key(device: str, spec: NetworkSpec, size: int) -> str:
    return f"{_key(device, spec)} | tiles of 1e{8 + size} operations"


def _size_class(tile_flops: float) -> int:
    if math.isinf(tile_flops):
        return _SIZE_CLASSES - 1
    return min(max(math.floor(math.log10(max(tile_flops, 1.0))) - 8, 0), _SIZE_CLASSES - 1)


def _difference_key(conditions: str, spec: NetworkSpec) -> str:
    network = f"{spec.shape_text}, {spec.filters} filters, {spec.channels} channels, {spec.classes} classes"
    return f"difference | {conditions} | {network}"


def _read() -> dict[str, object]:
    try:
        speeds = read_json(_path())
    except (OSError, ValueError):
        return {}
    return speeds if isinstance(speeds, dict) else {}

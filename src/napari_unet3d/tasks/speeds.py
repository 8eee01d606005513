"""How fast this machine was, so that a plan can say how long it will take.

One small JSON file in the user's cache folder; losing it costs an estimate and nothing else.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from platformdirs import user_cache_path

from napari_unet3d import atomic
from napari_unet3d.core.architecture import NetworkSpec
from napari_unet3d.errors import OutputError
from napari_unet3d.small_files import read_json


def known_speed(device: str, spec: NetworkSpec) -> float | None:
    """Return the operations a second that a device last did with such a network, or None."""
    speed = _read().get(_key(device, spec))
    return speed if isinstance(speed, (int, float)) and speed > 0 else None


def remember_speed(device: str, spec: NetworkSpec, flops_per_second: float) -> None:
    """Keep the speed for the next plan; where the folder cannot be written nothing is kept."""
    speeds = {**_read(), _key(device, spec): flops_per_second}
    path = _path()
    with contextlib.suppress(OSError, OutputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(path, json.dumps(speeds, indent=1), overwrite=True)


def _path() -> Path:
    return user_cache_path("napari-unet3d", appauthor=False) / "speeds.json"


def _key(device: str, spec: NetworkSpec) -> str:
    # The speed depends on the width of the layers, hardly on their number.
    return f"{device} | {spec.filters} filters"


def _read() -> dict[str, object]:
    try:
        speeds = read_json(_path())
    except (OSError, ValueError):
        return {}
    return speeds if isinstance(speeds, dict) else {}

"""What is installed here and what a network would use: the facts a person pastes into a question."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

from napari_unet3d.errors import DeviceError
from napari_unet3d.network.machine import devices, runtime
from napari_unet3d.words import amount

_PACKAGES = ("napari-unet3d", "tensorflow", "keras", "numpy", "napari")


def describe() -> dict[str, Any]:
    """Return versions, devices, memory and how TensorFlow is set up, by name, as text."""
    facts: dict[str, Any] = {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}, Python {platform.python_version()}"
    }
    for name in _PACKAGES:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name] = "not installed"
    try:
        runtime.load_tensorflow()
        there = devices.list_devices()
    except DeviceError as error:
        facts["devices"] = str(error)
        return facts
    facts["devices"] = [f"{device.name}: {device.label}, {_memory(device)}" for device in there]
    facts["used"] = f"{there[0].name}, {_why(there[0])}"
    facts["CPU"] = runtime.one_dnn_note()
    return facts


def _memory(device: devices.Device) -> str:
    free, usable = devices.free_memory(device), devices.usable_memory(device)
    return f"{amount(free)} free, of which a run takes up to {amount(usable)}"


def _why(device: devices.Device) -> str:
    fast = "; predict can also use it (--precision bfloat16)" if device.has_bfloat16 else ""
    if not device.is_gpu:
        steps = "; training steps in bfloat16, which this CPU multiplies itself" if device.trains_in_bfloat16 else ""
        return f"float32, because TensorFlow sees no GPU here{steps}{fast}"
    precision = "mixed float16, because it has tensor cores" if device.mixed_precision else "float32"
    return f"the first GPU that TensorFlow sees, {precision}{fast}"

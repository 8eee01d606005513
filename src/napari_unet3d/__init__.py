"""The 3D U-Net workbench for napari: exact tiled segmentation of volumes of any size.

The public names are loaded when they are first used; importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from napari_unet3d.core.architecture import NetworkSpec
    from napari_unet3d.core.geometry import valid_sizes
    from napari_unet3d.core.tiling import plan_tiles
    from napari_unet3d.network.model import Model
    from napari_unet3d.network.store import load_model
    from napari_unet3d.tasks.predict import segment
    from napari_unet3d.tasks.specs import PredictSpec
    from napari_unet3d.volumes import Volume, read_volume

__all__ = [
    "Model",
    "NetworkSpec",
    "PredictSpec",
    "Volume",
    "__version__",
    "load_model",
    "plan_tiles",
    "read_volume",
    "segment",
    "valid_sizes",
]

_HOMES = {
    "Model": "network.model",
    "NetworkSpec": "core.architecture",
    "PredictSpec": "tasks.specs",
    "Volume": "volumes",
    "load_model": "network.store",
    "plan_tiles": "core.tiling",
    "read_volume": "volumes",
    "segment": "tasks.predict",
    "valid_sizes": "core.geometry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""The 3D U-Net workbench for napari: exact tiled segmentation of volumes of any size.

The public names are loaded when they are first used; importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__: str

if TYPE_CHECKING:
    from napari_unet3d.core.annotation.meanings import Meanings
    from napari_unet3d.core.tiles.plan import plan_tiles
    from napari_unet3d.core.unet.spec import NetworkSpec
    from napari_unet3d.network.model import Model
    from napari_unet3d.network.store import load_model, save_model
    from napari_unet3d.notebook import segment, segment_to, train
    from napari_unet3d.tasks.driving import drive
    from napari_unet3d.tasks.specs import PredictSpec
    from napari_unet3d.tasks.train.annotation import TrainingPair
    from napari_unet3d.tasks.train.spec import TrainSpec
    from napari_unet3d.volumes import Volume, read_volume

_HOMES = {
    "Meanings": "core.annotation.meanings",
    "Model": "network.model",
    "NetworkSpec": "core.unet.spec",
    "PredictSpec": "tasks.specs",
    "TrainSpec": "tasks.train.spec",
    "TrainingPair": "tasks.train.annotation",
    "Volume": "volumes",
    "drive": "tasks.driving",
    "load_model": "network.store",
    "plan_tiles": "core.tiles.plan",
    "read_volume": "volumes",
    "save_model": "network.store",
    "segment": "notebook",
    "segment_to": "notebook",
    "train": "notebook",
}

__all__ = [
    "Meanings",
    "Model",
    "NetworkSpec",
    "PredictSpec",
    "TrainSpec",
    "TrainingPair",
    "Volume",
    "__version__",
    "drive",
    "load_model",
    "plan_tiles",
    "read_volume",
    "save_model",
    "segment",
    "segment_to",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("napari-unet3d")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

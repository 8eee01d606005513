"""The user's choices for a run: frozen, checked once, and the same from the window and the shell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PositiveInt,
    SerializationInfo,
    ValidationInfo,
    model_validator,
)

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.postprocess import Cleanup
from napari_unet3d.errors import is_possible, shown


class Spec(BaseModel):
    """A frozen value that refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _placed(path: Any, info: ValidationInfo) -> Any:
    if not is_possible(path):
        raise ValueError(f"{shown(path)} holds a character that no file name may hold")
    return type(path)(os.path.abspath(os.path.join((info.context or {}).get(FOLDER, ""), path)))


def _told(path: str | Path, info: SerializationInfo) -> str:
    folder = (info.context or {}).get(FOLDER)
    if folder is None or not Path(path).is_relative_to(folder):
        return str(path)
    return Path(path).relative_to(folder).as_posix()


# Where the context of pydantic says in which folder the JSON lies: paths in it are relative to that, so that the folder
# can be moved. Without it they are relative to the current folder.
FOLDER = "folder"
# Absolute, because whoever does the work may have another current folder. Text, where more than a path may follow.
PathText = Annotated[str, AfterValidator(_placed), PlainSerializer(_told, when_used="json")]
PathOnDisk = Annotated[Path, AfterValidator(_placed), PlainSerializer(_told, when_used="json")]


class PredictSpec(Spec):
    """How a volume is segmented.

    Attributes
    ----------
    output
        `labels`: class indices, or instance numbers where `cleanup` says so. `probabilities`: of all classes.
    region
        What to segment, in voxels; None is the whole volume. The result has the shape of the region and equals
        that part of the whole.
    memory_bytes
        What the run may use beyond the program itself; None is a share of what the device has free.
    device
        `auto`, `cpu`, `gpu`, `gpu:1`, ..
    cleanup
        What is done to the labels afterwards; None is nothing.
    nonfinite
        What NaN and infinity in the volume give: `refuse` stops, `background` lets the network read background.
    tile_shape
        Input shape (z, y, x) of a tile; None lets the planner choose.
    """

    output: Literal["labels", "probabilities"] = "labels"
    region: Box | None = None
    memory_bytes: PositiveInt | None = None
    device: str = Field(default="auto", pattern=r"^(auto|cpu|gpu(:\d+)?)$")
    cleanup: Cleanup | None = None
    nonfinite: Literal["refuse", "background"] = "refuse"
    tile_shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> PredictSpec:
        if self.output == "probabilities" and self.cleanup is not None:
            raise ValueError("clean-up makes labels of probabilities; it cannot be asked for together with them")
        return self

    @property
    def dtype(self) -> str:
        """Return the number type of the result."""
        if self.output == "probabilities":
            return "float32"
        return "uint32" if self.cleanup is not None and self.cleanup.instances else "uint8"

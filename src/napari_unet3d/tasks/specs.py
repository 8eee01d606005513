"""The user's choices for a run: frozen, checked once, and the same from the window and the shell."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PositiveFloat,
    PositiveInt,
    SerializationInfo,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.objects.clean_up import Cleanup
from napari_unet3d.errors import is_possible, shown
from napari_unet3d.network.machine.device import Precision

# Of `PredictSpec`, what says how much is computed at once and where, and changes no byte of the result.
HOW = frozenset({"memory_bytes", "tile_shape", "first_result", "device"})

_Share = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Doublings = Annotated[float, Field(ge=-50, le=50)]


def why_invalid(error: ValidationError) -> str:
    """Return what is wrong with the values of a spec, as a sentence without its end."""
    return str(error.errors()[0]["msg"]).removeprefix("Value error, ")


class Spec(BaseModel):
    """A frozen value that refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def differences(old: Spec, new: Spec, *, but: Collection[str] = ()) -> list[str]:
    """Return in what two specs of one kind differ, each as `name: old, now new`."""
    return [
        f"{name}: {getattr(old, name)}, now {getattr(new, name)}"
        for name in type(new).model_fields
        if name not in but and getattr(old, name) != getattr(new, name)
    ]


def _absolute_path(path: Any, info: ValidationInfo) -> Any:
    if not is_possible(path):
        raise ValueError(f"{shown(path)} holds a character that no file name may hold")
    return type(path)(os.path.abspath(os.path.join((info.context or {}).get(FOLDER, ""), path)))


def _relative_path(path: str | Path, info: SerializationInfo) -> str:
    folder = (info.context or {}).get(FOLDER)
    if folder is None or not Path(path).is_relative_to(folder):
        return str(path)
    return Path(path).relative_to(folder).as_posix()


# Where the context of pydantic says in which folder the JSON lies: paths in it are relative to that, so that the folder
# can be moved. Without it they are relative to the current folder.
FOLDER = "folder"
# Absolute, because whoever does the work may have another current folder. Text, where more than a path may follow.
PathText = Annotated[str, AfterValidator(_absolute_path), PlainSerializer(_relative_path, when_used="json")]
PathOnDisk = Annotated[Path, AfterValidator(_absolute_path), PlainSerializer(_relative_path, when_used="json")]


class PredictSpec(Spec):
    """How a volume is segmented.

    Attributes
    ----------
    output
        `labels` gives class indices, or instance numbers if `cleanup` says so. `probabilities` gives those of all
        classes.
    region
        The box to segment, in voxels; None is the whole volume. The result has the shape of the region and equals
        that part of the whole.
    memory_bytes
        Memory that the run may use, without the program itself; None is a share of what the device has free.
    device
        `auto`, `cpu`, `gpu`, `gpu:1`, ..
    precision
        What the network is computed in: `float32` is exact; `bfloat16` takes half the time on a device that multiplies
        it itself, and is refused on others. Any tiles give the same bytes in both, on a CPU; some labels differ
        between the two.
    cleanup
        The clean-up of the labels; None does nothing.
    nonfinite
        How NaN and infinity are treated: `refuse` raises an error, `background` reads them as background.
    tile_shape
        Input shape (z, y, x) of a tile; None lets the planner choose.
    prior
        How frequent each class is thought to be: `volume` looks at a sample of the volume, `training` takes what the
        model has learnt from; or one share for each class. A model that does not say what it has learnt from is used
        as it is.
    emphasis
        To find more or less of a class than that: each 1 doubles its odds, each -1 halves them. One number for each
        class; none leaves all as they are.
    first_result
        Seconds after which a first tile should be there: tiles are smaller then, as long as that is at most 15 % more
        work, and what is looked at comes first. None takes the tiles with the least work. The result is the same.
    skip_below
        Look only around voxels of at least this intensity, in cells of 32 voxels; elsewhere the result is 0. None looks
        everywhere.
    mask
        A volume of any resolution that covers the same place: where it is 0, the result is 0. None looks everywhere.
    """

    output: Literal["labels", "probabilities"] = "labels"
    region: Box | None = None
    memory_bytes: PositiveInt | None = None
    device: str = Field(default="auto", pattern=r"^(auto|cpu|gpu(:\d+)?)$")
    precision: Precision = "float32"
    cleanup: Cleanup | None = None
    nonfinite: Literal["refuse", "background"] = "refuse"
    tile_shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    prior: Literal["volume", "training"] | tuple[_Share, ...] = "volume"
    emphasis: tuple[_Doublings, ...] = ()
    first_result: PositiveFloat | None = None
    skip_below: float | None = Field(default=None, allow_inf_nan=False)
    mask: PathText | None = None

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

"""News from a task: small and frozen, so that they can cross threads and processes."""

from __future__ import annotations

from dataclasses import dataclass

from napari_unet3d.core.boxes import Box


@dataclass(frozen=True)
class Started:
    """The work is planned and begins: `total` steps, with one input shape, on one device."""

    total: int
    input_shape: tuple[int, int, int]
    device: str
    peak_bytes: int


@dataclass(frozen=True)
class TileDone:
    """A tile is written: where, in voxels of the output, and how far the work is."""

    box: Box
    done: int
    total: int
    seconds_left: float


@dataclass(frozen=True)
class Progress:
    """`done` of `total` steps of a part of the work that has no boxes to show."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Note:
    """Something the user should know; the work goes on."""

    text: str


@dataclass(frozen=True)
class HeldOut:
    """A box of an image whose annotation is scored and not learnt from."""

    pair: int
    box: Box
    voxels: int


@dataclass(frozen=True)
class StepDone:
    """A step of training is done.

    Attributes
    ----------
    step, total
        Its number, from 1, and how many there will be at most.
    loss
        Of its batch, before the step.
    learning_rate
        It was made with.
    steps_per_second, seconds_left
        Of late, and until the end.
    waiting
        Share of the time so far that was spent waiting for patches.
    """

    step: int
    total: int
    loss: float
    learning_rate: float
    steps_per_second: float
    seconds_left: float
    waiting: float


@dataclass(frozen=True)
class Validated:
    """The network was scored on what is held out: one score a class but the first, and the voxels it rests on.

    A score is NaN where only the class, or only others, are held out: it would say nothing, whatever is found.
    """

    step: int
    loss: float
    dice: tuple[float, ...]
    iou: tuple[float, ...]
    voxels: tuple[int, ...]
    is_best: bool


@dataclass(frozen=True)
class Previewed:
    """What is looked at was segmented by the network as it is now: where, in voxels of the image."""

    step: int
    box: Box


@dataclass(frozen=True)
class Checkpointed:
    """All that is needed to go on after a step lies in the run folder."""

    step: int


Event = Started | TileDone | Progress | HeldOut | StepDone | Validated | Previewed | Checkpointed | Note

"""News from a task: small and frozen, so that they can cross threads and processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from napari_unet3d.core.boxes import Box


@dataclass(frozen=True)
class Started:
    """The work is planned and begins: `total` steps, with one input shape, on one device.

    Attributes
    ----------
    total
        Number of steps or tiles.
    input_shape
        (z, y, x) in voxels.
    device
        What a person calls the place where it is computed.
    peak_bytes
        Memory at the worst moment.
    tile_seconds
        How long a tile is expected to take; None where nothing is known.
    is_glance
        The one tile of this part is there to be seen soon; the others follow with another `Started`.
    """

    total: int
    input_shape: tuple[int, int, int]
    device: str
    peak_bytes: int
    tile_seconds: float | None = None
    is_glance: bool = False


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
class Waiting:
    """Nothing has changed; others work meanwhile, and this is a safe point to stop."""


@dataclass(frozen=True)
class Note:
    """A message for the user; the work goes on.

    Attributes
    ----------
    text
        One sentence or more.
    is_warning
        Something is not as it should be; otherwise it is good to know.
    """

    text: str
    is_warning: bool = True


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
        Number of the step, from 1, and the largest number of steps.
    loss
        Loss of its batch, before the step.
    learning_rate
        Learning rate of the step.
    steps_per_second, seconds_left
        Present speed, and seconds until the end.
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
    """The network was scored on what is held out.

    Attributes
    ----------
    step
        The step after which it was scored.
    loss
        Loss on the held-out part, as in training.
    scores
        By name, one for each thing that is scored. NaN where only that, or only others, are held out: it would say
        nothing, whatever is found.
    voxels
        Number of held-out voxels behind each score.
    is_best
        Whether it takes the place of the best model: no earlier score is clearly higher.
    names
        What is scored.
    intervals, mean_interval
        Between what the first score of each, and the mean of them, mostly lies where other places are held out; NaN
        where that is not known.
    """

    step: int
    loss: float
    scores: Mapping[str, tuple[float, ...]]
    voxels: tuple[int, ...]
    is_best: bool
    names: tuple[str, ...] = ()
    intervals: tuple[tuple[float, float], ...] = ()
    mean_interval: tuple[float, float] = (math.nan, math.nan)


@dataclass(frozen=True)
class Previewed:
    """The box in view, in voxels of the image, was segmented by the network as it is now."""

    step: int
    box: Box


@dataclass(frozen=True)
class Checkpointed:
    """The run folder holds everything that is needed to go on after this step."""

    step: int


Event = Started | TileDone | Progress | Waiting | HeldOut | StepDone | Validated | Previewed | Checkpointed | Note

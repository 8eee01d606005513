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


Event = Started | TileDone | Progress | Note

"""What the tab Segment shows, derived from facts: no Qt, no napari."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet3d.core.tiles.plan import TilePlan
from napari_unet3d.errors import DeviceError, Unet3dError
from napari_unet3d.network.machine.devices import Device
from napari_unet3d.network.model import check_channels
from napari_unet3d.tasks.segment.planning import plan_run
from napari_unet3d.volumes import Volume
from napari_unet3d.widgets.panels.segment.text import (
    describe_cluster,
    describe_plan,
    describe_progress,
    voxel_size_warning,
)
from napari_unet3d.widgets.runs.results import Choices, check_room

if TYPE_CHECKING:
    from napari_unet3d.widgets.runs.segmentation import Segmentation


@dataclass(frozen=True)
class Machine:
    """Where a run would be done.

    Attributes
    ----------
    device
        The chosen device; None where it is not known.
    devices
        All that are known; None as long as the worker was not asked.
    free_bytes
        Free memory of this machine.
    beside_bytes
        What of the memory of the run is for reading the volume and writing the result.
    """

    device: Device | None
    devices: Sequence[Device] | None
    free_bytes: int
    beside_bytes: int = 0


@dataclass(frozen=True)
class Planned:
    """What Start would do.

    Attributes
    ----------
    plan
        The tiles; None where it could not start.
    sentence
        What that means, or why it could not.
    warning
        What looks wrong and does not keep it from starting.
    is_asking
        The worker is to be asked which devices there are.
    begun
        Which share of the file is done by a run that was stopped or killed; 0 where there is none to go on with.
    """

    plan: TilePlan | None = None
    sentence: str = ""
    warning: str = ""
    is_asking: bool = False
    begun: float = 0.0


@dataclass(frozen=True)
class RunFacts:
    """How far the last run of the window is.

    Attributes
    ----------
    state, share, fraction
        As of a `Segmentation`.
    sentence
        What is said of it.
    is_same
        Whether Start would do what it had begun.
    is_just_cancelled
        Cancel was pressed a moment ago: a double click shall not be a Stop now.
    has_layer
        Its result lies in a layer that is there, and not in a file.
    shows_classes
        The layer is there, and its numbers are classes.
    """

    state: str
    share: float = 0.0
    fraction: float = 0.0
    sentence: str = ""
    is_same: bool = False
    is_just_cancelled: bool = False
    has_layer: bool = False
    shows_classes: bool = False

    @classmethod
    def of(cls, run: Segmentation, *, is_same: bool, is_just_cancelled: bool) -> RunFacts:
        """Return the facts of a run."""
        is_there = run.layer in run.viewer.layers
        # Of a result that was removed there is nothing to say any more.
        is_gone = not is_there and run.result.path is None and run.state in ("done", "stopped")
        return cls(
            run.state,
            run.share,
            run.fraction,
            "" if is_gone else describe_progress(run),
            is_same,
            is_just_cancelled,
            has_layer=is_there and run.result.path is None,
            shows_classes=is_there and run.choices.spec.output == "labels" and not run.choices.has_instances,
        )

    @property
    def is_active(self) -> bool:
        """Return whether it computes or waits for its turn."""
        return self.state in ("queued", "running", "stopping")


@dataclass(frozen=True)
class SegmentState:
    """All that the tab shows, and what can be pressed."""

    planned: Planned = Planned()
    start: str = "Start"
    can_start: bool = False
    has_anew: bool = False
    can_begin_anew: bool = False
    cancel: str = "Cancel"
    can_cancel: bool = False
    can_save: bool = False
    can_correct: bool = False
    is_save_next: bool = False
    is_active: bool = False
    fraction: float = 0.0
    progress: str = ""

    @property
    def plan(self) -> TilePlan | None:
        """Return the tiles of what Start would do, or None where it could not start."""
        return self.planned.plan


def resolve_plan(volume: Volume, choices: Choices, machine: Machine, problem: str = "", also: str = "") -> Planned:
    """Return what Start would do with a volume, or why it could not.

    Parameters
    ----------
    volume
        What is segmented.
    choices
        How, with the memory that it may use.
    machine
        Where.
    problem
        Why nothing can be computed at all, as a sentence, or nothing.
    also
        What else there is to say, as a sentence, or nothing.
    """
    try:
        check_channels(choices.card.network, volume.n_channels)
        check_room(choices, volume.shape, machine.free_bytes)
        warning = voxel_size_warning(volume, choices.card)
        if machine.device is None:
            return Planned(None, problem or _unknown(choices.spec.device, machine.devices), warning, is_asking=True)
        plan = plan_run(
            volume.shape,
            choices.card.network,
            choices.spec,
            machine.device,
            memory=choices.spec.memory_bytes,
            reading_bytes=machine.beside_bytes,
        )
        told = describe_plan(plan, machine.device) if choices.cluster is None else describe_cluster(choices)
        return Planned(plan, problem or f"{told} {also}".rstrip(), warning)
    except Unet3dError as error:
        return Planned(None, problem or str(error))


def _unknown(name: str, devices: Sequence[Device] | None) -> str:
    if not devices:
        return "Asking the worker which devices there are .."
    there = ", ".join(device.name for device in devices)
    raise DeviceError(f"Device {name!r} is not available. Available: {there}.")


def resolve(planned: Planned, run: RunFacts | None, problem: str = "") -> SegmentState:
    """Return what is shown, from what Start would do and how far the last run is."""
    is_ready = planned.plan is not None and not problem
    has_begun = is_ready and planned.begun > 0
    if run is None:
        start = f"Go on ({planned.begun:.0%} done)" if has_begun else "Start"
        return SegmentState(planned, start, can_start=is_ready, has_anew=has_begun, can_begin_anew=is_ready)
    is_stopped = run.state in ("stopped", "failed") and run.is_same
    can_go_on = is_stopped or (has_begun and not run.is_active)
    share = run.share if is_stopped else planned.begun
    is_stopping = run.state == "stopping"
    return SegmentState(
        planned,
        start=f"Go on ({share:.0%} done)" if can_go_on else "Start",
        can_start=not run.is_active and (is_ready or can_go_on),
        has_anew=can_go_on,
        can_begin_anew=is_ready,
        cancel="Stop now" if is_stopping else "Cancel",
        can_cancel=run.is_active and not (is_stopping and run.is_just_cancelled),
        can_correct=run.shows_classes and not run.is_active and run.share > 0,
        can_save=run.has_layer and run.state in ("done", "stopped"),
        is_save_next=run.has_layer and run.state == "done",
        is_active=run.is_active,
        fraction=run.fraction,
        progress=run.sentence,
    )

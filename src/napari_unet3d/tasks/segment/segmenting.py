"""Segmentation of a volume with a model, on a device of this machine."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.normalize import Scaling
from napari_unet3d.core.tiles.coverage import DoneTiles
from napari_unet3d.core.tiles.plan import Readable, TilePlan
from napari_unet3d.tasks.events import Event
from napari_unet3d.tasks.segment.check_device import check_device
from napari_unet3d.tasks.segment.measuring import Measured, measure_volume
from napari_unet3d.tasks.segment.planning import plan_glance, plan_run
from napari_unet3d.tasks.segment.predict import PredictResult, Sinks, predict
from napari_unet3d.tasks.segment.shares import share_memory
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.tasks.speeds import known_speed, remember_speed

if TYPE_CHECKING:
    from napari_unet3d.network.machine.device import Device
    from napari_unet3d.network.model import Model

_SECONDS_WORTH_REMEMBERING = 5.0


def plan_prediction(
    shape: Sequence[int],
    model: Model,
    spec: PredictSpec,
    device: Device | None = None,
    *,
    volume: Readable | None = None,
    sink: Any = None,
) -> TilePlan:
    """Return the plan of a run: what the device has free decides, unless the spec does.

    Parameters
    ----------
    shape
        Shape (z, y, x) of the whole volume.
    model
        The model; only its network matters.
    spec
        The choices for the run.
    device
        Where it runs; None takes the device that the spec names.
    volume, sink
        What is read, which is told how much it may keep, and what is written to; None takes no memory for them.

    Raises
    ------
    MemoryBudgetError, SizeError, DeviceError
        If nothing fits, the volume is empty, or there is no such device.
    """
    from napari_unet3d.network.machine.devices import select_device, usable_memory

    device = device or select_device(spec.device, spec.precision)
    memory = spec.memory_bytes or usable_memory(device)
    # A GPU has a memory of its own; the reader's is that of the machine.
    reading = 0 if device.is_gpu else share_memory(volume, sink, memory)
    return plan_run(shape, model.spec, spec, device, memory=memory, reading_bytes=reading)


def segment_into(
    volume: Readable,
    model: Model,
    spec: PredictSpec,
    sinks: Sinks,
    *,
    plan: TilePlan | None = None,
    measured: Measured | None = None,
    focus: Box | None = None,
    done: Sequence[DoneTiles] = (),
) -> Generator[Event, None, PredictResult]:
    """Segment a volume with a model; a generator of events, each a safe point to stop.

    The intensities are measured, the tiles planned and the device checked, each once; then it is `predict`.

    Parameters
    ----------
    volume
        (z, y, x) or (z, y, x, c), any real type, in memory or not.
    model
        What segments it.
    spec, sinks, focus, done
        As for `predict`.
    plan, measured
        From `plan_prediction` and `measure_volume`; None makes them.

    Raises
    ------
    Unet3dError
        One of its children, if the volume does not suit the model, nothing fits the memory, or a voxel cannot be read
        or written.
    """
    from napari_unet3d.network.machine.devices import select_device
    from napari_unet3d.network.predictor import predictor_of

    model.check_channels(volume.shape[3] if len(volume.shape) == 4 else 1)
    device = select_device(spec.device, spec.precision)
    if plan is None:
        plan = plan_prediction(volume.shape[:3], model, spec, device, volume=volume, sink=sinks)
    if measured is None:
        measured = yield from measure_volume(volume, model, spec, plan, device)
    if sum(len(tiles.boxes) for tiles in done) != len(plan):
        yield from check_device(plan, device)
    result = yield from predict(
        volume,
        predictor_of(measured.suit(model), device),
        spec,
        sinks,
        plan=plan,
        scaling=Scaling(*measured.scaling),
        device=device.label,
        where=measured.where,
        focus=focus,
        done=done,
        glance=plan_glance(plan, spec, device),
        expected=known_speed(device.label, model.spec, plan.tile_flops),
    )
    _remember_speed(result, device)
    return result


def _remember_speed(result: PredictResult, device: Device) -> None:
    """Keep how fast a run was, for the next plan."""
    if not result.flops_per_second:  # everything was done already
        return
    # One short tile says more of the compilation than of the speed.
    if len(result.plan) > 1 or result.plan.flops > _SECONDS_WORTH_REMEMBERING * result.flops_per_second:
        remember_speed(device.label, result.plan.spec, result.flops_per_second, result.plan.tile_flops)

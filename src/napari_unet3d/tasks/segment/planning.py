"""Which tiles a run has: the ones with the least work, or smaller ones where a result should be seen soon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari_unet3d.core.tiles.plan import TilePlan, plan_tiles
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import MemoryBudgetError
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.tasks.speeds import known_speed

if TYPE_CHECKING:
    from napari_unet3d.network.machine.device import Device

# Shares of the work: smaller tiles may cost the one, a tile that is seen first the other; 15 % together.
EXTRA_FOR_TILES, EXTRA_FOR_GLANCE = 0.1, 0.04
# Where no speed is known: so many tiles, unless any computer of today (operations per second) is soon done with one.
_TILES, _SLOW = 16, 2e10
# The first tile should take this share of the time, as there is a graph to compile too.
_SHARE_FOR_GLANCE = 0.25


def plan_run(
    shape: Sequence[int],
    network: NetworkSpec,
    spec: PredictSpec,
    device: Device,
    *,
    memory: int | None,
    reading_bytes: int = 0,
) -> TilePlan:
    """Return the tiles of a run.

    Parameters
    ----------
    shape
        Shape (z, y, x) of the volume in voxels.
    network
        What computes them.
    spec
        The choices for the run: region, tiles, when a first result is wanted.
    device
        Where it runs.
    memory, reading_bytes
        As for `plan_tiles`.

    Raises
    ------
    MemoryBudgetError, SizeError
        If nothing fits, or the volume is empty.
    """
    known: dict[str, Any] = {
        "memory": memory,
        "region": spec.region,
        "bytes_per_value": device.bytes_per_value,
        "reading_bytes": reading_bytes,
    }
    plan = plan_tiles(shape, network, tile_shape=spec.tile_shape, **known)
    if spec.first_result is None or spec.tile_shape is not None:
        return plan
    tile_flops = _tile_flops(plan, spec.first_result, known_speed(device.label, network, plan.tile_flops))
    if plan.tile_flops <= tile_flops:
        return plan
    return plan_tiles(shape, network, tile_flops=tile_flops, extra_work=EXTRA_FOR_TILES, **known)


def plan_glance(plan: TilePlan, spec: PredictSpec, device: Device) -> TilePlan | None:
    """Return smaller tiles of which one, computed first, is seen soon; None where those of the plan are soon done.

    Parameters
    ----------
    plan
        Of the run.
    spec
        The choices for it.
    device
        Where it runs.
    """
    if spec.first_result is None or spec.tile_shape is not None:
        return None
    speed = known_speed(device.label, plan.spec, plan.tile_flops)
    if plan.tile_flops <= _tile_flops(plan, spec.first_result, speed):
        return None
    wanted = _SHARE_FOR_GLANCE * spec.first_result * (speed or _SLOW)
    most = min(wanted, EXTRA_FOR_GLANCE * plan.flops)
    try:
        glance = plan_tiles(
            plan.volume_shape,
            plan.spec,
            memory=plan.peak_bytes,
            region=plan.region,
            bytes_per_value=plan.bytes_per_value,
            reading_bytes=plan.reading_bytes,
            tile_flops=most,
            extra_work=float("inf"),
        )
    except MemoryBudgetError:
        return None
    return glance if glance.tile_flops <= EXTRA_FOR_GLANCE * plan.flops else None


def _tile_flops(plan: TilePlan, seconds: float, speed: float | None) -> float:
    """Return the operations that a tile should take at most."""
    return seconds * speed if speed is not None else max(seconds * _SLOW, plan.flops / _TILES)

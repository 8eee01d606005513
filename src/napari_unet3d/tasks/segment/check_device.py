"""A run says when tiles on its device are not exact: found by a short check, once a machine and network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from napari_unet3d.core.tiles.plan import TilePlan
from napari_unet3d.core.unet.costs import peak_bytes
from napari_unet3d.tasks.events import Note, Progress
from napari_unet3d.tasks.speeds import known_difference, remember_difference

if TYPE_CHECKING:
    from napari_unet3d.network.machine.device import Device


def check_device(plan: TilePlan, device: Device) -> Iterator[Progress | Note]:
    """Yield a note if tiles on a device differ from one pass; the check is made where nobody knows yet.

    Where the device cannot make it, or every check takes more memory than the run, nothing is said: it is made with a
    later run.

    Parameters
    ----------
    plan
        Of the run.
    device
        Where it runs.
    """
    from napari_unet3d.network.exactness import conditions, plan_check, tile_difference

    check = plan_check(plan.spec, plan.peak_bytes, bytes_per_value=plan.bytes_per_value)
    if check is None or len(plan) == 1:
        return
    where = conditions(device)
    difference = known_difference(where, check.spec)
    if difference is None:
        yield Progress("checking the device", 0, 1)
        reserve = peak_bytes(plan.input_shape, plan.spec, bytes_per_value=plan.bytes_per_value)
        difference = tile_difference(check, device, reserve=reserve)
        if difference is None:
            return
        remember_difference(where, check.spec, difference)
    if difference:
        yield Note(
            f"Tiles on this device ({device.label}) differ by up to {difference:.0e} from one pass in their "
            "probabilities. Labels can differ where two classes are as close as that."
        )

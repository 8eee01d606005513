"""Patches that fit the memory: what a step takes, and what to take instead where that is too much."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from napari_unet3d.core.boxes import Shape
from napari_unet3d.core.unet.costs import training_bytes
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import SpecError
from napari_unet3d.tasks.train.spec import TrainSpec
from napari_unet3d.words import amount, times

if TYPE_CHECKING:
    from napari_unet3d.network.machine.device import Device


def step_bytes(spec: TrainSpec, device: Device, patch: Shape, batch: int | None = None) -> int:
    """Return the memory that a step takes on a device, in bytes."""
    return training_bytes(patch, spec.network, batch=batch or spec.batch, bytes_per_value=device.bytes_per_value)


def fit_patch(spec: TrainSpec, device: Device, patch: Shape, free: int) -> tuple[Shape, str | None]:
    """Return a patch that fits the memory, and what should be known where that is a smaller one.

    Parameters
    ----------
    spec
        The choices for the run.
    device
        Where it runs.
    patch
        The shape (z, y, x) that is wanted.
    free
        Bytes that may be used.

    Raises
    ------
    SpecError
        If a batch of several does not fit; with how many would.
    """
    fitting = patch
    while step_bytes(spec, device, fitting) > free and (smaller := smaller_patch(fitting, spec.network)) is not None:
        fitting = smaller
    needed = step_bytes(spec, device, fitting)
    if spec.batch > 1 and needed > free:
        fits = next((n for n in _halves(spec.batch) if step_bytes(spec, device, fitting, n) <= free), 1)
        raise SpecError(
            f"{spec.batch:,} patches per step of {times(fitting)} voxels need {amount(needed)}, but only "
            f"{amount(free)} may be used. {fits:,} per step would fit (--batch)."
        )
    if fitting == patch:
        return patch, None
    return fitting, (
        f"A patch of {times(patch)} voxels takes {amount(step_bytes(spec, device, patch))} and {amount(free)} may be "
        f"used; smaller patches of {times(fitting)} voxels are taken."
    )


def _halves(n: int) -> Iterator[int]:
    while n > 1:
        n //= 2
        yield n


def smaller_patch(patch: Shape, network: NetworkSpec) -> Shape | None:
    """Return a patch that takes about half the memory and still fits the network; None where there is none.

    Examples
    --------
    >>> smaller_patch((132, 132, 132), NetworkSpec()), smaller_patch((92, 92, 92), NetworkSpec())
    ((100, 100, 108), None)
    """
    step, least = network.geometry.alignment, network.geometry.smallest
    shape, wanted = list(patch), np.prod(patch, dtype=float) / 2
    while np.prod(shape, dtype=float) > wanted:
        axis = int(np.argmax(shape))
        if shape[axis] - step[axis] < least[axis]:
            break
        shape[axis] -= step[axis]
    z, y, x = shape
    return None if (z, y, x) == tuple(patch) else (z, y, x)

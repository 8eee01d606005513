"""The job of getting ready."""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

from napari_unet3d.network.machine.devices import Device
from napari_unet3d.tasks.events import Event
from napari_unet3d.tasks.jobs.base import Arrays, Job
from napari_unet3d.tasks.specs import Spec


class WarmResult(Spec):
    """What is here: the first device is the one that `auto` means."""

    kind: Literal["warm"] = "warm"
    devices: tuple[Device, ...]


class WarmJob(Job):
    """Import TensorFlow and say which devices there are, so that the first click need not wait for it."""

    kind: Literal["warm"] = "warm"

    def perform(self, arrays: Arrays) -> Generator[Event, None, WarmResult]:
        """Do it; there is nothing to tell meanwhile."""
        from napari_unet3d.network.machine.devices import list_devices
        from napari_unet3d.network.machine.runtime import load_tensorflow

        load_tensorflow()
        yield from ()
        return WarmResult(devices=tuple(list_devices()))

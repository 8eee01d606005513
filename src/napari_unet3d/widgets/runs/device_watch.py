"""Which devices there are and how much memory they have free: asked in threads, told in the thread of the window."""

from __future__ import annotations

import importlib.util
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_unet3d.errors import DeviceError, Unet3dError
from napari_unet3d.network.machine.devices import Device, Precision, free_memory, known_devices, usable_memory
from napari_unet3d.tasks.jobs.warm import WarmJob

if TYPE_CHECKING:
    from napari_unet3d.engine import LocalEngine, Run

_NO_TENSORFLOW = "TensorFlow is not installed here, so nothing can be computed: pip install tensorflow"


@dataclass(frozen=True)
class Memory:
    """The memory of a device, in bytes: what is free, and what a run takes of it when nobody says how much."""

    free: int
    usable: int


class DeviceWatch:
    """What this machine can compute on.

    Parameters
    ----------
    engine
        Whose worker is asked. What it has said once is known to all windows.

    Attributes
    ----------
    problem
        Why nothing can be computed, as a sentence, or an empty text.
    """

    devices_changed = Signal()
    failed = Signal(object)

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self.problem = "" if importlib.util.find_spec("tensorflow") else _NO_TENSORFLOW
        self._devices: list[Device] | None = known_devices()
        self._memory: dict[str, Memory] = {}
        self._asking: set[str] = set()
        self._warming: Run | None = None
        self._failures: list[Unet3dError] = []
        self._news = threading.Event()

    @property
    def devices(self) -> list[Device] | None:
        """Return the devices, or None as long as nobody has asked the worker and there may be a GPU."""
        return self._devices or self.engine.devices

    @devices.setter
    def devices(self, devices: list[Device] | None) -> None:
        self._devices = devices

    def device(self, name: str = "auto", precision: Precision = "float32") -> Device | None:
        """Return the device of that name, to predict in `precision`, or None where it is not known.

        Raises
        ------
        DeviceError
            If it does not gain by that precision.
        """
        for device in self.devices or []:
            if name in ("auto", device.name) or (name == "gpu" and device.is_gpu):
                return device.in_precision(precision)
        return None

    def memory(self, device: Device) -> Memory | None:
        """Return the memory of a device; None until a GPU has answered."""
        if not device.is_gpu:
            return Memory(free_memory(device), usable_memory(device, worker=self.engine.pid or 0))
        if device.name not in self._memory and device.name not in self._asking:
            self._asking.add(device.name)
            threading.Thread(target=self._ask_gpu, args=(device,), name="unet3d-gpu", daemon=True).start()
        return self._memory.get(device.name)

    def forget_memory(self) -> None:
        """Ask a GPU again when its memory is wanted next."""
        self._memory.clear()

    def warm(self) -> None:
        """Start the worker and ask it for its devices, unless that is under way or done; returns at once."""
        is_pending = self._warming is not None and not self._warming.has_ended.is_set()
        if self.problem or is_pending or (self.engine.state != "off" and self.devices is not None):
            return
        self._warming = run = self.engine.submit(WarmJob())
        threading.Thread(target=self._await, args=(run,), name="unet3d-warm", daemon=True).start()

    def poll(self) -> None:
        """Tell what threads have found out; called by the window."""
        if self._news.is_set():
            self._news.clear()
            self.devices_changed.emit()
        while self._failures:
            self.failed.emit(self._failures.pop(0))

    def _ask_gpu(self, device: Device) -> None:
        try:
            worker = self.engine.pid or 0
            self._memory[device.name] = Memory(free_memory(device), usable_memory(device, worker=worker))
        finally:
            self._asking.discard(device.name)
            self._news.set()

    def _await(self, run: Run) -> None:
        try:
            run.wait()
        except DeviceError as error:
            self.problem = str(error)
        except Unet3dError as error:
            # The next Start may well succeed.
            self._failures.append(error)
        self._news.set()

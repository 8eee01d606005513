"""What the panels of one window share: the chosen image and model, the devices, the engine, the run.

It outlives the dock widget, which may be closed and opened again while a run goes on; it ends with the window. What
threads find out is told by `poll`, which the window calls: signals are emitted in its thread alone.
"""

from __future__ import annotations

import importlib.util
import threading
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from psygnal import Signal

from napari_unet3d.core.architecture import NetworkSpec
from napari_unet3d.engine import LocalEngine
from napari_unet3d.errors import Unet3dError, VolumeError
from napari_unet3d.network.devices import Device, free_memory, known_devices, usable_memory
from napari_unet3d.network.store import CARD_FILE, DEMO_MODEL, SUFFIX, read_card
from napari_unet3d.tasks.jobs import WarmJob, WarmResult
from napari_unet3d.widgets.layers import LayerVolume, extra_axis, layer_volume, n_levels, unwrapped, why_no_volume
from napari_unet3d.widgets.preferences import Preferences, read_preferences
from napari_unet3d.widgets.words import times

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_unet3d.network.model import ModelCard
    from napari_unet3d.widgets.segmentation import Segmentation

_NO_TENSORFLOW = "TensorFlow is not installed here, so nothing can be computed: pip install tensorflow"


@dataclass(frozen=True)
class Memory:
    """The memory of a device, in bytes: what is free, and what a run takes of it when nobody says how much."""

    free: int
    usable: int


class Session:
    """What is chosen and what goes on in one window.

    Parameters
    ----------
    viewer
        The viewer, without napari's proxy.
    engine
        Where jobs run; one for all windows of the program.
    preferences
        What the user has set.

    Attributes
    ----------
    devices
        What the worker found, or None as long as nobody has asked it and there may be a GPU.
    problem
        Why nothing can be computed, as a sentence, or an empty text.
    segmentation
        The last run of this window, or None.
    """

    image_changed = Signal()
    labels_changed = Signal()
    model_changed = Signal()
    devices_changed = Signal()
    segmentation_changed = Signal()

    def __init__(self, viewer: ViewerModel, engine: LocalEngine, preferences: Preferences) -> None:
        self.viewer = viewer
        self.engine = engine
        self.preferences = preferences
        self.devices: list[Device] | None = known_devices()
        self.problem = "" if importlib.util.find_spec("tensorflow") else _NO_TENSORFLOW
        self.segmentation: Segmentation | None = None
        self._image: Image | None = None
        self._labels: Labels | None = None
        self._level = 0
        self._model: Path | None = None
        self._card: ModelCard | None = None
        self._memory: dict[str, Memory] = {}
        self._asking: set[str] = set()
        self._news = threading.Event()

    @property
    def image(self) -> Image | None:
        """Return the chosen image layer."""
        return self._image

    @image.setter
    def image(self, layer: Image | None) -> None:
        layer = unwrapped(layer)
        if layer is not self._image:
            self._image = layer
            # The full resolution, unless it is chosen otherwise.
            self._level = 0
            self.image_changed.emit()

    @property
    def level(self) -> int:
        """Return the chosen level of a multiscale image."""
        return self._level

    @level.setter
    def level(self, level: int) -> None:
        top = 0 if self._image is None else n_levels(self._image) - 1
        if (level := min(level, top)) != self._level:
            self._level = level
            self.image_changed.emit()

    @property
    def n_levels(self) -> int:
        """Return how many levels of resolution the chosen image has."""
        return 1 if self._image is None else n_levels(self._image)

    @property
    def image_line(self) -> str:
        """Return the shape and the voxel size of the chosen image in one line, or why it is no volume."""
        try:
            volume = self.volume().volume
        except VolumeError as error:
            return str(error)
        channels = "" if volume.n_channels == 1 else f", {volume.n_channels} channels"
        return f"{times(volume.shape)} voxels{channels}, {times(volume.voxel_size)} {volume.unit} (z, y, x)"

    @property
    def labels(self) -> Labels | None:
        """Return the chosen labels layer: annotation."""
        return self._labels

    @labels.setter
    def labels(self, layer: Labels | None) -> None:
        layer = unwrapped(layer)
        if layer is not self._labels:
            self._labels = layer
            self.labels_changed.emit()

    @property
    def model(self) -> Path | None:
        """Return the folder of the chosen model."""
        return self._model

    @property
    def card(self) -> ModelCard | None:
        """Return what is known of the chosen model."""
        return self._card

    def choose_model(self, path: Path | None) -> None:
        """Choose a model folder.

        Raises
        ------
        ModelError
            If it is none. The choice stays as it was.
        """
        if path == self._model:
            return
        self._card = None if path is None else read_card(path)
        self._model = path
        self.model_changed.emit()

    @property
    def network(self) -> NetworkSpec:
        """Return the network of the chosen model, or the usual one."""
        return NetworkSpec() if self._card is None else self._card.network

    def volume(self) -> LayerVolume:
        """Return the volume of the chosen image, with the channels of the chosen model.

        Raises
        ------
        VolumeError
            If there is none; the message says why.
        """
        reason = why_no_volume(self._image)
        if self._image is None or reason is not None:
            raise VolumeError(reason or "")
        axis = extra_axis(self._image)
        position = 0
        if axis is not None:
            point = self._image.world_to_data(self.viewer.dims.point)
            position = max(0, round(float(point[axis])))
        return layer_volume(self._image, level=self._level, channels=self.network.channels, position=position)

    def device(self, name: str = "auto") -> Device | None:
        """Return the device of that name, or None where it is not known."""
        for device in self.devices or []:
            if name in ("auto", device.name) or (name == "gpu" and device.is_gpu):
                return device
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
        """Ask a GPU anew when its memory is wanted next."""
        self._memory.clear()

    def poll(self) -> None:
        """Tell what threads have found out."""
        if self._news.is_set():
            self._news.clear()
            self.devices_changed.emit()

    def _ask_gpu(self, device: Device) -> None:
        worker = self.engine.pid or 0
        self._memory[device.name] = Memory(free_memory(device), usable_memory(device, worker=worker))
        self._asking.discard(device.name)
        self._news.set()

    def warm(self) -> None:
        """Start the worker and ask it for its devices, if it does not run; returns at once."""
        if self.problem or self.engine.state != "off":
            return
        run = self.engine.submit(WarmJob(model=self._model))
        threading.Thread(target=self._take_devices, args=(run,), name="unet3d-warm", daemon=True).start()

    def _take_devices(self, run: Any) -> None:
        try:
            result = run.wait()
        except Unet3dError as error:
            self.problem = str(error)
        else:
            if isinstance(result, WarmResult):
                self.devices = list(result.devices)
        self._news.set()

    def begin(self, run: Segmentation) -> None:
        """Make a run that of this window."""
        self.segmentation = run
        self.segmentation_changed.emit()

    def close(self) -> None:
        """End with the window: the run stops, what it has done stays in its layer."""
        if self.segmentation is not None:
            self.segmentation.close()


def list_models(folder: Path) -> list[Path]:
    """Return the models in a folder, by name, and first the one that comes with the package."""
    found = []
    bundled = Path(str(files("napari_unet3d"))) / "models" / DEMO_MODEL
    if (bundled / CARD_FILE).is_file():
        found.append(bundled)
    if folder.is_dir():
        found += sorted(path for path in folder.iterdir() if (path / CARD_FILE).is_file())
    return found


def model_name(path: Path) -> str:
    """Return what a model is called in a list."""
    return path.name.removesuffix(SUFFIX)


_engine: LocalEngine | None = None
_sessions: WeakKeyDictionary[Any, Session] = WeakKeyDictionary()


def shared_engine(preferences: Preferences) -> LocalEngine:
    """Return the engine of this program."""
    global _engine
    if _engine is None:
        _engine = LocalEngine(idle_seconds=preferences.idle_seconds)
    _engine.idle_seconds = preferences.idle_seconds
    return _engine


def session_of(viewer: Any) -> Session:
    """Return the session of a viewer, made when it is first asked for.

    By the viewer itself: the proxies that napari gives to widgets are short-lived.
    """
    viewer = unwrapped(viewer)
    if viewer not in _sessions:
        preferences = read_preferences()
        _sessions[viewer] = Session(viewer, shared_engine(preferences), preferences)
    return _sessions[viewer]


def end_session(viewer: Any) -> None:
    """End the session of a window that was closed; with the last one the worker ends."""
    session = _sessions.pop(unwrapped(viewer), None)
    if session is not None:
        session.close()
    if not _sessions and _engine is not None:
        _engine.end()

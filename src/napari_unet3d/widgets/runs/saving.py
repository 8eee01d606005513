"""Saving a layer as a volume, in a thread: the window goes on, and says what is saved and where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from psygnal import Signal

from napari_unet3d.errors import Unet3dError, VolumeError, shown
from napari_unet3d.volumes.outputs.creating import check_place
from napari_unet3d.widgets.host.aside import Aside
from napari_unet3d.widgets.host.notices import notify, notify_error, tell
from napari_unet3d.widgets.layers.finding import describe_found
from napari_unet3d.widgets.layers.volumes import LayerVolume
from napari_unet3d.widgets.layers.writers import write_quietly

if TYPE_CHECKING:
    from napari.layers import Layer


class Told(NamedTuple):
    """What is said of the saving of a layer.

    Attributes
    ----------
    sentence
        That it is being saved, or what was saved last, where, and what it holds; or nothing.
    error
        Why it could not be saved, or None.
    """

    sentence: str = ""
    error: Unet3dError | None = None


class _Saved(NamedTuple):
    path: Path
    found: str = ""
    notes: tuple[str, ...] = ()
    error: Unet3dError | None = None


class LayerSaving:
    """Saves layers of a window; one thread each, which also goes on when the dock is closed."""

    changed = Signal()

    def __init__(self) -> None:
        self._told: WeakKeyDictionary[Layer, Told] = WeakKeyDictionary()
        self._going_on: dict[Aside, Path] = {}

    @property
    def is_active(self) -> bool:
        """Return whether something is being saved."""
        return bool(self._going_on)

    def told(self, layer: Layer | None) -> Told:
        """Return what is said of the saving of a layer."""
        return Told() if layer is None else self._told.get(layer, Told())

    def tell(self, layer: Layer, told: Told) -> None:
        """Say something else of the saving of a layer."""
        self._told[layer] = told
        self.changed.emit()

    def save(self, found: LayerVolume, path: Path, *, describe: Callable[[LayerVolume], str] = describe_found) -> None:
        """Write a layer to a file, which is replaced if it is there; returns at once.

        Parameters
        ----------
        found
            The volume of the layer.
        path
            `.tif`, `.ome.tif` or `.zarr`.
        describe
            Returns what it holds, in words; called in the thread.
        """
        path = path.absolute()
        try:
            check_place(path, overwrite=True)
            if path in self._going_on.values():
                raise VolumeError(f"{shown(path.name)} is being saved already.")
        except Unet3dError as error:
            self._end(None, found.layer, _Saved(path, error=error))
            return
        aside = Aside(is_kept=True)
        self._going_on[aside] = path
        self.tell(found.layer, Told(f"Saving {shown(path.name)} .."))
        aside(_save, found, path, describe, take=lambda saved: self._end(aside, found.layer, saved))

    def _end(self, aside: Aside | None, layer: Layer, saved: _Saved) -> None:
        if aside is not None:
            del self._going_on[aside]
        if saved.error is not None:
            notify_error(saved.error)
            self.tell(layer, Told(f"Not saved. {saved.error}", saved.error))
            return
        held = f" ({saved.found})" if saved.found else ""
        tell(f"Saved {shown(saved.path.name)}{held}.")
        if saved.notes:
            notify(f"{shown(saved.path.name)}: {' '.join(saved.notes)}")
        self.tell(layer, Told(f"Saved{held}: {shown(saved.path)}"))


def _save(found: LayerVolume, path: Path, describe: Callable[[LayerVolume], str]) -> _Saved:
    try:
        written = write_quietly(str(path), found)
        return _Saved(Path(written.path), describe(found), written.notes)
    except Unet3dError as error:
        return _Saved(path, error=error)

"""Saving a layer as a volume, in a thread: the window goes on, and says what is saved and where."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from psygnal import Signal

from napari_unet3d.errors import Unet3dError, VolumeError, shown
from napari_unet3d.volumes.outputs.creating import check_place
from napari_unet3d.widgets.host.aside import Aside
from napari_unet3d.widgets.host.notices import notify, notify_error, tell
from napari_unet3d.widgets.layers.finding import describe_found
from napari_unet3d.widgets.layers.volumes import LayerVolume
from napari_unet3d.widgets.layers.writers import write_quietly


class _Saved(NamedTuple):
    path: Path
    found: str = ""
    notes: tuple[str, ...] = ()
    error: Unet3dError | None = None


class LayerSaving:
    """Saves layers of a window; one thread each, which also goes on when the dock is closed.

    Attributes
    ----------
    sentence
        What is being saved or was saved last, where, and what it holds.
    error
        Why the last one could not be saved, or None.
    """

    changed = Signal()

    def __init__(self) -> None:
        self.sentence = ""
        self.error: Unet3dError | None = None
        self._going_on: dict[Aside, Path] = {}

    @property
    def is_active(self) -> bool:
        """Return whether something is being saved."""
        return bool(self._going_on)

    def save(self, found: LayerVolume, path: Path) -> None:
        """Write a layer to a file, which is replaced if it is there; returns at once.

        Parameters
        ----------
        found
            The volume of the layer.
        path
            `.tif`, `.ome.tif` or `.zarr`.
        """
        path = path.absolute()
        self.error = None
        try:
            check_place(path, overwrite=True)
            if path in self._going_on.values():
                raise VolumeError(f"{shown(path.name)} is being saved already.")
        except Unet3dError as error:
            self._end(None, _Saved(path, error=error))
            return
        aside = Aside(is_kept=True)
        self._going_on[aside] = path
        self.sentence = f"Saving {shown(path.name)} .."
        self.changed.emit()
        aside(_save, found, path, take=lambda saved: self._end(aside, saved))

    def _end(self, aside: Aside | None, saved: _Saved) -> None:
        if aside is not None:
            del self._going_on[aside]
        self.error = saved.error
        if saved.error is not None:
            self.sentence = f"Not saved. {saved.error}"
            notify_error(saved.error)
        else:
            held = f" ({saved.found})" if saved.found else ""
            self.sentence = f"Saved{held}: {shown(saved.path)}"
            tell(f"Saved {shown(saved.path.name)}{held}.")
            if saved.notes:
                notify(f"{shown(saved.path.name)}: {' '.join(saved.notes)}")
        self.changed.emit()


def _save(found: LayerVolume, path: Path) -> _Saved:
    try:
        written = write_quietly(str(path), found)
        return _Saved(Path(written.path), describe_found(found), written.notes)
    except Unet3dError as error:
        return _Saved(path, error=error)

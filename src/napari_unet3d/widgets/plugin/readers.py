"""What napari opens with this plugin: samples, folders of slices, HDF5 files, and model folders.

A volume becomes a layer with its place in physical space; a model is chosen in the workbench instead. TIFF and Zarr
are left to other readers: napari asks for one as soon as two offer themselves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from napari_unet3d.core.annotation.meanings import COMPLETE
from napari_unet3d.errors import Unet3dError, VolumeError, shown
from napari_unet3d.network.store import CARD_FILE, SUFFIX, read_card
from napari_unet3d.volumes import ArrayInfo, Volume, is_sample, list_arrays, read_sample, read_volume
from napari_unet3d.volumes.space.places import in_one_place
from napari_unet3d.widgets.host.notices import notify
from napari_unet3d.widgets.layers.volumes import layer_data, load_if_small

LayerTuples = list[tuple[Any, ...]]
Reader = Callable[[str], LayerTuples]
Kind = Literal["image", "labels"]

_HDF5_SUFFIXES = (".h5", ".hdf5", ".ims")
_ZARR_FILES = {"zarr.json", ".zarray", ".zgroup"}
_SLICE_SUFFIXES = (".tif", ".tiff", ".png")
# A folder may hold millions of files; whose first thousands are no slices is none of slices.
_LOOKED_AT = 5000
_KERAS_GROUP = "/model_weights/"
_AXES_ADVICE = re.compile(r"\baxes='([a-z]*)'")


def nothing() -> LayerTuples:
    """Return what napari takes for: read, and there is no layer."""
    return [(None,)]


def get_reader(path: Any) -> Reader | None:
    """Return the function that reads a path, or None if that is for another plugin.

    Parameters
    ----------
    path
        A path; a list of paths is for another plugin.
    """
    if not isinstance(path, str | os.PathLike):
        return None
    try:
        return _reader_of(Path(path))
    except (OSError, ValueError):
        return None


def _reader_of(place: Path) -> Reader | None:
    suffix = place.suffix.lower()
    if suffix == SUFFIX or os.path.isfile(place / CARD_FILE):
        return open_model
    if place.is_file():
        return read_hdf5_layers if suffix in _HDF5_SUFFIXES else None
    if suffix == ".zarr" or not place.is_dir():
        return None
    with os.scandir(place) as entries:
        names = [entry.name for entry in islice(entries, _LOOKED_AT)]
    if _ZARR_FILES.intersection(names):
        return None
    if is_sample(place):
        return read_sample_layers
    is_slices = any(name.lower().endswith(_SLICE_SUFFIXES) and not name.startswith(".") for name in names)
    return read_slices_layers if is_slices else None


def read_sample_layers(path: str) -> LayerTuples:
    """Return the image and the mask of a sample folder as an image and a labels layer.

    Raises
    ------
    VolumeError
        If one of them cannot be read.
    """
    image, mask = in_one_place(*read_sample(os.path.abspath(path)))
    image_layer, mask_layer = _layers((image, "image"), (mask, "labels"))
    mask_layer[1]["metadata"] = COMPLETE
    return [image_layer, mask_layer]


def read_slices_layers(path: str) -> LayerTuples:
    """Return the slices in a folder as an image layer.

    Raises
    ------
    VolumeError
        If they are no volume.
    """
    return _layers((read_volume(os.path.abspath(path)), "image"))


def read_hdf5_layers(path: str) -> LayerTuples:
    """Return arrays of an HDF5 file as layers: the only volume in it, or those that are chosen in a dialog.

    Raises
    ------
    VolumeError
        If there is no volume, or several and nobody to ask.
    """
    path = os.path.abspath(path)
    arrays = _volumes_in(path)
    labels = {info.name for info in arrays if info.looks_like_labels}
    if arrays and arrays[0].name.startswith(_KERAS_GROUP):
        raise VolumeError(
            f"{shown(path)} holds the weights of a network, not a volume. "
            "Use napari-unet3d import-model to make a model of a published network."
        )
    if not arrays:
        # Says what is wrong, or reads what the file is in spite of its name.
        return _layers((read_volume(path), "image"))
    if len(arrays) == 1:
        chosen = [(arrays[0].name, arrays[0].name in labels)]
    else:
        _refuse_without_window(path, arrays)
        from napari_unet3d.widgets.bricks.choose_array import choose_arrays

        chosen = choose_arrays(path, arrays, labels)
    kinds: list[tuple[str, Kind]] = [(name, "labels" if is_labels else "image") for name, is_labels in chosen]
    read = ((_read_asking(f"{path}:{name}", kind), kind) for name, kind in kinds)
    found = [(volume, kind) for volume, kind in read if volume is not None]
    return _layers(*found) if found else nothing()


def open_model(path: str) -> LayerTuples:
    """Open the workbench at the tab Segment with a model chosen; there is no layer.

    Raises
    ------
    ModelError
        If the folder is no model, or a damaged one.
    """
    import napari

    from napari_unet3d.widgets.plugin.commands import open_workbench
    from napari_unet3d.widgets.runs.session import session_of

    place = Path(path).absolute()
    read_card(place)
    viewer = napari.current_viewer()
    if viewer is None:
        raise Unet3dError(f"{shown(place)} is a model, but no napari window is open to choose it in.")
    open_workbench(viewer, "Segment")
    session_of(viewer).choose_model(place)
    return nothing()


def _volumes_in(path: str) -> list[ArrayInfo]:
    """Return the arrays that may be volumes: of numbers, with three axes or with channels or time besides."""
    try:
        listed = list_arrays(path)
    except VolumeError:
        return []
    return [info for info in listed if info.is_volume]


def _refuse_without_window(path: str, arrays: list[ArrayInfo]) -> None:
    if not can_ask():
        raise VolumeError(
            f"{shown(path)} holds several arrays ({'; '.join(map(str, arrays))}), and there is no window to ask which "
            f"one is meant; read it with napari_unet3d.read_volume({shown(path) + ':' + arrays[0].name!r})."
        )


def can_ask() -> bool:
    """Return whether a dialog can be shown: there is a window system, and this is its thread."""
    try:
        from qtpy.QtCore import QThread
        from qtpy.QtWidgets import QApplication
    except ImportError:
        return False
    application = QApplication.instance()
    return application is not None and application.thread() == QThread.currentThread()


def _read_asking(path: str, kind: Kind) -> Volume | None:
    """Return a volume, after asking for its axes where they are not clear; None if that is cancelled."""
    axes: str | None = None
    while True:
        try:
            volume = read_volume(path, axes=axes, kind=kind)
        except VolumeError as error:
            advice = _AXES_ADVICE.search(str(error))
            if advice is None or not can_ask():
                raise
            from napari_unet3d.widgets.bricks.choose_array import ask_axes

            axes = ask_axes(str(error), advice[1])
            if axes is None:
                return None
        else:
            # A worker that reads the path by itself would not know the axes: it is given the voxels instead.
            return volume if axes is None else replace(volume, path="")


def _layers(*found: tuple[Volume, str]) -> LayerTuples:
    tuples: LayerTuples = [layer_data(load_if_small(volume), kind=kind) for volume, kind in found]
    notes = dict.fromkeys(note for volume, _ in found for note in volume.notes)
    if notes:
        notify(f"{found[0][0].name}: {' '.join(notes)}")
    return tuples

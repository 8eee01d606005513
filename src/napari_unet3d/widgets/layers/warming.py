"""napari compiles the colours of labels when the first layer of them is made, which takes seconds: once, beforehand."""

from __future__ import annotations

from threading import Thread

import numpy as np

from napari_unet3d.widgets.layers.colours import class_colormap

_thread: Thread | None = None


def warm_labels() -> Thread:
    """Begin to compile what labels need, once a program; returns at once.

    The thread is waited for when the program ends: an interpreter that is torn down under a compiler crashes.
    """
    global _thread
    if _thread is None:
        _thread = Thread(target=_make_labels, name="unet3d-warm-labels")
        _thread.start()
    return _thread


def _make_labels() -> None:
    """Colour a few labels, of the type that results and annotation have, as a layer of them would.

    No layer is made: the units of its axes are read from a file by whoever asks first, and a second thread that asks
    meanwhile is told that there are none.
    """
    colormap = class_colormap(("background", "object"))
    values = np.zeros((4, 4), np.uint8)
    colormap._data_to_texture(values)
    colormap.map(values)

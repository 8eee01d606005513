"""Large labels that are gone before they are saved, with their window or without: threads write them.

The program waits for these threads before it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

from napari_unet3d.errors import Unet3dError
from napari_unet3d.tasks.projects.folder import Project, begin_project
from napari_unet3d.widgets.runs.kept_layer import KeptLayer, Painting

if TYPE_CHECKING:
    from napari.layers import Image

_threads: set[Thread] = set()


class LastWords(NamedTuple):
    """What a layer was when it went; the image is held, because a project may be made for it yet."""

    kept: KeptLayer
    told: Painting
    image: Image | None


def start_writing(
    large: Sequence[LastWords], write: Callable[[KeptLayer, Painting], str], home: Path, held: list[Project] | None
) -> None:
    """Write layers in a thread; returns at once.

    Parameters
    ----------
    large
        The layers.
    write
        Writes one, and returns why that failed, or nothing.
    home
        The folder of the user's own projects, where they go that cannot be saved where they were.
    held
        The projects that others may have afterwards, with those of the layers; None where the window stays open.
    """
    thread = Thread(target=_write, args=(large, write, home, held), name="unet3d-last-writing")
    _threads.difference_update([other for other in _threads if not other.is_alive()])
    _threads.add(thread)
    thread.start()


def _write(
    large: Sequence[LastWords], write: Callable[[KeptLayer, Painting], str], home: Path, held: list[Project] | None
) -> None:
    for kept, told, _ in large:
        if write(kept, told) and kept.project is not None:
            with suppress(Unet3dError):
                kept.project = begin_project(kept.project.record.image, [home], is_beside=False)
                kept.store = None
                write(kept, told)
    if held is not None:
        for project in [*held, *(words.kept.project for words in large)]:
            if project is not None:
                project.release()


def wait_for_writing() -> None:
    """Wait until everything is written: before the pools of threads end, which write the chunks."""
    while _threads:
        _threads.pop().join()

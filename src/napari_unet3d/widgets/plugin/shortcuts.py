"""What the keys of the workbench do."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from napari_unet3d.widgets.host.keys import CORRECT, NEXT_CLASS, START, register
from napari_unet3d.widgets.host.notices import tell
from napari_unet3d.widgets.layers.volumes import unwrap
from napari_unet3d.widgets.runs.annotating import take_next_class

if TYPE_CHECKING:
    from napari_unet3d.widgets.plugin.workbench import Workbench

# The workbench of each window, by its viewer.
_workbenches: WeakValueDictionary[int, Workbench] = WeakValueDictionary()


def listen_to_keys(workbench: Workbench) -> None:
    """Let the keys that are pressed in a window work on its workbench."""
    _workbenches[id(workbench.session.viewer)] = workbench
    _register()


@cache
def _register() -> None:
    register(NEXT_CLASS, _next_class)
    register(CORRECT, _correct)
    register(START, _start)


def _workbench_of(viewer: Any) -> Workbench | None:
    found = _workbenches.get(id(unwrap(viewer)))
    return found if found is not None and found.session.viewer is unwrap(viewer) else None


def _next_class(viewer: Any) -> None:
    if (workbench := _workbench_of(viewer)) is not None:
        viewer.status = take_next_class(workbench.session)


def _correct(viewer: Any) -> None:
    if (workbench := _workbench_of(viewer)) is None:
        return
    train, segment = workbench.train, workbench.segment
    first, second = (segment, train) if workbench.tab == "Segment" else (train, segment)
    for panel in (first, second):
        if panel.state.can_correct:
            panel.correct_here()
            return
    tell("There is nothing to correct yet. Train, or segment, first.")


def _start(viewer: Any) -> None:
    if (workbench := _workbench_of(viewer)) is None:
        return
    panels = {"Train": workbench.train, "Segment": workbench.segment}
    panel = panels.get(workbench.tab)
    if panel is None:
        tell("Turn to the tab Train or Segment to start there.")
    elif panel.start.enabled:
        # As the button does.
        panel.start.native.click()

"""Whether somebody has changed the voxels of a labels layer: a stroke, a fill, other data, undo and redo."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.layers import Labels


class StrokeWatch:
    """Calls a function after each change of the voxels of a layer; ends with whoever holds it.

    Parameters
    ----------
    layer
        The layer.
    call
        Called without arguments, in the thread of the window.
    """

    def __init__(self, layer: Labels, call: Callable[[], Any]) -> None:
        self._call = call
        self._history = _history(layer)
        # napari holds bound methods weakly.
        layer.events.labels_update.connect(self._on_change)
        layer.events.paint.connect(self._on_change)
        layer.events.data.connect(self._on_change)
        layer.events.set_data.connect(self._on_redrawn)

    @property
    def has_strokes(self) -> bool:
        """Return whether something was painted before it was watched."""
        return any(self._history)

    def _on_change(self, event: Any) -> None:
        self._history = _history(event.source)
        self._call()

    def _on_redrawn(self, event: Any) -> None:
        # Undo and redo tell of nothing else, but a layer is drawn again with each slice, too.
        history = _history(event.source)
        if history != self._history:
            self._history = history
            self._call()


def _history(layer: Any) -> tuple[int, ...]:
    """Return how many strokes can be undone and redone, where napari has such lists."""
    return tuple(len(getattr(layer, name, ())) for name in ("_undo_history", "_redo_history"))

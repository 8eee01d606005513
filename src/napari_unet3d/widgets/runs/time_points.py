"""Labels of one time point, as another one is shown: nothing is painted there, and those of that one are chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari_unet3d.widgets.layers.placing import has_one_position, position_at
from napari_unet3d.widgets.layers.volumes import is_illustration, unwrap

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_unet3d.widgets.runs.session import Session


class TimePoints:
    """Follows the slider of the fourth axis in one window.

    Parameters
    ----------
    session
        What the panels of this window share.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        # The mode of labels that cannot be painted in as long as another time point is shown.
        self._locked: WeakKeyDictionary[Labels, str] = WeakKeyDictionary()
        session.viewer.dims.events.current_step.connect(self._on_step)

    def is_elsewhere(self, layer: Labels | None) -> bool:
        """Return whether labels are of one time point, and another one is shown."""
        if layer is None or not has_one_position(layer):
            return False
        return position_at(layer, self._session.viewer.dims.point) != 0

    def _on_step(self, event: Any = None) -> None:
        session = self._session
        if session.viewer.dims.ndim < 4:
            return
        layers = [layer for layer in map(unwrap, session.viewer.layers) if layer._type_string == "labels"]
        for layer in layers:
            if has_one_position(layer) and not is_illustration(layer):
                self._lock(layer, is_elsewhere=self.is_elsewhere(layer))
        labels = session.labels
        if labels is not None and self.is_elsewhere(labels):
            there = [layer for layer in layers if session.takes_as_annotation(layer) and has_one_position(layer)]
            shown = [layer for layer in there if not self.is_elsewhere(layer)]
            if shown:
                self._choose(shown[-1], labels)

    def _lock(self, layer: Labels, *, is_elsewhere: bool) -> None:
        """Keep napari from painting: a step back in time would be taken for the last voxel along that axis."""
        if is_elsewhere and layer.editable:
            self._locked[layer] = str(layer.mode)
            layer.editable = False
        elif not is_elsewhere and layer in self._locked:
            layer.editable = True
            layer.mode = self._locked.pop(layer)

    def _choose(self, labels: Labels, before: Labels) -> None:
        session = self._session
        is_active = unwrap(session.viewer.layers.selection.active) is before
        session.labels = labels
        if is_active:
            session.viewer.layers.selection.active = labels
            labels.selected_label = before.selected_label
            labels.mode = self._locked.get(before, str(before.mode))

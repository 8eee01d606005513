"""Buttons that help with painting: fill like this, fill between slices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from magicgui.widgets import CheckBox, Container, FloatSlider, Label, PushButton

from napari_unet3d.errors import Unet3dError
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.layers.volumes import unwrap
from napari_unet3d.widgets.runs.annotating import take_brush
from napari_unet3d.widgets.runs.assist import PaintingHelp
from napari_unet3d.widgets.runs.session import Session


class HelpRows(Container):
    """The buttons, for the chosen annotation.

    Parameters
    ----------
    session
        What the panels of this window share.
    """

    def __init__(self, session: Session) -> None:
        self._session, self._help = session, PaintingHelp(session)
        self._layer: Any = None
        self.alike = PushButton(
            text="Fill like this",
            tooltip="Click on the image: what looks alike and hangs together is painted. Ctrl-Z takes it back.",
        )
        self.alike.native.setCheckable(True)
        self.in_3d = CheckBox(value=False, text="in 3D", tooltip="Fill neighbouring slices too.")
        self.looseness = FloatSlider(
            value=1, min=0.1, max=5, step=0.1, tooltip="How much the last fill takes: more to the right."
        )
        self.between = PushButton(
            text="Fill between slices",
            tooltip="Paint one object on two slices, and go to one between them: the slices between are painted too.",
        )
        self._said = panel.text(tone="quiet")
        rows = [
            panel.row(self.alike, self.between),
            panel.row(Label(value="fill less, more"), self.looseness, self.in_3d),
            self._said,
        ]
        super().__init__(widgets=rows, layout="vertical", labels=False)
        self.margins = (0, 0, 0, 0)
        self.alike.native.toggled.connect(self._on_toggled)
        self.looseness.changed.connect(lambda value: self._on_looseness(value))
        self.between.changed.connect(lambda *_: self._try(self._help.fill_between))
        panel.listen(self, session.labels_changed, self.show_labels)
        self.show_labels()

    def show_labels(self) -> None:
        """Show the buttons where there is an annotation; a click that waits is for the layer that it was meant for."""
        labels = self._session.labels
        self.visible = labels is not None
        if labels is not self._layer and self.alike.native.isChecked():
            self.alike.native.setChecked(False)

    def _on_toggled(self, on: bool) -> None:
        labels = unwrap(self._session.labels)
        if self._layer is not None and self._on_press in self._layer.mouse_drag_callbacks:
            self._layer.mouse_drag_callbacks.remove(self._on_press)
            if self._layer is labels:
                take_brush(self._session, labels)
        self._layer = labels if on else None
        if on and labels is not None:
            # A click does not paint as well.
            labels.mode = "pan_zoom"
            self._session.viewer.layers.selection.active = labels
            labels.mouse_drag_callbacks.append(self._on_press)
            panel.say(self._said, "Click on what shall be painted.")
        else:
            panel.say(self._said, "")

    def _on_press(self, layer: Any, event: Any) -> Iterator[None]:
        """Fill at the end of a click; a drag moves the view."""
        begun = np.array(event.position)
        yield
        while event.type == "mouse_move":
            yield
        if np.allclose(begun, event.position):
            at = np.rint(np.asarray(layer.world_to_data(event.position))).astype(int)
            z, y, x = (int(at[axis]) for axis in self._session.labels_volume().spatial_axes)
            self.fill((z, y, x))

    def fill(self, voxel: tuple[int, int, int]) -> None:
        """Fill around a voxel (z, y, x) of the annotation."""
        in_3d, looseness = bool(self.in_3d.value), float(self.looseness.value)
        self._try(lambda: self._help.fill_alike(voxel, looseness=looseness, in_3d=in_3d))

    def _on_looseness(self, value: float) -> None:
        n = self._help.loosen(value)
        if n is not None:
            panel.say(self._said, f"{n:,} voxels painted.")

    def _try(self, fill: Any) -> None:
        try:
            panel.say(self._said, f"{fill():,} voxels painted.", tone="quiet")
        except Unet3dError as error:
            panel.say(self._said, str(error), tone="warning")

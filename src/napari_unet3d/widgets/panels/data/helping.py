"""Buttons that help with painting: fill like this, fill between slices, accept what a network found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from magicgui.widgets import CheckBox, Container, FloatSlider, Label, PushButton

from napari_unet3d.errors import Unet3dError
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.layers.volumes import unwrap
from napari_unet3d.widgets.runs.accepting import AcceptBrush
from napari_unet3d.widgets.runs.annotating import take_brush
from napari_unet3d.widgets.runs.assist import PaintingHelp
from napari_unet3d.widgets.runs.session import Session

# How much more a turn of the wheel takes.
_STEP = 1.15


class HelpRows(Container):
    """The buttons, for the chosen annotation.

    Parameters
    ----------
    session
        What the panels of this window share.
    """

    def __init__(self, session: Session) -> None:
        self._session, self._help, self._brush = session, PaintingHelp(session), AcceptBrush(session)
        self._layer: Any = None
        self.alike = PushButton(
            text="Fill like this",
            tooltip="Click on the image: what looks alike and hangs together is painted. "
            "Shift and the mouse wheel take less or more of it. Ctrl-Z takes it back.",
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
        self.accept = PushButton(
            text="Accept preview",
            tooltip="The brush paints what the result or the live preview says under it, instead of the label in hand. "
            "Ctrl-Z takes a stroke back.",
        )
        self.accept.native.setCheckable(True)
        self._said = panel.text(tone="quiet")
        rows = [
            panel.row(self.alike, self.between, self.accept),
            panel.row(Label(value="fill less, more"), self.looseness, self.in_3d),
            self._said,
        ]
        super().__init__(widgets=rows, layout="vertical", labels=False)
        self.margins = (0, 0, 0, 0)
        self.alike.native.toggled.connect(self._on_toggled)
        self.accept.native.toggled.connect(self._on_accept)
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
        self.accept.native.setChecked(False)

    def release(self) -> None:
        """Give napari's tools back, as the panel goes."""
        self.alike.native.setChecked(False)
        self.accept.native.setChecked(False)

    def _on_toggled(self, on: bool) -> None:
        labels = unwrap(self._session.labels)
        if self._layer is not None and self._on_press in self._layer.mouse_drag_callbacks:
            self._layer.mouse_drag_callbacks.remove(self._on_press)
            if self._layer is labels:
                take_brush(self._session, labels)
        self._layer = labels if on else None
        wheel = self._session.viewer.mouse_wheel_callbacks
        if self._on_wheel in wheel:
            wheel.remove(self._on_wheel)
        if on and labels is not None:
            self.accept.native.setChecked(False)
            wheel.append(self._on_wheel)
            # A click does not paint as well.
            labels.mode = "pan_zoom"
            self._session.viewer.layers.selection.active = labels
            labels.mouse_drag_callbacks.append(self._on_press)
            panel.say(self._said, "Click on what to fill. Shift + wheel: less or more.", tone="quiet")
        else:
            panel.say(self._said, "")

    def _on_wheel(self, viewer: Any, event: Any) -> None:
        """Take less or more; with Ctrl napari turns to other slices, with Alt to other layers, without it zooms."""
        if "Shift" in event.modifiers:
            # Some systems turn the wheel with Shift into one that goes sideways.
            steps = float(np.clip(np.sum(event.delta), -1, 1))
            wanted = float(self.looseness.value) * _STEP**steps
            self.looseness.value = float(np.clip(wanted, self.looseness.min, self.looseness.max))
            event.handled = True

    def _on_accept(self, on: bool) -> None:
        if not on:
            self._brush.leave()
            panel.say(self._said, "")
            return
        self.alike.native.setChecked(False)
        try:
            panel.say(self._said, self._brush.take(), tone="quiet")
        except Unet3dError as error:
            self.accept.native.setChecked(False)
            panel.say(self._said, str(error), tone="warning")

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

"""What the fourth axis of an image is: channels, or time."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import ComboBox, Container

from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.layers.placing import axis_name, is_time, name_extra_axis
from napari_unet3d.widgets.layers.volumes import extra_axis, why_no_volume
from napari_unet3d.widgets.runs.session import Session

CHANNELS, TIME = "channels", "time"
_NAMES = {CHANNELS: "c", TIME: "t"}


class FourthAxis(Container):
    """Asks which axis of the chosen image is not z, y or x, and what it is.

    The answer is the name of that axis of the layer, so napari and other plugins see it too.

    Parameters
    ----------
    session
        What the panels of this window share.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._offered: list[tuple[str, int]] = []
        self.axis = ComboBox(
            choices=[""], tooltip="The axis that is not z, y or x, with its length. The order of the others is kept."
        )
        self.kind = ComboBox(
            choices=[CHANNELS, TIME],
            tooltip="Time: a result and an annotation belong to the time point that is shown, and are seen only there. "
            "Channels: they belong to all channels.",
        )
        super().__init__(widgets=[self.axis, self.kind], layout="horizontal", labels=False, label="fourth axis")
        self.margins = (0, 0, 0, 0)
        self.axis.changed.connect(lambda *_: self._on_choice())
        self.kind.changed.connect(lambda *_: self._on_choice())
        panel.listen(self, session.image_changed, self.show_image)
        self.show_image()

    def show_image(self) -> None:
        """Show what the fourth axis of the image is taken for; nothing where there is none."""
        image = self._session.image
        has_one = image is not None and not why_no_volume(image) and image.ndim == 4
        self.visible = has_one
        if image is None or not has_one:
            return
        shape = (image.data[0] if getattr(image, "multiscale", False) else image.data).shape
        offered = [(f"{_ORDINALS[axis]}, {n} long", axis) for axis, n in enumerate(shape)]
        with self.axis.changed.blocked(), self.kind.changed.blocked():
            if offered != self._offered:
                self.axis.choices = self._offered = offered
            self.axis.value = extra_axis(image)
            self.kind.value = TIME if is_time(image) else CHANNELS

    def _on_choice(self) -> None:
        image: Any = self._session.image
        if image is not None and image.ndim == 4:
            axis, kind = int(self.axis.value), str(self.kind.value)
            is_known = extra_axis(image) == axis and (TIME if is_time(image) else CHANNELS) == kind
            name = axis_name(image) if is_known else _NAMES[kind]
            name_extra_axis(image, axis, name)


_ORDINALS = ("first", "second", "third", "last")

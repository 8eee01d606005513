"""A box of voxels as a person types it: the first and the last slice, row and column, as the slider counts them."""

from __future__ import annotations

from collections.abc import Callable

from magicgui.widgets import Container, Label, SpinBox

from napari_unet3d.core.boxes import AXES, Box, Shape
from napari_unet3d.widgets.bricks import panel

_ALONG = {"z": "slice", "y": "row", "x": "column"}
_ANY = 2**31 - 2


class BoxRows(Container):
    """Edits a box.

    Parameters
    ----------
    on_change
        Called when a person has changed it.

    Attributes
    ----------
    first, last
        The fields (z, y, x): both are part of the box.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._set: tuple[Box, Box] | None = None
        self._shape: Shape | None = None
        self.first = tuple(_field(f"First {_ALONG[axis]} of the box along {axis}, counted from 0.") for axis in AXES)
        self.last = tuple(_field(f"Last {_ALONG[axis]} of the box along {axis}, part of it.") for axis in AXES)
        rows = [
            panel.row(first, Label(value="to"), last, label=f"{axis} from")
            for axis, first, last in zip(AXES, self.first, self.last, strict=True)
        ]
        super().__init__(widgets=rows, layout="vertical", labels=True)
        self.margins = (0, 0, 0, 0)
        for first, last in zip(self.first, self.last, strict=True):
            first.changed.connect(lambda n, last=last: self._on_field(last, max(n, last.value)))
            last.changed.connect(lambda n, first=first: self._on_field(first, min(n, first.value)))

    @property
    def value(self) -> Box:
        """Return the box; what was set and does not fit the fields is kept until one of them is changed."""
        if self._set is not None and self._set[1] == self._shown:
            return self._set[0]
        return self._shown

    @value.setter
    def value(self, box: Box) -> None:
        for first, last, (start, stop) in zip(self.first, self.last, box, strict=True):
            for field, n in ((first, start), (last, stop - 1)):
                with field.changed.blocked():
                    field.value = min(max(n, 0), int(field.max))
        self._set = (box, self._shown)

    def fit(self, shape: Shape) -> None:
        """Offer what a volume of a shape (z, y, x) has; a box that was all of another one is all of this one."""
        if shape == self._shape:
            return
        was_whole = self._set is None and self._shape in (None, self._shown.shape)
        box = self.value
        for fields in (self.first, self.last):
            for field, n in zip(fields, shape, strict=True):
                with field.changed.blocked():
                    field.max = n - 1
        self._shape = shape
        kept = self._set is not None
        self.value = Box.whole(shape) if was_whole else box
        if not kept:
            self._set = None

    @property
    def _shown(self) -> Box:
        return Box(*((int(a.value), int(b.value) + 1) for a, b in zip(self.first, self.last, strict=True)))

    def _on_field(self, other: SpinBox, n: int) -> None:
        self._set = None
        with other.changed.blocked():
            other.value = n
        self._on_change()


def _field(tooltip: str) -> SpinBox:
    field = SpinBox(value=0, min=0, max=_ANY, tooltip=tooltip)
    # Otherwise every digit that is typed is a box of its own.
    field.native.setKeyboardTracking(False)
    return field

"""How strong a change is, as one slider in place of several numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from magicgui.widgets import Container, FloatSlider, Label
from qtpy.QtWidgets import QAbstractSpinBox

from napari_unet3d.core.augment.choices import Part
from napari_unet3d.widgets.bricks import panel

# What a slider says of its field: the number, the upper end of a range, a range around 0, or a range around 1.
Shape = Literal["number", "upper", "around 0", "around 1"]
# Which words stand behind it, with {} for the number.
_PERCENT = "up to {:.0%}"


@dataclass(frozen=True)
class Strength:
    """What a slider edits, and how.

    Attributes
    ----------
    field
        Of the part.
    caption
        What it is called.
    shape
        How the field follows from one number.
    most
        The largest number of the slider.
    least
        The smallest one.
    words
        What is said of the number; a length in the finest voxels is said in their unit too.
    is_length
        Whether it is such a length.
    """

    field: str
    caption: str
    shape: Shape
    most: float
    least: float = 0.0
    words: str = "{:.3g}"
    is_length: bool = False

    def of(self, value: Any) -> float:
        """Return the number of the slider for what a field has."""
        match self.shape:
            case "number":
                return float(value)
            case "around 1":
                return max(float(value[1]), 1 / float(value[0])) - 1
            case _:
                return max(map(abs, map(float, value))) if self.shape == "around 0" else float(value[1])

    def values(self, number: float, before: Any) -> Any:
        """Return what a field has for a number of the slider; a whole number where it was one."""
        match self.shape:
            case "number":
                return round(number) if isinstance(before, int) else number
            case "around 0":
                return (-number, number)
            case "around 1":
                return (1 / (1 + number), 1 + number)
        high = round(number) if isinstance(before[1], int) else number
        return (min(before[0], high), high)


STRENGTHS: dict[str, Sequence[Strength]] = {
    "rotation": [Strength("degrees", "how far", "number", 180, words="{:.0f} degrees")],
    "scale": [Strength("factor", "how much", "around 1", 1.0, words=_PERCENT)],
    "shear": [Strength("degrees", "how far", "number", 45, words="{:.0f} degrees")],
    "elastic": [
        Strength("sigma", "how strong", "number", 20, words="{:.2g} voxels", is_length=True),
        Strength("spacing", "how wide", "number", 128, 8, words="{:.0f} voxels", is_length=True),
    ],
    "blur": [Strength("sigma", "how strong", "upper", 4, words="{:.2g} voxels", is_length=True)],
    "low_resolution": [Strength("factor", "how thick", "upper", 6, 1, words="{:.2g} slices")],
    "gamma": [Strength("exponent", "how strong", "around 1", 1.5, words=_PERCENT)],
    "gain": [Strength("factor", "how strong", "around 1", 2.0, words=_PERCENT)],
    "offset": [Strength("value", "how strong", "around 0", 0.5, words=_PERCENT)],
    "shot_noise": [Strength("sigma", "how strong", "upper", 0.5, words=_PERCENT)],
    "noise": [Strength("sigma", "how strong", "upper", 0.5, words=_PERCENT)],
    "shifted_slices": [Strength("voxels", "how far", "number", 32, 1, words="{:.0f} voxels")],
    "missing_slices": [Strength("number", "how many", "upper", 8, 1, words="{:.0f}")],
    "occlusion": [Strength("side", "how large", "upper", 100, 1, words="{:.0f} voxels")],
}


class StrengthSlider(Container):
    """Edits a field of a part with one slider.

    Parameters
    ----------
    strength
        What it edits.
    part
        The part to begin with.
    on_change
        Called with the field and its new value.
    """

    def __init__(self, strength: Strength, part: Part, on_change: Callable[[str, Any], None]) -> None:
        self.strength = strength
        self._on_change = on_change
        self._before: Any = getattr(part, strength.field)
        self._voxel: tuple[float, str] | None = None
        self.slider = FloatSlider(
            min=strength.least,
            max=strength.most,
            step=(strength.most - strength.least) / 100,
            value=strength.least,
            tooltip=f"{strength.caption.capitalize()} it is at most; each patch gets another strength.",
        )
        for box in self.slider.native.findChildren(QAbstractSpinBox):
            # The words beside it say the number with its unit.
            box.setToolTip(self.slider.tooltip)
            box.hide()
        self._words = Label(value="")
        self._words.native.setMinimumWidth(96)
        caption = Label(value=strength.caption)
        caption.native.setMinimumWidth(80)
        super().__init__(widgets=[caption, self.slider, self._words], layout="horizontal", labels=False)
        self.margins = (22, 0, 0, 0)
        self.native.layout().setSpacing(4)
        self.show_value(self._before)
        self.slider.changed.connect(self._moved)

    def show_value(self, value: Any) -> None:
        """Show what the field has."""
        self._before = value
        number = self.strength.of(value)
        with self.slider.changed.blocked():
            self.slider.value = min(max(number, self.strength.least), self.strength.most)
        self._say(number)

    def show_voxel_size(self, size: float, unit: str) -> None:
        """Take the size of the finest voxels, for lengths."""
        self._voxel = (size, unit)
        self._say(self.strength.of(self._before))

    def _moved(self, number: float) -> None:
        self._before = self.strength.values(number, self._before)
        self._say(number)
        self._on_change(self.strength.field, self._before)

    def _say(self, number: float) -> None:
        words = self.strength.words.format(number)
        if self.strength.is_length and self._voxel is not None and self._voxel[1] not in ("", "pixel"):
            words = f"{number * self._voxel[0]:.2g} {self._voxel[1]}"
        panel.say(self._words, words)

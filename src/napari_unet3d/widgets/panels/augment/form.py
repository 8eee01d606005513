"""What Augment asks: a preset and every parameter of it; one value, an `AugmentSpec`."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, get_args

from magicgui.widgets import CheckBox, ComboBox, Container, FloatSpinBox, Label, SpinBox, Widget
from pydantic import ValidationError
from qtpy.QtWidgets import QAbstractSpinBox, QSizePolicy

from napari_unet3d.core.augment.choices import AugmentSpec, Part
from napari_unet3d.core.augment.presets import PRESETS
from napari_unet3d.core.boxes import AXES
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.panels.augment.sliders import STRENGTHS, StrengthSlider

OTHER = "other"
_DEFAULT = "isotropic light microscopy"
_LARGEST, _DECIMALS = 10_000.0, 2
# What a part is done with when it is switched on and had no probability.
_USUAL_PERCENT = 50
_GROUPS = {
    "Geometry": ("rotation", "scale", "flips", "quarter_turns", "shear", "elastic"),
    "Intensity": ("blur", "low_resolution", "gamma", "gain", "offset", "shot_noise", "noise"),
    "Faults": ("shifted_slices", "missing_slices", "occlusion"),
}
# What a person at a microscope would say.
_TITLES = {
    "rotation": "turn",
    "scale": "larger or smaller",
    "flips": "mirror",
    "quarter_turns": "quarter turns",
    "shear": "slant",
    "elastic": "bend (elastic)",
    "low_resolution": "thicker slices",
    "gamma": "contrast (gamma)",
    "gain": "brighter or dimmer",
    "offset": "background level",
    "shot_noise": "photon noise",
    "noise": "camera noise",
    "occlusion": "covered cubes",
}
_UNITS = {
    ("rotation", "degrees"): "degrees",
    ("shear", "degrees"): "degrees",
    ("blur", "sigma"): "voxels",
    ("low_resolution", "factor"): "voxels thick",
    ("occlusion", "side"): "voxels per side",
    ("shifted_slices", "voxels"): "voxels",
}
_CAPTIONS = {
    "kind": "",
    "degrees": "by up to",
    "isotropic": "all axes alike",
    "axes": "along",
    "number": "how many",
    "voxels": "by up to",
}


class AugmentForm(Container):
    """Edits what may be done to a patch.

    Parameters
    ----------
    on_change
        Called when something was changed.

    Attributes
    ----------
    preset
        Choices to begin with; for the panel to place.
    spec
        The choices, read and set as one value.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._is_setting = False
        self._suggested = _DEFAULT
        self.preset = ComboBox(
            choices=[*PRESETS, OTHER],
            value=_DEFAULT,
            label="Preset",
            tooltip="Choices for a kind of microscopy, to begin with. Each part below can be changed.",
        )
        # Another name would ask for more than the panel has.
        self.parts = {name: PartForm(name, part, self._changed) for name, part in PRESETS[_DEFAULT].parts.items()}
        super().__init__(labels=False)
        self.margins = (0, 0, 0, 0)
        self.groups = {title: self._group(title, names) for title, names in _GROUPS.items()}
        self.groups["Geometry"].open()
        self.numbers = CheckBox(
            text="More: how often, and all numbers", tooltip="Show in how many patches each change is made, and how."
        )
        panel.add(self, self.numbers.native)
        self.numbers.changed.connect(self._show_numbers)
        self.preset.changed.connect(self._on_preset)

    def _group(self, title: str, names: Iterable[str]) -> panel.Foldable:
        foldable = panel.Foldable(title, panel.column(*(self.parts[name] for name in names), labels=False))
        panel.add(self, foldable.native)
        return foldable

    @property
    def spec(self) -> AugmentSpec:
        """Return the choices."""
        return AugmentSpec(**{name: form.part for name, form in self.parts.items()})

    @spec.setter
    def spec(self, spec: AugmentSpec) -> None:
        self._is_setting = True
        try:
            for name, part in spec.parts.items():
                self.parts[name].part = part
        finally:
            self._is_setting = False
        self._changed()

    def show_voxel_size(self, size: float, unit: str) -> None:
        """Take the size of the finest voxels of the image, so that lengths can be said in its unit."""
        for form in self.parts.values():
            form.show_voxel_size(size, unit)

    def suggest(self, name: str) -> None:
        """Choose a preset, unless the user has chosen already."""
        if self.preset.value == self._suggested != name:
            self._suggested = self.preset.value = name

    def _show_numbers(self, shows: bool) -> None:
        for form in self.parts.values():
            form.shows_numbers = shows

    def _on_preset(self, name: str) -> None:
        if name in PRESETS:
            self.spec = PRESETS[name]

    def _changed(self) -> None:
        if self._is_setting:
            return
        with self.preset.changed.blocked():
            self.preset.value = self._named()
        self._on_change()

    def _named(self) -> str:
        try:
            spec = self.spec
        except ValidationError:  # which the panel says
            return OTHER
        return next((name for name, known in PRESETS.items() if known == spec), OTHER)


class PartForm(Container):
    """Edits one part: whether and how often it is done, and with which parameters.

    Parameters
    ----------
    name
        The part's name in the spec.
    part
        Its value to begin with.
    on_change
        Called when something was changed.
    """

    def __init__(self, name: str, part: Part, on_change: Callable[[], None]) -> None:
        self._kind = type(part)
        self._on_change = on_change
        self._shows_numbers = False
        self.is_on = CheckBox(text=_TITLES.get(name, name.replace("_", " ")), tooltip=_first_sentence(self._kind))
        self.sliders = [StrengthSlider(strength, part, self._on_slider) for strength in STRENGTHS.get(name, ())]
        self.percent = SpinBox(min=1, max=100, value=_USUAL_PERCENT, tooltip="In how many of the patches, in percent.")
        _narrow(self.percent)
        self._of_patches = Label(value="% of patches")
        # What nobody needs to set has no field.
        shown = [f for f, info in self._kind.model_fields.items() if f != "probability" and info.default is not None]
        self.fields = {field: _Field(name, field, part) for field in shown}
        often = panel.row(self.percent, self._of_patches)
        super().__init__(
            widgets=[
                panel.row(self.is_on, often),
                *self.sliders,
                *(field.native_row for field in self.fields.values()),
            ],
            labels=False,
        )
        self.margins = (0, 0, 0, 0)
        self.native.layout().setSpacing(2)
        self._often = often
        self.part = part
        self.is_on.changed.connect(self._changed)
        self.percent.changed.connect(self._changed)
        for field in self.fields.values():
            for widget in field.widgets:
                widget.changed.connect(self._changed)

    @property
    def part(self) -> Part:
        """Return the value."""
        probability = self.percent.value / 100 if self.is_on.value else 0.0
        return self._kind(probability=probability, **{name: field.value for name, field in self.fields.items()})

    @part.setter
    def part(self, part: Part) -> None:
        widgets = [self.is_on, self.percent, *(widget for field in self.fields.values() for widget in field.widgets)]
        for widget in widgets:
            widget.changed.block()
        try:
            self.is_on.value = part.probability > 0
            if part.probability > 0:
                self.percent.value = max(1, round(100 * part.probability))
            for name, field in self.fields.items():
                field.value = getattr(part, name)
        finally:
            for widget in widgets:
                widget.changed.unblock()
        self._show()

    @property
    def shows_numbers(self) -> bool:
        """Return whether the numbers behind the sliders are seen."""
        return self._shows_numbers

    @shows_numbers.setter
    def shows_numbers(self, shows: bool) -> None:
        self._shows_numbers = shows
        self._show()

    def show_voxel_size(self, size: float, unit: str) -> None:
        """Take the size of the finest voxels."""
        for slider in self.sliders:
            slider.show_voxel_size(size, unit)

    def _on_slider(self, name: str, value: Any) -> None:
        field = self.fields[name]
        with ExitStack() as quiet:
            for widget in field.widgets:
                quiet.enter_context(widget.changed.blocked())
            field.value = value
        self._changed()

    def _changed(self) -> None:
        self._show()
        self._on_change()

    def _show(self) -> None:
        self._often.visible = self.is_on.value and self._shows_numbers
        kind = self.fields.get("kind")
        for name, field in self.fields.items():
            # Any rotation has no largest angle.
            is_idle = name == "degrees" and kind is not None and kind.value == "any"
            field.native_row.visible = self.is_on.value and self._shows_numbers and not is_idle
        for slider in self.sliders:
            name = slider.strength.field
            slider.show_value(self.fields[name].value)
            slider.visible = self.is_on.value and not (name == "degrees" and kind is not None and kind.value == "any")


class _Field:
    """Edits one parameter: a number, a range, a choice, axes."""

    def __init__(self, part_name: str, name: str, part: Part) -> None:
        info, value = type(part).model_fields[name], getattr(part, name)
        self._is_range = self._is_axes = False
        words: list[Widget] = []
        if isinstance(value, bool):
            self.widgets: list[Any] = [CheckBox(text=_CAPTIONS.get(name, name), value=value)]
        elif isinstance(value, str):
            self.widgets = [ComboBox(choices=list(get_args(info.annotation)), value=value)]
        elif isinstance(value, tuple) and name == "axes":
            self._is_axes = True
            self.widgets = [CheckBox(text=axis, value=axis in value) for axis in AXES]
        elif isinstance(value, tuple):
            self._is_range = True
            ends = zip(value, get_args(info.annotation), strict=True)
            self.widgets = [_number(end, _limits(get_args(kind)[1:])) for end, kind in ends]
            words = [Label(value="to")]
        else:
            self.widgets = [_number(value, _limits(info.metadata))]
        for widget in self.widgets:
            widget.tooltip = _explanation(type(part), name)
        caption = "" if isinstance(value, bool) else _CAPTIONS.get(name, name.replace("_", " "))
        shown = [self.widgets[0], *words, *self.widgets[1:]]
        if unit := _UNITS.get((part_name, name)):
            shown.append(Label(value=unit))
        if caption:
            shown.insert(0, Label(value=caption))
        self.native_row = panel.row(*shown)
        self.native_row.native.layout().setContentsMargins(22, 0, 0, 0)
        self.native_row.native.layout().addStretch()

    @property
    def value(self) -> Any:
        values = [widget.value for widget in self.widgets]
        if self._is_axes:
            return tuple(axis for axis, is_moved in zip(AXES, values, strict=True) if is_moved)
        # Typed the other way round it is a range all the same.
        return tuple(sorted(values)) if self._is_range else values[0]

    @value.setter
    def value(self, value: Any) -> None:
        values = [axis in value for axis in AXES] if self._is_axes else value if self._is_range else [value]
        for widget, each in zip(self.widgets, values, strict=True):
            widget.value = each


def _number(value: float, limits: tuple[float, float]) -> SpinBox | FloatSpinBox:
    low, high = limits
    if isinstance(value, int):
        widget: SpinBox | FloatSpinBox = SpinBox(value=value, min=int(low), max=int(high))
    else:
        widget = FloatSpinBox(value=value, min=low, max=high, step=0.05)
        widget.native.setDecimals(_DECIMALS)
    # While 12 is being typed, it is not 1.
    widget.native.setKeyboardTracking(False)
    _narrow(widget)
    return widget


def _limits(constraints: Iterable[Any]) -> tuple[float, float]:
    """Return what a number may be, from the constraints of pydantic."""
    low, high = -_LARGEST, _LARGEST
    for constraint in constraints:
        for each in getattr(constraint, "metadata", [constraint]):
            low = max(low, getattr(each, "ge", low), getattr(each, "gt", low - 1) + 10.0**-_DECIMALS)
            high = min(high, getattr(each, "le", high))
    return low, high


def _narrow(widget: Widget) -> None:
    widget.native.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
    widget.native.setStyleSheet("min-width: 44px; max-width: 64px;")
    widget.native.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)


def _first_sentence(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _explanation(kind: type, field: str) -> str:
    """Return what the docstring of a part says of one of its fields, in one line."""
    lines = inspect.cleandoc(kind.__doc__ or "").splitlines()
    at = lines.index(field) + 1
    told = itertools.takewhile(lambda line: line.startswith(" "), lines[at:])
    return " ".join(line.strip() for line in told).replace("`", "")

"""The choices for a training run, as widgets: what is asked at once, and what is folded away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, PushButton, SpinBox

from napari_unet3d.core.augment.choices import AugmentSpec
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.tasks.train.choosing import TrainChoices
from napari_unet3d.tasks.train.recipes import names_of_recipes
from napari_unet3d.tasks.train.spec import TrainSpec
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.bricks.exact import Exact
from napari_unet3d.widgets.panels.train.text import also_set

AUTOMATIC = "as the annotation suggests"
AS_AUGMENT = "as set in Augment"
_LARGEST = 260
NEW, MODEL = "a new network", "the chosen model"
_DEFAULTS = TrainSpec.model_fields


class TrainForm:
    """Edits the choices for a run.

    Parameters
    ----------
    changed
        Called when one of them changes.
    augment
        Returns what was set in the tab Augment, or None.

    Attributes
    ----------
    main, more
        What is seen at once, and what is folded away.
    choices
        What was chosen, read and set as one value; what the form has no widget for is kept, and said in words.
    also
        Where that is said; for the panel to place.
    save_job
        For the panel to answer.
    """

    def __init__(self, changed: Callable[[], None], augment: Callable[[], AugmentSpec | None] = lambda: None) -> None:
        self._augment = augment
        self._kept: TrainChoices
        self._network: dict[str, Exact]
        self._given: dict[str, Exact]
        self.start = ComboBox(
            choices=[NEW, MODEL], value=NEW, tooltip="Train a new network, or start from the model chosen in Segment."
        )
        self.preset = ComboBox(
            choices=lambda _: [AUTOMATIC, *names_of_recipes(), *([] if self._augment() is None else [AS_AUGMENT])],
            value=AUTOMATIC,
            tooltip="Choices for augmentation and learning. See the augmentation in the tab Augment.",
        )
        self.steps = SpinBox(
            value=_DEFAULTS["steps"].default,
            min=1,
            max=1_000_000,
            step=100,
            tooltip="Largest number of steps. Stop keeps what was learnt.",
        )
        self.blocks = _automatic_box(4, "Number of downsample blocks. More of them see farther but need a larger halo.")
        self.flat = _automatic_box(
            6, "Number of top levels that leave z alone, for painted slices, and for slices thicker than their pixels."
        )
        self.filters = SpinBox(value=8, min=1, max=64, tooltip="Channels after the first convolution.")
        self.patch = ComboBox(
            choices=self._sizes,
            nullable=True,
            tooltip="Size of the patch in voxels. Leave it empty for a size that suits the annotation.",
        )
        self.batch = SpinBox(value=1, min=1, max=64, tooltip="Patches per step.")
        self.rate = FloatSpinBox(
            value=0, min=0, max=1, step=0.001, tooltip="Highest learning rate. 0: as in the preset."
        )
        self.rate.native.setDecimals(5)
        self.every = SpinBox(
            value=_DEFAULTS["validate_every"].default,
            min=1,
            max=10_000,
            tooltip="Steps between scores, and between checkpoints.",
        )
        self.patience = SpinBox(
            value=0, min=0, max=1000, tooltip="Stop after this many scores without a better one. 0: never."
        )
        self.seed = SpinBox(value=0, min=0, max=2**31 - 1, tooltip="Random seed for weights, dropout and patches.")
        self.held_out = CheckBox(
            value=True,
            text="hold annotation out",
            tooltip="Keep part of the annotation for scores. Without it there is no score.",
        )
        self.normalized = CheckBox(
            value=False,
            text="batch normalization",
            tooltip="Scale the output of every convolution by its mean and spread over a patch. Takes more memory.",
        )
        self.save_job = PushButton(
            text="Save as a job...",
            tooltip="Save what Start would do to a file, to be computed later, here or on another machine.",
        )
        self.open_run = PushButton(
            text="Open a run...",
            tooltip="Show an earlier run of this image: go on where it stopped, or train on from its model.",
        )
        self.main = panel.column(
            panel.row(self.start, label="Start from"),
            panel.row(self.preset, label="Preset"),
            panel.row(self.steps, self.held_out, label="Steps"),
        )
        content = panel.column(
            panel.row(self.blocks, self.flat, label="blocks, flat levels"),
            panel.row(self.filters, self.normalized, label="filters"),
            panel.row(self.patch, self.batch, label="patch, batch"),
            panel.row(self.rate, self.every, label="rate, score every"),
            panel.row(self.patience, self.seed, label="patience, seed"),
            panel.row(self.open_run, self.save_job),
        )
        self.more = panel.Foldable("More", content)
        counts = (self.steps, self.blocks, self.flat, self.filters, self.batch, self.every, self.patience, self.seed)
        for box in (*counts, self.rate):
            box.native.setStyleSheet("min-width: 60px;")
        self._also_text = panel.text(tone="quiet", tooltip="Choices that were made elsewhere and have no field here.")
        self._forget = PushButton(text="Drop these", tooltip="Use only what the fields show.")
        self._forget.changed.connect(lambda: self.forget())
        self.also = panel.column(self._also_text, self._forget, labels=False)
        self.also.visible = False
        self._on_change = changed
        self._build_exact()
        for widget in (self.blocks, self.flat):
            widget.changed.connect(lambda: self.patch.reset_choices())
        widgets = [field.widget for field in (self._network | self._given).values()]
        for widget in (self.start, self.preset, *widgets):
            widget.changed.connect(lambda *_: self._changed())

    def take_augment(self) -> None:
        """Learn with what was set in the tab Augment."""
        with self.preset.changed.blocked():
            self.preset.reset_choices()
            self.preset.value = AS_AUGMENT
        self._changed()

    @property
    def is_new(self) -> bool:
        """Return whether it starts from nothing."""
        return bool(self.start.value == NEW)

    def update(self) -> None:
        """Derive what can be chosen."""
        for widget in (self.blocks, self.flat, self.filters, self.normalized):
            widget.enabled = self.is_new

    @property
    def choices(self) -> TrainChoices:
        """Return what was chosen; the rest suits the annotation."""
        given = {name: field.value for name, field in self._given.items()}
        for name in ("patch", "learning_rate"):
            if given[name] is None:
                del given[name]
        network = {name: field.value for name, field in self._network.items() if field.value is not None}
        preset = None if self.preset.value in (AUTOMATIC, AS_AUGMENT) else self.preset.value
        if self.preset.value == AS_AUGMENT and (augment := self._augment()) is not None:
            given["augment"] = augment
        return TrainChoices(preset, {**self._kept.network, **network}, {**self._kept.given, **given})

    @choices.setter
    def choices(self, choices: TrainChoices) -> None:
        shown = [*self._network, *self._given]
        self._kept = TrainChoices(
            network={name: value for name, value in choices.network.items() if name not in shown},
            given={name: value for name, value in choices.given.items() if name not in shown},
        )
        self.preset.value = AUTOMATIC if choices.preset is None else choices.preset
        for fields, values in ((self._network, choices.network), (self._given, choices.given)):
            for name, field in fields.items():
                if name in values:
                    field.value = values[name]
                else:
                    field.reset()
        self._changed()

    @property
    def also_set(self) -> str:
        """Return what is chosen and cannot be seen in the form, as a sentence, or nothing."""
        fields = self._network | self._given
        hidden = {name: field.value for name, field in fields.items() if not field.is_shown}
        return also_set(dict(self._kept.network) | dict(self._kept.given) | hidden)

    def forget(self) -> None:
        """Drop what is chosen and cannot be seen."""
        self._kept = TrainChoices()
        for field in (self._network | self._given).values():
            field.forget()
        self._changed()

    def _build_exact(self) -> None:
        self._kept = TrainChoices()
        self._network = {
            "blocks": Exact(self.blocks, show=_shown_count, read=_read_count),
            "flat_levels": Exact(self.flat, show=_shown_count, read=_read_count),
            "filters": Exact(self.filters),
            "batch_normalization": Exact(self.normalized),
        }
        self._given = {
            "steps": Exact(self.steps),
            "batch": Exact(self.batch),
            "seed": Exact(self.seed),
            "validate_every": Exact(self.every),
            "patience": Exact(self.patience, show=lambda n: n or 0, read=lambda n: n or None),
            "validation": Exact(
                self.held_out, show=lambda how: how != "none", read=lambda on: "auto" if on else "none"
            ),
            "patch": Exact(self.patch, show=self._shown_patch, read=lambda n: None if n is None else (n,) * 3),
            "learning_rate": Exact(self.rate, show=lambda rate: rate or 0, read=lambda rate: rate or None),
        }

    def _shown_patch(self, patch: tuple[int, int, int] | None) -> int | None:
        """Return the side of a patch if it is a cube that can be chosen."""
        return patch[0] if patch is not None and len(set(patch)) == 1 and patch[0] in self._sizes(None) else None

    def _changed(self) -> None:
        panel.say(self._also_text, self.also_set)
        self.also.visible = bool(self.also_set)
        self._on_change()

    def _sizes(self, _: Any) -> list[int]:
        blocks, flat = (max(0, box.value) for box in (self.blocks, self.flat))
        if self.blocks.value == _AUTOMATIC:
            blocks = 1
        geometry = NetworkSpec().changed(blocks=blocks, flat_levels=flat).geometry
        return geometry.valid_cubes(max(_LARGEST, max(geometry.smallest) + 64))


# What a box shows as "auto", which is below all counts.
_AUTOMATIC = -1


def _automatic_box(most: int, tooltip: str) -> SpinBox:
    """Return a box for a count that is automatic until somebody sets it."""
    box = SpinBox(value=_AUTOMATIC, min=_AUTOMATIC, max=most, tooltip=f"{tooltip} auto: what suits the annotation.")
    box.native.setSpecialValueText("auto")
    return box


def _shown_count(count: int | None) -> int:
    return _AUTOMATIC if count is None else count


def _read_count(shown: int) -> int | None:
    return None if shown == _AUTOMATIC else shown

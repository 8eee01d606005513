"""The choices for a training run, as widgets: what is asked at once, and what is folded away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, PushButton, SpinBox
from pydantic import ValidationError

from napari_unet3d.core.architecture import NetworkSpec
from napari_unet3d.core.geometry import smallest_size, valid_sizes
from napari_unet3d.core.targets import Targets
from napari_unet3d.errors import SpecError
from napari_unet3d.network.model import ModelCard
from napari_unet3d.tasks.recipes import FINE_TUNING_RATE, names_of_recipes, recipe
from napari_unet3d.tasks.train_spec import TrainSpec
from napari_unet3d.widgets import panel

AUTOMATIC = "as the annotation suggests"
_LARGEST = 260
NEW, MODEL = "a new network", "the chosen model"


class TrainForm:
    """Edits the choices for a run.

    Parameters
    ----------
    changed
        Called when one of them changes.

    Attributes
    ----------
    main, more
        What is seen at once, and what is folded away.
    save_job
        For the panel to answer.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.start = ComboBox(
            choices=[NEW, MODEL], value=NEW, tooltip="Train from nothing, or go on with the model chosen in Segment."
        )
        self.preset = ComboBox(
            choices=[AUTOMATIC, *names_of_recipes()],
            value=AUTOMATIC,
            tooltip="What is done to patches, and how it is learnt; look at it in Augment.",
        )
        self.steps = SpinBox(value=500, min=1, max=1_000_000, step=100, tooltip="At most; Stop keeps what was learnt.")
        self.blocks = SpinBox(
            value=1, min=0, max=4, tooltip="Downsample blocks: more see farther, and cost a larger halo."
        )
        self.filters = SpinBox(value=8, min=1, max=64, tooltip="Channels after the first convolution.")
        self.patch = ComboBox(
            choices=self._sizes,
            nullable=True,
            tooltip="Cube that goes into the network; empty: what suits the annotation.",
        )
        self.batch = SpinBox(value=1, min=1, max=64, tooltip="Patches per step.")
        self.rate = FloatSpinBox(value=0, min=0, max=1, step=0.001, tooltip="Highest learning rate; 0: the preset's.")
        self.rate.native.setDecimals(5)
        self.every = SpinBox(value=25, min=1, max=10_000, tooltip="Steps between scores, and between checkpoints.")
        self.patience = SpinBox(value=0, min=0, max=1000, tooltip="Scores without a better one that end it; 0: never.")
        self.seed = SpinBox(value=0, min=0, max=2**31 - 1, tooltip="Random seed for weights, dropout and patches.")
        self.held_out = CheckBox(value=True, text="hold annotation out", tooltip="Without it no score is known.")
        self.normalized = CheckBox(
            value=False,
            text="batch normalization",
            tooltip="Scale what every convolution gives by its mean and spread over a patch; takes more memory.",
        )
        self.save_job = PushButton(
            text="Save as a job...",
            tooltip="Write all this to a file that `napari-unet3d run` does, here or elsewhere.",
        )
        self.main = panel.column(
            panel.row(self.start, label="Start from"),
            panel.row(self.preset, label="Preset"),
            panel.row(self.steps, self.held_out, label="Steps"),
        )
        content = panel.column(
            panel.row(self.blocks, self.filters, label="blocks, filters"),
            panel.row(self.patch, self.batch, label="patch, batch"),
            panel.row(self.rate, self.every, label="rate, score every"),
            panel.row(self.patience, self.seed, label="patience, seed"),
            panel.row(self.normalized),
            panel.row(self.save_job),
        )
        self.more = panel.Foldable("More", content)
        for box in (self.steps, self.blocks, self.filters, self.batch, self.rate, self.every, self.patience, self.seed):
            box.native.setStyleSheet("min-width: 60px;")
        self.blocks.changed.connect(lambda: self.patch.reset_choices())
        for widget in self._widgets():
            widget.changed.connect(lambda *_: changed())

    @property
    def is_new(self) -> bool:
        """Return whether it starts from nothing."""
        return bool(self.start.value == NEW)

    def update(self) -> None:
        """Derive what can be chosen."""
        for widget in (self.blocks, self.filters, self.normalized):
            widget.enabled = self.is_new

    def spec(
        self,
        class_names: tuple[str, ...],
        targets: Sequence[Targets],
        voxel_size: Sequence[float],
        channels: int,
        card: ModelCard | None,
        device: str,
    ) -> TrainSpec:
        """Return the choices.

        Parameters
        ----------
        class_names, targets, voxel_size, channels
            Of what is learnt from.
        card
            Of the model to start from; None for a new network.
        device
            Where it runs.

        Raises
        ------
        SpecError
            If they contradict each other.
        """
        choices: dict[str, Any] = {
            "blocks": self.blocks.value,
            "filters": self.filters.value,
            "batch_normalization": self.normalized.value,
        }
        if card is not None:
            choices = card.network.model_dump()
        try:
            network = NetworkSpec(**(choices | {"classes": len(class_names), "channels": channels}))
            preset = None if self.preset.value == AUTOMATIC else self.preset.value
            made = recipe(preset, network, targets, voxel_size)
            if card is not None:
                made |= {"normalization": card.normalization, "learning_rate": FINE_TUNING_RATE}
            if self.patch.value is not None:
                made["patch"] = (self.patch.value,) * 3
            if self.rate.value > 0:
                made["learning_rate"] = self.rate.value
            return TrainSpec(
                network=network,
                class_names=class_names,
                steps=self.steps.value,
                batch=self.batch.value,
                seed=self.seed.value,
                validate_every=self.every.value,
                patience=self.patience.value or None,
                validation="auto" if self.held_out.value else "none",
                device=device,
                **made,
            )
        except ValidationError as error:
            raise SpecError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error

    def _widgets(self) -> tuple[Any, ...]:
        return (
            self.start,
            self.preset,
            self.steps,
            self.held_out,
            self.blocks,
            self.filters,
            self.patch,
            self.batch,
            self.rate,
            self.every,
            self.patience,
            self.seed,
            self.normalized,
        )

    def _sizes(self, _: Any) -> list[int]:
        blocks = self.blocks.value
        return valid_sizes(max(_LARGEST, smallest_size(blocks) + 64), blocks=blocks)

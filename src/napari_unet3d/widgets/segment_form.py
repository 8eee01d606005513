"""What Segment asks: region, output, clean-up, memory, device; one value, a `PredictSpec`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, Container, FloatSpinBox, LineEdit, PushButton, SpinBox

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.postprocess import Cleanup
from napari_unet3d.errors import OutputError
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.widgets import panel
from napari_unet3d.widgets.box_drawing import BoxDrawing
from napari_unet3d.widgets.session import Session
from napari_unet3d.widgets.view import box_in_view

ALL, VIEW, BOX = "all", "in view", "box"
_LABELS, _PROBABILITY = "labels", "probability of "


class SegmentForm(Container):
    """Edits the choices for a run.

    Parameters
    ----------
    session
        What the panels of this window share.
    on_change
        Called when one of them was changed.

    Attributes
    ----------
    spec
        The choices, read and set as one value.
    """

    def __init__(self, session: Session, on_change: Callable[[], None]) -> None:
        self._session = session
        self._on_change = on_change
        self.region_kind = ComboBox(
            choices=[ALL, VIEW, BOX],
            value=ALL,
            label="Region",
            tooltip="The whole volume, what the window shows of it, or a box. A region equals that part of the whole.",
        )
        self.region_text = LineEdit(
            tooltip="The box in voxels, z0:z1,y0:y1,x0:x1. An empty start or stop is the end of the volume.",
        )
        self.draw = PushButton(text="Draw", tooltip="Draw a rectangle in the viewer; it becomes y and x of the box.")
        self._box_row = panel.row(self.region_text, self.draw, label="")
        self.output = ComboBox(
            choices=["labels"], label="Output", tooltip="The class of every voxel, or the probability of one class."
        )
        self._build_cleanup()
        self._build_more()
        self._drawing = BoxDrawing(session, self._on_drawn)
        super().__init__(widgets=[self.region_kind, self._box_row, self.output], labels=True)
        self.margins = (0, 0, 0, 0)
        for foldable in (self._cleanup_part, self._more_part):
            panel.add(self, foldable.native)
        cleanup = [self.clean_up, self.high, self.low, self.min_voxels, self.instances]
        more = [self.memory, self.device, self.nonfinite, self.path]
        for widget in (self.region_kind, self.region_text, self.output, *cleanup, *more):
            widget.changed.connect(self._changed)
        self.level.changed.connect(lambda level: setattr(session, "level", level or 0))
        self.draw.changed.connect(lambda: self._drawing.begin())
        self._show()

    def _build_cleanup(self) -> None:
        defaults = Cleanup()
        self.clean_up = CheckBox(
            text="Clean up", value=False, tooltip="Keep what is certain somewhere and large enough; drop the rest."
        )
        self.high = FloatSpinBox(
            value=defaults.high,
            min=0,
            max=1,
            step=0.01,
            label="certain above",
            tooltip="Keep an object only if some voxel is above this probability.",
        )
        self.low = FloatSpinBox(
            value=defaults.low,
            min=0,
            max=1,
            step=0.05,
            label="grown above",
            tooltip="Grow it to all connected voxels above this one.",
        )
        self.min_voxels = SpinBox(
            value=defaults.min_voxels,
            min=0,
            max=2**31 - 1,
            label="at least, voxels",
            tooltip="Smaller ones are dropped.",
        )
        self.instances = CheckBox(
            text="Number the objects", value=False, tooltip="Each connected object gets a number and a colour."
        )
        content = panel.column(self.clean_up, self.high, self.low, self.min_voxels, self.instances)
        self._cleanup_part = panel.Foldable("Clean-up", content)

    def _build_more(self) -> None:
        self.memory = FloatSpinBox(
            value=0,
            min=0,
            max=4096,
            step=0.5,
            label="memory, GiB",
            tooltip="What a run may use. 0: most of what is free.",
        )
        self.device = ComboBox(choices=["auto"], label="device", tooltip="Where the network runs.")
        self.nonfinite = ComboBox(
            choices=["refuse", "background"], label="NaN, infinity", tooltip="Stop there, or let them be background."
        )
        self.level = ComboBox(
            choices=[0], label="level", tooltip="Of an image with several resolutions; 0 is the finest."
        )
        self.path = LineEdit(label="write to", tooltip="A file, .zarr or .tif, for results larger than the memory.")
        self.save_job = PushButton(
            text="Save as a job...",
            tooltip="Write all this to a file that `napari-unet3d run` does, here or elsewhere.",
        )
        content = panel.column(self.level, self.device, self.memory, self.nonfinite, self.path, self.save_job)
        self._more_part = panel.Foldable("More", content)

    @property
    def spec(self) -> PredictSpec:
        """Return the choices for the run.

        Raises
        ------
        Unet3dError
            If they contradict each other or the image.
        """
        memory = int(self.memory.value * 2**30) or self._session.preferences.memory_bytes
        return PredictSpec(
            output="labels" if self.wants_labels else "probabilities",
            region=self._region(),
            memory_bytes=memory,
            device=self.device.value or "auto",
            cleanup=self._cleanup(),
            nonfinite=self.nonfinite.value,
        )

    @spec.setter
    def spec(self, spec: PredictSpec) -> None:
        if spec.output == "labels":
            self.output.value = "labels"
        elif self.output.value == "labels":
            self.output.value = self.output.choices[-1]
        self.region_kind.value = ALL if spec.region is None else BOX
        self.region_text.value = "" if spec.region is None else str(spec.region)
        self.memory.value = (spec.memory_bytes or 0) / 2**30
        if spec.device in self.device.choices:
            self.device.value = spec.device
        self.nonfinite.value = spec.nonfinite
        self._set_cleanup(spec.cleanup)

    def _set_cleanup(self, cleanup: Cleanup | None) -> None:
        plain = cleanup is not None and (cleanup.high, cleanup.low, cleanup.min_voxels) == (0.5, 0.5, 0)
        self.clean_up.value = cleanup is not None and not plain
        self.instances.value = cleanup is not None and cleanup.instances
        if cleanup is not None and not plain:
            self.high.value, self.low.value, self.min_voxels.value = cleanup.high, cleanup.low, cleanup.min_voxels

    def _cleanup(self) -> Cleanup | None:
        if not self.wants_labels:
            return None
        if self.clean_up.value:
            # Up and down keys may cross: then nothing would fit.
            low = min(self.low.value, self.high.value)
            return Cleanup(
                high=self.high.value, low=low, min_voxels=self.min_voxels.value, instances=self.instances.value
            )
        # The components of what is more probably an object than not, none of them removed.
        return Cleanup(high=0.5, low=0.5, min_voxels=0, instances=True) if self.instances.value else None

    def _region(self) -> Box | None:
        if self.region_kind.value == ALL:
            return None
        volume = self._session.volume()
        if self.region_kind.value == BOX:
            return Box.parse(self.region_text.value.strip() or ":,:,:", volume.shape)
        return box_in_view(self._session.viewer, volume, blocks=self._session.network.blocks)

    @property
    def portable_spec(self) -> PredictSpec:
        """Return the choices for a run on any machine: the memory is not that of this one, unless it was typed.

        Raises
        ------
        Unet3dError
            If they contradict each other or the image.
        """
        return self.spec.model_copy(update={"memory_bytes": int(self.memory.value * 2**30) or None})

    @property
    def wants_labels(self) -> bool:
        """Return whether labels are asked for, and not probabilities."""
        return bool(self.output.value == _LABELS)

    @property
    def shown_class(self) -> int:
        """Return the class whose probability is asked for; 1 with labels."""
        names = self._session.card.class_names if self._session.card is not None else ()
        name = self.output.value.removeprefix(_PROBABILITY)
        return names.index(name) if name in names else 1

    @property
    def result_path(self) -> Path | None:
        """Return the file that the result is written to, or None for the memory.

        Raises
        ------
        OutputError
            If there is no such home folder.
        """
        written = self.path.value.strip()
        try:
            return Path(written).expanduser().absolute() if written else None
        except RuntimeError as error:
            raise OutputError(f"{written!r} begins with the home folder of somebody who is not here.") from error

    @property
    def is_view(self) -> bool:
        """Return whether the region is what is in view."""
        return bool(self.region_kind.value == VIEW)

    def update_levels(self) -> None:
        """Offer the levels of the chosen image."""
        levels = list(range(self._session.n_levels))
        if list(self.level.choices) != levels:
            self.level.choices = levels
        self.level.value = self._session.level
        self.level.visible = len(levels) > 1

    def update_classes(self) -> None:
        """Offer the classes of the chosen model."""
        card = self._session.card
        names = () if card is None else card.class_names
        _offer(self.output, [_LABELS, *(f"{_PROBABILITY}{name}" for name in names)])

    def update_devices(self) -> None:
        """Offer the devices that are known."""
        _offer(self.device, ["auto", *(device.name for device in self._session.devices or [])])

    def _changed(self, *_: Any) -> None:
        self._show()
        self._on_change()

    def _show(self) -> None:
        """Derive what can be seen and changed."""
        self._box_row.visible = self.region_kind.value == BOX
        for widget in (self.clean_up, self.instances):
            widget.enabled = self.wants_labels
        for widget in (self.high, self.low, self.min_voxels):
            widget.enabled = self.wants_labels and self.clean_up.value

    def _on_drawn(self, text: str) -> None:
        self.region_text.value = text
        self.region_kind.value = BOX


def _offer(choice: ComboBox, offered: list[str]) -> None:
    """Offer other choices; what was chosen stays if it is among them, or else it is the first."""
    kept = choice.value
    choice.choices = offered
    choice.value = kept if kept in offered else offered[0]

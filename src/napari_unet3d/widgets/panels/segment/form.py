"""What Segment asks: region, output, clean-up, memory, device; one value, a `PredictSpec`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from magicgui.widgets import CheckBox, ComboBox, Container, FloatSlider, FloatSpinBox, PushButton, SpinBox
from qtpy.QtWidgets import QAbstractSpinBox

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.objects.clean_up import Cleanup
from napari_unet3d.errors import VolumeError, shown
from napari_unet3d.network.machine.devices import Precision
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.bricks.exact import Exact
from napari_unet3d.widgets.bricks.offer import Offer
from napari_unet3d.widgets.host.plain import disable_markup
from napari_unet3d.widgets.layers.view import box_in_view
from napari_unet3d.widgets.panels.segment.box_drawing import BoxDrawing
from napari_unet3d.widgets.panels.segment.box_rows import BoxRows
from napari_unet3d.widgets.panels.segment.result_place import ResultPlace
from napari_unet3d.widgets.runs.session import Session
from napari_unet3d.words import times

ALL, VIEW, BOX = "all", "in view", "box"
# How the shares of the classes are called in the form.
_PRIORS: dict[str, Literal["volume", "training"]] = {"as in this volume": "volume", "as in training": "training"}
# How the precisions are called in the form.
_PRECISIONS: dict[str, Precision] = {"exact": "float32", "fast": "bfloat16"}
# How far the slider goes: the odds of a class are doubled, or halved, so many times.
_MOST_EMPHASIS = 6
_LABELS, _PROBABILITIES, _PROBABILITY = "labels", "probabilities", "probability of "
# The components of what is more probably an object than not, none of them removed.
_PLAIN: dict[str, Any] = {"high": 0.5, "low": 0.5, "min_voxels": 0}


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
        The choices, read and set as one value; what the form has no widget for is kept, and said in words.
    """

    def __init__(self, session: Session, on_change: Callable[[], None]) -> None:
        self._session = session
        self._on_change = on_change
        self.region_kind = ComboBox(
            choices=[ALL, VIEW, BOX],
            value=ALL,
            tooltip="Segment the whole volume, the part in view, or a box. A region equals that part of the whole.",
        )
        self.level = Offer(
            [0],
            label="Detail",
            tooltip="Which level of the pyramid is segmented: coarser ones are faster.",
            visible=False,
        )
        self._level_texts: dict[int, str] = {}
        self.draw = PushButton(text="Draw", tooltip="Draw a rectangle in the viewer; it becomes y and x of the box.")
        self.box = BoxRows(self._on_rows)
        self.emphasized = Offer([], label="", tooltip="The class to find less or more of.")
        self.emphasis = FloatSlider(
            value=0,
            min=-_MOST_EMPHASIS,
            max=_MOST_EMPHASIS,
            step=0.1,
            label="",
            tooltip="Find less of the class (left) or more of it (right). Each 1 doubles its odds. 0 is as found.",
        )
        # The number beside a slider does not take over what the slider says.
        for box in self.emphasis.native.findChildren(QAbstractSpinBox):
            box.setToolTip(self.emphasis.tooltip)
        self._emphasis_row = panel.row(self.emphasized, self.emphasis, label="Find more")
        self.output = Offer(
            [_LABELS, _PROBABILITIES],
            label="Output",
            tooltip="Write the class of every voxel, or the probability of one class.",
        )
        self._build_cleanup()
        self._build_more()
        self._build_exact()
        self.place = ResultPlace(self._changed, self._result_name)
        self._drawing = BoxDrawing(session, self._on_drawn)
        self._region_row = panel.row(self.region_kind, self.draw, label="Region")
        super().__init__(
            widgets=[self.level, self._region_row, self.box, self.output, self.place, self._emphasis_row], labels=True
        )
        self.margins = (0, 0, 0, 0)
        for foldable in (self._cleanup_part, self._more_part):
            panel.add(self, foldable.native)
        panel.add(self, self._also.native)
        cleanup = [self.clean_up, self.high, self.low, self.min_voxels, self.instances, self.connectivity]
        more = [self.prior, self.memory, self.device, self.precision, self.on_cluster, self.nonfinite]
        fields: tuple[Any, ...] = (self.region_kind, self.output, *cleanup, *more)
        for widget in fields:
            widget.changed.connect(self._changed)
        self.emphasis.changed.connect(lambda times: self._emphasize(times))
        self.emphasized.changed.connect(lambda _: self._show_emphasis())
        self.level.changed.connect(lambda level: setattr(session, "level", level or 0))
        self.draw.changed.connect(lambda: self._drawing.begin())
        self._show()

    def _build_cleanup(self) -> None:
        defaults = Cleanup()
        self.clean_up = CheckBox(
            text="Clean up",
            value=False,
            tooltip="Keep objects that are certain somewhere and large enough; drop the rest.",
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
            tooltip="Drop objects with fewer voxels.",
        )
        self.instances = CheckBox(
            text="Number the objects", value=False, tooltip="Give each connected object a number and a colour."
        )
        self.connectivity = ComboBox(
            choices=[6, 18, 26],
            value=defaults.connectivity,
            label="neighbours",
            tooltip="Voxels are connected over their faces (6), edges too (18), or corners too (26).",
        )
        content = panel.column(self.clean_up, self.high, self.low, self.min_voxels, self.instances, self.connectivity)
        self._cleanup_part = panel.Foldable("Clean-up", content)

    def _build_more(self) -> None:
        self.prior = ComboBox(
            choices=list(_PRIORS),
            label="class shares",
            tooltip="How frequent the classes are: a sample of this volume decides, or what the model has learnt from.",
        )
        self.memory = FloatSpinBox(
            value=0,
            min=0,
            max=4096,
            step=0.5,
            label="memory, GiB",
            tooltip="Memory that a run may use, in GiB. 0: most of what is free.",
        )
        self.device = Offer(["auto"], label="device", tooltip="The device that computes the network.")
        address = self._session.preferences.cluster
        self.on_cluster = CheckBox(
            text="on the cluster",
            value=False,
            visible=address is not None,
            tooltip=disable_markup(f"Let the workers of {shown(address or '')} segment it, from file to file."),
        )
        self.precision = ComboBox(
            choices=list(_PRECISIONS),
            label="precision",
            tooltip="exact: computed in float32. fast: in bfloat16, in about half the time; up to 0.3 % of the labels "
            "differ from exact ones, at edges where two classes are nearly as probable.",
        )
        self.nonfinite = ComboBox(
            choices=["refuse", "background"],
            label="NaN, infinity",
            tooltip="Refuse voxels that are NaN or infinite, or read them as background.",
        )
        self.save_job = PushButton(
            text="Save as a job...",
            tooltip="Save these choices to a file that can be computed later, here or on another machine.",
        )
        content = panel.column(
            self.prior, self.device, self.precision, self.on_cluster, self.memory, self.nonfinite, self.save_job
        )
        self._more_part = panel.Foldable("More", content)

    def _build_exact(self) -> None:
        self._tile_shape: tuple[int, int, int] | None = None
        self._first_result: float | None = None
        self._shares: tuple[float, ...] | None = None
        self._skip_below: float | None = None
        self._mask: str | None = None
        # One number for each class of the model, whose names these are.
        self._emphasis: tuple[float, ...] = ()
        self._named: tuple[str, ...] = ()
        self._memory = Exact(self.memory, show=lambda n: (n or 0) / 2**30, read=lambda gib: int(gib * 2**30) or None)
        self._exact = {"high": Exact(self.high), "low": Exact(self.low), "min_voxels": Exact(self.min_voxels)}
        self._also_text = panel.text(tone="quiet", tooltip="Choices that were made elsewhere and have no field here.")
        self._forget = PushButton(text="Drop these", tooltip="Use only what the fields show.")
        self._forget.changed.connect(lambda: self.forget())
        self._also = panel.column(self._also_text, self._forget, labels=False)

    @property
    def spec(self) -> PredictSpec:
        """Return the choices for the run.

        Raises
        ------
        Unet3dError
            If they contradict each other or the image.
        """
        return PredictSpec(
            output="labels" if self.wants_labels else "probabilities",
            region=self._region(),
            memory_bytes=self._memory.value,
            device=self.device.value or "auto",
            precision=_PRECISIONS[self.precision.value],
            cleanup=self._cleanup(),
            nonfinite=self.nonfinite.value,
            tile_shape=self._tile_shape,
            prior=self._shares or _PRIORS[self.prior.value],
            emphasis=self._emphasis,
            first_result=self._first_result,
            skip_below=self._skip_below,
            mask=self._mask,
        )

    @spec.setter
    def spec(self, spec: PredictSpec) -> None:
        if self.wants_labels != (spec.output == "labels"):
            self.output.value = self.output.choices[0 if spec.output == "labels" else -1]
        if spec.region is not None:
            self.box.value = spec.region
        self.region_kind.value = ALL if spec.region is None else BOX
        self._memory.value = spec.memory_bytes
        self.device.offer(list(dict.fromkeys([*map(str, self.device.choices), spec.device])))
        self.device.value = spec.device
        self.precision.value = next(name for name, kind in _PRECISIONS.items() if kind == spec.precision)
        self.nonfinite.value = spec.nonfinite
        self._set_cleanup(spec.cleanup)
        self._tile_shape, self._first_result = spec.tile_shape, spec.first_result
        self._skip_below, self._mask = spec.skip_below, spec.mask
        self._shares = None if isinstance(spec.prior, str) else spec.prior
        if isinstance(spec.prior, str):
            self.prior.value = next(name for name, prior in _PRIORS.items() if prior == spec.prior)
        self._emphasis = spec.emphasis
        self._changed()

    def _set_cleanup(self, cleanup: Cleanup | None) -> None:
        self.clean_up.value = cleanup is not None and not _is_plain(cleanup)
        self.instances.value = cleanup is not None and cleanup.instances
        if cleanup is None:
            return
        self.connectivity.value = cleanup.connectivity
        if self.clean_up.value:
            for name, field in self._exact.items():
                field.value = getattr(cleanup, name)

    def _cleanup(self) -> Cleanup | None:
        if not self.wants_labels:
            return None
        if self.clean_up.value:
            high, low, min_voxels = (field.value for field in self._exact.values())
            # Up and down keys may cross: then nothing would fit.
            thresholds = {"high": high, "low": min(low, high), "min_voxels": min_voxels}
        elif self.instances.value:
            thresholds = _PLAIN
        else:
            return None
        return Cleanup(**thresholds, connectivity=self.connectivity.value, instances=self.instances.value)

    def _region(self) -> Box | None:
        if self.region_kind.value == ALL:
            return None
        if self.region_kind.value == BOX:
            return self.box.value
        volume = self._session.volume()
        return box_in_view(self._session.viewer, volume, alignment=self._session.network.geometry.alignment)

    @property
    def also_set(self) -> str:
        """Return what is chosen and cannot be seen in the form, as a sentence, or nothing."""
        told = [] if self._tile_shape is None else [f"tiles of {times(self._tile_shape)} voxels"]
        if self._first_result is not None:
            told.append(f"a first tile after {self._first_result:g} s")
        if self._skip_below is not None:
            told.append(f"nothing below {self._skip_below:g}")
        if self._mask is not None:
            told.append(f"the mask {shown(self._mask)}")
        if self._shares is not None:
            told.append(f"class shares {', '.join(f'{share:g}' for share in self._shares)}")
        if self._emphasis and len(self._emphasis) != len(self._class_names):
            told.append(f"less or more of {len(self._emphasis)} classes")
        if not self._memory.is_shown:
            told.append(f"memory {self._memory.value:,} bytes")
        if self.wants_labels and self.clean_up.value:
            told += [f"{field.widget.label} {field.value}" for field in self._exact.values() if not field.is_shown]
        return f"Also set: {', '.join(told)}." if told else ""

    def forget(self) -> None:
        """Drop what is chosen and cannot be seen."""
        self._tile_shape = self._first_result = self._shares = self._skip_below = self._mask = None
        if len(self._emphasis) != len(self._class_names):
            self._emphasis = ()
        for field in (self._memory, *self._exact.values()):
            field.forget()
        self._changed()

    @property
    def cluster(self) -> str | None:
        """Return the cluster that shall segment it; None where it is done here."""
        return self._session.preferences.cluster if self.on_cluster.value else None

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

    def choose_output(self, only_class: int | None) -> None:
        """Ask for labels, or for the probability of a class of the model."""
        name = None if only_class is None else self._class_names[only_class]
        wanted = _LABELS if name is None else f"{_PROBABILITY}{name}"
        if wanted in self.output.choices:
            self.output.value = wanted

    def _result_name(self) -> str:
        image = self._session.image
        return "result" if image is None else f"{image.name}, segmented"

    @property
    def is_view(self) -> bool:
        """Return whether the region is what is in view."""
        return bool(self.region_kind.value == VIEW)

    def update_volume(self) -> None:
        """Offer the voxels and the levels of the chosen image."""
        with suppress(VolumeError):  # then there is none
            self.box.fit(self._session.volume().shape)
        levels = list(range(self._session.n_levels))
        texts = dict(enumerate(self._session.level_lines))
        if texts != self._level_texts:
            self._level_texts = texts
            self.level.offer(levels, texts=texts)
        self.level.value = self._session.level
        self.level.visible = len(levels) > 1

    def update_classes(self) -> None:
        """Offer the classes of the chosen model."""
        card = self._session.card
        names = [_PROBABILITIES] if card is None else [f"{_PROBABILITY}{name}" for name in card.class_names]
        if self._class_names != self._named:
            self._named = self._class_names
            self.emphasized.offer(self._named[1:])
            self.emphasized.visible = len(self._named) > 2
            if len(self._emphasis) != len(self._named):
                self._emphasis = ()
        # Probabilities stay probabilities, of the last class where the class is not there.
        self.output.offer([_LABELS, *names], otherwise=_LABELS if self.wants_labels else names[-1])

    @property
    def _class_names(self) -> tuple[str, ...]:
        card = self._session.card
        return () if card is None else card.class_names

    def _emphasize(self, times: float) -> None:
        """Keep what the slider says of its class."""
        names = self._class_names
        if self.emphasized.value not in names:
            return
        kept = dict(zip(names, self._emphasis or (0.0,) * len(names), strict=True))
        kept[self.emphasized.value] = float(times)
        self._emphasis = tuple(kept.values()) if any(kept.values()) else ()
        self._changed()

    def _show_emphasis(self) -> None:
        """Let the slider show what is kept of its class."""
        names = self._class_names
        kept = dict(zip(names, self._emphasis, strict=False)).get(self.emphasized.value, 0.0)
        with self.emphasis.changed.blocked():
            self.emphasis.value = min(max(kept, -_MOST_EMPHASIS), _MOST_EMPHASIS)

    def update_devices(self) -> None:
        """Offer the devices that are known."""
        offered = ["auto", *(device.name for device in self._session.devices or [])]
        # A device that was chosen stays: whether it is there is said by the panel.
        self.device.offer(list(dict.fromkeys([*offered, self.device.value or "auto"])), otherwise="auto")
        self._show()

    def _changed(self, *_: Any) -> None:
        self._show()
        self._on_change()

    def _show(self) -> None:
        """Derive what can be seen and changed."""
        device = self._session.device(self.device.value or "auto")
        # Where nothing is gained there is no choice, unless it was made elsewhere.
        self.precision.visible = self.precision.value == "fast" or (device is not None and device.has_bfloat16)
        self._emphasis_row.visible = len(self._class_names) > 1
        self._show_emphasis()
        is_box = self.region_kind.value == BOX
        self.box.visible = is_box
        self._drawing.show(self.box.value if is_box else None)
        for box in (self.clean_up, self.instances):
            box.enabled = self.wants_labels
        for number in (self.high, self.low, self.min_voxels):
            number.enabled = self.wants_labels and self.clean_up.value
        self.connectivity.enabled = self.wants_labels and (self.clean_up.value or self.instances.value)
        panel.say(self._also_text, self.also_set)
        self._also.visible = bool(self.also_set)

    def _on_rows(self) -> None:
        """Show the box that was typed."""
        self._drawing.show(self.box.value, is_typed=True)
        self._on_change()

    def follow_view(self) -> None:
        """Show the box in the slice that is shown now."""
        self._drawing.follow()

    def _on_drawn(self, box: Box) -> None:
        self.box.value = box
        self.region_kind.value = BOX
        self._on_change()


def _is_plain(cleanup: Cleanup) -> bool:
    """Return whether objects are numbered and nothing else is done to them."""
    return cleanup.instances and all(getattr(cleanup, name) == value for name, value in _PLAIN.items())

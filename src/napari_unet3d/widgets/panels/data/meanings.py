"""The values of a labels layer: how many voxels each has, and what it means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from magicgui.widgets import ComboBox, Container, Label, PushButton

from napari_unet3d.core.annotation.meanings import MAX_VALUES, Meanings
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.host.keys import NEXT_CLASS
from napari_unet3d.widgets.layers.colours import class_colour
from napari_unet3d.widgets.runs.annotating import take_brush
from napari_unet3d.widgets.runs.annotation import LabelsKnown
from napari_unet3d.widgets.runs.session import Session

_IGNORED = "ignore"


class LabelMeanings(Container):
    """Edits what the values of the chosen labels layer mean; the voxels are never changed.

    Parameters
    ----------
    session
        What the panels of this window share.
    class_names
        Returns the names of the classes.

    Attributes
    ----------
    value
        The meanings, read and set as one value.
    """

    def __init__(self, session: Session, class_names: Callable[[], tuple[str, ...]]) -> None:
        self._session = session
        self._class_names = class_names
        self._head = panel.text()
        self._warning = panel.text(tone="warning")
        self._question = panel.text(tone="warning")
        self._table: Container = Container(layout="vertical", labels=False)
        self._table.margins = (0, 0, 0, 0)
        self._table.native.layout().setSpacing(2)
        self.background = PushButton(
            text="0 is background", tooltip="For a complete mask: every voxel was looked at, and 0 is background."
        )
        self.unlabelled = PushButton(
            text="0 is unlabelled", tooltip="For sparse annotation: the network does not learn from voxels that are 0."
        )
        self.above_zero = PushButton(
            text="Everything above 0 is the object", tooltip="For a mask with stray values, and for numbered objects."
        )
        self.sparse = PushButton(
            text="0 is unlabelled, 1 is background",
            tooltip="For sparse annotation with its own background: only painted voxels count.",
        )
        self._answers = panel.row(self.background, self.unlabelled)
        super().__init__(
            widgets=[
                self._head,
                self._table,
                self._question,
                self._answers,
                self._warning,
                self.above_zero,
                self.sparse,
            ],
            layout="vertical",
            labels=False,
        )
        self.margins = (0, 0, 0, 0)
        self.background.changed.connect(lambda: self._say_zero(0))
        self.unlabelled.changed.connect(lambda: self._say_zero(None))
        self.above_zero.changed.connect(lambda: self._say(Meanings.everything_above_zero(self._class_names())))
        self.sparse.changed.connect(lambda: self._say(Meanings.painted(self._class_names())))
        panel.listen(self, session.annotation.changed, self._on_known)
        self.show_known()

    @property
    def value(self) -> Meanings | None:
        """Return the meanings, or None without a labels layer."""
        return self._known.meanings

    @value.setter
    def value(self, meanings: Meanings) -> None:
        self._say(meanings)

    @property
    def _known(self) -> LabelsKnown:
        return self._session.annotation.of(self._session.labels)

    def _on_known(self, layer: Any) -> None:
        if layer is self._session.labels:
            self.show_known()

    def _say(self, meanings: Meanings) -> None:
        if self._session.labels is not None:
            self._session.annotation.say(self._session.labels, meanings)

    def _say_zero(self, index: int | None) -> None:
        if (meanings := self.value) is not None:
            self._say(meanings.with_class(0, index))

    def show_known(self) -> None:
        """Derive everything that is seen from what is known of the layer."""
        known, has_layer = self._known, self._session.labels is not None
        meanings, counts = known.meanings, known.counts
        self._table.clear()
        # What was painted here means what it was painted as.
        is_ours = meanings is not None and known.is_said and meanings == Meanings.painted(meanings.class_names)
        self.above_zero.visible = self.sparse.visible = has_layer and bool(counts) and not is_ours
        panel.say(self._question, known.question)
        self._answers.visible = bool(known.question)
        for button in (self.background, self.unlabelled):
            panel.highlight(button, bool(known.question))
        if not has_layer or meanings is None:
            is_counting = has_layer and not known.problem
            panel.say(self._head, "Counting the values .." if is_counting else "")
            panel.say(self._warning, known.problem)
            return
        if len(counts) > MAX_VALUES:
            head = f"{len(counts):,} values: numbered objects, or not labels at all."
        else:
            head = "value, voxels, what it means"
            # Classes without a voxel too: it is the legend of what can be painted.
            for value in sorted({*counts, *meanings.classes}):
                self._table.append(self._row(value, counts.get(value, 0), meanings))
        panel.say(self._head, f"{known.reason}\n{head}".strip())
        panel.say(self._warning, known.problem or _warning(meanings.unexpected(counts)))

    def take(self, value: int) -> None:
        """Make a value the one that is painted with."""
        layer = self._session.labels
        if layer is not None:
            layer.selected_label = value
            take_brush(self._session, layer)

    def _row(self, value: int, n: int, meanings: Meanings) -> Container:
        index = meanings.of(value)
        # What was given no meaning is told apart from what was told to be ignored.
        is_odd = bool(meanings.unexpected([value]))
        names = [_IGNORED, *meanings.class_names]
        meaning = ComboBox(
            choices=names,
            value=_IGNORED if index is None else meanings.class_names[index],
            tooltip="What this value means. Ignored and unlabelled voxels count for nothing.",
        )
        meaning.changed.connect(
            lambda name: self._say(meanings.with_class(value, names.index(name) - 1 if name != _IGNORED else None))
        )
        swatch = PushButton(
            text="■" if index is not None else "□",
            tooltip=f"Paint with {value}: take this label and the brush in hand. {NEXT_CLASS.keys} takes the next one.",
        )
        colour = "" if index is None else f"color: {class_colour(index)};"
        swatch.native.setStyleSheet(f"QPushButton {{ {colour} border: none; background: transparent; padding: 0; }}")
        swatch.native.setFixedWidth(24)
        swatch.changed.connect(lambda *_: self.take(value))
        number = Label(value=f"{'! ' if is_odd else ''}{value}")
        number.native.setMinimumWidth(36)
        voxels = Label(value=f"{n:,}")
        voxels.native.setMinimumWidth(90)
        return panel.row(swatch, number, voxels, meaning)


def _warning(odd: list[int]) -> str:
    """Return what is to be said of values without a meaning."""
    listed = ", ".join(map(str, odd[:8])) + (" .." if len(odd) > 8 else "")
    many = "These values have no meaning yet, so their" if len(odd) > 1 else "This value has no meaning yet, so its"
    return f"{many} voxels do not count: {listed}." if odd else ""

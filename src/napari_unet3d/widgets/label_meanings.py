"""The values of a labels layer: how many voxels each has, and what it means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from magicgui.widgets import ComboBox, Container, Label, PushButton

from napari_unet3d.core.annotation import MAX_VALUES, Meanings, guess_meanings
from napari_unet3d.errors import Unet3dError
from napari_unet3d.widgets import panel
from napari_unet3d.widgets.colours import class_colour
from napari_unet3d.widgets.layers import n_levels
from napari_unet3d.widgets.session import Session
from napari_unet3d.widgets.survey import count_labels

_IGNORED = "ignore"
_COUNT_AFTER_MS = 400


class LabelMeanings(Container):
    """Edits what the values of the chosen labels layer mean; the layer is never changed.

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
    counts
        How many voxels have each value, as far as they were counted.
    """

    def __init__(self, session: Session, class_names: Callable[[], tuple[str, ...]]) -> None:
        self._session = session
        self._class_names = class_names
        self.counts: dict[int, int] = {}
        self._meanings: Meanings | None = None
        self._by_layer: dict[int, Meanings] = {}
        self._layer: Any = None
        self._problem = ""
        self._head = panel.text()
        self._warning = panel.text(tone="warning")
        self._table = Container(layout="vertical", labels=False)
        self._table.margins = (0, 0, 0, 0)
        self._table.native.layout().setSpacing(2)
        self.above_zero = PushButton(
            text="Everything above 0 is the object", tooltip="For a mask with stray values, and for numbered objects."
        )
        self.sparse = PushButton(
            text="0 is unlabelled, 1 is background", tooltip="For sparse annotation: only what was painted counts."
        )
        super().__init__(
            widgets=[self._head, self._table, self._warning, self.above_zero, self.sparse],
            layout="vertical",
            labels=False,
        )
        self.margins = (0, 0, 0, 0)
        self._counting = panel.Aside(self.native)
        self._later = panel.Later(self._count, _COUNT_AFTER_MS, self.native)
        self.above_zero.changed.connect(lambda: self._set(Meanings.everything_above_zero(self._class_names())))
        self.sparse.changed.connect(lambda: self._set(Meanings.painted(self._class_names())))

    @property
    def value(self) -> Meanings | None:
        """Return the meanings, or None without a labels layer."""
        return self._meanings

    @value.setter
    def value(self, meanings: Meanings) -> None:
        self._set(meanings)

    def update_layer(self) -> None:
        """Look at another layer, or at the same one again."""
        layer = self._session.labels
        if layer is not self._layer:
            self._layer, self.counts, self._problem = layer, {}, ""
            self._meanings = None
            if layer is not None:
                # One event a stroke, and one when the data is replaced.
                panel.listen(self, layer.events.labels_update, self._on_painted)
                panel.listen(self, layer.events.data, self._on_painted)
        self._show()
        self._later()

    def update_names(self) -> None:
        """Take other names of classes."""
        names, meanings = self._class_names(), self._meanings
        if meanings is not None and names != meanings.class_names:
            known = {value: index for value, index in meanings.classes.items() if index is None or index < len(names)}
            rest = meanings.rest if meanings.rest is None or meanings.rest < len(names) else None
            self._set(Meanings(class_names=names, classes=known, rest=rest))

    def _on_painted(self, event: Any) -> None:
        # A layer that was chosen before still tells of its strokes.
        if event.source is self._layer:
            self._later()

    def _count(self) -> None:
        layer = self._layer
        if layer is None:
            return
        data = layer.data[0] if n_levels(layer) > 1 else layer.data

        def take(found: tuple[dict[int, int], str]) -> None:
            if layer is not self._layer:
                return
            self.counts, self._problem = found
            if self._meanings is None:
                self._meanings = self._first_guess()
            self._show()

        self._counting(_counted, data, take=take)

    def _first_guess(self) -> Meanings:
        names = self._class_names()
        if self._layer.metadata.get("napari-unet3d annotation"):
            return Meanings.painted(names)
        return guess_meanings(self.counts, names)

    def _set(self, meanings: Meanings) -> None:
        self._meanings = meanings
        self._show()

    def _show(self) -> None:
        """Derive everything that is seen from the counts and the meanings."""
        self._table.clear()
        has_layer = self._layer is not None
        self.above_zero.visible = self.sparse.visible = has_layer and bool(self.counts)
        meanings = self._meanings
        if not has_layer or meanings is None:
            panel.say(self._head, "values are being counted .." if has_layer else "")
            panel.say(self._warning, self._problem)
            return
        if len(self.counts) > MAX_VALUES:
            panel.say(self._head, f"{len(self.counts):,} values: objects with numbers, or not labels at all.")
        else:
            panel.say(self._head, "value, voxels, what it means")
            # Classes without a voxel too: it is the legend of what can be painted.
            for value in sorted({*self.counts, *meanings.classes}):
                self._table.append(self._row(value, self.counts.get(value, 0), meanings))
        odd = meanings.unexpected(self.counts)
        listed = ", ".join(map(str, odd[:8])) + (" .." if len(odd) > 8 else "")
        many = "These values have" if len(odd) > 1 else "This value has"
        warning = f"{many} no meaning yet, and no voxel of them counts: {listed}." if odd else ""
        panel.say(self._warning, self._problem or warning)

    def _row(self, value: int, n: int, meanings: Meanings) -> Container:
        index = meanings.of(value)
        # What was given no meaning is told apart from what was told to be ignored.
        is_odd = bool(meanings.unexpected([value]))
        names = [_IGNORED, *meanings.class_names]
        meaning = ComboBox(
            choices=names,
            value=_IGNORED if index is None else meanings.class_names[index],
            tooltip="What this value means. Ignored voxels, as unlabelled ones, count for nothing.",
        )
        meaning.changed.connect(
            lambda name: self._set(meanings.with_class(value, names.index(name) - 1 if name != _IGNORED else None))
        )
        swatch = Label(value="■" if index is not None else "□")
        if index is not None:
            swatch.native.setStyleSheet(f"color: {class_colour(index)};")
        number = Label(value=f"{'! ' if is_odd else ''}{value}")
        number.native.setMinimumWidth(36)
        voxels = Label(value=f"{n:,}")
        voxels.native.setMinimumWidth(90)
        return panel.row(swatch, number, voxels, meaning)


def _counted(data: Any) -> tuple[dict[int, int], str]:
    """Return the counts, or why there are none: an error that a thread raises is shown with its trace."""
    try:
        return count_labels(data), ""
    except Unet3dError as error:
        return {}, str(error)

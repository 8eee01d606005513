"""What is known of the labels layers of a window: names of classes, what each value means, how many voxels have it.

Kept by layer, so it survives another choice and a closed dock; said meanings are kept in the layer's metadata too, and
a training run writes them into its folder, where they are found again for labels of that name and shape. Labels are
read once for every change, a moment after it, in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from psygnal import Signal

from napari_unet3d.core.annotation.meanings import Meanings, guess_meanings
from napari_unet3d.core.annotation.survey import Survey, survey_labels
from napari_unet3d.errors import TrainingError, Unet3dError
from napari_unet3d.tasks.train.kept.run_folder import RUN_FILE, RunFolder
from napari_unet3d.widgets.layers.colours import annotation_colormap, annotation_features
from napari_unet3d.widgets.layers.meanings import is_complete, write_meanings, written_meanings
from napari_unet3d.widgets.layers.strokes import StrokeWatch
from napari_unet3d.widgets.layers.volumes import layer_volume

if TYPE_CHECKING:
    from napari.layers import Labels

USUAL_NAMES = ("background", "object")
_LOOK_AFTER_MS = 400
# The newest run folders that are looked through for what labels mean.
_RUNS = 100


@dataclass(frozen=True, eq=False)
class LabelsKnown:
    """What is known of a labels layer.

    Attributes
    ----------
    class_names
        The names of the classes; None as long as the layer has none of its own.
    meanings
        What its values mean; None until it was looked at.
    is_said
        Somebody has said so; otherwise it is a guess, and 0 is no background.
    reason
        Where the meanings are from, as a sentence, if nobody has said them here.
    survey
        Which values it holds, by plane; None until it was looked at.
    problem
        Why it cannot be counted, as a sentence, or nothing.
    """

    class_names: tuple[str, ...] | None = None
    meanings: Meanings | None = None
    is_said: bool = False
    reason: str = ""
    survey: Survey | None = None
    problem: str = ""

    @property
    def counts(self) -> dict[int, int]:
        """Return how many voxels have each value, as far as they were counted."""
        return {} if self.survey is None else self.survey.counts

    @property
    def question(self) -> str:
        """Return what a person is asked, as a sentence, or nothing: what 0 means, where nobody has said it."""
        is_open = self.meanings is not None and not self.is_said and self.meanings.of(0) is None
        if not is_open or 0 not in self.counts or len(self.counts) == 1:
            return ""
        return "Is 0 background here, or was it left unlabelled? Until you say so, 0 counts for nothing."


class Annotations:
    """What is known of the labels layers of a window, by layer.

    Parameters
    ----------
    runs_folder
        Returns the folder that holds the run folders.

    Attributes
    ----------
    names
        The names of classes for layers that have none of their own.
    """

    changed = Signal(object)

    def __init__(self, runs_folder: Callable[[], Path]) -> None:
        self.names: tuple[str, ...] = USUAL_NAMES
        self._runs_folder = runs_folder
        self._watched: WeakKeyDictionary[Any, _Watch] = WeakKeyDictionary()

    def of(self, layer: Labels | None) -> LabelsKnown:
        """Return what is known of a layer; nothing, of none or one that is not watched."""
        watch = None if layer is None else self._watched.get(layer)
        return LabelsKnown() if watch is None else watch.known

    def names_of(self, layer: Labels | None) -> tuple[str, ...]:
        """Return the names of the classes of a layer."""
        return self.of(layer).class_names or self.names

    def watch(self, layer: Labels, position: int = 0) -> None:
        """Look at a layer from now on: at once if it was not looked at, and after every change.

        Parameters
        ----------
        layer
            The layer.
        position
            Of a layer with a fourth axis: which position along that is looked at.
        """
        watch = self._watched.get(layer)
        if watch is None:
            watch = self._watched[layer] = _Watch(layer, self)
        elif watch.position == position:
            return
        watch.position = position
        watch.later()

    def look_again(self, layer: Labels) -> None:
        """Count again, as data was changed without a word."""
        self.watch(layer)
        self._watched[layer].later()

    def say(self, layer: Labels, meanings: Meanings) -> None:
        """Take what a person says that the values mean, and keep it with the layer."""
        self.watch(layer)
        watch = self._watched[layer]
        watch.known = replace(watch.known, meanings=meanings, class_names=meanings.class_names, is_said=True, reason="")
        write_meanings(layer, meanings)
        self.changed.emit(layer)

    def rename(self, layer: Labels | None, names: tuple[str, ...]) -> None:
        """Take other names of classes, for a layer and for those that have none of their own."""
        self.names = names
        if layer is None:
            self.changed.emit(None)
            return
        self.watch(layer)
        watch = self._watched[layer]
        known = watch.known = replace(watch.known, class_names=names)
        if known.meanings is not None and known.is_said:
            self.say(layer, known.meanings.renamed(names))
            if self.of(layer).meanings == Meanings.painted(names):
                # Made here: the new class can be seen, and has its name in the status bar.
                layer.colormap, layer.features = annotation_colormap(names), annotation_features(names)
            return
        watch.guess()
        self.changed.emit(layer)

    def close(self) -> None:
        """End with the window."""
        for watch in self._watched.values():
            watch.later.cancel()
        self._watched.clear()

    def runs_folder(self) -> Path:
        """Return the folder that holds the run folders."""
        return self._runs_folder()


class _Watch:
    """Looks at one layer; what is known of it, and its timers, go with it."""

    def __init__(self, layer: Labels, owner: Annotations) -> None:
        # Only now: the session is imported by menus, which must not wait for Qt.
        from napari_unet3d.widgets.host.aside import Aside, Later

        self._layer, self._owner = ref(layer), ref(owner)
        written = written_meanings(layer)
        names = None if written is None else written.class_names
        self.known = LabelsKnown(names, written, is_said=written is not None)
        self.position = 0
        self._has_looked = written is not None
        self._aside = Aside()
        self.later = Later(self.look, _LOOK_AFTER_MS)
        self._strokes = StrokeWatch(layer, self.later)

    def look(self) -> None:
        """Count the values in a thread."""
        layer, owner = self._layer(), self._owner()
        if layer is None or owner is None:
            return
        runs = None if self._has_looked else owner.runs_folder()
        self._has_looked = True
        try:
            labels = layer_volume(layer, position=self.position).volume.data
        except Unet3dError as error:
            self._take((None, str(error), None))
            return
        self._aside(_look, labels, str(layer.name), runs, take=self._take)

    def _take(self, found: tuple[Survey | None, str, tuple[Meanings, str] | None]) -> None:
        layer, owner = self._layer(), self._owner()
        if layer is None or owner is None:
            return
        survey, problem, in_run = found
        self.known = replace(self.known, survey=survey, problem=problem)
        if in_run is not None and not self.known.is_said:
            meanings, run = in_run
            reason = f"As set for the training run {run}."
            self.known = replace(
                self.known, meanings=meanings, class_names=meanings.class_names, is_said=True, reason=reason
            )
            write_meanings(layer, meanings)
        self.guess()
        owner.changed.emit(layer)

    def guess(self) -> None:
        """Say what the values most likely mean, unless somebody has said it."""
        layer, owner = self._layer(), self._owner()
        if self.known.is_said or layer is None or owner is None or self.known.survey is None:
            return
        complete = is_complete(layer)
        meanings = guess_meanings(self.known.counts, owner.names_of(layer), is_complete=complete)
        reason = "A complete mask: 0 is background." if complete else ""
        self.known = replace(self.known, meanings=meanings, reason=reason)


def _look(labels: Any, name: str, runs: Path | None) -> tuple[Survey | None, str, tuple[Meanings, str] | None]:
    """Return the survey or why there is none, and what a run says of such labels; no error that a user can cause."""
    in_run = None if runs is None else meanings_in_runs(runs, name, tuple(map(int, labels.shape)))
    try:
        survey = survey_labels(labels)
    except Unet3dError as error:
        return None, str(error), None
    except Exception as error:  # noqa: BLE001 - arrays of other plugins raise what they like
        return None, f"The labels cannot be read: {type(error).__name__}: {error}", None
    if in_run is not None and in_run[0].unexpected(survey.counts):
        return survey, "", None
    return survey, "", in_run


def meanings_in_runs(runs: Path, name: str, shape: tuple[int, ...]) -> tuple[Meanings, str] | None:
    """Return what labels of a name and shape meant in the newest run that learnt from such, and its name; or None."""
    for folder in _newest(runs):
        with suppress(TrainingError):
            for labels in RunFolder(folder).record().labels:
                if labels.name == name and labels.shape == shape:
                    return labels.meanings, folder.name
    return None


def _newest(runs: Path) -> Iterator[Path]:
    found = []
    with suppress(OSError):
        for entry in os.scandir(runs):
            with suppress(OSError):
                found.append((os.stat(Path(entry.path, RUN_FILE)).st_mtime_ns, entry.path))
    for _, path in sorted(found, reverse=True)[:_RUNS]:
        yield Path(path)

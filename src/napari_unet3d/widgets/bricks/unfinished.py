"""Segmentations that were not finished, as buttons."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from magicgui.widgets import Container, PushButton

from napari_unet3d.errors import shown, visible
from napari_unet3d.tasks.jobs.unfinished import UnfinishedRun
from napari_unet3d.words import calendar_day

_SHOWN = 3


class UnfinishedRuns(Container):
    """A button for each segmentation that can go on.

    Parameters
    ----------
    go_on
        Called with the one that was chosen.
    """

    def __init__(self, go_on: Callable[[UnfinishedRun], None]) -> None:
        self._runs: list[UnfinishedRun] = []
        self.buttons: list[PushButton] = []
        for index in range(_SHOWN):
            button = PushButton(text="", tooltip="Go on with a segmentation that was not finished.", visible=False)
            button.changed.connect(lambda *_, index=index: go_on(self._runs[index]))
            self.buttons.append(button)
        super().__init__(widgets=self.buttons, labels=False, label="")
        self.margins = (0, 0, 0, 0)

    @property
    def has_any(self) -> bool:
        """Return whether there is one."""
        return bool(self._runs)

    def show_runs(self, runs: Sequence[UnfinishedRun]) -> None:
        """Offer other segmentations, the first of them."""
        self._runs = list(runs[:_SHOWN])
        for button in self.buttons[len(self._runs) :]:
            button.visible = False
        for button, run in zip(self.buttons, self._runs, strict=False):
            day, image = calendar_day(run.begun), "" if run.job.image is None else shown(run.job.image.path)
            button.text = visible(f"Go on with {run.output.name}, {day}")
            button.tooltip = visible(
                f"Segment on into {shown(run.output)}, from where it was stopped on {day}. Opens {image} and the model."
            )
            button.visible = True

"""What the tabs are set to, as plain JSON: for a dock that is closed and opened again, and for the project."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from qtpy.QtWidgets import QTabWidget

from napari_unet3d.errors import Unet3dError
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.tasks.train.choosing import TrainChoices
from napari_unet3d.widgets.bricks import panel

if TYPE_CHECKING:
    from napari_unet3d.widgets.panels.segment.form import SegmentForm
    from napari_unet3d.widgets.panels.train.form import TrainForm
    from napari_unet3d.widgets.runs.session import Session

_LOOK_MS = 1000


class Remembered:
    """Keeps what is set in the settings of the session, and sets it again.

    Parameters
    ----------
    session
        What the panels of this window share; `session.project.settings` is read at once, and written from then on.
    tabs
        The tabs; which one is in front is kept too.
    train, segment
        The forms that are kept.
    """

    def __init__(self, session: Session, tabs: QTabWidget, train: TrainForm, segment: SegmentForm) -> None:
        self._session, self._tabs, self._train, self._segment = session, tabs, train, segment
        self.restore(session.project.settings)
        self._clock = panel.Every(self.keep, _LOOK_MS, tabs)

    def keep(self) -> None:
        """Keep what is set now."""
        settings = self._session.project.settings
        settings["tab"] = self._tabs.tabText(self._tabs.currentIndex())
        settings["train"] = {"start": self._train.start.value, **self._train.choices.to_json()}
        # Half a region is typed for a moment, and cannot be kept.
        with suppress(Unet3dError, ValidationError):
            settings["segment"] = self._segment.spec.model_dump(mode="json")
        self._session.project.keep_settings()

    def restore(self, settings: Mapping[str, Any]) -> None:
        """Set what was kept; what this version does not understand is left as it is."""
        if (train := settings.get("train")) is not None:
            self._train.choices = TrainChoices.from_json(train)
            if train.get("start") in self._train.start.choices:
                self._train.start.value = train["start"]
        with suppress(ValidationError):
            if (segment := settings.get("segment")) is not None:
                self._segment.spec = PredictSpec.model_validate(segment)
        for index in range(self._tabs.count()):
            if self._tabs.tabText(index) == settings.get("tab"):
                self._tabs.setCurrentIndex(index)

"""The choice of a model: from the models folder, or from anywhere; with a card that says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from magicgui.widgets import ComboBox, Container, PushButton

from napari_unet3d.errors import ModelError, SpecError
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.host.notices import notify_error
from napari_unet3d.widgets.panels.segment.text import describe_card
from napari_unet3d.widgets.runs.session import Session, list_models, model_name

if TYPE_CHECKING:
    from napari_unet3d.network.model import ModelCard


class ModelChoice(Container):
    """Edits which model the session has.

    Parameters
    ----------
    session
        What the panels of this window share.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._elsewhere: list[Path] = []
        self.choice = ComboBox(choices=self._offered, nullable=True, tooltip="The models in the models folder.")
        self.browse = PushButton(text="Browse...", tooltip="Choose a model folder from anywhere.")
        self.card = panel.text(tone="quiet", tooltip="Facts about the model. Its scores are on data that it never saw.")
        super().__init__(widgets=[panel.row(self.choice, self.browse), self.card], labels=False, label="Model")
        self.margins = (0, 0, 0, 0)
        self.choice.changed.connect(self._on_choice)
        self.browse.changed.connect(lambda: self._on_browse())
        panel.listen(self, session.model_changed, self._on_model)
        if session.model is None and (models := self._models()):
            # The user's own before the one that comes with the package.
            self.choice.value = models[-1]
        self._on_model()

    def require(self) -> tuple[Path, ModelCard]:
        """Return the chosen model.

        Raises
        ------
        SpecError
            If there is none.
        """
        if self._session.model is None or self._session.card is None:
            raise SpecError("Choose a model, or browse to one.")
        # It may have been written again, or be gone.
        self._session.choose_model(self._session.model)
        return self._session.model, self._session.card

    def take(self, path: Path) -> None:
        """Offer and choose a model from anywhere.

        Raises
        ------
        ModelError
            If it is none.
        """
        self._session.choose_model(path)

    def _models(self) -> list[Path]:
        listed = list_models(self._session.preferences.models_folder)
        return [*listed, *(path for path in self._elsewhere if path not in listed)]

    def _offered(self, _: object) -> list[tuple[str, Path]]:
        return [(model_name(path), path) for path in self._models()]

    def _on_choice(self, path: Path | None) -> None:
        try:
            self._session.choose_model(path)
        except ModelError as error:
            notify_error(error)
            self._on_model()

    def _on_browse(self) -> None:
        from qtpy.QtWidgets import QFileDialog

        start = str(self._session.preferences.models_folder)
        if folder := QFileDialog.getExistingDirectory(self.native, "A model folder (.unet3d)", start):
            try:
                self.take(Path(folder))
            except ModelError as error:
                notify_error(error)

    def _on_model(self) -> None:
        path, card = self._session.model, self._session.card
        if path is not None and path not in self._models():
            self._elsewhere.append(path)
        with self.choice.changed.blocked():
            self.choice.reset_choices()
            self.choice.value = path
        panel.say(self.card, "" if card is None else describe_card(card))

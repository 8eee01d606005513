"""The choice of a model: the user's own, those of training runs, or any other; with a card that describes it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from magicgui.widgets import ComboBox, Container, PushButton

from napari_unet3d.atomic import writing
from napari_unet3d.errors import ModelError, SpecError, Unet3dError, visible
from napari_unet3d.network.store import SUFFIX, load_model, save_model
from napari_unet3d.tasks.projects.folder import safe_name
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.host.notices import notify_error, tell
from napari_unet3d.widgets.panels.segment.text import describe_card
from napari_unet3d.widgets.runs.models import list_models, listed, model_in, model_name
from napari_unet3d.widgets.runs.session import Session

if TYPE_CHECKING:
    from napari_unet3d.network.model import ModelCard


_LISTED = "Your models, newest first: name, date, score on held-out annotation. Last: the demo model."


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
        self._runs = session.runs_folder
        self.choice = ComboBox(choices=self._offered, nullable=True, tooltip=_LISTED)
        self.browse = PushButton(text="Browse...", tooltip="Choose a model folder, or the folder of a training run.")
        self.keep = PushButton(text="Keep as...", tooltip="Copy this model under a name of your own to your models.")
        self.open_folder = PushButton(
            text="Show in folder", tooltip="Open the folder that holds the files of this model."
        )
        self.card = panel.text(tone="quiet", tooltip="Facts about the model. Its scores are on data that it never saw.")
        super().__init__(
            # The list has the width to itself: it ends with the score, and a row without its end tells little.
            widgets=[self.choice, self.card, panel.row(self.browse, self.keep, self.open_folder)],
            labels=False,
            label="Model",
        )
        self.margins = (0, 0, 0, 0)
        self.choice.changed.connect(self._on_choice)
        self.browse.changed.connect(lambda: self._on_browse())
        self.keep.changed.connect(lambda: self._on_keep())
        self.open_folder.changed.connect(lambda: self._on_show())
        panel.listen(self, session.training_changed, self._on_model)
        panel.listen(self, session.project.changed, self._on_project)
        panel.listen(self, session.model_changed, self._on_model)
        if session.model is None and (models := self._models()):
            # The user's newest before the one that comes with the package.
            self.choice.value = models[0]
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
        self._session.choose_model(model_in(path))

    def keep_as(self, name: str) -> Path:
        """Copy the chosen model to the models folder, choose the copy, and return it.

        Raises
        ------
        Unet3dError
            If there is no model, or it cannot be written there under that name.
        """
        path, _ = self.require()
        folder = self._session.preferences.models_folder
        with writing(folder, 0):
            folder.mkdir(parents=True, exist_ok=True)
        kept = save_model(load_model(path), folder / f"{safe_name(name, 'model')}{SUFFIX}")
        self._session.choose_model(kept)
        return kept

    def _models(self) -> list[Path]:
        own = [model.path for model in self._session.own_models]
        known = [*own, *(path for path in list_models(self._session.preferences.models_folder) if path not in own)]
        return [*(path for path in self._elsewhere if path not in known), *known]

    def _offered(self, _: object) -> list[tuple[str, Path]]:
        # Two runs of one minute may look alike, and a choice goes by what it is called.
        n_called: Counter[str] = Counter()
        offered = []
        for path in self._models():
            label = visible(listed(path).label)
            n_called[label] += 1
            offered.append((label if n_called[label] == 1 else f"{label} ({n_called[label]})", path))
        return offered

    def _on_project(self) -> None:
        # Its runs may be others.
        if (runs := self._session.runs_folder) != self._runs:
            self._runs = runs
            self._on_model()

    def _on_keep(self) -> None:
        from qtpy.QtWidgets import QInputDialog

        suggested = "" if self._session.model is None else model_name(self._session.model)
        name, is_given = QInputDialog.getText(self.native, "Keep this model", "Name", text=suggested)
        if is_given and name.strip():
            try:
                tell(f"Kept as '{name.strip()}', in {self.keep_as(name.strip()).parent}.")
            except Unet3dError as error:
                notify_error(error)

    def _on_show(self) -> None:
        from qtpy.QtCore import QUrl
        from qtpy.QtGui import QDesktopServices

        if self._session.model is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._session.model)))

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
        self.keep.visible = self.open_folder.visible = path is not None
        panel.say(self.card, "" if card is None else describe_card(card))

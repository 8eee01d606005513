"""The button that saves the annotation as a volume of its own, and what it says afterwards."""

from __future__ import annotations

from functools import partial

from magicgui.widgets import Container, PushButton

from napari_unet3d.errors import Unet3dError, VolumeError
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.host.files import ask_save_path, confirm_replacing
from napari_unet3d.widgets.host.notices import notify_error
from napari_unet3d.widgets.layers.finding import describe_annotated, describe_found
from napari_unet3d.widgets.layers.writers import check_apart_from
from napari_unet3d.widgets.runs.session import Session


class SaveAnnotation(Container):
    """Saves the chosen annotation where the user wants it, beside what the project keeps of it.

    Parameters
    ----------
    session
        What the panels of this window share.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.save = PushButton(
            text="Save annotation...",
            tooltip="Save the labels as OME-TIFF or OME-Zarr, with voxel size and class names, for other programs. "
            "What you paint is kept in the project without this.",
        )
        self._said = panel.text()
        super().__init__(widgets=[self.save, self._said], layout="vertical", labels=False)
        self.margins = (0, 0, 0, 0)
        self.save.changed.connect(lambda *_: self._on_save())
        panel.listen(self, session.labels_changed, self.show_labels)
        panel.listen(self, session.saving.changed, self.show_labels)
        self.show_labels()

    def show_labels(self) -> None:
        """Show the button where there are labels, and what was said of them last."""
        labels = self._session.labels
        told = self._session.saving.told(labels)
        self.visible = labels is not None
        self.save.enabled = not self._session.saving.is_active
        panel.say(self._said, told.sentence, tone="quiet" if told.error is None else "warning")

    def _on_save(self) -> None:
        session, labels = self._session, self._session.labels
        if labels is None:
            return
        path = ask_save_path(self.native, "Save the annotation", labels.name)
        if path is None or not confirm_replacing(self.native, path):
            return
        try:
            check_apart_from(session.volume(), path)
        except VolumeError:  # labels can be saved without an image
            pass
        except Unet3dError as error:
            notify_error(error)
            return
        meanings = session.annotation.of(labels).meanings
        describe = describe_found if meanings is None else partial(describe_annotated, meanings=meanings)
        try:
            session.saving.save(session.labels_volume(), path, describe=describe)
        except Unet3dError as error:
            notify_error(error)

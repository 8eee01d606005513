"""Segmentations that were not finished: offered in the tab Segment, opened and gone on with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from napari_unet3d.errors import Unet3dError, VolumeError
from napari_unet3d.tasks.jobs.places import open_image
from napari_unet3d.tasks.jobs.segment import SegmentJob
from napari_unet3d.tasks.jobs.unfinished import UnfinishedRun
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.bricks.unfinished import UnfinishedRuns
from napari_unet3d.widgets.host.notices import notify_error
from napari_unet3d.widgets.layers.volumes import LayerData, add_layer, layer_data
from napari_unet3d.widgets.panels.segment.form import SegmentForm
from napari_unet3d.widgets.runs.session import Session


class GoingOn(UnfinishedRuns):
    """Offers what can go on: of the chosen image, or of any while there is none.

    Parameters
    ----------
    session
        What the panels of this window share.
    form
        Takes the choices of the one that goes on.
    begin
        Called when all is there and set.
    """

    def __init__(self, session: Session, form: SegmentForm, begin: Callable[[], None]) -> None:
        super().__init__(session.going_on.emit)
        self._session, self._form, self._begin = session, form, begin
        self._opening = panel.Aside(self.native)
        panel.listen(self, session.going_on, self.go_on_with)

    def show_unfinished(self) -> None:
        """Offer what suits the chosen image now."""
        session = self._session
        runs = session.unfinished
        if session.image is not None:
            with suppress(VolumeError):
                place = session.volume().file
                runs = [run for run in runs if place is not None and run.job.image == place]
        is_busy = session.segmentation is not None and session.segmentation.is_active
        self.show_runs([] if is_busy else runs)
        self.visible = self.has_any

    def go_on_with(self, found: UnfinishedRun) -> None:
        """Open the image and the model of a segmentation, and go on with it."""
        job = found.job
        try:
            self._session.choose_model(job.model)
        except Unet3dError as error:
            notify_error(error)
            return
        with suppress(VolumeError):  # there may be no image yet
            if self._session.volume().file == job.image:
                self._on_opened(found, None)
                return
        self._opening(_open_image, job, take=lambda made: self._on_opened(found, made))

    def _on_opened(self, found: UnfinishedRun, made: LayerData | Unet3dError | None) -> None:
        session, job, form = self._session, found.job, self._form
        if isinstance(made, Unet3dError):
            notify_error(made)
            return
        if made is not None:
            session.image = add_layer(session.viewer, made)
        form.update_classes()
        form.choose_output(job.only_class)
        # The memory of that day, and what the window adds, are no choices of a person.
        form.spec = job.spec.model_copy(update={"memory_bytes": None, "first_result": None})
        form.on_cluster.value = job.cluster is not None and job.cluster == session.preferences.cluster
        form.place.value = found.output
        self._begin()


def _open_image(job: SegmentJob) -> LayerData | Unet3dError:
    """Return the image of a job as a layer, or why it cannot be read; in a thread."""
    if job.image is None:
        return VolumeError("The image is in no file.")
    try:
        return layer_data(open_image(job.image, job.calibration), place=job.image)
    except Unet3dError as error:
        return error

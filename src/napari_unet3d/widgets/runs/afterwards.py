"""The live preview after a run: what is looked at is segmented with the model that was learnt, as the view moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet3d.core.boxes import Box
from napari_unet3d.tasks.jobs.places import IMAGE
from napari_unet3d.tasks.jobs.segment import RESULT, SegmentJob
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.tasks.train.live import preview_box
from napari_unet3d.widgets.host.aside import Later
from napari_unet3d.widgets.runs.follow import FollowedRun

if TYPE_CHECKING:
    from napari_unet3d.widgets.runs.training import Training

# After the view has come to rest.
_LOOK_MS = 500


class Afterwards(FollowedRun):
    """Shows what the model of a run finds where somebody looks, once the run has ended.

    Parameters
    ----------
    training
        The run; its preview layer is drawn in, as long as it is there.
    """

    def __init__(self, training: Training) -> None:
        super().__init__(training.viewer, training.engine)
        self._training = training
        self._box: Box | None = None
        self._found = np.zeros((0, 0, 0), np.uint8)
        self._later = Later(self._look_around, _LOOK_MS)
        self._moves = (self.viewer.dims.events.current_step, self.viewer.scene.camera.events.center)
        for event in self._moves:
            event.connect(self._on_move)

    def close(self) -> None:
        """Stop for good, as the run goes on or the window is closed."""
        for event in self._moves:
            event.disconnect(self._on_move)
        self._later.cancel()
        super().close()

    def _on_move(self, event: Any = None) -> None:
        self._later()

    def _look_around(self) -> None:
        run = self._training
        model, layer = run.best, run.layer
        if model is None or layer is None or layer not in self.viewer.layers or not run.is_watched or not layer.visible:
            return
        voxel = run.voxel_in_view()
        if voxel is None:
            return
        at = [min(max(0, round(place)), n - 1) for place, n in zip(voxel, run.pairs[0].image.shape, strict=True)]
        box = preview_box(run.spec.network, run.pairs[0].image.shape, at)
        if box == run.previewed:
            return
        if self.is_active:
            self._later()
            return
        self._box, self._found = box, np.zeros(box.shape, np.uint8)
        # As the preview during the run: with the class shares that were learnt.
        spec = PredictSpec(region=box, prior="training", device=run.spec.device)
        image = run.pairs[0].image
        job = SegmentJob(model=model, spec=spec, image=image.on_disk, focus=None)
        arrays: dict[str, Any] = {RESULT: self._found}
        if job.image is None:
            arrays[IMAGE] = image.volume.data
        self._submit(job, arrays)

    def _on_end(self) -> None:
        # What fails here is said when somebody segments; a preview that does not come needs no notice.
        if self.state == "done" and self._box is not None:
            self._training.show_preview(self._box, self._found)
            self._later()

"""More or less of a class, shown at once: a part of what is looked at, segmented again as the slider moves.

The worker computes the probabilities of that part once; what the slider does to them is done here, in the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.heads.prior import emphasized
from napari_unet3d.tasks.jobs.places import IMAGE
from napari_unet3d.tasks.jobs.segment import RESULT, SegmentJob
from napari_unet3d.tasks.train.live import preview_box
from napari_unet3d.widgets.host.notices import notify_error
from napari_unet3d.widgets.layers.colours import class_colormap, class_features
from napari_unet3d.widgets.layers.placing import place_of
from napari_unet3d.widgets.layers.view import place_data, selection_kept
from napari_unet3d.widgets.layers.volumes import ILLUSTRATION, LayerVolume
from napari_unet3d.widgets.runs.follow import FollowedRun
from napari_unet3d.widgets.runs.results import Choices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Labels, Layer

    from napari_unet3d.engine import Engine


@dataclass(frozen=True, eq=False)
class _Part:
    """What is previewed: a box of a volume, and the probabilities (z, y, x, classes) of its classes."""

    volume: LayerVolume
    choices: Choices
    box: Box
    probabilities: npt.NDArray[np.float32]


class EmphasisPreview(FollowedRun):
    """Shows what a part of an image becomes with more or less of some classes.

    Parameters
    ----------
    viewer
        Where the layer goes.
    engine
        Where the probabilities are computed.

    Attributes
    ----------
    layer
        What shows it, or None where nothing is shown.
    """

    def __init__(self, viewer: ViewerModel, engine: Engine) -> None:
        super().__init__(viewer, engine)
        self.layer: Labels | None = None
        self._emphasis: tuple[float, ...] = ()
        self._part: _Part | None = None
        self._hidden: Layer | None = None
        viewer.layers.events.removed.connect(self._on_removed)

    def show(self, volume: LayerVolume, choices: Choices, at: Sequence[int], result: Layer | None) -> None:
        """Show what Start would find around a voxel; returns at once.

        Parameters
        ----------
        volume, choices
            What Start would segment, and how.
        at
            The voxel (z, y, x) that is looked at.
        result
            The layer of an earlier run, which is hidden as long as this is shown.
        """
        self._emphasis = choices.spec.emphasis
        box = preview_box(choices.card.network, volume.shape, at)
        plain = choices.spec.model_copy(
            update={"output": "probabilities", "region": box, "emphasis": (), "cleanup": None, "tile_shape": None}
        )
        asked = Choices(choices.model, choices.card, plain, weights_sha256=choices.weights_sha256)
        part = self._part
        if part is None or not (part.choices.goes_on_with(asked) and part.volume.is_same(volume)):
            self.cancel()
            shape = (*box.shape, len(choices.card.class_names))
            self._part = part = _Part(volume, asked, box, np.zeros(shape, np.float32))
            job = SegmentJob(
                model=asked.model,
                weights_sha256=asked.weights_sha256 or None,
                spec=plain,
                image=volume.on_disk,
                focus=None,
            )
            arrays: dict[str, Any] = {RESULT: part.probabilities}
            if job.image is None:
                arrays[IMAGE] = volume.volume.data
            self._submit(job, arrays)
        elif self.state == "done":
            self._draw(part)
        if result is not None and result is not self._hidden:
            self._show_hidden()
            if result.visible:
                self._hidden = result

    def remove(self) -> None:
        """Take the preview away, and show what it has hidden."""
        self.cancel()
        self._part = None
        layer, self.layer = self.layer, None
        if layer is not None and layer in self.viewer.layers:
            self.viewer.layers.remove(layer)
        self._show_hidden()

    def close(self) -> None:
        """Stop for good, as the window is closed."""
        super().close()
        self.viewer.layers.events.removed.disconnect(self._on_removed)

    def _on_end(self) -> None:
        if self.state == "done" and self._part is not None:
            self._draw(self._part)
        elif self.state == "failed" and self.error is not None:
            # The next move of the slider tries again.
            self._part = None
            notify_error(self.error)

    def _draw(self, part: _Part) -> None:
        labels = emphasized_labels(part.probabilities, self._emphasis)
        place = place_of(part.volume, [start for start, _ in part.box])
        labels, keywords = place.spread(labels), place.keywords
        names = part.choices.card.class_names
        if self._hidden is not None:
            self._hidden.visible = False
        if self.layer is not None and self.layer in self.viewer.layers:
            place_data(self.layer, labels, keywords)
            return
        with selection_kept(self.viewer):
            self.layer = self.viewer.add_labels(
                labels,
                name=f"{part.volume.volume.name}, preview",
                opacity=0.6,
                metadata=ILLUSTRATION,
                features=class_features(names),
                colormap=class_colormap(names),
                **keywords,
            )
        self.layer.editable = False

    def _show_hidden(self) -> None:
        hidden, self._hidden = self._hidden, None
        if hidden is not None:
            hidden.visible = True

    def _on_removed(self, event: Any) -> None:
        if event.value is self.layer:
            self.remove()


def emphasized_labels(probabilities: npt.NDArray[np.float32], emphasis: Sequence[float]) -> npt.NDArray[np.uint8]:
    """Return the class of each voxel, once the odds of each class are doubled as often as is asked.

    Parameters
    ----------
    probabilities
        (z, y, x, classes).
    emphasis
        For each class, how many times its odds are doubled; none leaves them as they are.

    Examples
    --------
    >>> emphasized_labels(np.array([[[[0.7, 0.3]]]], np.float32), (0, 2)).tolist()
    [[[1]]]
    """
    n = probabilities.shape[-1]
    weights = np.asarray(emphasized((1.0,) * n, emphasis), np.float32)
    return np.asarray((probabilities * weights).argmax(axis=-1), np.uint8)

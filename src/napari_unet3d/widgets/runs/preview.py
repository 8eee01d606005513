"""The preview of augmentation: patches that the worker makes, as layers that stay the same while choices change.

It belongs to the window. It has a worker of its own, which knows nothing of TensorFlow, so that it answers while
another one trains or segments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.augment.draw import Sample
from napari_unet3d.tasks.augment.patches import GRID, PATCH, PATCH_LABELS, AugmentRequest, AugmentResult, mosaic
from napari_unet3d.tasks.events import Event, TileDone
from napari_unet3d.tasks.jobs.augment import AugmentJob
from napari_unet3d.tasks.jobs.places import IMAGE, LABELS
from napari_unet3d.widgets.layers.placing import place_of
from napari_unet3d.widgets.layers.tile_boxes import OUT_COLOUR
from napari_unet3d.widgets.layers.view import place_data, selection_kept
from napari_unet3d.widgets.layers.volumes import ILLUSTRATION, LayerVolume, unwrap
from napari_unet3d.widgets.runs.follow import FollowedRun

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_unet3d.engine import Engine

# Arrows of the displacement along each axis.
_ARROWS = 9
_DISPLACEMENT, _BOX = "displacement", "box"
ARROW_COLOUR = "#f0e442"
_NAMES = {
    PATCH: "augmented",
    PATCH_LABELS: "augmented labels",
    GRID: "deformed grid",
    _DISPLACEMENT: "displacement",
    _BOX: "network output",
}


@dataclass(frozen=True)
class Wanted:
    """What is shown besides the augmented image and its labels."""

    box: bool = True
    arrows: bool = False
    grid: bool = False


class Preview(FollowedRun):
    """Makes patches and shows them; every request says where they lie.

    Parameters
    ----------
    viewer
        Where the layers go.
    engine
        Where the patches are made.

    Attributes
    ----------
    result, source
        Of the last preview that was finished, and the image that it was made of; or None.
    """

    # A slider is at the other end: what it asks for is made in 30 ms, and tells two or three things.
    poll_ms: ClassVar[int] = 15

    def __init__(self, viewer: ViewerModel, engine: Engine) -> None:
        super().__init__(viewer, engine)
        self.result: AugmentResult | None = None
        self.source: LayerVolume | None = None
        self._layers: dict[str, Layer] = {}
        self._arrays: dict[str, npt.NDArray[Any]] = {}
        self._asked: tuple[AugmentRequest, LayerVolume, LayerVolume | None, Wanted] | None = None
        self._is_changed = False

    @property
    def layers(self) -> dict[str, Layer]:
        """Return the layers that are in the viewer, by what they show."""
        return {name: layer for name, layer in self._layers.items() if layer in self.viewer.layers}

    def show(self, request: AugmentRequest, image: LayerVolume, labels: LayerVolume | None, wanted: Wanted) -> None:
        """Make the patches that are asked for and show them; what was being made is given up. Returns at once."""
        if self._run is not None:
            self._run.cancel()
        before = None if self._asked is None else self._asked[1]
        self._asked, self.notes = (request, image, labels, wanted), []
        for name, layer in self.layers.items():
            # The layers stay, whatever image they are made of; a name that the user gave stays too.
            if before is not None and layer.name == _title(before, name):
                layer.name = _title(image, name)
        shapes = {PATCH: (request.frame.shape, np.dtype(np.float32))}
        if labels is not None:
            shapes[PATCH_LABELS] = (request.frame.output.shape, labels.volume.dtype)
        if len(request.seeds) > 1:
            whole = mosaic(len(request.seeds), request.frame.output.shape)[0]
            shapes = {name: (whole, dtype) for name, (_, dtype) in shapes.items()}
        elif wanted.grid:
            shapes[GRID] = (request.frame.shape, np.dtype(np.float32))
        self._arrays = {name: self._array(name, shape, dtype) for name, (shape, dtype) in shapes.items()}
        arrays: dict[str, Any] = dict(self._arrays)
        if image.on_disk is None:
            arrays[IMAGE] = image.volume.data
        if labels is not None and labels.on_disk is None:
            arrays[LABELS] = labels.volume.data
        job = AugmentJob(request=request, image=image.on_disk, labels=None if labels is None else labels.on_disk)
        self._submit(job, arrays)

    def _array(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        old = self._arrays.get(name)
        return old if old is not None and (old.shape, old.dtype) == (shape, dtype) else np.zeros(shape, dtype)

    def _on_event(self, event: Event) -> None:
        self._is_changed = self._is_changed or isinstance(event, TileDone)

    def _show(self) -> None:
        if self._is_changed:
            self._is_changed = False
            self._show_arrays()

    def _on_end(self) -> None:
        result = None if self._run is None else self._run.result
        if self.state == "done" and isinstance(result, AugmentResult) and self._asked is not None:
            self.result, self.source = result, self._asked[1]
            self._show_arrays()
            self._show_rest(result.samples[0])

    def _show_arrays(self) -> None:
        """Show what lies in the arrays: in the layers that are there, or in new ones."""
        if self._asked is None:
            return
        request, image, labels, _ = self._asked
        frame = request.frame
        corner = request.corner or (0, 0, 0)
        inner = [start + lost for start, lost in zip(corner, frame.halo, strict=True)]
        for name, array in self._arrays.items():
            at = inner if name == PATCH_LABELS or len(request.seeds) > 1 else corner
            place = place_of(image, at)
            shown, keywords = place.spread(array), place.keywords
            layer = self.layers.get(name)
            if layer is None:
                self._add(name, shown, image, labels, keywords)
            else:
                place_data(layer, shown, keywords)
                layer.refresh(thumbnail=False, extent=False)
        for name in self.layers.keys() - self._arrays.keys() - {_DISPLACEMENT, _BOX}:
            self.viewer.layers.remove(self.layers[name])

    def _add(
        self,
        name: str,
        array: npt.NDArray[Any],
        image: LayerVolume,
        labels: LayerVolume | None,
        keywords: dict[str, Any],
    ) -> None:
        look: dict[str, Any]
        if name == PATCH_LABELS:
            look = {"opacity": 0.5} | ({} if labels is None else {"colormap": _copied(labels.layer.colormap)})
            self._add_quietly(self.viewer.add_labels, array, image, name, keywords | look).editable = False
            return
        look = {"contrast_limits": _limits(array)}
        if name == GRID:
            look = {"contrast_limits": (0.0, 1.0), "colormap": "cyan", "blending": "additive", "opacity": 0.6}
        # Otherwise a patch 3 voxels wide is taken for a colour image.
        self._add_quietly(self.viewer.add_image, array, image, name, keywords | look | {"rgb": False})

    def _add_quietly(
        self, add: Callable[..., Layer], data: Any, image: LayerVolume, name: str, keywords: dict[str, Any]
    ) -> Any:
        """Add a layer; what the user works on stays selected, so that painting goes on where it was."""
        with selection_kept(self.viewer):
            layer = self._layers[name] = unwrap(add(data, name=_title(image, name), metadata=ILLUSTRATION, **keywords))
        return layer

    def _show_rest(self, sample: Sample) -> None:
        """Show the box that the network gives, and the displacement, or take them away."""
        if self._asked is None:
            return
        request, image, _, wanted = self._asked
        is_one = len(request.seeds) == 1
        for name, is_wanted, show in (
            (_BOX, wanted.box, self._show_box),
            (_DISPLACEMENT, wanted.arrows, self._show_arrows),
        ):
            if is_wanted and is_one:
                show(sample, image)
            elif name in self.layers:
                self.viewer.layers.remove(self.layers[name])

    def _show_box(self, sample: Sample, image: LayerVolume) -> None:
        """Outline what the network gives: a layer without a voxel to see."""
        inner = sample.frame.output
        place = place_of(image, [a + b for a, (b, _) in zip(sample.corner, inner, strict=True)])
        data, keywords = place.spread(np.broadcast_to(np.uint8(0), inner.shape)), place.keywords
        layer = self.layers.get(_BOX)
        if layer is None:
            layer = self._add_quietly(self.viewer.add_labels, data, image, _BOX, keywords)
            layer.bounding_box.line_color = OUT_COLOUR
            layer.bounding_box.line_thickness = 2
            layer.bounding_box.points = False
            layer.bounding_box.visible = True
        else:
            place_data(layer, data, keywords)
        layer.editable = False

    def _show_arrows(self, sample: Sample, image: LayerVolume) -> None:
        place = place_of(image, sample.corner)
        keywords, found = place.keywords, arrows(sample)
        shown = found if place.axis is None else np.insert(found, place.axis, 0, axis=-1)
        layer = self.layers.get(_DISPLACEMENT)
        if layer is not None:
            place_data(layer, shown, keywords)
            return
        look = {"edge_color": ARROW_COLOUR, "vector_style": "arrow", "out_of_slice_display": True}
        self._add_quietly(self.viewer.add_vectors, shown, image, _DISPLACEMENT, keywords | look)


def _title(image: LayerVolume, name: str) -> str:
    return f"{image.volume.name}, {_NAMES[name]}"


def _copied(colormap: Any) -> Any:
    """Return a colormap that does not follow what is selected in the layer that it comes from."""
    copied = colormap.model_copy(deep=True)
    copied.use_selection = False
    return copied


def arrows(sample: Sample) -> npt.NDArray[np.float64]:
    """Return (n, 2, 3): places in the patch, and where from there a voxel is taken, before it is turned; in voxels."""
    axes = [np.unique(np.linspace(0, n - 1, min(n, _ARROWS)).round()) for n in sample.frame.shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return np.stack([points, sample.deformation.displacements(points)], axis=1)


def _limits(array: npt.NDArray[Any]) -> tuple[float, float]:
    shown = array[array != 0]
    low, high = np.percentile(shown, (1, 99.8)) if shown.size else (0.0, 1.0)
    return float(low), float(high) if high > low else float(low) + 1

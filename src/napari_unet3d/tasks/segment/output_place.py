"""Where the result of a segmentation is written, by whoever computes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.tasks.events import Progress
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes.outputs.base import Output, OutputSpec
from napari_unet3d.volumes.outputs.creating import output_spec, writing_bytes

if TYPE_CHECKING:
    from napari_unet3d.network.model import ModelCard
    from napari_unet3d.volumes import Volume


def describe_output(
    volume: Volume,
    spec: PredictSpec,
    card: ModelCard,
    path: Path,
    *,
    overwrite: bool = False,
    only_class: int | None = None,
) -> OutputSpec:
    """Return what is to be written, after it was checked that it can be written there.

    Parameters
    ----------
    volume
        What is segmented; the result carries its voxel size and position.
    spec, card
        The choices for the run, and what is known of the model.
    path
        `.tif`, `.ome.tif` or `.zarr`.
    overwrite
        Replace what is there, when the result is complete.
    only_class
        Of the probabilities, those of this class alone; None writes them all.

    Raises
    ------
    OutputError
        If it cannot.
    """
    region = spec.region or Box.whole(volume.shape)
    is_image = spec.output == "probabilities"
    classes = (card.network.classes,) if is_image and only_class is None else ()
    return output_spec(
        path,
        (*region.shape, *classes),
        spec.dtype,
        voxel_size=volume.voxel_size,
        unit=volume.unit,
        translate=volume.calibration.moved([start for start, _ in region]).translate,
        kind="image" if is_image else "labels",
        class_names=() if is_image or has_numbers(spec) else card.class_names,
        overwrite=overwrite,
    )


def has_numbers(spec: PredictSpec) -> bool:
    """Return whether the result numbers objects, instead of saying their classes."""
    return spec.cleanup is not None and spec.cleanup.instances


def finish_levels(output: Output) -> Iterator[Progress]:
    """Make the smaller copies of a result that is complete; each event is a safe point to stop."""
    for done, total in output.make_levels():
        yield Progress("making smaller copies", done, total)


@dataclass(frozen=True)
class Writing:
    """What will be written to, for the plan of a run that has not opened it yet."""

    writing_bytes: int


_EVIDENCE = ".evidence.zarr"


def place_bytes(path: Path, shape: Shape, spec: PredictSpec) -> int:
    """Return the bytes that writing a result (z, y, x) to a file takes beyond its boxes, with its evidence."""
    evidence = writing_bytes(f"{path}{_EVIDENCE}", shape, np.uint8) if spec.cleanup is not None else 0
    return writing_bytes(path, shape, spec.dtype) + evidence


def evidence_of(found: OutputSpec) -> OutputSpec:
    """Return what the store of the evidence for a result is; it never appears under a name of its own."""
    target = found.target.with_name(f"{found.target.name}{_EVIDENCE}")
    return replace(found, target=target, dtype=np.dtype(np.uint8), class_names=())


def one_class(sink: Any, index: int | None, n_classes: int) -> Any:
    """Return what takes the probabilities of all classes and keeps those of one; the sink itself where it keeps all."""
    return sink if index is None else _OneClass(sink, index, n_classes)


class _OneClass:
    """Takes the probabilities of all classes, and keeps those of one."""

    def __init__(self, sink: Any, index: int, n_classes: int) -> None:
        self._sink, self._index = sink, index
        self.shape = (*sink.shape, n_classes)
        self.dtype = sink.dtype
        self.writing_bytes = int(getattr(sink, "writing_bytes", 0))

    def __getitem__(self, box: Any) -> npt.NDArray[Any]:
        raise TypeError("the other classes were not kept")

    def __setitem__(self, box: tuple[slice, ...], values: npt.NDArray[Any]) -> None:
        self._sink[box[:3]] = values[..., self._index]

"""Segmentation from a volume on disk to a result on disk, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet3d.core.boxes import Box
from napari_unet3d.errors import OutputError, shown
from napari_unet3d.tasks.events import Event, Note
from napari_unet3d.tasks.predict import PredictResult, predict
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.tasks.speeds import remember_speed
from napari_unet3d.volumes import Volume, create_output

if TYPE_CHECKING:
    from napari_unet3d.network.model import Model, ModelCard

# A network bears voxels a little larger or smaller than those it has seen.
_VOXEL_SIZE_TOLERANCE = 1.25
_SECONDS_WORTH_REMEMBERING = 5.0


def predict_file(
    volume: Volume,
    model: Model,
    spec: PredictSpec,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
) -> Generator[Event, None, PredictResult]:
    """Segment a volume into a file; closing the generator leaves nothing behind.

    Parameters
    ----------
    volume
        From `read_volume`.
    model
        From `load_model`.
    spec
        The choices for the run.
    path
        Where the result goes, `.tif`, `.ome.tif` or `.zarr`; it carries the volume's voxel size and position.
    overwrite
        Replace what is there, when the result is complete.

    Raises
    ------
    OutputError
        If the result exists or cannot be written.
    Unet3dError
        As `predict`.
    """
    model.check_channels(volume.n_channels)
    check_apart(volume, path)
    region = spec.region or Box.whole(volume.shape)
    classes = (model.spec.classes,) if spec.output == "probabilities" else ()
    z, y, x = (
        position + start * size
        for position, (start, _), size in zip(volume.translate, region, volume.voxel_size, strict=True)
    )
    difference = voxel_size_difference(volume, model.card)
    if difference:
        yield Note(difference)
    with create_output(
        path,
        (*region.shape, *classes),
        spec.dtype,
        voxel_size=volume.voxel_size,
        unit=volume.unit,
        translate=(z, y, x),
        kind="image" if classes else "labels",
        class_names=() if spec.cleanup is not None and spec.cleanup.instances else model.card.class_names,
        overwrite=overwrite,
    ) as output:
        result = yield from predict(volume.data, model, spec, output)
        output.commit()
    remember_run(result, model, spec)
    return result


def voxel_size_difference(volume: Volume, card: ModelCard) -> str | None:
    """Return how the voxels differ from those the model was trained on, as one sentence, or None."""
    if card.voxel_size is None or volume.unit != card.unit:
        return None
    factors = [ours / theirs for ours, theirs in zip(volume.voxel_size, card.voxel_size, strict=True)]
    if all(1 / _VOXEL_SIZE_TOLERANCE < factor < _VOXEL_SIZE_TOLERANCE for factor in factors):
        return None
    return (
        f"The voxels are {_sizes(volume.voxel_size)} {volume.unit} (z, y, x); the model was trained on "
        f"{_sizes(card.voxel_size)}: a factor of {_sizes(factors)}. It may find little."
    )


def check_apart(volume: Volume, path: str | os.PathLike[str]) -> None:
    """Refuse a result that would replace the volume it is made from.

    Raises
    ------
    OutputError
        If it would.
    """
    source, target = Path(volume.path).resolve(), Path(path).resolve()
    if volume.path and (target == source or target in source.parents):
        raise OutputError(f"{shown(target)} is, or holds, the volume that it would be made from. Choose another name.")


def notes_on_numbers(volume: Volume) -> tuple[str, ...]:
    """Return the notes of a volume without those on its voxel size, for where that is taken from elsewhere."""
    return tuple(note for note in volume.notes if note not in volume.calibration.notes)


def _sizes(values: list[float] | tuple[float, ...]) -> str:
    return " x ".join(f"{value:.3g}" for value in values)


def remember_run(result: PredictResult, model: Model, spec: PredictSpec) -> None:
    """Keep how fast a run was, for the next plan."""
    from napari_unet3d.network.devices import select_device

    if not result.flops_per_second:  # everything was done already
        return
    # One short tile says more of the compilation than of the speed.
    if len(result.plan) > 1 or result.plan.flops > _SECONDS_WORTH_REMEMBERING * result.flops_per_second:
        remember_speed(select_device(spec.device).label, model.spec, result.flops_per_second)

"""Segmentation from a volume on disk to a result on disk, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.tiles.coverage import DoneTiles
from napari_unet3d.core.tiles.plan import Readable
from napari_unet3d.errors import OutputError, shown
from napari_unet3d.tasks.events import Event, Note
from napari_unet3d.tasks.segment.output_place import OutputPlace, one_class, open_outputs
from napari_unet3d.tasks.segment.predict import PredictResult, Sinks
from napari_unet3d.tasks.segment.provenance import made_by
from napari_unet3d.tasks.segment.segmenting import segment_into
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes import Volume

if TYPE_CHECKING:
    from napari_unet3d.network.model import Model, ModelCard

# A network bears voxels a little larger or smaller than those it has seen.
_VOXEL_SIZE_TOLERANCE = 1.25


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
        As `segment_into`.
    """
    model.check_channels(volume.n_channels)
    check_apart(volume, path)
    region = spec.region or Box.whole(volume.shape)
    begins = volume.calibration.moved([start for start, _ in region]).translate
    difference = voxel_size_difference(volume, model.card)
    if difference:
        yield Note(difference)
    place = OutputPlace(
        path=Path(path), voxel_size=volume.voxel_size, unit=volume.unit, translate=begins, overwrite=overwrite
    )
    return (yield from segment_to(volume.data, model, spec, place))


def segment_to(
    voxels: Readable,
    model: Model,
    spec: PredictSpec,
    place: OutputPlace,
    *,
    only_class: int | None = None,
    focus: Box | None = None,
    done: Sequence[DoneTiles] = (),
) -> Generator[Event, None, PredictResult]:
    """Segment a volume to where its result shall be; closing the generator leaves what `place` says.

    Parameters
    ----------
    voxels
        (z, y, x) or (z, y, x, c).
    model
        From `load_model`.
    spec
        The choices for the run.
    place
        Where the result goes.
    only_class
        Of the probabilities, those of this class alone; None writes them all.
    focus, done
        As for `predict`; what is done lies where `place` says.

    Raises
    ------
    OutputError
        If the result exists or cannot be written.
    Unet3dError
        As `segment_into`.
    """
    z, y, x = voxels.shape[:3]
    found = place.describe((z, y, x), spec, model.card, only_class=only_class)
    found = replace(found, made_by=made_by(model, spec))
    with open_outputs(place, found, done) as (output, evidence):
        sinks = Sinks(one_class(output, only_class, model.spec.classes), evidence)
        result = yield from segment_into(voxels, model, spec, sinks, focus=focus, done=done)
        output.commit()
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
        raise OutputError(f"{shown(target)} is, or holds, the volume to read from. Choose another name.")


def notes_on_numbers(volume: Volume) -> tuple[str, ...]:
    """Return the notes of a volume without those on its voxel size, for where that is taken from elsewhere."""
    return tuple(note for note in volume.notes if note not in volume.calibration.notes)


def _sizes(values: list[float] | tuple[float, ...]) -> str:
    return " x ".join(f"{value:.3g}" for value in values)

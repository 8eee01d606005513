"""Segmentation from a volume on disk to a result on disk, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np

from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.objects.table import ObjectTable
from napari_unet3d.core.tiles.plan import TilePlan
from napari_unet3d.errors import OutputError, SpecError, shown
from napari_unet3d.tasks.events import Event, Note
from napari_unet3d.tasks.segment.blocks import BlockComputer, BlockRun, BlockSource
from napari_unet3d.tasks.segment.measuring import Measured, measure_volume
from napari_unet3d.tasks.segment.object_files import check_table, write_table
from napari_unet3d.tasks.segment.output_place import (
    Writing,
    describe_output,
    finish_levels,
    one_class,
    place_bytes,
)
from napari_unet3d.tasks.segment.predict import PredictResult
from napari_unet3d.tasks.segment.provenance import made_by
from napari_unet3d.tasks.segment.segmenting import plan_prediction, segment_into
from napari_unet3d.tasks.segment.work.ledger import Ledger, LedgerHead, print_volume
from napari_unet3d.tasks.segment.work.outputs import KeptOutputs, open_kept
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes import Volume
from napari_unet3d.volumes.outputs.base import OutputSpec
from napari_unet3d.volumes.paths import image_file
from napari_unet3d.words import times

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
    resume: bool = False,
    table: Path | None = None,
    source: BlockSource | None = None,
    computer: BlockComputer | None = None,
) -> Generator[Event, None, PredictResult]:
    """Segment a volume into a file, which appears whole or not at all; what is done is kept in a `Ledger`.

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
        Replace what is there, when the result is complete; without `resume`, also begin again.
    resume
        Go on with a run that was stopped or killed, if there is one; the result has the bytes of an unbroken one.
    table
        A CSV file for what is known of each numbered object; see `write_table`. None writes none.
    source, computer
        Who computes the tiles, and from what; None does it here. What follows the tiles is done here in any case.

    Raises
    ------
    OutputError
        If the result exists or cannot be written, or there is a run that was stopped, which is neither to go on nor to
        begin again, or was begun differently.
    Unet3dError
        As `segment_into`.
    """
    model.check_channels(volume.n_channels)
    check_apart(volume, path)
    difference = voxel_size_difference(volume, model.card)
    if difference:
        yield Note(difference)
    weights = None if source is None else source.weights_sha256
    again = FileRun(Path(path), overwrite=overwrite, resume=resume, table=table, weights_sha256=weights)
    return (yield from segment_file(volume, model, spec, again, source=source, computer=computer))


@dataclass(frozen=True)
class FileRun:
    """How a result comes onto the disk.

    Attributes
    ----------
    path
        Where the result goes.
    overwrite, resume, table
        As in `predict_file`.
    only_class
        Of the probabilities, those of this class alone; None writes them all.
    focus
        The box in view, in voxels of the volume; its tiles come first.
    weights_sha256
        Of the model, where it is known.
    """

    path: Path
    overwrite: bool = False
    resume: bool = False
    table: Path | None = None
    only_class: int | None = None
    focus: Box | None = None
    weights_sha256: str | None = None


def segment_file(
    volume: Volume,
    model: Model,
    spec: PredictSpec,
    run: FileRun,
    *,
    source: BlockSource | None = None,
    computer: BlockComputer | None = None,
) -> Generator[Event, None, PredictResult]:
    """Segment a volume into a file, without a word on its voxel size; see `predict_file`."""
    from napari_unet3d.network.machine.devices import select_device

    overwrite, table = run.overwrite, run.table
    found = describe_output(volume, spec, model.card, run.path, overwrite=overwrite, only_class=run.only_class)
    if table is not None:
        check_table(table, spec, overwrite=overwrite)
    if computer is not None and found.target.suffix.lower() != ".zarr":
        raise OutputError(f"{shown(found.target)}: several workers write a .zarr, whose files they do not share.")
    with Ledger(found.target) as ledger:
        computed_in = select_device(spec.device, spec.precision).computes_in
        if computer is not None and source is not None:
            workers = computer.look(source, ledger.folder / "probe", spec.precision)
            spec = spec.model_copy(update={"memory_bytes": spec.memory_bytes or workers.memory})
            computed_in = workers.computes_in
        found = replace(found, made_by=made_by(model, spec, computed_in))
        begun = yield from _begin(volume, model, spec, ledger, found, run)
        found = replace(found, blocks=begun.layout.blocks)
        objects = None if table is None else ObjectTable(model.spec.classes)
        with open_kept(ledger, found, spec, objects) as kept:
            if computer is not None and source is not None:
                yield from _compute_elsewhere(computer, source, spec, begun, kept, run.only_class)
            sinks = kept.sinks
            sinks = replace(sinks, result=one_class(sinks.result, run.only_class, model.spec.classes))
            result = yield from segment_into(
                volume.data,
                model,
                spec,
                sinks,
                plan=begun.plan,
                measured=begun.measured,
                focus=run.focus,
                done=ledger.done,
            )
            yield from finish_levels(kept.result)
            if table is not None and objects is not None:
                write_table(table, objects, found, model.card.class_names, overwrite=overwrite)
            kept.commit()
    return result


def _compute_elsewhere(
    computer: BlockComputer,
    source: BlockSource,
    spec: PredictSpec,
    begun: _Begun,
    kept: KeptOutputs,
    only_class: int | None,
) -> Generator[Event, None, None]:
    plan = begun.layout
    if plan.blocks is None:
        steps = times(plan.spec.geometry.alignment)
        raise SpecError(
            f"The region {plan.region} (z, y, x) begins between two points of the grid of tiles, so several workers "
            f"would write to one file. Let it begin at multiples of {steps}."
        )
    boxes = {index: plan.tile(*index).write for index in np.ndindex(*plan.counts)}
    where = begun.measured.where
    missing = [index for index, box in boxes.items() if where.meets(box) and not kept.ledger.covers(plan, box)]
    if missing:
        run = BlockRun(
            key=uuid4().hex,
            source=source,
            spec=spec,
            measured=begun.measured,
            shape=plan.volume_shape,
            input_shape=plan.input_shape,
            found=kept.described,
            store=kept.store,
            only_class=only_class,
        )
        with run.permit():
            yield from computer.compute(run, plan, missing, kept.keep_written)


@dataclass(frozen=True)
class _Begun:
    """How a run begins or goes on: the plan it was begun with, which says how the result is stored, and that of now."""

    layout: TilePlan
    plan: TilePlan
    measured: Measured


def _begin(
    volume: Volume,
    model: Model,
    spec: PredictSpec,
    ledger: Ledger,
    found: OutputSpec,
    run: FileRun,
) -> Generator[Event, None, _Begun]:
    """Find out what is done, or measure the volume and write down how the run begins."""
    from napari_unet3d.network.machine.devices import select_device, usable_memory

    if len(ledger) and not run.resume and not run.overwrite:
        raise OutputError(
            f"{shown(ledger.folder)} holds {len(ledger):,} finished tiles of a run that was stopped. "
            "Go on with it (--resume), or begin again (--overwrite)."
        )
    device = select_device(spec.device, spec.precision)
    writing = Writing(place_bytes(found.target, found.shape[:3], spec))  # type: ignore[arg-type]

    def plan_with(tile_shape: Shape | None, memory: int | None) -> TilePlan:
        choices = spec.model_copy(update={"tile_shape": tile_shape, "memory_bytes": memory})
        return plan_prediction(volume.shape, model, choices, device, volume=volume.data, sink=writing)

    plan = plan_with(spec.tile_shape, spec.memory_bytes)
    fingerprint = model.fingerprint()
    printed = print_volume(volume.data, volume.voxel_size, volume.unit, volume.translate)
    if len(ledger) and run.resume:
        head = ledger.check(spec, fingerprint, printed, run.only_class)
        layout = plan_with(head.input_shape, spec.memory_bytes)
        fits = layout.peak_bytes <= (spec.memory_bytes or usable_memory(device))
        yield Note(f"{len(ledger):,} tiles are done; the run goes on with the rest.")
        return _Begun(layout, layout if fits and spec.tile_shape is None else plan, head.measured)
    measured = yield from measure_volume(volume.data, model, spec, plan, device)
    ledger.begin(
        LedgerHead(
            software=version("napari-unet3d"),
            spec=spec,
            model=fingerprint,
            volume=printed,
            measured=measured,
            input_shape=plan.input_shape,
            only_class=run.only_class,
            weights_sha256=run.weights_sha256,
        )
    )
    return _Begun(plan, plan, measured)


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
    source, target = (image_file(volume.path) or Path(volume.path)).resolve(), Path(path).resolve()
    if volume.path and (target == source or target in source.parents):
        raise OutputError(f"{shown(target)} is, or holds, the volume to read from. Choose another name.")


def notes_on_numbers(volume: Volume) -> tuple[str, ...]:
    """Return the notes of a volume without those on its voxel size, for where that is taken from elsewhere."""
    return tuple(note for note in volume.notes if note not in volume.calibration.notes)


def _sizes(values: list[float] | tuple[float, ...]) -> str:
    return " x ".join(f"{value:.3g}" for value in values)

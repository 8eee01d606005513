"""A job as a file: what the window was asked to do, for `napari-unet3d run`, on another machine or next year.

Paths in it are relative to the folder of the file, where they lie in it; so a folder that holds the file, its volumes
and its model can be copied to a cluster.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from napari_unet3d import atomic
from napari_unet3d.errors import SpecError, shown
from napari_unet3d.small_files import read_small
from napari_unet3d.tasks.augment_files import augment_files
from napari_unet3d.tasks.events import Event, Note
from napari_unet3d.tasks.files import notes_on_numbers, predict_file
from napari_unet3d.tasks.jobs import AugmentJob, OnDisk, SegmentJob, TrainJob, cached_model, model_of, pairs_of
from napari_unet3d.tasks.specs import FOLDER, PathOnDisk, Spec
from napari_unet3d.tasks.train_files import train_files
from napari_unet3d.volumes import Volume, read_volume
from napari_unet3d.volumes.calibration import calibrate

FORMAT = "napari-unet3d job"
_SUFFIX = ".ome.tif"


class ImageCalibration(Spec):
    """What is known of the voxels of an image, where the file does not say it, or says it wrongly.

    Attributes
    ----------
    voxel_size, translate
        (z, y, x), in `unit`.
    """

    voxel_size: tuple[float, float, float]
    translate: tuple[float, float, float] = (0.0, 0.0, 0.0)
    unit: str


class JobFile(Spec):
    """What such a file holds.

    Attributes
    ----------
    job
        What is done; all its volumes lie on disk.
    output
        Where the result goes; None is beside the file, under its name. A training run has its folder in the job.
    calibration
        Of the image, instead of what its file says.
    """

    format: Literal["napari-unet3d job"] = "napari-unet3d job"
    format_version: Literal[1] = 1
    job: Annotated[SegmentJob | AugmentJob | TrainJob, Field(discriminator="kind")]
    output: PathOnDisk | None = None
    calibration: ImageCalibration | None = None

    @model_validator(mode="after")
    def _on_disk(self) -> JobFile:
        places = self.job.pairs if isinstance(self.job, TrainJob) else (self.job,)
        if any(place.image is None for place in places) or (
            isinstance(self.job, TrainJob) and any(pair.labels is None for pair in self.job.pairs)
        ):
            raise ValueError("it does not say where its volumes lie")
        return self


def write_job(file: JobFile, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a job, whole or not at all, and return where it is.

    Raises
    ------
    OutputError
        If the file exists or cannot be written.
    """
    target = Path(path).absolute()
    text = file.model_dump_json(indent=2, context={FOLDER: target.parent})
    atomic.write_text(target, text + "\n", overwrite=overwrite)
    return target


def read_job(path: str | os.PathLike[str]) -> JobFile:
    """Return the job that a file holds.

    Raises
    ------
    SpecError
        If it cannot be read, or holds none.
    """
    source = Path(path).absolute()
    try:
        return JobFile.model_validate_json(read_small(source), context={FOLDER: source.parent})
    except OSError as error:
        raise SpecError(f"{shown(source)} cannot be read: {error.strerror or error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        raise SpecError(f"{shown(source)} is no job: {where + ': ' if where else ''}{reason}.") from error


def output_of(file: JobFile, path: str | os.PathLike[str]) -> Path:
    """Return where the result of a job goes."""
    if isinstance(file.job, TrainJob):
        return file.job.folder
    return file.output or Path(path).absolute().with_suffix(_SUFFIX)


def run_job(
    file: JobFile, output: Path, *, overwrite: bool = False, resume: bool = False, force: bool = False
) -> Generator[Event, None, Any]:
    """Do the job of a file; a generator of events that returns what the job's own function returns.

    Parameters
    ----------
    file
        From `read_job`.
    output
        Where the result goes; see `output_of`.
    overwrite
        Replace a result that is there.
    resume, force
        Of a training run; see `train`.

    Raises
    ------
    SpecError
        If an option does not belong to the job.
    Unet3dError
        As `predict_file`, `augment_files` and `train_files`.
    """
    job = file.job
    if isinstance(job, TrainJob):
        if overwrite:
            raise SpecError("A training run is not overwritten: go on with --resume, or choose another --output.")
        start = None if job.start is None else cached_model(job.start)
        return train_files(job.spec, pairs_of(job, {}), output, start=start, resume=resume, force=force)
    if resume or force:
        raise SpecError("Only a training run goes on: --resume and --force do not belong to this job.")
    if job.image is None:
        raise SpecError("The job does not say where its image lies.")
    image = _volume(job.image, file.calibration)
    if isinstance(job, SegmentJob):
        return _after(image.notes, predict_file(image, model_of(job), job.spec, output, overwrite=overwrite))
    labels = None if job.labels is None else read_volume(**job.labels.model_dump(), kind="labels")
    notes = (*image.notes, *(() if labels is None else notes_on_numbers(labels)))
    return _after(notes, augment_files(image, labels, job.request, output, overwrite=overwrite))


def _after(notes: Iterable[str], run: Generator[Event, None, Any]) -> Generator[Event, None, Any]:
    """Say what should be known of the input, each once, and do the work."""
    yield from map(Note, dict.fromkeys(notes))
    return (yield from run)


def _volume(place: OnDisk, calibration: ImageCalibration | None) -> Volume:
    volume = read_volume(**place.model_dump())
    if calibration is None:
        return volume
    named = [dict(zip("zyx", numbers, strict=True)) for numbers in (calibration.voxel_size, calibration.translate)]
    known = calibrate(named[0], calibration.unit, named[1])
    return replace(volume, calibration=known, notes=notes_on_numbers(volume))

"""A job as a file: what the window was asked to do, for `napari-unet3d run`, on another machine or next year.

Paths in it are relative to the folder of the file, where they lie in it; so a folder that holds the file, its volumes
and its model can be copied to a cluster.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from napari_unet3d import atomic
from napari_unet3d.errors import SpecError, shown
from napari_unet3d.small_files import read_small
from napari_unet3d.tasks.events import Event
from napari_unet3d.tasks.jobs.base import FileOptions
from napari_unet3d.tasks.jobs.kinds import AnyFileJob
from napari_unet3d.tasks.jobs.places import ImageCalibration
from napari_unet3d.tasks.segment.blocks import BlockComputer
from napari_unet3d.tasks.specs import FOLDER, PathOnDisk, Spec

FORMAT = "napari-unet3d job"
_SUFFIX = ".ome.tif"


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
    job: Annotated[AnyFileJob, Field(discriminator="kind")]
    output: PathOnDisk | None = None
    calibration: ImageCalibration | None = None

    @model_validator(mode="after")
    def _on_disk(self) -> JobFile:
        if not self.job.is_on_disk:
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
        raise SpecError(f"{shown(source)} is not a job: {where + ': ' if where else ''}{reason}.") from error


def output_of(file: JobFile, path: str | os.PathLike[str]) -> Path:
    """Return where the result of a job goes."""
    return file.job.place(file.output, Path(path).absolute().with_suffix(_SUFFIX))


def run_job(
    file: JobFile,
    output: Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    force: bool = False,
    computer: BlockComputer | None = None,
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
    resume
        Go on with a run that was stopped.
    force
        Of a training run; see `train`.
    computer
        Who computes the blocks of a segmentation; None does it here.

    Raises
    ------
    SpecError
        If an option does not belong to the job.
    Unet3dError
        As `predict_file`, `augment_files` and `train_files`.
    """
    return file.job.run(output, FileOptions(file.calibration, overwrite, resume, force, computer))

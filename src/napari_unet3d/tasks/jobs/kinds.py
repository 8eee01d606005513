"""The kinds of jobs and of results there are: whoever reads one from JSON asks here."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from napari_unet3d.tasks.augment.patches import AugmentResult
from napari_unet3d.tasks.jobs.augment import AugmentJob
from napari_unet3d.tasks.jobs.segment import SegmentJob, SegmentResult
from napari_unet3d.tasks.jobs.train import TrainJob, TrainJobResult
from napari_unet3d.tasks.jobs.warm import WarmJob, WarmResult

AnyFileJob = SegmentJob | AugmentJob | TrainJob
AnyJob = AnyFileJob | WarmJob
JobResult = SegmentResult | AugmentResult | TrainJobResult | WarmResult

_JOB: TypeAdapter[Any] = TypeAdapter(Annotated[AnyJob, Field(discriminator="kind")])
_RESULT: TypeAdapter[Any] = TypeAdapter(Annotated[JobResult, Field(discriminator="kind")])


def job_from_json(text: str) -> AnyJob:
    """Return the job that `model_dump_json` gave."""
    job: AnyJob = _JOB.validate_json(text)
    return job


def result_from_json(text: str) -> JobResult:
    """Return the result of a job that `model_dump_json` gave."""
    result: JobResult = _RESULT.validate_json(text)
    return result

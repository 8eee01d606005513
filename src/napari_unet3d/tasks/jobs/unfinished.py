"""Segmentations into files that were started and not finished: one small file for each, kept when the program ends.

What is done lies beside the result; here is what job it was. A file may be lost: then the run is not offered, and
`--resume` still goes on with it.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from napari_unet3d import atomic
from napari_unet3d.errors import Unet3dError
from napari_unet3d.tasks.jobs.files import JobFile, read_job, write_job
from napari_unet3d.tasks.jobs.segment import SegmentJob
from napari_unet3d.tasks.segment.work.ledger import is_in_use, n_voxels_done
from napari_unet3d.volumes.paths import image_file

_MOST = 12
# A run that waits for its turn has done nothing yet.
_LOST_AFTER = timedelta(days=7)


@dataclass(frozen=True)
class UnfinishedRun:
    """A segmentation that can go on.

    Attributes
    ----------
    job
        What was asked for; its `output` is the result.
    voxels
        How many are done.
    begun
        When it was started.
    """

    job: SegmentJob
    voxels: int
    begun: datetime

    @property
    def output(self) -> Path:
        """Return where the result will be."""
        return self.job.output or Path()


def remember_unfinished(folder: Path, job: SegmentJob) -> None:
    """Note a job that begins, whose image and result lie on disk; where that cannot be written, nothing is noted."""
    if job.output is None or job.image is None:
        return
    with suppress(OSError, Unet3dError):
        folder.mkdir(parents=True, exist_ok=True)
        write_job(JobFile(job=job, calibration=job.calibration), _file_of(folder, job.output), overwrite=True)


def forget_unfinished(folder: Path, output: Path) -> None:
    """Note that a result is complete, or is not wanted any more."""
    with suppress(OSError):
        atomic.remove(_file_of(folder, output))


def unfinished_runs(folder: Path) -> list[UnfinishedRun]:
    """Return what can go on, newest first; reads the disk. What is complete, gone or being written is left out."""
    found = []
    with suppress(OSError):
        for path in folder.glob("*.json"):
            with suppress(OSError, Unet3dError):
                if (run := _read(path)) is not None:
                    found.append(run)
    return sorted(found, key=lambda run: run.begun, reverse=True)[:_MOST]


def _read(path: Path) -> UnfinishedRun | None:
    job = read_job(path).job
    if not isinstance(job, SegmentJob) or job.output is None or job.image is None:
        return None
    if is_in_use(job.output):
        return None
    begun = datetime.fromtimestamp(path.stat().st_mtime).astimezone()
    voxels = n_voxels_done(job.output)
    # A disk that is not there now may come back.
    is_lost = not voxels and job.output.parent.is_dir()
    if is_lost and datetime.now().astimezone() - begun > _LOST_AFTER:
        atomic.remove(path)
    is_there = image_file(job.image.path) is not None and job.model.exists()
    return UnfinishedRun(job, voxels, begun) if voxels and is_there else None


def _file_of(folder: Path, output: Path) -> Path:
    return folder / f"{hashlib.sha256(str(output).encode()).hexdigest()[:16]}.json"

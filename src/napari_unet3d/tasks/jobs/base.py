"""What every kind of job is: a value that says what is to be done, and does it.

A new kind is a file beside this one with a class, and a word in `kinds`; nothing else asks which kind a job is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from napari_unet3d.core.objects.clean_up import Writable
from napari_unet3d.errors import SpecError
from napari_unet3d.tasks.events import Event
from napari_unet3d.tasks.jobs.places import ImageCalibration
from napari_unet3d.tasks.segment.blocks import BlockComputer
from napari_unet3d.tasks.specs import Spec

Arrays = Mapping[str, Writable]


class Job(Spec):
    """Work as a value, small enough to cross into another process.

    Each kind has a field `kind`, by which its JSON is told from that of others.

    Attributes
    ----------
    keeps_when_stopped
        Told to stop, it still writes down what it has; so it should not be killed at once.
    """

    keeps_when_stopped: ClassVar[bool] = False

    @abstractmethod
    def perform(self, arrays: Arrays) -> Generator[Event, None, Spec]:
        """Do the job; a generator of events, each a safe point to stop.

        Parameters
        ----------
        arrays
            What it reads and writes, by name: NumPy arrays, or arrays that lie somewhere else.

        Raises
        ------
        Unet3dError
            If it cannot be done.
        """


@dataclass(frozen=True)
class FileOptions:
    """How a job of files is done.

    Attributes
    ----------
    calibration
        Of the image, instead of what its file says.
    overwrite
        Replace a result that is there.
    resume, force
        Go on with a run that was stopped; although something differs.
    computer
        Who computes the blocks of a segmentation; None does it here.
    """

    calibration: ImageCalibration | None = None
    overwrite: bool = False
    resume: bool = False
    force: bool = False
    computer: BlockComputer | None = None


class FileJob(Job):
    """A job that can be kept in a file, and done with files alone."""

    @property
    @abstractmethod
    def is_on_disk(self) -> bool:
        """Return whether all that it reads lies on disk."""

    @abstractmethod
    def run(self, output: Path, options: FileOptions) -> Generator[Event, None, Any]:
        """Do the job from files to files, and return what its own function returns; its notes come first.

        Raises
        ------
        SpecError
            If an option does not belong to this kind of job.
        Unet3dError
            If it cannot be done.
        """

    def place(self, asked: Path | None, beside: Path) -> Path:
        """Return where the result goes.

        Parameters
        ----------
        asked
            Where it was asked for, or None.
        beside
            The result's place if it was not.
        """
        return asked or beside

    def _refuse_cluster(self, options: FileOptions) -> None:
        if options.computer is not None:
            raise SpecError("Only a segmentation is computed by several workers (--workers, --cluster).")

    def _refuse_resuming(self, options: FileOptions) -> None:
        if options.resume or options.force:
            raise SpecError("Only training and segmentation go on: --resume and --force do not belong to this job.")

"""The errors a user can meet, each with a message that can be acted on.

A message says what was passed, what is wrong with it and what works. Mistakes of a caller
in code stay `TypeError` and `ValueError`.
"""

from __future__ import annotations

import os


class Unet3dError(Exception):
    """Something a user passed, or a machine lacks, that stops the work."""


class SizeError(Unet3dError):
    """A size does not fit the network."""


class MemoryBudgetError(Unet3dError):
    """Nothing fits into the memory that may be used."""


class OutOfMemoryError(Unet3dError):
    """The device ran out of memory in mid-computation."""


class DeviceError(Unet3dError):
    """The device that was asked for is not there."""


class VolumeError(Unet3dError):
    """A volume cannot be read, or is not what it should be."""


class OutputError(Unet3dError):
    """A result cannot be written where it was asked for."""


class ModelError(Unet3dError):
    """A model folder, or a foreign model file, is refused."""


class SpecError(Unet3dError):
    """The choices for a run contradict each other or the data."""


class TrainingError(Unet3dError):
    """Training cannot go on: it diverged, or its run folder belongs to something else."""


class EngineError(Unet3dError):
    """The worker process ended, or met something that this program did not foresee.

    Attributes
    ----------
    details
        What is known of it, for whoever looks into it; several lines.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path as text that can always be printed.

    Under ``LANG=C`` a path with an umlaut holds surrogates, and printing those raises.
    """
    text = os.fspath(path)
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")

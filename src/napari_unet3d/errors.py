"""The errors a user can meet, each with a message that can be acted on.

A message says what was passed, what is wrong with it and what works. Mistakes of a caller
in code stay `TypeError` and `ValueError`.
"""

from __future__ import annotations

import os
from unicodedata import category

# Controls, format characters, surrogates, separators of lines and paragraphs.
_STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")
_HARMLESS = "\n\t\u00ad\u200c\u200d"


class Unet3dError(Exception):
    """The work cannot go on: the user passed something wrong, or the machine lacks something."""


class SizeError(Unet3dError):
    """A size does not fit the network."""


class MemoryBudgetError(Unet3dError):
    """Nothing fits into the memory that may be used."""


class OutOfMemoryError(Unet3dError):
    """The device ran out of memory while computing."""


class DeviceError(Unet3dError):
    """The device that was asked for is not there."""


class VolumeError(Unet3dError):
    """A volume cannot be read, or is not what it should be."""


class AxesError(VolumeError):
    """A file does not hold one volume by its axes, channels and points in time: other choices may read it."""


class OutputError(Unet3dError):
    """A result cannot be written where it was asked for."""


class ModelError(Unet3dError):
    """A model folder, or a foreign model file, is refused."""


class SpecError(Unet3dError):
    """The choices for a run contradict each other or the data."""


class PlaceError(SpecError):
    """Labels and image do not lie on the same voxels, by their sizes and positions."""


class TrainingError(Unet3dError):
    """Training cannot go on: it diverged, or its run folder belongs to something else."""


class ProjectError(Unet3dError):
    """A project cannot be used: it is damaged, of a newer version, or none."""


class BlocksFailedError(Unet3dError):
    """Some blocks of a run could not be computed, whoever tried; all others are kept.

    Attributes
    ----------
    failures
        A line for each: which block, and why.
    """

    def __init__(self, message: str, failures: tuple[str, ...]) -> None:
        super().__init__(message)
        self.failures = failures


class EngineError(Unet3dError):
    """The worker process ended, or hit an unexpected error.

    Attributes
    ----------
    details
        Several lines for whoever looks into the error.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


def shown(path: str | os.PathLike[str]) -> str:
    r"""Return a path as text on one line that can always be printed.

    Under ``LANG=C`` a path with an umlaut holds surrogates, and printing those raises.

    Examples
    --------
    >>> shown("a\x1b[2Jb\n.tif")
    'a\\x1b[2Jb\\n.tif'
    """
    text = os.fspath(path)
    try:
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def is_possible(path: str | os.PathLike[str]) -> bool:
    r"""Return whether a file could have this name: a text from a JSON file may hold what no system takes.

    Examples
    --------
    >>> is_possible("a.tif"), is_possible("a\0.tif"), is_possible("\ud800.tif")
    (True, False, False)
    """
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def visible(text: str) -> str:
    r"""Return a text with all characters spelled out that steer a terminal, or the direction and place of others.

    Names and notes come from files, and files from anywhere. Lines and tabs stay, and so do the joiners that some
    scripts need.

    Examples
    --------
    >>> visible("a\x1b[31m, \x9b2J, \u202egpj.exe")
    'a\\x1b[31m, \\x9b2J, \\u202egpj.exe'
    """
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if category(character) in _STEERING and character not in _HARMLESS
        else character
        for character in text
    )

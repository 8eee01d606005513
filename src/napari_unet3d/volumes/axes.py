"""Which axis of a file is which.

A file's axes are given as letters, one an axis: "z", "y", "x", "c" (channel), "t" (time), "s" (the samples
of a colour) and "?" (the file does not say). A volume has z, y and x, and c where there are several channels.
Here is decided whether the letters suffice; where they do not, the error says what to pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from napari_unet3d.errors import VolumeError

_NAMES = {"c": "channel", "t": "time", "s": "colour samples", "?": "unnamed"}
_ADVICE = "name them as they lie in the file with axes={0!r} (on the command line: --axes {0})"


def name_axes(where: str, shape: Sequence[int], found: str, wanted: str | None = None) -> str:
    """Return a letter for each axis: "z", "y", "x", "c", or "1" for an axis of length 1 that is dropped.

    Parameters
    ----------
    where
        What is read, for messages.
    shape
        The size of each axis in the file.
    found
        The letters that the file gives, one an axis.
    wanted
        The user's own letters for all axes, or for all that are longer than 1; None believes the file.

    Raises
    ------
    VolumeError
        If this is not one volume: 2D, colour, several points in time, or an axis of unknown meaning.
    """
    letters = found if wanted is None else _named(where, shape, found, wanted)
    result = "".join(
        letter if letter in "zyx" or size != 1 else "1" for letter, size in zip(letters, shape, strict=True)
    )
    if wanted is None and "z" not in result and result.count("?") == 1:
        result = result.replace("?", "z")
    for letter, size in zip(result, shape, strict=True):
        if size == 0:
            raise VolumeError(f"{where} holds no voxels: empty axis {letter} ({describe(shape, found)}).")
    _refuse_what_is_no_volume(where, shape, found, result)
    return result


def describe(shape: Sequence[int], letters: str) -> str:
    """Return the axes in words; those of length 1 only if they are needed.

    Examples
    --------
    >>> describe((5, 64, 64, 3), "zyxs")
    'z = 5, y = 64, x = 64, colour samples = 3'
    """
    return ", ".join(
        f"{_NAMES.get(letter, letter)} = {size}"
        for letter, size in zip(letters, shape, strict=True)
        if size != 1 or letter in "zyx"
    )


def _named(where: str, shape: Sequence[int], found: str, wanted: str) -> str:
    letters = wanted.lower()
    unusable = set(letters) - set("zyxct")
    if unusable or len(set(letters)) != len(letters) or not set("zyx") <= set(letters):
        raise VolumeError(
            f"axes={wanted!r} cannot be used for {where}: it needs z, y and x once each, "
            "and may have c (channels) and t (time), such as 'zyx' or 'zyxc'."
        )
    if len(letters) == len(shape):
        return letters
    long_axes = [at for at, size in enumerate(shape) if size != 1]
    if len(letters) == len(long_axes):
        named = ["1"] * len(shape)
        for at, letter in zip(long_axes, letters, strict=True):
            named[at] = letter
        return "".join(named)
    raise VolumeError(
        f"axes={wanted!r} names {len(letters)} axes, but {where} has {len(shape)}: {describe(shape, found)}."
    )


def _refuse_what_is_no_volume(where: str, shape: Sequence[int], found: str, letters: str) -> None:
    axes = describe(shape, found)
    if "t" in letters and "z" in letters:
        raise VolumeError(
            f"{where} holds several points in time ({axes}); a volume is one of them. "
            "Save the one you want as a file of its own."
        )
    if letters.count("y") != 1 or letters.count("x") != 1 or letters.count("z") > 1 or letters.count("c") > 1:
        raise VolumeError(f"{where} has axes that are no volume ({axes}); {_ADVICE.format(_guess(letters))}.")
    if "z" not in letters and not set(letters) & set("ct?"):
        kind = "a 2D colour image" if "s" in letters else "one 2D image"
        raise VolumeError(
            f"{where} is {kind} ({axes}); a volume needs the axis z as well. "
            "Pass a stack, or the folder that holds all its slices."
        )
    if set(letters) & set("ts?") or "z" not in letters:
        what = "colour (RGB)" if "s" in letters else "not a plain volume"
        raise VolumeError(
            f"{where} is {what}: its axes are {axes}. If that is how it should be read, "
            f"{_ADVICE.format(_guess(letters))}."
        )


def _guess(letters: str) -> str:
    """Return the axes string that most likely resolves what the file leaves open."""
    free = [letter for letter in "zyxc" if letter not in letters]
    guess = ""
    for letter in letters:
        if letter == "1":
            continue
        if letter in "zyxc" and letter not in guess and not (letter == "c" and "z" in free):
            guess += letter
        elif letter == "s" and "c" in free:
            guess += free.pop(free.index("c"))
        elif free:
            guess += free.pop(0)
    return guess

"""Which axis of a file is which, and which channel and point in time are wanted.

A file's axes are given as letters, one per axis: "z", "y", "x", "c" (channel), "t" (time), "s" (the samples
of a colour), "o" (another one, such as angles) and "?" (the file does not say). A volume has z, y and x, and c
where there are several channels. Here is decided whether the letters suffice; where they do not, the error says
what to pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_unet3d.errors import AxesError, VolumeError

_NAMES = {"c": "channel", "t": "time", "s": "colour samples", "o": "another axis", "?": "unnamed"}
_ADVICE = "name them as they lie in the file with axes={0!r} (on the command line: --axes {0})"
_COLOURS = (3, 4)


@dataclass(frozen=True)
class Pick:
    """What of a file is wanted.

    Parameters
    ----------
    axes
        A letter for each axis as it lies in the file; None believes the file.
    channel, timepoint
        Which channel and which point in time, counted from 0; None takes all channels, and the only point in time.
    is_labels
        Whether the numbers are labels, which are kept as they are however large: what they mean decides.
    """

    axes: str | None = None
    channel: int | None = None
    timepoint: int | None = None
    is_labels: bool = False

    def positions(self, letters: str) -> dict[int, int]:
        """Return the position along each axis, by its number, of which only one position is wanted."""
        wanted = {"c": self.channel, "t": self.timepoint}
        return {
            axis: position
            for axis, letter in enumerate(letters)
            if letter in wanted and (position := wanted[letter]) is not None
        }


EVERYTHING = Pick()


def unnamed_axes(shape: Sequence[int], dtype: npt.DTypeLike) -> str:
    """Return the letters of an array that does not name its axes; three are (z, y, x), unless they look like a photo.

    Axes of length 1 do not count where there are more than three.

    Examples
    --------
    >>> unnamed_axes((5, 64, 64), "uint16"), unnamed_axes((64, 64, 3), "uint8"), unnamed_axes((2, 5, 64, 64), "uint8")
    ('zyx', 'yxs', '????')
    """
    if len(shape) == 3 and shape[-1] in _COLOURS and np.dtype(dtype) == np.uint8 and min(shape[:2]) > shape[-1]:
        return "yxs"
    long_axes = [axis for axis, size in enumerate(shape) if size != 1]
    if len(shape) > 3 and len(long_axes) == 3:
        named = unnamed_axes([shape[axis] for axis in long_axes], dtype)
        letters = dict(zip(long_axes, named, strict=True))
        return "".join(letters.get(axis, "?") for axis in range(len(shape)))
    return {2: "yx", 3: "zyx"}.get(len(shape), "?" * len(shape))


def name_axes(where: str, shape: Sequence[int], found: str, pick: Pick = EVERYTHING) -> str:
    """Return a letter for each axis: "z", "y", "x", "c", "t", or "1" for an axis of length 1 that is dropped.

    Parameters
    ----------
    where
        What is read, for messages.
    shape
        The size of each axis in the file.
    found
        The letters that the file gives, one per axis.
    pick
        What is wanted. Its axes may leave out those of length 1.

    Raises
    ------
    VolumeError
        If this is not one volume: 2D, colour, several points in time, or an axis of unknown meaning; or if there is
        no such channel or point in time.
    """
    letters = found if pick.axes is None else _named(where, shape, found, pick.axes)
    result = "".join(
        letter if letter in "zyx" or size != 1 else "1" for letter, size in zip(letters, shape, strict=True)
    )
    if pick.axes is None and "z" not in result and result.count("?") == 1:
        result = result.replace("?", "z")
    for letter, size in zip(result, shape, strict=True):
        if size == 0:
            raise VolumeError(f"{where} holds no voxels: empty axis {letter} ({describe(shape, found)}).")
    for letter, position in (("c", pick.channel), ("t", pick.timepoint)):
        if letter in result or "?" not in result:
            _check_position(where, letter, position, shape[result.index(letter)] if letter in result else 1)
    left = "".join("1" if axis in pick.positions(result) else letter for axis, letter in enumerate(result))
    _refuse_what_is_no_volume(where, shape, found, left, pick)
    return result


def _check_position(where: str, letter: str, position: int | None, size: int) -> None:
    if position is None or 0 <= position < size:
        return
    what, option = ("channel", "channel") if letter == "c" else ("point in time", "timepoint")
    there = f"has one {what}" if size == 1 else f"has {size} {'channels' if letter == 'c' else 'points in time'}"
    raise AxesError(f"{where} {there}, counted from 0; {option} {position} is not there.")


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
        raise AxesError(
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
    raise AxesError(
        f"axes={wanted!r} names {len(letters)} axes, but {where} has {len(shape)}: {describe(shape, found)}."
    )


def _refuse_what_is_no_volume(where: str, shape: Sequence[int], found: str, letters: str, pick: Pick) -> None:
    axes = describe(shape, found)
    if "t" in letters and "z" in letters:
        is_flat = shape[letters.index("z")] == 1
        doubt = f" If they are slices, {_ADVICE.format(_slices_for_times(letters))}." if is_flat else ""
        raise AxesError(
            f"{where} holds several points in time ({axes}); a volume is one of them. "
            f"Choose one with timepoint=0, or a later one (on the command line: --timepoint 0).{doubt}"
        )
    if letters.count("y") != 1 or letters.count("x") != 1 or letters.count("z") > 1 or letters.count("c") > 1:
        raise AxesError(f"{where} has axes that do not make a volume ({axes}); {_advice(shape, letters, pick)}.")
    if "z" not in letters and not set(letters) & set("cto?"):
        kind = "a 2D colour image" if "s" in letters else "one 2D image"
        raise AxesError(
            f"{where} is {kind} ({axes}); a volume needs the axis z as well. "
            f"Pass a stack, or the folder that holds all its slices.{_doubt(letters)}"
        )
    if set(letters) & set("tso?") or "z" not in letters:
        what = "colour (RGB)" if "s" in letters else "not a plain volume"
        raise AxesError(
            f"{where} is {what}: its axes are {axes}. If that is how it should be read, "
            f"{_advice(shape, letters, pick)}."
        )


def _advice(shape: Sequence[int], letters: str, pick: Pick) -> str:
    """Return what to pass for what the file leaves open: the axes, and a point in time if they have several."""
    guess = _guess(shape, letters)
    if pick.timepoint is not None and pick.channel is None and "t" not in guess and "c" not in letters:
        guess = guess.replace("c", "t")
    has_times = "t" in guess and "z" in guess and pick.timepoint is None
    when = ", and choose a point in time with timepoint=0 (on the command line: --timepoint 0)" if has_times else ""
    return _ADVICE.format(guess) + when


def _slices_for_times(letters: str) -> str:
    """Return the axes of points in time that are slices."""
    return "".join({"t": "z", "z": "", "1": ""}.get(letter, letter) for letter in letters)


def _doubt(letters: str) -> str:
    """Return what to pass if three axes that look like a photo are a volume all the same."""
    is_photo = sorted(letters.replace("1", "")) == ["s", "x", "y"]
    return f" If it is a volume all the same, {_ADVICE.format('zyx')}." if is_photo else ""


def _guess(shape: Sequence[int], letters: str) -> str:
    """Return the axes string that most likely resolves what the file leaves open."""
    long_axes = [axis for axis, letter in enumerate(letters) if letter != "1"]
    guess = {axis: letters[axis] for axis in long_axes if letters[axis] in "zyxct"}
    if "t" in guess.values() and "z" not in guess.values() and len(long_axes) < 4:
        guess = {axis: letter for axis, letter in guess.items() if letter != "t"}
    if "c" in guess.values() and "z" not in guess.values() and len(long_axes) < 4:
        guess = {axis: letter for axis, letter in guess.items() if letter != "c"}
    open_axes = [axis for axis in long_axes if axis not in guess]
    free = [letter for letter in "zyx" if letter not in guess.values()]
    if len(open_axes) > len(free) + 1 and "t" not in guess.values():
        # Where time is an axis, it comes first.
        guess[open_axes.pop(0)] = "t"
    if len(open_axes) > len(free) and "c" not in guess.values():
        # Channels come first or last, and are few; colours are channels.
        ends = (open_axes[-1], open_axes[0])
        colours = [axis for axis in open_axes if letters[axis] == "s"]
        channel = colours[0] if colours else min(ends, key=lambda axis: shape[axis])
        open_axes.remove(channel)
        guess[channel] = "c"
    guess |= dict(zip(open_axes, free, strict=False))
    return "".join(guess[axis] for axis in long_axes if axis in guess)

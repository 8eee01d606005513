"""Which files of a folder are the slices of one stack, and in which order: read from their names alone.

Names of one pattern differ only in their numbers. One of those numbers counts the slices: the one that runs on
without a gap and comes once; others may be time stamps or positions. Names only; no file is opened.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from napari_unet3d.errors import VolumeError, shown
from napari_unet3d.volumes.volume import is_labels_name

_WHOLE = re.compile(r"[0-9]+")
_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]+)?")
# A sign behind a letter or a separator; between digits it is a hyphen, as in a date.
_SIGNED = re.compile(r"(?<![0-9])[-+]?[0-9]+(?:\.[0-9]+)?")
# What file managers add to the name of a copy.
_COPY = re.compile(r"( ?\([0-9]+\)|[ _-]+(copy|kopie|copie|copia)( ?\(?[0-9]+\)?)?)(?=\.[^.]*$)", re.IGNORECASE)
# What stands before the number of a slice.
_COUNTS_Z = re.compile(r"(?<![a-z])(z|slice|plane|pln|sl)[ _=-]*$", re.IGNORECASE)
_SHOWN = 5


@dataclass(frozen=True)
class Numbered:
    """The slices of a stack.

    Parameters
    ----------
    names
        In order.
    notes
        What was left out or assumed, a sentence each.
    """

    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a key under which names sort by the numbers in them.

    Examples
    --------
    >>> sorted(["z10.tif", "z2.tif", "z1.tif"], key=natural_key)
    ['z1.tif', 'z2.tif', 'z10.tif']
    """
    parts = re.split(r"([0-9]+)", name)
    return [(1, int(part), "") if at % 2 else (0, 0, part.lower()) for at, part in enumerate(parts)], name


def pattern_of(name: str) -> str:
    """Return what names of one stack have in common: each number as a star.

    Examples
    --------
    >>> pattern_of("DAPI_z003.tif")
    'DAPI_z*.tif'
    """
    return _WHOLE.sub("*", name)


def order_slices(names: Sequence[str], where: str, wanted: str | None = None) -> Numbered:
    """Return the slices among the names of a folder, in order.

    Parameters
    ----------
    names
        All images in the folder.
    where
        The folder, for messages.
    wanted
        A pattern with stars for the names that are meant; None takes all, if they are of one stack.

    Raises
    ------
    VolumeError
        If there are several stacks, a slice is missing in the numbering, or comes twice.
    """
    if wanted is not None:
        chosen = _matching(names, wanted)
        if not chosen:
            listed = _listed([pattern_of(name) for name in names])
            raise VolumeError(f"{where} holds no slice called {wanted!r}; its names are like: {listed}.")
        return Numbered(_in_order(chosen, where))
    originals, copies = _without_copies(sorted(names, key=natural_key), where)
    groups: dict[str, list[str]] = {}
    for name in originals:
        groups.setdefault(_stem_pattern(name, _WHOLE), []).append(name)
    if len(groups) > 1 and len({_stem_pattern(name, _SIGNED) for name in originals}) == 1:
        # Positions on both sides of 0.
        groups = {"": originals}
    # Of stacks of one length the first is what an image is called, and a TIFF.
    ranked = sorted(
        groups.values(), key=lambda group: (-len(group), is_labels_name(group[0]), group[0].lower().endswith(".png"))
    )
    if len(ranked) > 1 and len(ranked[0]) == 1:
        note = "The names of the slices have no pattern in common; they are taken in the order of their names."
        return Numbered(tuple(sorted(originals, key=natural_key)), (note, *_left_out(copies, "copies, by their names")))
    if len(ranked) > 1 and len(ranked[1]) > 1:
        listed = "; ".join(f"{pattern_of(group[0])} ({len(group)} files)" for group in ranked[:_SHOWN])
        raise VolumeError(
            f"{where} holds several stacks, or masks beside their image: {listed}. "
            f"Choose one: {where}:{pattern_of(ranked[0][0])}"
        )
    strays = [name for group in ranked[1:] for name in group]
    notes = (*_left_out(copies, "copies, by their names"), *_left_out(strays, "named in another way"))
    return Numbered(_in_order(ranked[0], where), notes)


def _stem_pattern(name: str, number: re.Pattern[str]) -> str:
    """Return what names of one stack have in common, whatever the case of their suffix."""
    stem, dot, suffix = name.rpartition(".")
    return number.sub("*", stem) + dot + suffix.lower()


def _matching(names: Sequence[str], wanted: str) -> list[str]:
    """Return the names that a pattern means: its stars are numbers, and anything only if no name fits so."""
    parts = [re.escape(part) for part in wanted.split("*")]
    patterns = (re.compile(star.join(parts)) for star in ("[0-9]+", ".*"))
    return next((found for one in patterns if (found := [name for name in names if one.fullmatch(name)])), [])


def _without_copies(names: Sequence[str], where: str) -> tuple[list[str], list[str]]:
    """Return the names without those that a file manager gave to copies, and these.

    Raises
    ------
    VolumeError
        If a single name has several copies, which may be the slices.
    """
    known = set(names)
    copies = [name for name in names if (plain := _COPY.sub("", name)) != name and plain in known]
    originals = [name for name in names if name not in set(copies)]
    if len(originals) == 1 and len(copies) > 1:
        raise VolumeError(
            f"{where} holds {originals[0]} and {len(copies)} files that are copies of it, by their names: "
            f"{_listed(copies)}. If these are the slices, rename them: z000.tif, z001.tif, .."
        )
    return originals, copies


def _left_out(names: Sequence[str], what: str) -> list[str]:
    if not names:
        return []
    return [f"Left out ({len(names)} {what}): {_listed(names)}."]


def _in_order(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the names of one pattern in the order of the number that counts them."""
    names = sorted(names, key=natural_key)
    is_signed = len({_stem_pattern(name, _WHOLE) for name in names}) > 1
    if len(names) < 2 or len({_stem_pattern(name, _SIGNED if is_signed else _WHOLE) for name in names}) > 1:
        return tuple(names)
    has_decimals = all(any("." in number for number in _DECIMAL.findall(name)) for name in names)
    columns = _columns(names, _SIGNED if is_signed else _DECIMAL if has_decimals else _WHOLE)
    varying = [column for column in columns if len(set(column)) > 1]
    if not varying:
        raise VolumeError(f"{where} holds a slice twice: {names[0]} and {names[1]}.")
    unique = [column for column in varying if len(set(column)) == len(names)]
    if not unique:
        raise _several(names, varying[-1], where)
    whole = [column for column in unique if _has_one_step(column)]
    orders = {tuple(sorted(range(len(names)), key=column.__getitem__)) for column in whole or unique}
    if len(orders) > 1:
        raise VolumeError(
            f"{where} holds slices whose names count in two ways that do not agree: {names[0]}, {names[1]}, .. "
            "Rename them so that one number counts the slices."
        )
    order = orders.pop()
    if not whole:
        raise _gap([names[at] for at in order], sorted(unique[-1]), where)
    return tuple(names[at] for at in order)


def _columns(names: Sequence[str], number: re.Pattern[str]) -> list[tuple[Decimal, ...]]:
    """Return each number in the names as one value per name; none if they do not have the same count of them."""
    rows = [[Decimal(text) for text in number.findall(name)] for name in names]
    return [tuple(column) for column in zip(*rows, strict=True)] if len({len(row) for row in rows}) == 1 else []


def _has_one_step(column: Sequence[Decimal]) -> bool:
    ordered = sorted(column)
    return len({after - before for before, after in pairwise(ordered)}) == 1


def _several(names: Sequence[str], column: Sequence[Decimal], where: str) -> VolumeError:
    """Return the error for a number that comes more than once: channels, points in time, or several stacks."""
    at = next((at for at, (before, after) in enumerate(pairwise(column)) if after <= before), 0)
    pattern = _one_of_several(names)
    example = f", or choose one channel or point in time by its name, such as {where}:{pattern}" if pattern else "."
    return VolumeError(
        f"{where} holds several stacks, or channels, or a slice twice: {names[at + 1]} follows {names[at]}. "
        f"Keep each stack in a folder of its own{example}"
    )


def _one_of_several(names: Sequence[str]) -> str:
    """Return the pattern of one of several stacks: of the numbers in the names all but one are kept.

    That one follows the letter z, or is the last that gives the longest stack.
    """
    texts = [_WHOLE.findall(name) for name in names]
    pieces = _WHOLE.split(names[0])
    found: list[tuple[bool, int, int, str]] = []
    for counted in range(len(texts[0])):
        fixed = ["*" if at == counted else text for at, text in enumerate(texts[0])]
        pattern = pieces[0] + "".join(number + piece for number, piece in zip(fixed, pieces[1:], strict=True))
        chosen = set(_matching(names, pattern))
        rest = [Decimal(row[counted]) for name, row in zip(names, texts, strict=True) if name in chosen]
        if 1 < len(rest) < len(names) and len(set(rest)) == len(rest) and _has_one_step(rest):
            found.append((_COUNTS_Z.search(pieces[counted]) is not None, len(rest), counted, pattern))
    return max(found)[-1] if found else ""


def _gap(names: Sequence[str], column: Sequence[Decimal], where: str) -> VolumeError:
    steps = [after - before for before, after in pairwise(column)]
    usual = min(steps)
    gap = next(at for at, step in enumerate(steps) if step != usual)
    missing: list[str] = []
    for before, after in pairwise(column):
        number = before + usual
        while number < after and len(missing) <= _SHOWN:
            missing.append(str(number))
            number += usual
    listed = ", ".join(missing[:_SHOWN]) + (" .." if len(missing) > _SHOWN else "")
    return VolumeError(
        f"{where} lacks slices: {listed} (the first gap is between {names[gap]} and {names[gap + 1]}). "
        "Add them, or renumber the files."
    )


def _listed(names: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(names))
    return ", ".join(map(shown, distinct[:_SHOWN])) + (" .." if len(distinct) > _SHOWN else "")

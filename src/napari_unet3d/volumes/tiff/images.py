"""Which planes of a TIFF make up which image.

A TIFF is a chain of planes; what joins them to images stands in descriptions, or nowhere. Here ImageJ,
tifffile's own description and plain chains become `TiffImage`s, whose planes are directories of the file; OME's are
in `ome_planes`. The voxels are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from napari_unet3d.errors import VolumeError
from napari_unet3d.volumes.tiff.descriptions import (
    Lead,
    imagej_lead,
    imagej_metadata,
    letters_of,
    shaped_metadata,
)
from napari_unet3d.volumes.tiff.directories import Directory, TiffFile, cut_short

Source = tuple[TiffFile, Directory]


@dataclass(frozen=True, eq=False)
class TiffImage:
    """An image in a TIFF.

    Parameters
    ----------
    lead
        The axes that count planes.
    planes
        The directory of each plane, with the file that it is in; a single one of an image whose planes
        follow it without directories of their own.
    name
        What the file calls it.
    notes
        What was left out or assumed, a sentence each.
    plane_letters
        A letter for each axis of a plane, where the file names them; "" where they are y and x.
    """

    lead: Lead
    planes: tuple[Source, ...]
    name: str = ""
    notes: tuple[str, ...] = ()
    plane_letters: str = ""

    @property
    def is_run(self) -> bool:
        """Return whether the planes lie one after the other behind the first, without directories."""
        return len(self.planes) < self.lead.n_planes

    @property
    def outline(self) -> Outline:
        """Return what is said of it when one of several is chosen."""
        directory = self.planes[0][1]
        return Outline(self.lead, self.name, size_text((*self.lead.shape, *directory.shape), directory.dtype))


def size_text(shape: Sequence[int], dtype: object = None) -> str:
    """Return a shape without the axes of length 1, and a number type, as text."""
    sizes = " x ".join(str(size) for size in shape if size > 1) or "1"
    return sizes if dtype is None else f"{sizes} {dtype}"


def plain_images(file: TiffFile) -> list[TiffImage]:
    """Return the images of a file without a description: the planes of one kind are one."""
    kinds: dict[object, list[Source]] = {}
    for directory in file.directories:
        if not directory.is_reduced or len(file.directories) == 1:
            kinds.setdefault(directory.kind, []).append((file, directory))
    if not kinds:
        # Everything calls itself a smaller copy: then nothing is.
        return [TiffImage(Lead("?", (len(file.directories),), False), tuple((file, one) for one in file.directories))]
    n_left_out = len(file.directories) - sum(map(len, kinds.values()))
    notes = (f"{n_left_out} smaller copies or masks of planes are left out.",) if n_left_out else ()
    return [
        TiffImage(
            Lead("?", (len(planes),), False) if len(planes) > 1 else Lead("", (), False), tuple(planes), notes=notes
        )
        for planes in kinds.values()
    ]


def imagej_images(file: TiffFile) -> list[TiffImage]:
    """Return the image that ImageJ wrote; planes that were appended to a stack belong to it."""
    lead = imagej_lead(imagej_metadata(file.description))
    first = file.directories[0]
    planes = tuple((file, directory) for directory in file.directories if directory.kind == first.kind)
    if first.n_samples > 1:
        lead = _without_colours(lead, first.n_samples, len(planes))
    if len(planes) == 1 and lead.n_planes > 1 and len(file.directories) == 1:
        return [TiffImage(lead, planes)]
    if len(planes) < lead.n_planes:
        raise cut_short(file.where, lead.n_planes, len(planes))
    notes: tuple[str, ...] = ()
    if len(planes) > lead.n_planes:
        declared = lead.n_planes
        if any(size > 1 for letter, size in zip(lead.letters, lead.shape, strict=True) if letter in "ct"):
            notes = (f"{len(planes) - declared} planes that its description does not count are left out.",)
            return [TiffImage(lead, planes[:declared], notes=notes)]
        lead = Lead("z", (len(planes),))
        notes = (f"{len(planes)} planes are in the file and {declared} in its description; all are read.",)
    left_out = len(file.directories) - len(planes)
    if left_out:
        notes = (*notes, f"{left_out} planes of another kind are left out.")
    return [TiffImage(lead, planes, notes=notes)]


def _without_colours(lead: Lead, n_samples: int, n_planes: int) -> Lead:
    """Return the axes without the channels that are the samples of a colour."""
    sizes = [
        1 if letter == "c" and size == n_samples and lead.n_planes > n_planes else size
        for letter, size in zip(lead.letters, lead.shape, strict=True)
    ]
    return replace(lead, shape=tuple(sizes))


def shaped_images(file: TiffFile, *, join: bool = True) -> list[TiffImage]:
    """Return the images that tifffile wrote: a description at the first plane of each, and none at its others.

    Images of one kind that were appended, plane by plane or in parts, are one stack, unless it is asked not to `join`.
    """
    parts = [_shaped_part(file, group) for group in _described(file)]
    if not join:
        return parts
    kinds = [list(same) for _, same in groupby(parts, key=lambda part: (part.planes[0][1].kind, *_rest_of(part.lead)))]
    return [joined for same in kinds for joined in _joined(same)]


def _described(file: TiffFile) -> Iterator[list[Directory]]:
    """Yield runs of directories that begin with a description of their shape."""
    run: list[Directory] = []
    for directory in file.directories:
        if directory.is_reduced:
            continue
        begins = directory.description is not None and directory.description[1] > 9
        if begins and run and shaped_metadata(file.text_of(directory.description)):  # type: ignore[arg-type]
            yield run
            run = []
        run.append(directory)
    if run:
        yield run


def _shaped_part(file: TiffFile, run: Sequence[Directory]) -> TiffImage:
    first = run[0]
    found = shaped_metadata(file.text_of(first.description)) if first.description is not None else {}
    shape = [int(size) for size in found.get("shape", ())]
    n_page = 2 if first.n_samples == 1 else 3
    if first.n_samples == 1 and shape[-1:] == [1] and tuple(shape[-3:-1]) == first.shape:
        n_page = 3
    letters = letters_of(found.get("axes"), len(shape))
    lead = Lead(
        (letters or "?" * len(shape))[: len(shape) - n_page], tuple(shape[: len(shape) - n_page]), letters is not None
    )
    same = tuple((file, directory) for directory in run if directory.kind == first.kind)
    if not shape or (len(same) > 1 and len(same) > lead.n_planes):
        # Planes were appended without a description.
        return TiffImage(Lead("?", (len(same),), False), same, notes=("Its pages are read as one stack.",))
    if len(same) < lead.n_planes and len(same) > 1:
        raise cut_short(file.where, lead.n_planes, len(same))
    if not letters and len(lead.shape) == 1:
        # A NumPy array that was saved with three axes is a volume even if the first is 1.
        lead = replace(lead, letters="z", is_named=False)
    return TiffImage(lead, same, str(found.get("name") or ""), plane_letters=(letters or "")[-n_page:])


def _rest_of(lead: Lead) -> tuple[str, tuple[int, ...]]:
    """Return what parts of one stack have in common: all axes but the one along which they can be joined."""
    joins = lead.letters[:1] in ("z", "?", "")
    return (lead.letters[1:], lead.shape[1:]) if joins else (lead.letters, lead.shape)


def _joined(parts: list[TiffImage]) -> list[TiffImage]:
    """Return parts of one kind as one stack, if they can be one: without other axes than z."""
    first = parts[0].lead
    if len(parts) == 1 or len(first.shape) > 1 or first.letters not in ("", "z", "?") or any(p.is_run for p in parts):
        return parts
    planes = tuple(plane for part in parts for plane in part.planes)
    is_named = all(part.lead.is_named for part in parts) and bool(first.letters)
    note = f"{len(planes)} planes that were saved in {len(parts)} parts are read as one stack."
    return [
        TiffImage(
            Lead("z" if is_named or first.letters == "z" else "?", (len(planes),), is_named), planes, notes=(note,)
        )
    ]


@dataclass(frozen=True)
class Outline:
    """What is said of an image when one of several is chosen.

    Parameters
    ----------
    lead
        The axes that count its planes.
    name
        What the file calls it.
    size
        Its shape and number type, as text.
    """

    lead: Lead
    name: str
    size: str

    def __str__(self) -> str:
        return f"{self.name} {self.size}".strip()


def choose_image(images: Sequence[Outline], series: str | None, where: str) -> tuple[int, tuple[str, ...]]:
    """Return the number of the image that is wanted, and a note on the others.

    Parameters
    ----------
    images
        What the file holds.
    series
        The number of an image, counted from 0, or its name; None takes the only volume, or the first.
    where
        The file, for messages.

    Raises
    ------
    VolumeError
        If there is no such image, or they cannot be told apart.
    """
    if series is not None:
        return _numbered(images, series, where), ()
    if len(images) == 1:
        return 0, ()
    volumes = [at for at, image in enumerate(images) if image.lead.n_planes > 1]
    is_described = any(image.lead.is_named or image.name for image in images)
    if not volumes and not is_described:
        raise VolumeError(
            f"{where} holds {len(images)} images of different shapes, each of one plane ({_listed(images)}); "
            "a volume has several planes of one shape. Pass a stack, or the folder that holds all its slices."
        )
    if len(volumes) != 1 and not is_described:
        raise VolumeError(
            f"{where} holds {len(images)} images of different shapes ({_listed(images)}); a volume has one shape. "
            f"Choose one: {where}:{volumes[0]}"
        )
    taken = volumes[0] if volumes else 0
    which = "the first" if taken == 0 else f"number {taken}, counted from 0,"
    left_out = _listed([image for at, image in enumerate(images) if at != taken])
    other = next((at for at in volumes if at != taken), None)
    advice = "" if other is None else f" Another one is read by its number, such as {where}:{other}"
    note = f"The file holds {len(images)} images; {which} is read ({images[taken]}). Left out: {left_out}.{advice}"
    return taken, (note,)


def _numbered(images: Sequence[Outline], series: str, where: str) -> int:
    named = [at for at, image in enumerate(images) if image.name == series]
    if len(named) == 1:
        return named[0]
    if series.isdecimal() and len(series) < 10 and int(series) < len(images):
        return int(series)
    raise VolumeError(
        f"{where} has no image {series!r}; it holds {len(images)}, counted from 0: {_listed(images)}. "
        f"Choose one, such as {where}:0"
    )


def _listed(images: Sequence[Outline]) -> str:
    listed = "; ".join(str(image) for image in images[:8])
    return listed + (f"; and {len(images) - 8} more" if len(images) > 8 else "")

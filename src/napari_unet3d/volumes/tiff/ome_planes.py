"""Where the planes of an OME image lie: which directory of which file, as the XML has it.

The XML may name directories in any order, other files, or only some of the planes; files are renamed after it was
written. The voxels are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from napari_unet3d.volumes.tiff.directories import Directory, TiffFile, cut_short
from napari_unet3d.volumes.tiff.images import Source, TiffImage
from napari_unet3d.volumes.tiff.ome import Block, OmeImage


def ome_image(
    file: TiffFile, described: Sequence[OmeImage], number: int, uuid: str, beside: Callable[[str, str], TiffFile]
) -> TiffImage:
    """Return an image of an OME-TIFF, its planes in the order of their axes.

    Parameters
    ----------
    file
        The file that was passed.
    described
        What the XML says of each image.
    number
        Which of them is wanted.
    uuid
        Of the file that was passed.
    beside
        Opens another file of the image by its name and UUID.

    Raises
    ------
    VolumeError
        If planes are missing, or lie in a file that is not there.
    """
    found = described[number]
    image = _listed(file, found, uuid, beside) if found.blocks else _in_order(file, described, number)
    n_left = len(_whole(file)) - sum(one.lead.n_planes for one in described)
    note = f"{n_left} planes that its OME-XML does not count are left out."
    return replace(image, notes=(*image.notes, note)) if n_left > 0 else image


def _listed(file: TiffFile, found: OmeImage, uuid: str, beside: Callable[[str, str], TiffFile]) -> TiffImage:
    """Return an image whose XML says where its planes lie."""
    n_planes = found.lead.n_planes
    is_only_file = _is_only_file(file, found, uuid)
    planes: dict[int, Source] = {}
    for block in found.blocks:
        is_here = is_only_file or _is_here(block, file.path, uuid)
        home = file if is_here else beside(block.file, block.uuid)
        left = len(home.directories) - block.directory
        count = min(left if block.n_planes is None else block.n_planes, n_planes - block.plane)
        if count > left:
            raise cut_short(home.where, n_planes, len(planes) + max(0, left))
        for at in range(count):
            planes.setdefault(block.plane + at, (home, home.directories[block.directory + at]))
    if len(planes) < n_planes:
        return _completed(file, found, planes)
    return TiffImage(found.lead, tuple(planes[plane] for plane in range(n_planes)), found.name)


def _in_order(file: TiffFile, described: Sequence[OmeImage], number: int) -> TiffImage:
    """Return an image whose planes follow those of the images before it."""
    found, usable = described[number], _whole(file)
    start = sum(one.lead.n_planes for one in described[:number])
    planes = usable[start : start + found.lead.n_planes]
    if len(planes) < found.lead.n_planes:
        raise cut_short(file.where, found.lead.n_planes, len(planes))
    return TiffImage(found.lead, tuple((file, directory) for directory in planes), found.name)


def _whole(file: TiffFile) -> list[Directory]:
    """Return the planes that are no smaller copies, or all if everything calls itself one."""
    return [directory for directory in file.directories if not directory.is_reduced] or list(file.directories)


def _completed(file: TiffFile, found: OmeImage, planes: Mapping[int, Source]) -> TiffImage:
    """Return an image whose XML does not say of each plane where it lies, but whose file has just as many as it needs.

    Raises
    ------
    VolumeError
        If it has not, or the planes that are named lie in another order.
    """
    n_planes = found.lead.n_planes
    if len(file.directories) != n_planes or any(planes[at] != (file, file.directories[at]) for at in planes):
        raise cut_short(file.where, n_planes, len(planes))
    note = f"Its OME-XML says of {len(planes)} of {n_planes} planes where they lie; the pages are read in their order."
    return TiffImage(found.lead, tuple((file, directory) for directory in file.directories), found.name, (note,))


def _is_only_file(file: TiffFile, found: OmeImage, own: str) -> bool:
    """Return whether the XML names one file, which can only be this one under another name: it was renamed."""
    names = {block.file for block in found.blocks}
    uuids = {block.uuid for block in found.blocks}
    if len(names) > 1 or len(uuids) > 1 or (own and any(uuids)) or len(file.directories) < found.lead.n_planes:
        return False
    plain = re.split(r"[/\\]", names.pop())[-1]
    return not (file.path.parent / plain).is_file()


def _is_here(block: Block, path: Path, own: str) -> bool:
    """Return whether a block lies in the file that was passed, which may have been renamed."""
    if block.uuid and own:
        return block.uuid == own
    return not block.file or block.file == path.name

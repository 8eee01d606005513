"""From a TIFF to a volume: its images, the one that is wanted, its axes and its voxel size."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from napari_unet3d.errors import VolumeError, shown
from napari_unet3d.volumes.arrays import arrange
from napari_unet3d.volumes.axes import EVERYTHING, Pick, name_axes
from napari_unet3d.volumes.stack import PlaneStack
from napari_unet3d.volumes.tiff.descriptions import Lead, is_imagej, is_shaped
from napari_unet3d.volumes.tiff.directories import Directory, TiffFile
from napari_unet3d.volumes.tiff.foreign import foreign_sizes, is_foreign, open_tiff, series_of
from napari_unet3d.volumes.tiff.images import (
    Outline,
    TiffImage,
    choose_image,
    imagej_images,
    plain_images,
    shaped_images,
    size_text,
)
from napari_unet3d.volumes.tiff.ome import OmeError, OmeImage, is_ome, names_metadata_file, own_uuid, parse_ome
from napari_unet3d.volumes.tiff.ome_planes import ome_image
from napari_unet3d.volumes.tiff.planes import Layouts, foreign_stack, stack_of
from napari_unet3d.volumes.tiff.sizes import Found, sizes_of
from napari_unet3d.volumes.volume import Volume

# A file that holds the metadata of several others.
_METADATA_LIMIT = 64 * 2**20


@dataclass(frozen=True, eq=False)
class _Chosen:
    """The image that is wanted: its planes, the letters of a plane, and what the file says of it."""

    stack: PlaneStack
    plane_letters: str
    lead: Lead
    found: Found
    notes: tuple[str, ...]


def read_tiff(path: Path, series: str | None = None, pick: Pick = EVERYTHING) -> Volume:
    """Return the volume in a TIFF.

    Parameters
    ----------
    path
        The file.
    series
        The image in it, by its number counted from 0 or by its name; None takes the only volume, or the first.
        `level 1`, or `NAME/level 1`, is its first smaller copy.
    pick
        Which axes, channel and point in time are wanted.

    Raises
    ------
    VolumeError
        If the file is damaged, cut short, hostile, or no single volume.
    """
    series, level = _level_of(series)
    file = TiffFile(path, level)
    chosen = (None if level else _choose_foreign(file, series)) or _choose(file, series, level)
    letters = chosen.lead.letters + chosen.plane_letters
    if not chosen.found.has_slices:
        # ImageJ and OME name an axis z in every image; a photograph is no volume for that.
        is_array = chosen.lead.letters == "z" and not chosen.lead.is_named
        shape = chosen.stack.shape
        letters = "".join(
            "1" if letter == "z" and size == 1 and not is_array else letter
            for letter, size in zip(letters, shape, strict=True)
        )
    named = name_axes(file.where, chosen.stack.shape, letters, pick)
    data, notes = arrange(chosen.stack, named, file.where, pick)
    calibration = chosen.found.calibrate()
    if level:
        # A large voxel lies in the middle of those that it stands for.
        full, copy = file.full_shape, data.shape[1:3]
        calibration = calibration.coarser((1.0, full[0] / copy[0], full[1] / copy[1]))
    return Volume(data, calibration, notes=(*calibration.notes, *chosen.notes, *notes))


def _choose_foreign(file: TiffFile, series: str | None) -> _Chosen | None:
    """Return the image of a file of a microscope's own kind; None of any other file."""
    with open_tiff(file.path) as tif:
        if not is_foreign(tif):
            return None
        found = series_of(tif)
        outlines = [Outline(lead, name, size_text(image.shape, image.dtype)) for lead, image, name in found]
        chosen, notes = choose_image(outlines, series, file.where)
        lead, image, _ = found[chosen]
        stack, axes = foreign_stack(file, lead.shape, image)
        return _Chosen(stack, _letters(axes), lead, sizes_of(file, foreign=foreign_sizes(tif)), notes)


def count_levels(path: Path) -> int:
    """Return how many smaller copies the planes of a TIFF have, by the first of them."""
    return TiffFile(path).directories[0].n_copies


def _level_of(series: str | None) -> tuple[str | None, int]:
    """Return which image is named, and which smaller copy of it.

    Examples
    --------
    >>> _level_of("level 2"), _level_of("cells/level 1"), _level_of("cells"), _level_of(None)
    ((None, 2), ('cells', 1), ('cells', 0), (None, 0))
    """
    found = None if series is None else re.fullmatch(r"(?:(.*)/)?level ([1-9]\d?)", series)
    return (series, 0) if found is None else (found[1], int(found[2]))


def _choose(file: TiffFile, series: str | None, level: int = 0) -> _Chosen:
    notes: tuple[str, ...] = ()
    ome: OmeImage | None = None
    described: list[OmeImage] = []
    if is_ome(file.description) or names_metadata_file(file.description):
        try:
            described = parse_ome(_ome_text(file))
        except OmeError as error:
            notes = (f"Its OME-XML cannot be read ({error}); the pages are read in their order.",)
    if described:
        # Planes of the images that are not wanted are not looked for: their files may not be here.
        outlines = [Outline(one.lead, one.name, size_text((*one.lead.shape, *one.plane))) for one in described]
        chosen, notes = choose_image(outlines, series, file.where)
        ome, siblings = described[chosen], _Siblings(file, level)
        image = ome_image(file, described, chosen, own_uuid(file.description), siblings.open)
        notes = (*notes, *image.notes, *siblings.notes)
    else:
        images = _undescribed(file, series)
        chosen, more = choose_image([image.outline for image in images], series, file.where)
        image = images[chosen]
        notes = (*notes, *more, *image.notes)
    stack, axes = stack_of(image, Layouts())
    plane_letters = image.plane_letters if len(image.plane_letters) == len(axes) else _letters(axes)
    notes = (*notes, *note_on_inversion(image.planes[0][1]))
    return _Chosen(stack, plane_letters, image.lead, sizes_of(file, ome), notes)


def _letters(axes: str) -> str:
    """Return our letters for tifffile's of a plane."""
    return "".join({"Y": "y", "X": "x", "S": "s"}[axis] for axis in axes)


def note_on_inversion(directory: Directory) -> tuple[str, ...]:
    """Return a note if 0 stands for white in a plane, as in scans and some masks."""
    if not directory.is_inverted:
        return ()
    return ("By its own words 0 is white and the largest number black (MinIsWhite); the numbers are read as they are.",)


def found_in(file: TiffFile) -> Found:
    """Return what a file says about its voxels, of the first of its images."""
    try:
        described = parse_ome(_ome_text(file)) if is_ome(file.description) else []
    except OmeError:
        described = []
    return sizes_of(file, described[0] if described else None)


def _undescribed(file: TiffFile, series: str | None) -> list[TiffImage]:
    if is_imagej(file.description):
        return imagej_images(file)
    if is_shaped(file.description):
        return shaped_images(file, join=series is None)
    return plain_images(file)


def _ome_text(file: TiffFile) -> str:
    """Return the XML of a file, or of the metadata file beside it that it names."""
    name = names_metadata_file(file.description)
    if not name or is_ome(file.description):
        return file.description
    path = _beside(file, name)
    if path.stat().st_size > _METADATA_LIMIT:
        raise OmeError(f"the metadata file {name} is larger than 64 MiB")
    return path.read_text("utf-8", "replace")


class _Siblings:
    """Other files of one OME image: they lie beside the first, under a plain name."""

    def __init__(self, file: TiffFile, level: int) -> None:
        self._file, self._level = file, level
        self._opened: dict[str, TiffFile] = {}

    def open(self, name: str, uuid: str) -> TiffFile:
        """Return the directories of the file with a name.

        Raises
        ------
        VolumeError
            If it is not there, or is not a file of this folder.
        """
        if not name:
            raise VolumeError(
                f"{self._file.where} is one of several files of an image, and does not say how the others are called "
                f"({uuid})."
            )
        if name not in self._opened:
            self._opened[name] = TiffFile(_beside(self._file, name), self._level)
        return self._opened[name]

    @property
    def notes(self) -> tuple[str, ...]:
        """Return which files were opened besides the first."""
        names = ", ".join(sorted(map(shown, self._opened))[:4]) + (" .." if len(self._opened) > 4 else "")
        n_files = len(self._opened)
        return (
            (f"The image goes on in {n_files} more file{'s' * (n_files > 1)} beside it: {names}.",) if n_files else ()
        )


def _beside(file: TiffFile, name: str) -> Path:
    """Return the file beside another one under a plain name, which a file of somebody else gives."""
    path = file.path.parent / name
    is_plain = Path(name).name == name and name not in ("", ".", "..") and not set(name) & set("/\\:\0")
    if not is_plain or (path.is_symlink() and path.resolve().parent != file.path.parent.resolve()):
        raise VolumeError(f"{file.where} names a file outside its folder ({shown(name)!r}), which is not opened.")
    if not path.is_file():
        raise VolumeError(
            f"{file.where} is one of several files of an image, and {shown(name)} is not beside it. "
            "Copy all files of the image into one folder."
        )
    return path

"""OME-XML: which directory of which file is which plane, and how large the voxels are.

The XML comes from anybody: it may be badly formed, name other files, or declare more planes than there are.
Text in, values out; no file is opened here.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from napari_unet3d.volumes.tiff.descriptions import Lead

Element = ElementTree.Element
_ORDERS = ("XYZCT", "XYZTC", "XYCZT", "XYCTZ", "XYTZC", "XYTCZ")
# What XML 1.0 does not allow, as it is or written as a number.
_FORBIDDEN = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|&#(?:x[01]?[0-8bcefBCEF]|x1[0-9a-fA-F]|[0-8]|1[124-9]|2[0-9]|3[01]);"
)


class OmeError(Exception):
    """The XML is not well formed, or not OME's; the message says how."""


@dataclass(frozen=True)
class Block:
    """Planes that follow each other in one file.

    Parameters
    ----------
    plane
        The first of them, counted in the order of the image.
    directory
        The first directory.
    n_planes
        How many; None for all directories that are left.
    file, uuid
        The file they are in, as the XML names it; "" for this one.
    """

    plane: int
    directory: int
    n_planes: int | None
    file: str = ""
    uuid: str = ""


@dataclass(frozen=True)
class OmeImage:
    """One image of an OME-TIFF.

    Parameters
    ----------
    name
        As the XML calls it.
    lead
        The axes that count planes.
    plane
        (y, x) of a plane.
    blocks
        Where its planes lie, in the order of the XML; none if they simply follow each other.
    sizes, units, positions
        Of its voxels, by axis; positions are in `units`.
    """

    name: str
    lead: Lead
    plane: tuple[int, int]
    blocks: tuple[Block, ...]
    sizes: Mapping[str, float | None]
    units: Mapping[str, str | None]
    positions: Mapping[str, tuple[float, str | None]]


def is_ome(description: str) -> bool:
    """Return whether a description is OME-XML."""
    is_xml = "<" in description[:100] and "OME" in description[:2000]
    return is_xml and re.search(r"<(?:\w+:)?Image\b", description) is not None


def names_metadata_file(description: str) -> str:
    """Return the file that holds the metadata instead of this one; nothing if there is none."""
    found = re.search(r"""<(?:\w+:)?BinaryOnly\b[^>]*\bMetadataFile=(["'])(.+?)\1""", description[:100_000])
    return found[2] if found else ""


def own_uuid(description: str) -> str:
    """Return the UUID that a file gives itself; nothing if it has none."""
    found = re.search(r'<(?:\w+:)?OME\b[^>]*\bUUID="([^"]+)"', description[:100_000])
    return found[1] if found else ""


def parse_ome(text: str) -> list[OmeImage]:
    """Return the images that OME-XML describes.

    Raises
    ------
    OmeError
        If it is no XML, or describes no image.
    """
    if "<!DOCTYPE" in text[:10_000] or "<!ENTITY" in text:
        raise OmeError("it declares a document type, which OME-XML never has")
    try:
        root = ElementTree.fromstring(_FORBIDDEN.sub("", text).strip("\0\ufeff \r\n\t"))
    except (ElementTree.ParseError, ValueError) as error:
        raise OmeError(str(error)) from error
    images = [
        _image(image, pixels) for image in root if _tag(image) == "Image" for pixels in _children(image, "Pixels")
    ]
    if not images:
        raise OmeError("it describes no image")
    return images


def _image(image: Element, pixels: Element) -> OmeImage:
    order = pixels.get("DimensionOrder", "XYZCT")
    order = order if order in _ORDERS else "XYZCT"
    samples = [_whole(channel.get("SamplesPerPixel"), 1) for channel in _children(pixels, "Channel")]
    counts = {axis: max(1, _whole(pixels.get(f"Size{axis}"), 1)) for axis in "ZCT"}
    if samples and max(samples) > 1 and counts["C"] % max(samples) == 0:
        # The samples of a colour count as channels in SizeC.
        counts["C"] //= max(samples)
    letters = order[:1:-1]
    lead = Lead(letters.lower(), tuple(counts[axis] for axis in letters))
    plane = min(_children(pixels, "Plane"), key=_index_of, default=None)
    sizes, units, positions = {}, {}, {}
    for axis in "zyx":
        upper = axis.upper()
        size = _number(pixels.get(f"PhysicalSize{upper}"))
        sizes[axis] = size
        units[axis] = None if size is None else pixels.get(f"PhysicalSize{upper}Unit", "um")
        position = None if plane is None else _number(plane.get(f"Position{upper}"))
        if plane is not None and position is not None:
            positions[axis] = position, plane.get(f"Position{upper}Unit")
    blocks = tuple(_block(found, order, counts) for found in _children(pixels, "TiffData"))
    plane_size = _whole(pixels.get("SizeY"), 0), _whole(pixels.get("SizeX"), 0)
    return OmeImage(image.get("Name") or image.get("ID") or "", lead, plane_size, blocks, sizes, units, positions)


def _index_of(plane: Element) -> tuple[int, ...]:
    """Return the index of a plane; the position of an image is that of its first."""
    return tuple(_whole(plane.get(f"The{axis}"), 0) for axis in "TCZ")


def _block(found: Element, order: str, counts: Mapping[str, int]) -> Block:
    plane, step = 0, 1
    for axis in order[2:]:
        plane += min(_whole(found.get(f"First{axis}"), 0), counts[axis]) * step
        step *= counts[axis]
    directory, n_planes = found.get("IFD"), found.get("PlaneCount", found.get("NumPlanes"))
    # As the standard has it: one plane where a directory is named, and otherwise all.
    count = _whole(n_planes, 1) if n_planes is not None else 1 if directory is not None else None
    uuid = next(_children(found, "UUID"), None)
    file = "" if uuid is None else uuid.get("FileName", "")
    return Block(plane, _whole(directory, 0), count, file, "" if uuid is None else (uuid.text or "").strip())


def _children(element: Element, tag: str) -> Iterator[Element]:
    return (child for child in element if _tag(child) == tag)


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _whole(text: str | None, default: int) -> int:
    return int(text) if text is not None and re.fullmatch(r"\s*\d{1,18}\s*", text) else default


def _number(text: str | None) -> float | None:
    try:
        number = None if text is None else float(text)
    except ValueError:
        return None
    return number if number is None or math.isfinite(number) else math.nan

"""Reading TIFF, multi-page TIFF, ImageJ TIFF and OME-TIFF.

tifffile understands the metadata; the planes are read by `tiff_planes`. Where the file declares more than it
holds it is refused, because tifffile only logs that and gives fewer planes.
"""

from __future__ import annotations

import logging
import math
import struct
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tifffile

from napari_unet3d.errors import VolumeError, shown
from napari_unet3d.volumes.arrays import DecodedCache, arrange
from napari_unet3d.volumes.axes import name_axes
from napari_unet3d.volumes.tiff_header import TiffHeader, cut_short, scan_tiff
from napari_unet3d.volumes.tiff_planes import TiffPlanes, collect_planes
from napari_unet3d.volumes.volume import Calibration, Volume, calibrate, micrometers

_LETTERS = {"Z": "z", "Y": "y", "X": "x", "C": "c", "T": "t", "S": "s"}
# What comes out of tifffile and the XML parser when a file is damaged: hypothesis found most of them.
_PARSE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ElementTree.ParseError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    tifffile.TiffFileError,
)


def read_tiff(path: Path, axes: str | None = None) -> Volume:
    """Return the volume in a TIFF.

    Parameters
    ----------
    path
        The file.
    axes
        A letter for each axis in the file ("zyx", "zyxc"); None believes the file.

    Raises
    ------
    VolumeError
        If the file is damaged, cut short, hostile, or no single volume.
    """
    header = scan_tiff(path)
    with _open(path) as tif:
        series, lead, letters = _main_series(tif, path)
        found = _Metadata(tif)
        source = _planes(series, lead, header, path)
        if series.kind != "shaped" and not found.has_slices:
            # ImageJ and OME name an axis z in every image; a photograph is no volume for that.
            letters = "".join(
                "1" if letter == "z" and size == 1 else letter
                for letter, size in zip(letters, source.shape, strict=True)
            )
        named = name_axes(shown(path), source.shape, letters, axes)
        calibration = found.calibrate()
        n_images = len(tif.series)
    data, notes = arrange(source, named, shown(path))
    if n_images > 1:
        notes.append(f"The file holds {n_images} images; the first is read.")
    return Volume(
        data,
        calibration.voxel_size,
        calibration.unit,
        calibration.translate,
        notes=(*calibration.notes, *notes),
    )


def read_tiff_slice(path: Path, cache: DecodedCache) -> TiffPlanes:
    """Return one slice of a stack, (y, x): a TIFF with one plane, whatever its metadata say of a whole."""
    header = scan_tiff(path)
    n_planes = max(header.n_directories, (header.n_declared or 1) if header.description.startswith("ImageJ") else 1)
    if n_planes != 1:
        raise VolumeError(
            f"{shown(path)} holds {n_planes} planes; a slice has one. To read that stack, pass the file itself."
        )
    with _open(path) as tif:
        return collect_planes(path, [tif.pages.first], (), None, cache)


def calibration_of_slice(path: Path) -> tuple[dict[str, float | None], dict[str, str | None]]:
    """Return the voxel sizes and their units that the first slice of a stack gives, by axis."""
    with _open(path) as tif:
        found = _Metadata(tif)
        return found.sizes, found.units


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open a TIFF; what tifffile raises or logs as an error becomes a `VolumeError`."""
    handler = _ErrorLog()
    logger = logging.getLogger("tifffile")
    logger.addHandler(handler)
    try:
        # Companion files named by an OME-TIFF are not opened: a file may not point at others.
        with tifffile.TiffFile(path, _multifile=False) as tif:
            yield tif
    except _PARSE_ERRORS as error:
        raise VolumeError(f"{shown(path)} is damaged: {error}. Copy or download it again.") from error
    finally:
        logger.removeHandler(handler)
    if handler.messages:
        raise VolumeError(f"{shown(path)} is damaged: {handler.messages[0]}. Copy or download it again.")


class _ErrorLog(logging.Handler):
    """Keeps the errors that tifffile logs in this thread."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.messages.append(record.getMessage())


def _main_series(tif: Any, path: Path) -> tuple[Any, tuple[int, ...], str]:
    """Return the image in the file, the shape of the axes that count planes, and a letter for each axis."""
    series = tif.series[0]
    shapes = {other.shape for other in tif.series}
    if series.kind in ("generic", "uniform") and len(shapes) > 1:
        sizes = ", ".join(" x ".join(map(str, shape)) for shape in sorted(shapes))
        raise VolumeError(f"{shown(path)} holds planes of different shapes ({sizes}); a volume has one shape.")
    axes, shape = str(series.get_axes(squeeze=False)), tuple(series.get_shape(squeeze=False))
    page_axes = str(series.keyframe.axes)
    if axes.endswith("S") and shape[-1] == 1 and "S" not in page_axes:
        axes, shape = axes[:-1], shape[:-1]
    if not axes.endswith(page_axes):
        raise VolumeError(
            f"{shown(path)} has planes of a kind that is not understood ({axes}); save it as a plain TIFF."
        )
    letters = "".join(_LETTERS.get(letter, "?") for letter in axes)
    if series.kind == "shaped" and len(axes) == 3 and page_axes == "YX":
        # A NumPy array that was saved with three axes is a volume even if the first is 1.
        letters = "zyx"
    return series, shape[: len(shape) - len(page_axes)], letters


def _planes(series: Any, lead: tuple[int, ...], header: TiffHeader, path: Path) -> TiffPlanes:
    """Return the planes of the series, after comparing how many are declared and how many are there."""
    n_planes = math.prod(lead)
    # A colour's samples are counted as planes by some, and OME's planes are compared one by one below.
    is_comparable = "S" not in series.keyframe.axes and not header.is_ome
    if is_comparable and (header.n_declared or 0) > n_planes:
        raise cut_short(shown(path), header.n_declared, n_planes)
    offset = series.dataoffset
    pages = [series.keyframe] if offset is not None else [page for page in series.pages if page is not None]
    if offset is not None and len(series.pages) == n_planes:
        pages = list(series.pages)
    return collect_planes(path, pages, lead, offset, DecodedCache())


class _Metadata:
    """What a TIFF says about the size of its voxels: ImageJ's, OME's, or only the resolution tags."""

    def __init__(self, tif: Any) -> None:
        self.sizes: dict[str, float | None] = {}
        self.units: dict[str, str | None] = {}
        self.positions: dict[str, float | None] = {}
        if tif.is_ome:
            self._read_ome(tif.ome_metadata)
        elif tif.is_imagej:
            self._read_imagej(tif.imagej_metadata or {}, tif.pages.first)
        else:
            self._read_tags(tif.pages.first)

    @property
    def has_slices(self) -> bool:
        """Return whether the file knows how thick a slice is, so that even a single plane is a volume."""
        return self.sizes.get("z") is not None

    def calibrate(self) -> Calibration:
        return calibrate(self.sizes, self.units, self.positions)

    def _read_tags(self, page: Any) -> None:
        unit = {2: "inch", 3: "cm"}.get(int(page.tags.valueof(296, default=1)))
        if unit is not None:
            self.sizes = {"y": _step(page, 283), "x": _step(page, 282)}
            self.units = {"y": unit, "x": unit}

    def _read_imagej(self, metadata: dict[str, Any], page: Any) -> None:
        # tifffile makes a number of whatever looks like one, also of a unit.
        unit = None if metadata.get("unit") is None else str(metadata["unit"])
        spacing = metadata.get("spacing")
        thickness = float(spacing) if isinstance(spacing, int | float) else None
        self.sizes = {"z": thickness, "y": _step(page, 283), "x": _step(page, 282)}
        self.units = {"z": metadata.get("zunit", unit), "y": metadata.get("yunit", unit), "x": unit}
        if micrometers(unit) is None and self.sizes["x"] in (None, 1.0) and self.sizes["z"] in (None, 1.0):
            # ImageJ writes 1 pixel where it knows nothing.
            self.sizes = {"z": thickness if micrometers(self.units["z"]) is not None else None}
        for axis in "zyx":
            origin, size = metadata.get(f"{axis}origin"), self.sizes.get(axis)
            if origin is not None and size is not None:
                self.positions[axis] = float(f"{-float(origin) * size:.9g}")

    def _read_ome(self, text: str) -> None:
        root = ElementTree.fromstring(text)
        pixels = next((element for element in root.iter() if element.tag.endswith("Pixels")), None)
        if pixels is None:
            return
        plane = next((element for element in pixels if element.tag.endswith("Plane")), None)
        for axis in "zyx":
            size = pixels.get(f"PhysicalSize{axis.upper()}")
            unit = pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm")
            self.sizes[axis] = None if size is None else float(size)
            self.units[axis] = None if size is None else unit
            if plane is None or size is None:
                continue
            position = plane.get(f"Position{axis.upper()}")
            measured, wanted = micrometers(plane.get(f"Position{axis.upper()}Unit")), micrometers(unit)
            if position is not None and measured is not None and wanted is not None:
                self.positions[axis] = float(position) * measured / wanted


def _step(page: Any, tag: int) -> float | None:
    """Return the size of a pixel from a resolution tag, in the tag's unit; None if there is no tag."""
    value = page.tags.valueof(tag)
    if value is None:
        return None
    pixels, units = value
    # A rational holds ten digits; the rounding gives back what was typed, such as 0.235.
    return float(f"{units / pixels:.9g}") if pixels else 0.0

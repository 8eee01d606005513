"""What only tifffile understands of a TIFF: the layout of a page, and the images of microscopes' own kinds.

Everything that depends on that library's versions stands here. Its documented names are used; the one that is not
keeps it from opening files that another file names.
"""

from __future__ import annotations

import inspect
import logging
import re
import struct
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tifffile

from napari_unet3d.errors import VolumeError, shown
from napari_unet3d.volumes.blame import is_mistake
from napari_unet3d.volumes.tiff.descriptions import Lead, letters_of
from napari_unet3d.volumes.tiff.sizes import Found

# What comes out of tifffile and the XML parser when a file is damaged: hypothesis found most of them.
_DAMAGE = (
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
# Kinds whose planes are not what the directories say.
_OWN_KINDS = ("lsm", "stk", "fluoview", "nih", "scanimage", "mdgel", "ndtiff", "sis")
_IS_PRIVATE_NAME_THERE = "_multifile" in inspect.signature(tifffile.TiffFile.__init__).parameters


@contextmanager
def open_tiff(path: Path) -> Iterator[Any]:
    """Open a TIFF with tifffile; what that library raises or logs as an error becomes a `VolumeError`."""
    handler = _ErrorLog()
    logger = logging.getLogger("tifffile")
    logger.addHandler(handler)
    # Other files that a file names are opened by this program, which looks at where they lie, or by nobody.
    alone = {"_multifile": False} if _IS_PRIVATE_NAME_THERE else {}
    try:
        with tifffile.TiffFile(path, **alone) as tif:
            yield tif
    except _DAMAGE as error:
        if is_mistake(error):
            raise
        raise _damaged(path, error) from error
    finally:
        logger.removeHandler(handler)
    if handler.messages:
        raise _damaged(path, handler.messages[0])


def _damaged(path: Path, reason: object) -> VolumeError:
    return VolumeError(f"{shown(path)} is damaged: {reason}. Copy or download it again.")


class _ErrorLog(logging.Handler):
    """Keeps the errors that tifffile logs in this thread."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.messages.append(record.getMessage())


def is_foreign(tif: Any) -> bool:
    """Return whether a file is of a microscope's own kind, whose planes tifffile finds."""
    return not tif.flags.isdisjoint(_OWN_KINDS)


def series_of(tif: Any) -> list[tuple[Lead, Any, str]]:
    """Return for each image of a file the axes that count planes, tifffile's series, and its name."""
    found = []
    for series in tif.series:
        axes, shape = str(series.axes), tuple(int(size) for size in series.shape)
        page_axes = str(series.keyframe.axes)
        if not axes.endswith(page_axes):
            raise VolumeError(
                f"{shown(tif.filehandle.path)} has planes of a kind that is not understood ({axes}); "
                "save it as a plain TIFF."
            )
        n_lead = len(axes) - len(page_axes)
        letters = letters_of(axes, len(axes)) or "?" * len(axes)
        lead = Lead(letters[:n_lead], shape[:n_lead])
        if tif.is_scanimage:
            lead = scanimage_lead(_scanimage_text(tif), lead.n_planes) or lead
        found.append((lead, series, str(series.name or "")))
    return found


def scanimage_lead(text: str, n_planes: int) -> Lead | None:
    r"""Return the axes that count the planes of a ScanImage file; None where its settings do not say.

    Channels come first, then the frames of a slice, slices, and volumes. An acquisition that was stopped has fewer
    planes than its settings; then only the channels are known.

    Examples
    --------
    >>> scanimage_lead("SI.hChannels.channelSave = [1;2]\nSI.hStackManager.numSlices = 5\n", 10)
    Lead(letters='tz?c', shape=(1, 5, 1, 2), is_named=True)
    """
    saved = re.search(r"hChannels\.channelSave = (.*)", text)
    n_channels = max(1, len(re.findall(r"\d+", saved[1]))) if saved else 1
    counts = [_setting(text, name) for name in ("numVolumes", "numSlices", "framesPerSlice")]
    volumes, slices, frames = counts
    if volumes * slices * frames * n_channels == n_planes:
        # Frames of a slice are points in time; with volumes besides they are something else.
        letters, shape = ("?ztc", (1, *counts[1:])) if volumes == 1 and frames > 1 else ("tz?c", tuple(counts))
        return Lead(letters, (*shape, n_channels))
    return Lead("?c", (n_planes // n_channels, n_channels)) if n_planes % n_channels == 0 else None


def _setting(text: str, name: str) -> int:
    found = re.search(rf"\.{name} = (\d{{1,9}})\s", text)
    return max(1, int(found[1])) if found else 1


def _scanimage_text(tif: Any) -> str:
    """Return the settings of ScanImage, which stand in front of the planes or in the tag for the software."""
    settings = (tif.scanimage_metadata or {}).get("FrameData") or {}
    lines = [f"{name} = {value}" for name, value in settings.items()] if isinstance(settings, dict) else []
    return "\n".join((*lines, str(tif.pages.first.software or ""), ""))


def foreign_sizes(tif: Any) -> Found | None:
    """Return the voxel size that a microscope's own tags give; None if there are none that are understood."""
    if tif.is_lsm:
        return _of_lsm(tif.lsm_metadata or {})
    if tif.is_stk:
        return _of_stk(tif.stk_metadata or {})
    return None


def _of_lsm(metadata: Mapping[str, Any]) -> Found:
    sizes = {axis: _number(metadata.get(f"VoxelSize{axis.upper()}")) for axis in "zyx"}
    return Found(sizes, dict.fromkeys("zyx", "m"))


def _of_stk(metadata: Mapping[str, Any]) -> Found:
    spelled = str(metadata.get("CalibrationUnits") or "").strip("\0 ")
    is_calibrated = bool(metadata.get("SpatialCalibration", True))
    sizes = {axis: _number(metadata.get(f"{axis.upper()}Calibration")) for axis in "yx"} if is_calibrated else {}
    distances = metadata.get("ZDistance")
    step = _number(distances[0]) if distances is not None and len(distances) else None
    return Found({"z": step or None, **sizes}, {"z": "um", "y": spelled, "x": spelled})


def _number(found: Any) -> float | None:
    try:
        return None if found is None else float(found)
    except (TypeError, ValueError):
        return None

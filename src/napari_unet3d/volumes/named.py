"""What a file or a folder is that cannot be read, by its first bytes or its files, and what to do with it.

Formats that biologists meet are named for what they are; of the rest is said what works.
"""

from __future__ import annotations

import json
import re
import zlib
from itertools import islice
from pathlib import Path

from napari_unet3d.errors import shown

READABLE = (
    "a TIFF, a folder of TIFF or PNG slices, a sample folder with image/ and mask/, "
    "file.h5:/dataset, an Imaris file, or a Zarr or OME-Zarr, as a folder or in a zip file"
)
# "raw.h5://volumes/raw" is an array in a file, and no address.
_FILES = (".h5", ".hdf5", ".hdf", ".ims")
_ADDRESS = re.compile(r"(?:[a-z]+::)*([a-z][a-z0-9+.-]{1,12})://", re.IGNORECASE)
_LOOKED_AT = 100
_CONVERT = "open it in Fiji with Bio-Formats and save it as a TIFF, or convert it with bioformats2raw"
_KINDS = (
    (0, b"\x89PNG", "a single PNG, which is 2D; pass the folder that holds all slices"),
    (0, b"\xff\xd8\xff", "a single JPEG, which is 2D and changes intensities; use the original images"),
    (0, b"BM", "a single BMP, which is 2D; save all slices as TIFF and pass their folder"),
    (0, b"PK\3\4", "a zip archive without a Zarr at its top; unpack it first"),
    (0, b"PK\5\6", "an empty zip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (0, b"Rar!", "a rar archive; unpack it first"),
    (257, b"ustar", "a tar archive; unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "a file compressed with zstd; unpack it first"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the data; fetch it with git lfs pull"),
    (0, b"ZISRAWFILE", f"a Zeiss CZI; {_CONVERT}"),
    (0, b"\xda\xce\xbe\x0a", f"a Nikon ND2; {_CONVERT}"),
    (0, b"\x70\0\0\0", f"a Leica LIF; {_CONVERT}"),
    (0, b"\xd0\xcf\x11\xe0", f"an Olympus OIB or another OLE file; {_CONVERT}"),
    (0, b"OLYMPUSRAWFORMAT", f"an Olympus OIR; {_CONVERT}"),
    (0, b"ObjectType = Image", "a MetaImage; open it in Fiji or 3D Slicer and save it as a TIFF"),
    (0, b"# AmiraMesh", "an Amira mesh; open it in Fiji or Amira and save it as a TIFF"),
    (0, b"# Avizo", "an Amira mesh; open it in Fiji or Avizo and save it as a TIFF"),
    (0, b"MATLAB 5.0 MAT-file", "a MATLAB file of before version 7.3; save it in MATLAB with '-v7.3'"),
    (0, b"GIF8", "a GIF, which holds at most 256 colours; save all slices as TIFF and pass their folder"),
    (0, b"RIFF", "a film or a WebP image; save all slices as TIFF and pass their folder"),
    (4, b"ftyp", "a film; save all slices as TIFF and pass their folder"),
    (0, b"NRRD", "an NRRD; open it in Fiji or 3D Slicer and save it as a TIFF"),
    (128, b"DICM", "a DICOM file; open the series in Fiji or 3D Slicer and save it as a TIFF"),
    (0, b"\x93NUMPY", "a NumPy array; write it with tifffile.imwrite, or add it to napari as a layer"),
    (208, b"MAP ", "an MRC file; open it in Fiji or with the package mrcfile, and save it as a TIFF"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image; save the slices as TIFF"),
)
_NIFTI = "NIfTI, the format of brain imaging; open it in Fiji or with the package nibabel, and save it as a TIFF"


def refused_address(text: str) -> str:
    """Return why an address is not read; nothing if it is a path."""
    found = _ADDRESS.match(text)
    if found is None or found[1].lower().endswith(_FILES):
        return ""
    if found[1].lower() == "file":
        return f"{text} is an address; pass the path of the file itself."
    return f"{text} is an address in a network, which is not opened. Download the volume, and pass its path."


def file_kind(path: Path, start: bytes) -> str:
    """Return what a file is, from its first bytes, with what to do; nothing if it is not known."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        wanted = "a TIFF" if path.suffix.lower() in (".tif", ".tiff") else "a volume"
        return f"a web page, not {wanted}: a page was downloaded instead of the file"
    if text.startswith(b"<") and b"<spimdata" in text[:400]:
        return "the metadata of a BigDataViewer volume; pass the .h5 file beside it"
    if text.startswith(b"<") and b"<ome" in text[:400]:
        return "the metadata of an OME-TIFF; pass one of the .ome.tif files beside it"
    if start.startswith(b"\x1f\x8b"):
        inside = _gunzip(start)
        return f"a gzip archive of {_NIFTI}" if _is_nifti(inside) else "a gzip archive; unpack it first"
    if _is_nifti(start):
        return f"a {_NIFTI}"
    if path.suffix.lower() == ".npz":
        return "an archive of NumPy arrays; write one with tifffile.imwrite, or add it to napari as a layer"
    return next((what for at, magic, what in _KINDS if start[at:].startswith(magic)), "")


def folder_kind(folder: Path) -> str:
    """Return what a folder is, with what to do; nothing if it is not known."""
    attributes = _small_json(folder / "attributes.json")
    if "n5" in attributes or folder.suffix.lower() == ".n5" or {"dataType", "blockSize"} <= attributes.keys():
        return "an N5; convert it to OME-Zarr, such as with Fiji (N5 plugin) or n5-to-zarr"
    info = _small_json(folder / "info")
    if str(info.get("@type", "")).startswith("neuroglancer") or {"scales", "data_type"} <= info.keys():
        return (
            "a Neuroglancer precomputed volume; convert it to OME-Zarr or TIFF, such as with the package cloud-volume"
        )
    if (folder / "model.json").is_file() and folder.suffix == ".unet3d":
        return "a model, not a volume; pass it with --model"
    return ""


def what_lies_in(folder: Path) -> str:
    """Return what a folder without slices holds instead, as a sentence with what to do; nothing if it is not known."""
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)[:_LOOKED_AT]
    files = [entry for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    for file in files:
        with open(file, "rb") as opened:
            kind = file_kind(file, opened.read(1024))
        if kind:
            return f"{shown(file.name)} in it is {kind}."
    volumes = [entry for entry in (*entries, *files) if _may_be_volume(entry)]
    return f"It holds {shown(volumes[0].name)}; pass that: {shown(volumes[0])}" if volumes else ""


def _may_be_volume(entry: Path) -> bool:
    if entry.is_file():
        return entry.suffix.lower() in (".h5", ".hdf5", ".ims", ".zip", ".ozx")
    return entry.is_dir() and any(
        child.name in ("zarr.json", ".zarray", ".zgroup") or child.suffix.lower() in (".tif", ".tiff", ".png")
        for child in islice(entry.iterdir(), _LOOKED_AT)
    )


def _is_nifti(start: bytes) -> bool:
    return start[344:348] in (b"n+1\0", b"ni1\0") or start[4:8] in (b"n+2\0", b"ni2\0")


def _gunzip(start: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(start, 512)
    except zlib.error:
        return b""


def _small_json(path: Path) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(1 << 20))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}

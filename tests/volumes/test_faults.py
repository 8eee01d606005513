"""Damaged, hostile and unusual files: each is refused, or read with a note, with words to act on.

The rows follow the table of faults; each bad file is made here.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from zarr.codecs import ZstdCodec

from napari_unet3d.errors import VolumeError
from napari_unet3d.volumes import create_output, list_arrays, read_volume

VALUES = np.random.default_rng(0).integers(0, 60_000, (10, 40, 50)).astype(np.uint16)


def _write(path, data):
    path.write_bytes(data)
    return path


def _cut(path, share=0.6):
    data = path.read_bytes()
    return _write(path, data[: int(len(data) * share)])


def _tiff(path, values=VALUES, **options):
    tifffile.imwrite(path, values, **options)
    return path


def _pages(path, values=VALUES, **options):
    with tifffile.TiffWriter(path) as writer:
        for plane in values:
            writer.write(plane, contiguous=False, metadata=None, **options)
    return path


def _raw_tiff(path, tags, *, body=b"", next_ifd=0, size=132):
    """Write a TIFF with one directory of LONG tags, byte by byte."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    data = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", next_ifd)
    return _write(path, (data + body).ljust(size, b"\0"))


def _plane_tags(width, height, **more):
    names = {"bits": 258, "compression": 259, "photometric": 262, "offset": 273, "rows": 278, "n_bytes": 279}
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: width * height}
    return tags | {names[name]: value for name, value in more.items()}


def _part_of_ome(path):
    """One of three files that an OME image is spread over."""
    text = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16"'
        ' SizeX="50" SizeY="40" SizeZ="3" SizeC="1" '
        'SizeT="1" PhysicalSizeZ="2"><TiffData FirstZ="0" IFD="0" PlaneCount="1"/></Pixels></Image></OME>'
    )
    return _tiff(path, VALUES[0], description=text, metadata=None)


def _bomb(path):
    body = zlib.compress(bytes(100 * 2**20), 9)
    start = 8 + 2 + 9 * 12 + 4
    tags = _plane_tags(100, 100, compression=8, offset=start, n_bytes=len(body))
    return _raw_tiff(path, tags, body=body, size=0)


def _flipped_strip(path):
    _pages(path, compression="zlib")
    with tifffile.TiffFile(path) as tif:
        offset, n_bytes = tif.pages[4].dataoffsets[0], tif.pages[4].databytecounts[0]
    data = bytearray(path.read_bytes())
    data[offset + n_bytes // 2] ^= 1
    return _write(path, data)


def _short_strip(path):
    """Rows that the strip declares and does not hold."""
    body = zlib.compress(bytes(99 * 100))
    tags = _plane_tags(100, 100, compression=8, offset=8 + 2 + 9 * 12 + 4, n_bytes=len(body))
    return _raw_tiff(path, tags, body=body, size=0)


def _zero_height(path):
    _tiff(path, VALUES[0], metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages.first.tags[257].overwrite(0)
    return path


def _slices(folder, *planes, names=None):
    folder.mkdir()
    for z, plane in enumerate(planes):
        _tiff(folder / (names[z] if names else f"z{z}.tif"), plane)
    return folder


def _other_shape(path):
    return _slices(path, VALUES[0], VALUES[1], VALUES[2, 1:])


def _other_type(path):
    return _slices(path, VALUES[0], VALUES[1].astype(np.uint8))


def _gap(path):
    return _slices(path, *VALUES[:3], names=["z1.tif", "z2.tif", "z4.tif"])


def _two_channels(path):
    return _slices(path, *VALUES[:4], names=["z1_c0.tif", "z1_c1.tif", "z2_c0.tif", "z2_c1.tif"])


def _stack_among_slices(path):
    return _slices(path, VALUES[0], VALUES)


def _empty_slice(path):
    _slices(path, *VALUES[:2])
    return _write(path / "z1.tif", b"").parent


def _colour_slice(path):
    path.mkdir()
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(path / "0.png")
    return path


def _cut_slice(path):
    path.mkdir()
    Image.fromarray(VALUES[0].astype(np.uint8)).save(path / "0.png")
    return _cut(path / "0.png").parent


def _lying_png(path):
    path.mkdir()
    header = b"IHDR" + struct.pack(">IIBBBBB", 200_000, 200_000, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return _write(path / "0.png", data).parent


def _hdf5(path, make):
    with h5py.File(path, "w") as file:
        make(file)
    return path


def _secret(path):
    """A file that must not be opened: reading it would show in its time of access or fail loudly."""
    with h5py.File(path.parent / "secret.h5", "w") as file:
        file["numbers"] = VALUES
    return path.parent / "secret.h5"


def _external_link(path):
    secret = _secret(path)
    return _hdf5(path, lambda file: file.__setitem__("raw", h5py.ExternalLink(str(secret), "/numbers")))


def _soft_link_to_external(path):
    _external_link(path)
    with h5py.File(path, "r+") as file:
        file.create_group("group")["here"] = h5py.SoftLink("/raw")
    return path


def _external_group(path):
    secret = _secret(path)
    return _hdf5(path, lambda file: file.__setitem__("away", h5py.ExternalLink(str(secret), "/")))


def _external_storage(path):
    raw = _write(path.parent / "secret.bin", VALUES.tobytes())
    external = [(str(raw), 0, VALUES.nbytes)]
    return _hdf5(path, lambda file: file.create_dataset("raw", VALUES.shape, VALUES.dtype, external=external))


def _virtual(path):
    secret = _secret(path)
    layout = h5py.VirtualLayout(VALUES.shape, VALUES.dtype)
    layout[...] = h5py.VirtualSource(str(secret), "numbers", VALUES.shape)
    return _hdf5(path, lambda file: file.create_virtual_dataset("raw", layout))


def _circle(path):
    def make(file):
        file["raw"] = h5py.SoftLink("/other")
        file["other"] = h5py.SoftLink("/raw")

    return _hdf5(path, make)


def _damaged_hdf5_chunk(path):
    with h5py.File(path, "w") as file:
        array = file.create_dataset("raw", data=VALUES, chunks=(5, 20, 25), compression="gzip")
        chunk = array.id.get_chunk_info(3)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + chunk.size // 2] ^= 1
    return _write(path, data)


def _with(path, suffix):
    return f"{path}:{suffix}"


def _zarr(path, **options):
    options = {"chunks": (5, 20, 25)} | options
    zarr.create_array(path, data=VALUES, **options)
    return path


def _checked_zarr(path):
    return _zarr(path, compressors=[ZstdCodec(level=3, checksum=True)])


def _damage(path, chunk, change):
    data = bytearray((path / chunk).read_bytes())
    _write(path / chunk, change(data))
    return path


def _flip(data):
    data[len(data) // 2] ^= 1
    return data


def _zarr_group(path):
    group = zarr.create_group(path)
    group.create_array("raw", data=VALUES)
    group.create_group("more").create_array("labels", data=VALUES.astype(np.uint8))
    return path


def _ome(path, *, dataset="0", scale=(0.5, 0.2, 0.2)):
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    steps = [{"type": "scale", "scale": list(scale)}] if scale else []
    datasets = [{"path": dataset, "coordinateTransformations": steps}]
    attributes = {"ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}}
    group = zarr.create_group(path, attributes=attributes)
    if not dataset.startswith((".", "/")):
        group.create_array(dataset, data=VALUES)
    return path


def _with_levels(path, levels):
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["attributes"]["ome"]["multiscales"][0]["datasets"] = levels
    (path / "zarr.json").write_text(json.dumps(metadata))
    return path


def _ours(path):
    with create_output(path, VALUES.shape, np.uint16, voxel_size=(1, 1, 1), unit="um") as output:
        output[...] = VALUES
        return output.commit()


class _Exploit:
    def __reduce__(self):
        return os.mkdir, ("code-was-run",)


def _pickled_zarr(path):
    path.mkdir()
    metadata = {"zarr_format": 2, "shape": [2, 2, 2], "chunks": [2, 2, 2], "dtype": "<u2", "order": "C"}
    metadata |= {"compressor": {"id": "pickle"}, "fill_value": 0, "filters": None}
    (path / ".zarray").write_text(json.dumps(metadata))
    _write(path / "0.0.0", pickle.dumps(_Exploit()))
    return path


def _huge_chunk(path):
    zarr.create_array(path, shape=(10**5,) * 3, chunks=(10**5,) * 3, dtype="uint8")
    return path


REFUSED = {
    "path missing": (lambda d: d / "no.tif", r"no\.tif does not exist"),
    "path missing, with an array": (lambda d: _with(d / "no.h5", "/raw"), r"no\.h5 does not exist"),
    "folder without slices": (lambda d: d, r"holds no slices: no \.tif, \.tiff or \.png"),
    "0 bytes": (lambda d: _write(d / "a.tif", b""), r"a\.tif is empty \(0 bytes\)"),
    "web page": (lambda d: _write(d / "a.tif", b"\n<!DOCTYPE html><html>"), "is a web page, not a TIFF"),
    "text": (
        lambda d: _write(d / "a.tif", b"hello"),
        "is not a volume that can be read. What works: a TIFF, a folder",
    ),
    "one PNG": (
        lambda d: _write(d / "a.png", b"\x89PNG\r\n\x1a\n"),
        "is a single PNG, which is 2D; pass the folder",
    ),
    "zip": (lambda d: _write(d / "a.zarr", b"PK\3\4"), "is a zip archive without a Zarr at its top; unpack it first"),
    "LFS pointer": (lambda d: _write(d / "a.tif", b"version https://git-lfs.github.com"), "Git LFS pointer"),
    "ImageJ cut": (
        lambda d: _cut(_tiff(d / "a.tif", imagej=True, metadata={"axes": "ZYX"})),
        "planes declared: 10, planes readable: 1",
    ),
    "ImageJ with one directory, cut": (
        lambda d: _cut(_tiff(d / "a.tif", imagej=True, truncate=True, metadata={"axes": "ZYX"})),
        "planes declared: 10, planes readable: [156]",
    ),
    "one directory, cut": (
        lambda d: _cut(_tiff(d / "a.tif", truncate=True)),
        "planes declared: 10, planes readable: [156]",
    ),
    "OME image of several files": (
        lambda d: _part_of_ome(d / "a.ome.tif"),
        "planes declared: 3, planes readable: 1",
    ),
    "OME cut": (
        lambda d: _cut(_tiff(d / "a.ome.tif", metadata={"axes": "ZYX"})),
        "planes declared: more than 1, planes readable: 1",
    ),
    "one run cut": (lambda d: _cut(_tiff(d / "a.tif")), "planes declared: 10, planes readable: 1"),
    "multi-page cut": (
        lambda d: _cut(_pages(d / "a.tif")),
        "planes declared: more than ([56]), planes readable: [56]",
    ),
    "multi-page cut in a plane": (
        lambda d: _cut(_pages(d / "a.tif"), 0.995),
        "planes declared: 10, planes readable: 9",
    ),
    "single plane cut": (
        lambda d: _cut(_tiff(d / "a.tif", VALUES[0])),
        "cut short or no image: it declares a plane of 4,000",
    ),
    "compressed cut": (
        lambda d: _cut(_pages(d / "a.tif", compression="zlib")),
        "planes declared: more than [56]",
    ),
    "8 bytes": (lambda d: _write(d / "a.tif", b"II*\0\x08\0\0\0"), "cut short"),
    "4 bytes": (lambda d: _write(d / "a.tif", b"II*\0"), "cut short"),
    "flipped byte": (lambda d: _flipped_strip(d / "a.tif"), "damaged at plane 4: "),
    "short strip": (
        lambda d: _short_strip(d / "0.tif").parent,
        "damaged at plane 0: 10,000 bytes are declared, 9,900 are there",
    ),
    "200000 x 200000": (
        lambda d: _raw_tiff(d / "a.tif", _plane_tags(200_000, 200_000, n_bytes=40)),
        "cut short or no image: it declares a plane of 40,000,000,000 bytes but holds 132",
    ),
    "200000 x 200000, deflate": (
        lambda d: _raw_tiff(d / "a.tif", _plane_tags(200_000, 200_000, compression=8, n_bytes=40)),
        "declares 40,000,000,000 bytes of which 40 bytes on disk cannot be the source",
    ),
    "200000 x 200000, JPEG": (
        lambda d: _raw_tiff(d / "a.tif", _plane_tags(200_000, 200_000, compression=7, n_bytes=40)),
        "declares a single piece of 40,000,000,000 bytes|compressed with JPEG, for which",
    ),
    "IFD loop": (
        lambda d: _raw_tiff(d / "a.tif", _plane_tags(4, 4, n_bytes=16), next_ifd=8),
        "its directories run in a circle, after 1",
    ),
    "LZW": (
        lambda d: _raw_tiff(d / "0.tif", _plane_tags(4, 4, compression=5, n_bytes=16)).parent,
        "compressed with LZW, for which the package imagecodecs is needed: pip install|damaged at plane 0",
    ),
    "zero width": (lambda d: _raw_tiff(d / "a.tif", _plane_tags(0, 4)), "empty axis x"),
    "zero height": (lambda d: _zero_height(d / "a.tif"), "empty axis y"),
    "no planes": (lambda d: _write(d / "a.tif", b"II*\0\0\0\0\0"), "empty axis z"),
    "empty HDF5 axis": (
        lambda d: _hdf5(d / "a.h5", lambda file: file.create_dataset("raw", (3, 0, 4))),
        "empty axis y",
    ),
    "RGB": (
        lambda d: _tiff(d / "a.tif", np.zeros((5, 8, 9, 3), np.uint8), photometric="rgb"),
        r"samples = 3.*--axes zyxc",
    ),
    "2D": (lambda d: _tiff(d / "a.tif", VALUES[0]), "is one 2D image .y = 40, x = 50"),
    "4D with time": (
        lambda d: _tiff(d / "a.tif", VALUES.reshape(2, 5, 40, 50), imagej=True, metadata={"axes": "TZYX"}),
        "several points in time .time = 2, z = 5",
    ),
    "3D with channel": (
        lambda d: _tiff(d / "a.tif", VALUES[:3], imagej=True, metadata={"axes": "CYX"}),
        "channel = 3, y = 40, x = 50.*--axes zyx",
    ),
    "4D of unknown axes": (
        lambda d: _hdf5(d / "a.h5", lambda file: file.__setitem__("raw", VALUES.reshape(2, 5, 40, 50))),
        r"a\.h5:/raw.*unnamed = 2, unnamed = 5.*--axes czyx",
    ),
    "complex": (
        lambda d: _hdf5(d / "a.h5", lambda f: f.__setitem__("raw", VALUES * 1j)),
        "numbers of type complex128",
    ),
    "complex TIFF": (
        lambda d: _tiff(d / "a.tif", (VALUES * 1j).astype(np.complex64)),
        "numbers of type complex64",
    ),
    "text in HDF5": (
        lambda d: _hdf5(d / "a.h5", lambda file: file.__setitem__("raw", np.full((2, 2, 2), b"abc"))),
        r"numbers of type \|S3",
    ),
    "planes of different shapes": (
        lambda d: _pages(d / "a.tif", [VALUES[0], VALUES[1, 1:]]),
        "2 images of different shapes, each of one plane .40 x 50 uint16; 39 x 50 uint16",
    ),
    "slices of different shapes": (
        lambda d: _other_shape(d / "s"),
        r"z2\.tif has another shape.*39 x 50 uint16 instead of 40",
    ),
    "slices of mixed types": (
        lambda d: _other_type(d / "s"),
        r"z1\.tif has another number type.*uint8 instead of .*uint16",
    ),
    "a slice missing": (lambda d: _gap(d / "s"), r"lacks slices: 3 .*between z2\.tif and z4\.tif"),
    "two stacks in a folder": (
        lambda d: _two_channels(d / "s"),
        r"several stacks, or channels.*z2_c0\.tif follows z1_c1\.tif",
    ),
    "a stack among slices": (
        lambda d: _stack_among_slices(d / "s"),
        r"z1\.tif holds 10 planes; a slice has one",
    ),
    "an empty slice": (lambda d: _empty_slice(d / "s"), r"z1\.tif is empty \(0 bytes\)"),
    "a colour slice": (lambda d: _colour_slice(d / "s"), r"0\.png is a colour image"),
    "a cut slice": (lambda d: _cut_slice(d / "s"), r"0\.png is damaged"),
    "a PNG that declares 200000 x 200000": (lambda d: _lying_png(d / "s"), "declares 200000 x 200000 pixels"),
    "external link": (
        lambda d: _with(_external_link(d / "a.h5"), "/raw"),
        r"lies in another file \(.*secret\.h5:/numbers",
    ),
    "external link, not named": (
        lambda d: _external_link(d / "a.h5"),
        r"lies in another file \(.*secret\.h5:/numbers",
    ),
    "soft link to an external one": (
        lambda d: _with(_soft_link_to_external(d / "a.h5"), "/group/here"),
        r"secret\.h5",
    ),
    "group in another file": (lambda d: _with(_external_group(d / "a.h5"), "/away/numbers"), r"secret\.h5:/"),
    "external storage": (
        lambda d: _with(_external_storage(d / "a.h5"), "/raw"),
        r"another file \(.*secret\.bin",
    ),
    "virtual dataset": (
        lambda d: _with(_virtual(d / "a.h5"), "/raw"),
        r"another file \(.*secret\.h5:numbers",
    ),
    "virtual dataset, not named": (lambda d: _virtual(d / "a.h5"), r"another file \(.*secret\.h5:numbers"),
    "links in a circle": (lambda d: _with(_circle(d / "a.h5"), "/raw"), "run in a circle"),
    "HDF5 chunk damaged": (lambda d: _damaged_hdf5_chunk(d / "a.h5"), r"a\.h5 is damaged"),
    "HDF5 cut": (
        lambda d: _cut(_hdf5(d / "a.h5", lambda f: f.__setitem__("raw", VALUES))),
        r"a\.h5 is damaged",
    ),
    "zarr group": (
        lambda d: _zarr_group(d / "a.zarr"),
        r"is a Zarr group, not an array or an image; its arrays are: /more/labels 10 x 40 x 50 uint8; /raw",
    ),
    "zarr path outside": (
        lambda d: _ome(d / "a.zarr", dataset="../x"),
        r"points outside itself \('\.\./x'\)",
    ),
    "zarr array outside": (lambda d: _with(_zarr_group(d / "a.zarr"), "/../x"), "points outside itself"),
    "zarr image without its array": (
        lambda d: _ome(d / "a.zarr", dataset="./0"),
        r"its array '\./0' is missing",
    ),
    "zarr image whose levels are no list": (
        lambda d: _with_levels(_ome(d / "a.zarr"), 3.5),
        "damaged OME-Zarr metadata",
    ),
    "zarr metadata cut": (lambda d: _cut(_zarr(d / "a.zarr") / "zarr.json").parent, "cannot be read as Zarr"),
    "zarr chunk cut": (
        lambda d: _damage(_zarr(d / "a.zarr"), "c/1/0/1", lambda data: data[:40]),
        r"the chunk 'c/1/0/1' is damaged",
    ),
    "zarr 2 chunk cut": (
        lambda d: _damage(_zarr(d / "a.zarr", zarr_format=2, compressors=None), "0.1.1", lambda data: data[:40]),
        r"the chunk '0\.1\.1' is damaged",
    ),
    "zarr bit flipped": (
        lambda d: _damage(_checked_zarr(d / "a.zarr"), "c/0/1/1", _flip),
        r"the chunk 'c/0/1/1' is damaged",
    ),
    "our zarr, bit flipped": (
        lambda d: _damage(_ours(d / "a.zarr"), "0/c/0/0/0", _flip),
        "the chunk 'c/0/0/0' is damaged",
    ),
    "zarr of pickles": (lambda d: _pickled_zarr(d / "a.zarr"), "pickled Python objects, which can run code"),
    "zarr chunk of 10^15 bytes": (
        lambda d: _huge_chunk(d / "a.zarr"),
        "declares chunks of 1,000,000,000,000,000 bytes",
    ),
    "array in a TIFF": (
        lambda d: _with(_tiff(d / "a.tif"), "/raw"),
        "has no image '/raw'; it holds 1, counted from 0",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_bad_file_is_refused_with_words_in_little_time_and_memory(tmp_path, monkeypatch, fault):
    monkeypatch.chdir(tmp_path)
    make, words = REFUSED[fault]
    path = make(tmp_path)
    start = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(VolumeError, match=words) as caught:
            read_volume(path).data[...]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(tmp_path) in str(caught.value)
    assert peak < 50 * 2**20
    assert time.monotonic() - start < 20
    assert not Path("code-was-run").exists()


def test_a_strip_that_inflates_1000_times_its_plane_is_stopped_at_the_size_of_the_plane(tmp_path):
    path = _bomb(tmp_path / "0.tif")
    tracemalloc.start()
    try:
        with pytest.raises(VolumeError, match="damaged at plane 0: it inflates to more than the 10,000 bytes"):
            read_volume(tmp_path).data[...]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 50_000
    assert peak < 10 * 2**20


def test_axes_that_slices_do_not_have_are_refused(tmp_path):
    with pytest.raises(VolumeError, match="slices are read as 'zyx'"):
        read_volume(_slices(tmp_path / "s", VALUES[0]), axes="zyxc")


@pytest.mark.parametrize("make", [_external_link, _soft_link_to_external, _external_group, _external_storage, _virtual])
def test_the_file_behind_a_link_is_never_opened(tmp_path, make):
    """The victim is a FIFO: to open it would wait for ever."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("the system has no FIFOs")
    path = make(tmp_path / "a.h5")
    for victim in ("secret.h5", "secret.bin"):
        (tmp_path / victim).unlink(missing_ok=True)
        os.mkfifo(tmp_path / victim)
    code = (
        "import sys; from napari_unet3d.errors import VolumeError; from napari_unet3d.volumes import *\n"
        "print(list_arrays(sys.argv[1]))\n"
        "for name in ('', ':/raw', ':/away/numbers', ':/group/here'):\n"
        "    try: read_volume(sys.argv[1] + name)\n"
        "    except VolumeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith("[]\n")
    assert "lies in another file" in done.stdout


_HOLDER = """
import sys, h5py
file = h5py.File(sys.argv[1], "r+")
print("open", flush=True)
sys.stdin.read()
"""


def test_an_hdf5_file_that_another_program_writes_is_in_use(tmp_path):
    path = _hdf5(tmp_path / "a.h5", lambda file: file.__setitem__("raw", VALUES))
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        for read in (read_volume, list_arrays):
            with pytest.raises(VolumeError, match="is in use by another program that writes to it"):
                read(path)
        holder.communicate()
    assert read_volume(path).shape == VALUES.shape


def test_an_hdf5_file_that_was_refused_is_not_held_open(tmp_path):
    path = _hdf5(tmp_path / "a.h5", lambda file: file.update({"one": VALUES, "two": VALUES}))
    with pytest.raises(VolumeError, match="several arrays") as caught:
        read_volume(path)
    with h5py.File(path, "r+") as file:
        del file["two"]
    assert caught.tb is not None
    assert read_volume(path).shape == VALUES.shape


_AS_NOBODY = """
import os, sys
from napari_unet3d.errors import VolumeError
from napari_unet3d.volumes import hdf5, ome_zarr, read_volume, tiff
from napari_unet3d.volumes.slices import reading as slices
os.setgid(65534)
os.setuid(65534)
try:
    read_volume(sys.argv[1])
except VolumeError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["a.tif", "a.h5", "stack", "a.zarr", "closed/a.tif"])
def test_what_may_not_be_read_gives_one_clear_error(tmp_path, as_nobody, kind):
    place = tmp_path / kind
    if kind == "stack":
        _slices(place, *VALUES[:2])
    elif kind == "a.zarr":
        _zarr(place)
    elif kind == "a.h5":
        _hdf5(place, lambda file: file.__setitem__("raw", VALUES))
    else:
        place.parent.mkdir(exist_ok=True)
        _tiff(place)
    closed = place.parent if kind.startswith("closed") else place
    closed.chmod(0)
    try:
        assert "cannot be read: permission denied" in as_nobody(_AS_NOBODY, place)
    finally:
        closed.chmod(0o755)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_lost_chunk_of_a_foreign_zarr_is_counted(tmp_path, zarr_format):
    path = _zarr(tmp_path / "a.zarr", zarr_format=zarr_format)
    assert read_volume(path).notes == ("The file gives no voxel size that this program reads; 1 pixel is used.",)
    for name in ("c/0/1/0", "c/1/1/1"):
        (path / (name if zarr_format == 3 else name[2:].replace("/", "."))).unlink()
    volume = read_volume(path)
    assert "2 of 8 chunks are not there and read as 0: never written, or lost." in volume.notes
    assert not volume.data[:5, 20:, :25].any()


def test_a_lost_chunk_of_our_own_zarr_is_always_noticed(tmp_path):
    path = _ours(tmp_path / "a.zarr")
    opened = read_volume(path)
    (path / "0/c/0/0/0").unlink()
    for attempt in (lambda: read_volume(path), lambda: read_volume(path / "0"), lambda: opened.data[...]):
        with pytest.raises(VolumeError, match="has lost 1 chunks, the first 'c/0/0/0': this program wrote every chunk"):
            attempt()


@pytest.mark.parametrize(
    ("scale", "size", "words"),
    [
        (None, (1.0, 1.0, 1.0), "gives no voxel size that this program reads; 1 um is used"),
        ((0, 0.2, 0.2), (1.0, 0.2, 0.2), "along z is 0 in the file; 1 is used instead"),
        ((0.5, -0.2, 0.2), (0.5, 0.2, 0.2), "along y is -0.2 in the file"),
        (
            (0.5, 0.2),
            (1.0, 1.0, 1.0),
            "transformation of type 'scale' in the OME-Zarr metadata cannot be used",
        ),
    ],
)
def test_a_scale_that_is_missing_zero_or_negative_is_noted_and_1(tmp_path, scale, size, words):
    volume = read_volume(_ome(tmp_path / "a.zarr", scale=scale))
    assert volume.voxel_size == size
    assert any(words in note for note in volume.notes)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda d: _tiff(d / "a.tif", byteorder=">"), "Big-endian uint16 is read"),
        (
            lambda d: _hdf5(d / "a.h5", lambda f: f.__setitem__("raw", VALUES > 5)),
            "True and false are read as 1 and 0",
        ),
        (lambda d: _tiff(d / "a.tif", VALUES.astype(np.float64)), "float64 is read as float32"),
        (
            lambda d: _hdf5(d / "a.h5", lambda f: f.__setitem__("raw", VALUES.astype(np.int64))),
            "int64 is read as int32",
        ),
    ],
)
def test_numbers_of_an_unusual_type_are_converted_with_a_note(tmp_path, make, words):
    volume = read_volume(make(tmp_path))
    assert any(words in note for note in volume.notes)
    expected = VALUES > 5 if "True" in words else VALUES
    assert np.array_equal(volume.data[...], expected)


def test_a_multi_page_tiff_of_a_thousand_planes_is_opened_in_bounded_time(tmp_path):
    path = _pages(tmp_path / "a.tif", np.zeros((1000, 2, 2), np.uint8))
    start = time.monotonic()
    assert read_volume(path).shape == (1000, 2, 2)
    assert time.monotonic() - start < 10

"""What cannot be read is refused with an advice, and the advice works when it is followed to the letter."""

from __future__ import annotations

import re

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_unet3d.errors import VolumeError
from napari_unet3d.volumes import read_volume

VALUES = np.random.default_rng(0).integers(0, 60_000, (5, 20, 30)).astype(np.uint16)
_CHOICE = re.compile(r"(?:Name one: |Choose one: |such as |pass that: )(\S+)$")
_OPTION = re.compile(r"(axes|timepoint|channel)='?(\w+)'?")
NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def follow(path, **given):
    """Return the voxels under a path; if it is refused, under what the last advice of the message names."""
    try:
        return read_volume(path, **given).data[...]
    except VolumeError as error:
        message = str(error)
    if choice := _CHOICE.search(message):
        return follow(choice[1], **given)
    options = _OPTION.findall(message)
    assert options, message
    return follow(path, **given, **{name: value if name == "axes" else int(value) for name, value in options})


def _slices(folder, names, values=VALUES):
    for name, plane in zip(names, values, strict=True):
        tifffile.imwrite(folder / name, plane)
    return folder


def _grid(pattern):
    def make(folder):
        for k in range(2):
            _slices(folder, [pattern.format(z=z, k=k) for z in range(5)], VALUES + k)
        return folder, VALUES

    return make


def _beside(folder, suffix):
    _slices(folder, [f"z{z}{suffix}.tif" for z in range(5)], (VALUES > 9).astype(np.uint8))
    return _slices(folder, [f"z{z}.tif" for z in range(5)]), VALUES


def _named_masks(folder, pattern):
    for z, plane in enumerate(VALUES):
        mask = Image.fromarray((plane > 9).astype(np.uint8))
        mask.save(folder / pattern.format(z))
    return _slices(folder, [f"z{z}.tif" for z in range(5)]), VALUES


def _times(folder, n_times, channels):
    for t in range(n_times):
        for at, channel in enumerate(channels):
            _slices(folder, [f"t{t}_z{z}{channel}.tif" for z in range(5)], VALUES + t + 10 * at)
    return folder, VALUES


def _photo(folder):
    values = (VALUES[:3] >> 8).astype(np.uint8)
    tifffile.imwrite(folder / "a.tif", values, photometric="rgb", planarconfig="separate")
    return folder / "a.tif", values


def _hdf5(folder, arrays, **attributes):
    with h5py.File(folder / "a.h5", "w") as file:
        for name, values in arrays.items():
            file[name] = values
            file[name].attrs.update(attributes)
    return folder / "a.h5"


def _matlab(folder):
    values = np.stack([VALUES, VALUES + 1]).transpose(0, 1, 3, 2)
    path = _hdf5(folder, {"im": values}, MATLAB_class=np.bytes_(b"uint16"))
    return path, np.stack([VALUES, VALUES + 1], axis=-1)


def _group(folder, arrays):
    group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=2)
    for name, values in arrays.items():
        group.create_array(name, data=values)
    return folder / "a.zarr", VALUES


def _times_of_ome(folder):
    with tifffile.TiffWriter(folder / "a.ome.tif") as writer:
        xml = (
            f'<OME xmlns="{NAMESPACE}"><Image ID="Image:0"><Pixels ID="P:0" DimensionOrder="XYZCT" Type="uint16" '
            'SizeX="30" SizeY="20" SizeZ="1" SizeC="1" SizeT="5" PhysicalSizeZ="1.5"><TiffData/></Pixels></Image></OME>'
        )
        for z, plane in enumerate(VALUES):
            writer.write(plane, description=xml if z == 0 else None, metadata=None, contiguous=False)
    return folder / "a.ome.tif", VALUES


def _nested(folder):
    (folder / "TIFF").mkdir()
    _slices(folder / "TIFF", [f"z{z}.tif" for z in range(5)])
    return folder, VALUES


REFUSED = {
    "Micro-Manager 1.4, channels": _grid("img_000000000_{k}DAPI_{z:03d}.tif"),
    "Micro-Manager 2, channels": _grid("img_channel{k:03d}_position000_time000000000_z{z:03d}.tif"),
    "ZEN, channels": _grid("name_z{z:03d}c{k}.tif"),
    "ZEN, times": _grid("name_z{z:03d}t{k:02d}c1.tif"),
    "Leica, channels": _grid("Series001_z{z:03d}_ch{k:02d}.tif"),
    "Opera, channels": _grid("r01c01f01p{z:02d}-ch{k}sk1fk1fl1.tiff"),
    "CellVoyager, channels": _grid("Plate_C03_T0001F001L01A01Z{z:02d}C{k:02d}.tif"),
    "brackets in a name": _grid("a[{k}]z{z}.tif"),
    "masks beside the slices": lambda d: _beside(d, "_mask"),
    "channels with names": lambda d: _beside(d, "_GFP"),
    "masks that come first by their name": lambda d: _named_masks(d, "mask_{}.tif"),
    "masks in PNG": lambda d: _named_masks(d, "z{}.png"),
    "three numbers": lambda d: _times(d, 2, ["_c0", "_c1"]),
    "as many times as slices": lambda d: _times(d, 5, [""]),
    "a folder in the folder": _nested,
    "three planes that look like a photo": _photo,
    "OME, points in time that are slices": _times_of_ome,
    "MATLAB, four axes": _matlab,
    "PlantSeg": lambda d: (_hdf5(d, {"label": VALUES, "raw": VALUES + 1, "predictions": VALUES[:2]}), VALUES + 1),
    "xarray": lambda d: _group(d, {"aa": np.arange(5.0), "band": np.arange(5), "im": VALUES}),
    "CREMI in Zarr": lambda d: _group(d, {"volumes/labels/ids": VALUES + 1, "volumes/raw": VALUES}),
    "a plate": lambda d: _group(d, {"A/1/0/0": VALUES, "A/1/0/1": VALUES[:, ::2, ::2], "A/1/1/0": VALUES + 1}),
    "five unnamed axes": lambda d: (
        _hdf5(d, {"raw": np.stack([np.stack([VALUES, VALUES])] * 3)}),
        np.stack([VALUES, VALUES], axis=-1),
    ),
    "unnamed axes": lambda d: (_hdf5(d, {"raw": np.stack([VALUES, VALUES])}), np.stack([VALUES, VALUES], axis=-1)),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_every_advice_works_when_it_is_followed(tmp_path, kind):
    path, wanted = REFUSED[kind](tmp_path)
    with pytest.raises(VolumeError):
        read_volume(path)
    assert np.array_equal(follow(path), wanted)


def test_a_choice_along_unnamed_axes_is_advised_to_be_named(tmp_path):
    path = _hdf5(tmp_path, {"raw": np.stack([VALUES, VALUES + 1])})
    assert np.array_equal(follow(path, channel=1), VALUES + 1)
    assert np.array_equal(follow(path, timepoint=1), VALUES + 1)


def test_the_advice_for_labels_is_an_array_of_labels(tmp_path):
    labels = (VALUES > 9).astype(np.uint8)
    path = _hdf5(tmp_path, {"raw": VALUES, "labels": labels})
    assert np.array_equal(follow(path), VALUES)
    assert np.array_equal(follow(path, kind="labels"), labels)
    path, _ = _group(tmp_path, {"raw": VALUES, "masks": labels})
    assert np.array_equal(follow(path), VALUES)
    assert np.array_equal(follow(path, kind="labels"), labels)


FOREIGN = {
    "a.dcm": (b"\0" * 128 + b"DICM", "a DICOM file"),
    "a.oir": (b"OLYMPUSRAWFORMAT", "an Olympus OIR"),
    "a.mha": (b"ObjectType = Image\nNDims = 3\n", "a MetaImage"),
    "a.am": (b"# AmiraMesh BINARY", "an Amira mesh"),
    "a.mat": (b"MATLAB 5.0 MAT-file, Platform", "before version 7.3"),
    "a.gif": (b"GIF89a", "a GIF"),
    "a.avi": (b"RIFF0000AVI ", "a film"),
    "a.mp4": (b"\0\0\0\x20ftypisom", "a film"),
    "a.tar.zst": (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    "a.npz": (b"PK\3\4" + bytes(30), "an archive of NumPy arrays"),
    "a.xml": (b'<?xml version="1.0"?><SpimData version="0.2">', "BigDataViewer volume; pass the .h5"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_another_format_is_named_for_what_it_is_also_inside_a_folder(tmp_path, name):
    data, words = FOREIGN[name]
    (tmp_path / name).write_bytes(data)
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(VolumeError, match=words):
            read_volume(path)


@pytest.mark.parametrize("text", ["s3://b/a.zarr", "HTTP://x/a.tif", "zip::s3://b/a.zip", "simplecache::https://x/a"])
def test_an_address_is_called_an_address(text):
    with pytest.raises(VolumeError, match="is an address in a network"):
        read_volume(text)

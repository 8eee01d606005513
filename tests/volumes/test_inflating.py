"""Nothing becomes more bytes than it declares: what codecs state is believed only as far as that."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tracemalloc
import zlib

import h5py
import imagecodecs
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet3d.errors import VolumeError
from napari_unet3d.volumes import list_arrays, read_volume
from napari_unet3d.volumes.inflating import can_state_size, inflate
from napari_unet3d.volumes.tiff.claims import claimed_values

COMPRESS = {
    "zstd": lambda data: bytes(numcodecs.Zstd().encode(data)),
    "blosc": lambda data: bytes(numcodecs.Blosc().encode(data)),
    "lz4": lambda data: bytes(numcodecs.LZ4().encode(data)),
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "lzma": lzma.compress,
    "bz2": bz2.compress,
}


@pytest.mark.parametrize("codec", COMPRESS)
@given(data=st.binary(min_size=1, max_size=3000), repeats=st.integers(1, 40))
def test_what_fits_is_inflated_or_left_to_the_codec_and_what_does_not_is_refused(codec, data, repeats):
    whole = data * repeats
    packed = COMPRESS[codec](whole)
    found = inflate(packed, codec, len(whole))
    assert (found is None) == can_state_size(codec)
    assert found in (None, whole)
    with pytest.raises(ValueError, match="more than the"):
        inflate(packed, codec, len(whole) - 1)


@given(st.sampled_from(list(COMPRESS)), st.binary(max_size=200), st.integers(0, 1000))
def test_any_junk_is_refused_or_left_to_the_codec(codec, junk, limit):
    try:
        found = inflate(junk, codec, limit)
    except ValueError:
        return
    assert found is None or len(found) <= limit


SIZES = st.integers(8, 70)
PICTURES = {
    7: lambda image: imagecodecs.jpeg8_encode(image),
    34712: lambda image: imagecodecs.jpeg2k_encode(image, level=0),
    50002: lambda image: imagecodecs.jpegxl_encode(image, lossless=True),
    34933: lambda image: imagecodecs.png_encode(image),
    34887: lambda image: imagecodecs.lerc_encode(image),
}


@pytest.mark.parametrize("compression", PICTURES)
@settings(max_examples=30, deadline=None)
@given(height=SIZES, width=SIZES)
def test_a_picture_in_a_strip_says_how_large_it_is(compression, height, width):
    image = np.random.default_rng(0).integers(0, 255, (height, width)).astype(np.uint8)
    assert claimed_values(bytes(PICTURES[compression](image)), compression) == height * width


@pytest.mark.parametrize("compression", PICTURES)
@given(junk=st.binary(max_size=100))
def test_junk_in_a_strip_claims_nothing_that_raises(compression, junk):
    found = claimed_values(junk, compression)
    assert found is None or found >= 0


def _zarr_bomb(folder, codec):
    path = folder / "a.zarr"
    zarr.create_array(path, data=np.zeros((4, 20, 20), np.uint16), chunks=(4, 20, 20), zarr_format=2, compressors=codec)
    (path / "0.0.0").write_bytes(bytes(codec.encode(bytes(200 << 20))))
    return path


def _hdf5_bomb(folder, size):
    with h5py.File(folder / "a.h5", "w") as file:
        array = file.create_dataset("raw", (4, size, size), np.uint8, chunks=(4, size, size), compression="gzip")
        array.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(200 << 20)))
    return folder / "a.h5"


BOMBS = {
    "zarr, zlib": lambda d: _zarr_bomb(d, numcodecs.Zlib()),
    "zarr, gzip": lambda d: _zarr_bomb(d, numcodecs.GZip()),
    "zarr, zstd": lambda d: _zarr_bomb(d, numcodecs.Zstd()),
    "zarr, lz4": lambda d: _zarr_bomb(d, numcodecs.LZ4()),
    "HDF5, small chunks": lambda d: _hdf5_bomb(d, 20),
    "HDF5, chunks that are inflated here": lambda d: _hdf5_bomb(d, 200),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_chunk_that_inflates_to_200_mib_is_stopped_at_its_size(tmp_path, bomb):
    path = BOMBS[bomb](tmp_path)
    volume = read_volume(path)
    tracemalloc.start()
    try:
        with pytest.raises(VolumeError, match=r"inflates to more than the|damaged"):
            volume.data[...]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 << 20


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes in folders")
def test_a_pipe_in_place_of_a_chunk_is_not_waited_for(tmp_path):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=np.ones((4, 20, 20), np.uint16), chunks=(4, 20, 20))
    (path / "c/0/0/0").unlink()
    os.mkfifo(path / "c/0/0/0")
    with pytest.raises(VolumeError, match="not a regular file"):
        read_volume(path).data[...]


def test_a_level_that_is_a_link_leads_nowhere(tmp_path):
    zarr.create_array(tmp_path / "secret.zarr", data=np.ones((4, 20, 20), np.uint16))
    axes = [{"name": axis, "type": "space"} for axis in "zyx"]
    image = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    zarr.create_group(tmp_path / "a.zarr", attributes={"ome": image})
    (tmp_path / "a.zarr/0").symlink_to(tmp_path / "secret.zarr")
    with pytest.raises(VolumeError, match="is a link that leads out of it"):
        read_volume(tmp_path / "a.zarr")


def test_groups_in_groups_are_listed_in_bounded_time(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr")
    for _ in range(60):
        group = group.create_group("g")
    group.create_array("deep", data=np.ones((2, 2, 2)))
    zarr.create_array(tmp_path / "a.zarr/near", data=np.ones((2, 2, 2), np.uint8))
    assert [info.name for info in list_arrays(tmp_path / "a.zarr")] == ["/near"]


def test_numbers_that_a_filter_keeps_in_a_wider_type_are_read(tmp_path):
    values = np.random.default_rng(0).integers(0, 60_000, (4, 64, 64)).astype(np.uint16)
    wider = [numcodecs.Delta("u2", astype="i4")]
    zarr.create_array(tmp_path / "a.zarr", data=values, chunks=(4, 64, 64), zarr_format=2, filters=wider)
    assert np.array_equal(read_volume(tmp_path / "a.zarr").data[...], values)


def test_a_chunk_file_that_is_larger_than_a_chunk_can_be_is_refused_before_it_is_read(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=np.ones((4, 20, 20), np.uint16), chunks=(4, 20, 20))
    with open(tmp_path / "a.zarr/c/0/0/0", "r+b") as file:
        file.truncate(40 << 30)
    with pytest.raises(VolumeError, match="has 42,949,672,960 bytes, which is not plausible"):
        read_volume(tmp_path / "a.zarr").data[...]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes in folders")
def test_an_imaris_file_whose_level_lies_in_another_file_does_not_open_it(tmp_path):
    os.mkfifo(tmp_path / "fifo.h5")
    with h5py.File(tmp_path / "a.ims", "w") as file:
        file.create_group("DataSetInfo")
        file["DataSet/ResolutionLevel 0"] = h5py.ExternalLink(str(tmp_path / "fifo.h5"), "/")
    with pytest.raises(VolumeError, match="lies in another file"):
        read_volume(tmp_path / "a.ims")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes in folders")
@pytest.mark.parametrize("name", ["a.tif", "a.h5", "a.zarr.zip", ".zmetadata"])
def test_a_pipe_is_never_waited_for(tmp_path, name):
    place = tmp_path / "group.zarr"
    zarr.create_group(place, zarr_format=2)
    path = place / name if name == ".zmetadata" else tmp_path / name
    os.mkfifo(path)
    for read in (read_volume, list_arrays):
        with pytest.raises(VolumeError):
            read(place if name == ".zmetadata" else path)


def test_a_mistake_of_this_program_is_no_damaged_file(tmp_path, monkeypatch):
    from napari_unet3d.volumes.tiff import segments

    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(np.ones((4, 20, 20), np.uint16), compression="zlib", photometric="minisblack")
    volume = read_volume(path)
    monkeypatch.setattr(segments, "inflate", None)
    with pytest.raises(TypeError):
        volume.data[...]


def test_an_attribute_whose_text_never_comes_to_an_end_is_left_out_and_said(tmp_path):
    """Made by a fuzzer: the size of an object in the heap of texts leads back to its own beginning."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = np.ones((4, 20, 20), np.uint16)
        file["raw"].attrs["axistags"] = '{"axes": [{"key": "z"}, {"key": "y"}, {"key": "x"}]}'
    data = bytearray(path.read_bytes())
    size = data.index(b"GCOL") + 16 + 8
    data[size : size + 8] = (2**64 - 16).to_bytes(8, "little")
    path.write_bytes(data)
    volume = read_volume(path)
    assert volume.shape == (4, 20, 20)
    assert any("axistags" in note and "damaged" in note for note in volume.notes)

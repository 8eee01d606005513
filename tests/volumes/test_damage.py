"""Whatever happens to the bytes of a file, reading it ends in numbers or in a `VolumeError`."""

from __future__ import annotations

import contextlib
import json
import shutil

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_unet3d.errors import VolumeError
from napari_unet3d.volumes import create_output, read_volume

VALUES = np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7)


def _ours(path):
    with create_output(path, VALUES.shape, np.uint16, voxel_size=(1, 1, 1), unit="um") as output:
        output[...] = VALUES
        output.commit()


def _hdf5(path):
    with h5py.File(path, "w") as file:
        file["raw"] = VALUES


def _zip(path):
    zarr.create_array(path.with_suffix(".zarr"), data=VALUES, chunks=(2, 6, 7), overwrite=True)
    shutil.make_archive(str(path.with_suffix("")), "zip", path.with_suffix(".zarr"))


WRITERS = {
    "zipped.zip": _zip,
    "plain.tif": lambda path: tifffile.imwrite(path, VALUES),
    "imagej.tif": lambda path: tifffile.imwrite(path, VALUES, imagej=True, metadata={"axes": "ZYX", "spacing": 2.0}),
    "ome.ome.tif": lambda path: tifffile.imwrite(path, VALUES, metadata={"axes": "ZYX", "PhysicalSizeZ": 2.0}),
    "deflate.tif": lambda path: tifffile.imwrite(path, VALUES, compression="zlib"),
    "big.tif": lambda path: tifffile.imwrite(path, VALUES, bigtiff=True, byteorder=">"),
    "a.h5": _hdf5,
    "ours.zarr": _ours,
    "two.zarr": lambda path: zarr.create_array(path, data=VALUES, zarr_format=2),
}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats()
    | st.sampled_from(["", "0", "z", "scale", "micrometer"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "type", "path"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), junk=JSON)
def test_any_junk_in_ome_metadata_ends_in_a_volume_or_in_a_volume_error(tmp_path, data, junk):
    path = tmp_path / "ours.zarr"
    if not path.exists():
        _ours(path)
        (tmp_path / "good.json").write_bytes((path / "zarr.json").read_bytes())
    document = json.loads((tmp_path / "good.json").read_text())
    place = document["attributes"]["ome"]
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = junk
    (path / "zarr.json").write_text(json.dumps(document))
    with contextlib.suppress(VolumeError):
        volume = read_volume(path)
        assert min(volume.voxel_size) > 0
        assert np.array_equal(volume.data[...].ravel(), VALUES.ravel())
    with contextlib.suppress(VolumeError):
        assert min(read_volume(path / "0").voxel_size) > 0


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(["unit", "zunit", "spacing", "xorigin", "slices", "channels", "frames", "images"]),
    value=st.sampled_from(["0", "-1", "2", "1e400", "nan", "x", "", "5", "999999999999", "um"]),
)
def test_any_junk_in_an_imagej_description_ends_in_a_volume_or_in_a_volume_error(tmp_path, key, value):
    lines = {"ImageJ": "1.54f", "images": "5", "slices": "5", "unit": "um", "spacing": "0.5"} | {key: value}
    text = "".join(f"{name}={content}\n" for name, content in lines.items())
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for z, plane in enumerate(VALUES):
            writer.write(plane, description=text if z == 0 else None, metadata=None, resolution=(10, 10))
    with contextlib.suppress(VolumeError):
        volume = read_volume(tmp_path / "a.tif")
        assert min(volume.voxel_size) > 0
        assert volume.data[...].shape == VALUES.shape


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_ends_in_numbers_or_in_a_volume_error(tmp_path, name, data):
    place = tmp_path / name
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    WRITERS[name](place)
    files = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    victim = data.draw(st.sampled_from(files))
    content = bytearray(victim.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    victim.write_bytes(content[:end])
    with contextlib.suppress(VolumeError):
        volume = read_volume(place)
        assert min(volume.voxel_size) > 0
        if volume.nbytes < 2**20:
            assert volume.data[...].shape[:3] == volume.shape

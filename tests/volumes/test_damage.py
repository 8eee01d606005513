"""Whatever happens to the bytes of a file, reading it ends in numbers or in a `VolumeError`."""

from __future__ import annotations

import contextlib
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


WRITERS = {
    "plain.tif": lambda path: tifffile.imwrite(path, VALUES),
    "imagej.tif": lambda path: tifffile.imwrite(
        path, VALUES, imagej=True, metadata={"axes": "ZYX", "spacing": 2.0}
    ),
    "ome.ome.tif": lambda path: tifffile.imwrite(
        path, VALUES, metadata={"axes": "ZYX", "PhysicalSizeZ": 2.0}
    ),
    "deflate.tif": lambda path: tifffile.imwrite(path, VALUES, compression="zlib"),
    "big.tif": lambda path: tifffile.imwrite(path, VALUES, bigtiff=True, byteorder=">"),
    "a.h5": _hdf5,
    "ours.zarr": _ours,
    "two.zarr": lambda path: zarr.create_array(path, data=VALUES, zarr_format=2),
}


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

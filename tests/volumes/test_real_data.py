"""Volumes as microscopes and other programs wrote them."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_unet3d.errors import VolumeError
from napari_unet3d.volumes import create_output, list_arrays, read_volume


def test_a_light_sheet_stack_is_read_slice_by_slice(shared_data):
    folder = shared_data / "trailmap" / "stack"
    volume = read_volume(folder)
    assert (volume.shape, volume.dtype, volume.is_lazy) == ((303, 303, 303), np.uint16, True)
    assert volume.unit == "pixel"
    files = sorted(folder.glob("*.tif"))
    for z in (0, 100, 302):
        assert np.array_equal(volume.data[z], tifffile.imread(files[z]))
    box = volume.data[10:13, 20:30, 40:50]
    assert np.array_equal(box, np.stack([tifffile.imread(file)[20:30, 40:50] for file in files[10:13]]))


def test_a_stack_without_one_slice_names_it(shared_data, tmp_path):
    for file in sorted((shared_data / "trailmap" / "stack").glob("*.tif"))[:20]:
        if not file.name.endswith("30007.tif"):
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(VolumeError, match=r"lacks slices: 30007 .*30006\.tif and .*30008\.tif"):
        read_volume(tmp_path)


@pytest.mark.parametrize("name", ["volume.tif", "labels.tif"])
def test_an_annotated_volume_of_imagej_is_read(shared_data, name):
    path = shared_data / "trailmap" / "sparse" / name
    volume = read_volume(path)
    assert volume.shape == (101, 120, 120)
    assert np.array_equal(volume.data[...], tifffile.imread(path))
    assert any("Big-endian" in note for note in volume.notes) == (name == "volume.tif")


def test_a_compressed_float_volume_is_read_plane_by_plane(shared_data):
    path = shared_data / "exllsm" / "golden_input_100.tif"
    volume = read_volume(path)
    assert (volume.shape, volume.dtype) == ((100, 100, 100), np.float32)
    assert np.array_equal(volume.data[40:50, 3:90], tifffile.imread(path)[40:50, 3:90])


def test_an_ovule_has_its_voxel_size_and_two_arrays(shared_data):
    path = shared_data / "ovule" / "sample_ovule.h5"
    assert [(info.name, info.dtype) for info in list_arrays(path)] == [
        ("/label", "uint16"),
        ("/raw", "uint8"),
    ]
    with pytest.raises(VolumeError, match="several arrays: /label 32 x 128 x 128 uint16; /raw"):
        read_volume(path)
    volume = read_volume(f"{path}:/raw")
    assert (volume.shape, volume.voxel_size, volume.unit) == ((32, 128, 128), (0.235, 0.15, 0.15), "um")
    assert volume.notes == ()


@pytest.mark.parametrize("name", ["cells.tif", "cells.ome.tif", "cells.zarr"])
def test_the_cells_of_an_ovule_survive_being_written(shared_data, tmp_path, name):
    cells = read_volume(shared_data / "ovule" / "sample_ovule.h5", dataset="/label")
    options = {"voxel_size": cells.voxel_size, "unit": cells.unit}
    with create_output(tmp_path / name, cells.shape, cells.dtype, **options) as output:
        for z in range(0, 32, 10):
            output[z : z + 10] = cells.data[z : z + 10]
        written = read_volume(output.commit())
    assert np.array_equal(written.data[...], cells.data[...])
    assert (written.voxel_size, written.unit) == (cells.voxel_size, cells.unit)

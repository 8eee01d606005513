"""An OME-Zarr with smaller copies opens as one layer with levels, each of which a worker reads by itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr

from napari_unet3d.tasks.jobs.places import open_image
from napari_unet3d.volumes import create_output, read_volume
from napari_unet3d.volumes.reading import read_coarser
from napari_unet3d.widgets.layers.volumes import add_layer, describe_levels, layer_data, layer_volume

WHOLE = np.random.default_rng(0).integers(0, 3000, (16, 32, 48)).astype(np.uint16)


@pytest.fixture
def pyramid(tmp_path):
    """Return an image with two smaller copies, of which the last has as many planes as the one before."""
    path = tmp_path / "stack.zarr"
    with create_output(path, WHOLE.shape, "uint16", voxel_size=(2, 1.6, 1.6), unit="um", kind="image") as output:
        output[:, :, :] = WHOLE
        output.commit()
    about = json.loads((path / "zarr.json").read_text())
    (scales,) = about["attributes"]["ome"]["multiscales"]
    (first,) = scales["datasets"]
    scales["datasets"] = [first]
    for name, step in (("1", (2, 2, 2)), ("2", (2, 4, 4))):
        part = WHOLE[:: step[0], :: step[1], :: step[2]]
        zarr.create_array(path / name, data=part, chunks=(8, 8, 8))
        scale = [size * n for size, n in zip((2, 1.6, 1.6), step, strict=True)]
        moved = [{"type": "scale", "scale": scale}]
        scales["datasets"].append({"path": name, "coordinateTransformations": moved})
    (path / "zarr.json").write_text(json.dumps(about))
    return path


def test_a_pyramid_opens_as_a_layer_with_levels_in_words(viewer, pyramid):
    volume = read_volume(pyramid)
    assert volume.is_lazy
    layer = add_layer(viewer, layer_data(volume))
    assert layer.multiscale
    assert [tuple(level.shape) for level in layer.data] == [(16, 32, 48), (8, 16, 24), (8, 8, 12)]
    np.testing.assert_allclose(layer.scale, (2, 1.6, 1.6))
    assert describe_levels(layer) == [
        "all voxels, 2 x 1.6 x 1.6 um",
        "every 2nd voxel, 4 x 3.2 x 3.2 um",
        "every 2nd voxel along z, every 4th along y and x, 4 x 6.4 x 6.4 um",
    ]


def test_a_worker_reads_each_level_by_itself(viewer, pyramid):
    layer = add_layer(viewer, layer_data(read_volume(pyramid)))
    for number, step in enumerate([(1, 1, 1), (2, 2, 2), (2, 4, 4)]):
        found = layer_volume(layer, level=number)
        assert found.on_disk is not None
        expected = WHOLE[:: step[0], :: step[1], :: step[2]]
        np.testing.assert_array_equal(open_image(found.on_disk, None).data[:, :, :], expected)
        np.testing.assert_array_equal(found.volume.data[:, :, :], expected)


def test_what_is_no_pyramid_has_one_level(tmp_path, viewer, pyramid):
    path = tmp_path / "plain.zarr"
    with create_output(path, WHOLE.shape, "uint16", voxel_size=(1, 1, 1), unit="um", kind="image") as output:
        output.commit()
    assert read_coarser(read_volume(path)) == []
    assert not add_layer(viewer, layer_data(read_volume(path))).multiscale
    # Damage to a smaller copy costs that copy.
    (pyramid / "2" / "zarr.json").write_text("{}")
    assert [level.shape for level in read_coarser(read_volume(pyramid))] == [(8, 16, 24)]

"""A file with smaller copies of its volume opens as one layer with levels, which workers read by themselves."""

from __future__ import annotations

import json
from contextlib import suppress

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from napari_unet3d.errors import VolumeError
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


def halves(voxels: np.ndarray, factors) -> np.ndarray:
    return voxels[tuple(slice(None, None, step) for step in factors)]


def text(value) -> np.ndarray:
    """Return an attribute as Imaris keeps it."""
    return np.array([letter.encode() for letter in str(value)], dtype="S1")


def write_imaris(path, channels=1):
    """Write an Imaris file with three levels, padded to whole chunks as Imaris does."""
    with h5py.File(path, "w") as file:
        for level, step in enumerate([(1, 1, 1), (1, 2, 2), (2, 4, 4)]):
            for channel in range(channels):
                part = halves(WHOLE, step) + channel
                group = file.create_group(f"DataSet/ResolutionLevel {level}/TimePoint 0/Channel {channel}")
                padded = np.zeros([-(-n // 8) * 8 for n in part.shape], np.uint16)
                padded[tuple(map(slice, part.shape))] = part
                group.create_dataset("Data", data=padded, chunks=(8, 8, 8), compression="gzip")
                for axis, n in zip("ZYX", part.shape, strict=True):
                    group.attrs[f"ImageSize{axis}"] = text(n)
        image = file.create_group("DataSetInfo/Image")
        image.attrs["Unit"] = text("um")
        for number, (n, size) in enumerate(zip(WHOLE.shape[::-1], (1.6, 1.6, 2), strict=True)):
            image.attrs[f"ExtMin{number}"], image.attrs[f"ExtMax{number}"] = text(0.0), text(n * size)
    return path


def write_ome_tiff(path):
    """Write an OME-TIFF whose planes have two smaller copies, along y and x alone, as microscopes write them."""
    about = {"axes": "ZYX", "PhysicalSizeX": 1.6, "PhysicalSizeY": 1.6, "PhysicalSizeZ": 2.0}
    about |= {f"PhysicalSize{axis}Unit": "\N{MICRO SIGN}m" for axis in "XYZ"}
    with tifffile.TiffWriter(path, ome=True) as writer:
        options = {"tile": (16, 16), "compression": "zlib", "photometric": "minisblack"}
        writer.write(WHOLE, subifds=2, metadata=about, **options)
        for step in ((1, 2, 2), (1, 4, 4)):
            writer.write(halves(WHOLE, step), subfiletype=1, **options)
    return path


@pytest.mark.parametrize("write", [write_imaris, write_ome_tiff])
def test_imaris_and_ome_tiff_open_as_a_layer_with_levels_which_workers_read(viewer, tmp_path, write):
    is_imaris = write is write_imaris
    path = write(tmp_path / ("stack.ims" if is_imaris else "stack.ome.tif"))
    layer = add_layer(viewer, layer_data(read_volume(path)))
    assert layer.multiscale
    np.testing.assert_allclose(layer.scale, (2, 1.6, 1.6))
    last = (
        "every 2nd voxel along z, every 4th along y and x, 4 x 6.4 x 6.4 um"
        if is_imaris
        else "every 4th voxel along y and x, 2 x 6.4 x 6.4 um"
    )
    assert describe_levels(layer) == [
        "all voxels, 2 x 1.6 x 1.6 um",
        "every 2nd voxel along y and x, 2 x 3.2 x 3.2 um",
        last,
    ]
    for number, step in enumerate([(1, 1, 1), (1, 2, 2), (2, 4, 4) if is_imaris else (1, 4, 4)]):
        found = layer_volume(layer, level=number)
        np.testing.assert_array_equal(found.volume.data[:, :, :], halves(WHOLE, step))
        np.testing.assert_array_equal(open_image(found.on_disk, None).data[:, :, :], halves(WHOLE, step))
        # What the file says of the level agrees with what the layer says.
        alone = read_volume(found.on_disk.path)
        assert alone.voxel_size == pytest.approx(found.volume.voxel_size)
        assert alone.translate == pytest.approx(found.space.translate, abs=1e-9)


def test_channels_of_an_imaris_file_have_levels_too(viewer, tmp_path):
    path = write_imaris(tmp_path / "two.ims", channels=2)
    layer = add_layer(viewer, layer_data(read_volume(path)))
    assert [tuple(level.shape) for level in layer.data] == [(2, 16, 32, 48), (2, 16, 16, 24), (2, 8, 8, 12)]
    assert describe_levels(layer)[1] == "every 2nd voxel along y and x, 2 x 3.2 x 3.2 um"
    found = layer_volume(layer, level=2, position=1)
    np.testing.assert_array_equal(found.volume.data[:, :, :], halves(WHOLE, (2, 4, 4)) + 1)
    one = read_volume(f"{path}:DataSet/ResolutionLevel 0/TimePoint 0/Channel 1")
    assert [level.shape for level in read_coarser(one)] == [(16, 16, 24), (8, 8, 12)]


def test_the_smaller_copies_of_a_tiff_are_found_by_their_number_and_no_others(tmp_path):
    path = write_ome_tiff(tmp_path / "stack.ome.tif")
    assert read_volume(f"{path}:level 2").shape == (16, 8, 12)
    assert read_volume(f"{path}:0/level 1").shape == (16, 16, 24)
    with pytest.raises(VolumeError, match="has no level 3"):
        read_volume(f"{path}:level 3")
    plain = tmp_path / "plain.tif"
    tifffile.imwrite(plain, WHOLE)
    assert read_coarser(read_volume(plain)) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
@example(203973)
def test_a_damaged_pyramid_is_refused_in_words_or_has_fewer_levels(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("damaged")
    path = write_ome_tiff(folder / "stack.ome.tif")
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    with tifffile.TiffFile(path) as tif:
        offsets = [page.offset for page in tif.pages] + [sub.offset for page in tif.pages for sub in page.pages]
    for _ in range(4):
        at = int(rng.choice(offsets)) + int(rng.integers(0, 200))
        content[at % len(content)] = int(rng.integers(0, 256))
    path.write_bytes(bytes(content))
    try:
        volume = read_volume(path)
    except VolumeError:
        return
    for level in read_coarser(volume):
        with suppress(VolumeError):
            np.asarray(level.data[...])

"""Whatever the format, a box that is read is the box that was written, with its voxel size."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis.extra.numpy import basic_indices
from PIL import Image

from napari_unet3d.errors import VolumeError
from napari_unet3d.volumes import is_sample, list_arrays, read_sample, read_volume

SHAPE = (7, 40, 33)
VALUES = np.random.default_rng(0).integers(0, 60_000, SHAPE).astype(np.uint16)
VALUES[3] = 0


def _pages(path, values, **options):
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False)) as writer:
        for plane in values:
            writer.write(plane, contiguous=False, metadata=None, **options)
    return path


def _slices(folder, values, suffix):
    folder.mkdir()
    for z, plane in enumerate(values):
        if suffix == ".png":
            Image.fromarray(plane).save(folder / f"slice{z}.png")
        else:
            tifffile.imwrite(folder / f"slice{z}{suffix}", plane)
    return folder


def _hdf5(path, values, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("volumes/raw", data=values, **options)
    return path


def _zarr(path, values, **options):
    zarr.create_array(path, data=values, **options)
    return path


LAYOUTS = {
    "one run of planes": lambda d: (tifffile.imwrite(d / "a.tif", VALUES), d / "a.tif")[1],
    "ImageJ": lambda d: (
        tifffile.imwrite(d / "a.tif", VALUES, imagej=True, metadata={"axes": "ZYX"}),
        d / "a.tif",
    )[1],
    "OME": lambda d: (tifffile.imwrite(d / "a.ome.tif", VALUES, metadata={"axes": "ZYX"}), d / "a.ome.tif")[1],
    "a page a plane": lambda d: _pages(d / "a.tif", VALUES),
    "strips of 7 rows": lambda d: _pages(d / "a.tif", VALUES, rowsperstrip=7),
    "big-endian": lambda d: (tifffile.imwrite(d / "a.tif", VALUES, byteorder=">"), d / "a.tif")[1],
    "BigTIFF": lambda d: _pages(d / "a.tif", VALUES, bigtiff=True),
    "deflate": lambda d: _pages(d / "a.tif", VALUES, compression="zlib", rowsperstrip=9),
    "deflate, one strip": lambda d: _pages(d / "a.tif", VALUES, compression="zlib"),
    "lzma": lambda d: _pages(d / "a.tif", VALUES, compression="lzma"),
    "tiles": lambda d: _pages(d / "a.tif", VALUES, tile=(16, 16)),
    "tiles, deflate": lambda d: _pages(d / "a.tif", VALUES, tile=(16, 32), compression="zlib"),
    "TIFF slices": lambda d: _slices(d / "stack", VALUES, ".tif"),
    "PNG slices": lambda d: _slices(d / "stack", VALUES, ".png"),
    "HDF5": lambda d: _hdf5(d / "a.h5", VALUES),
    "HDF5, gzip": lambda d: _hdf5(d / "a.h5", VALUES, compression="gzip", chunks=(2, 16, 16)),
    "HDF5, big-endian": lambda d: _hdf5(d / "a.h5", VALUES.astype(">u2")),
    "Zarr 2": lambda d: _zarr(d / "a.zarr", VALUES, chunks=(3, 16, 16), zarr_format=2),
    "Zarr 3": lambda d: _zarr(d / "a.zarr", VALUES, chunks=(3, 16, 16)),
    "Zarr 3, sharded": lambda d: _zarr(d / "a.zarr", VALUES, chunks=(2, 8, 8), shards=(4, 32, 32)),
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return {name: read_volume(write(tmp_path_factory.mktemp("layout"))) for name, write in LAYOUTS.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=25, deadline=None)
@given(key=basic_indices(SHAPE, allow_newaxis=False))
def test_any_box_of_any_layout_is_what_was_stored(stored, layout, key):
    found = stored[layout].data[key]
    assert np.array_equal(found, VALUES[key])
    assert found.dtype == np.uint16


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_lazy_and_says_that_it_is_big_endian(stored, layout):
    volume = stored[layout]
    assert volume.is_lazy
    assert (volume.shape, volume.dtype, volume.nbytes) == (SHAPE, np.dtype(np.uint16), VALUES.nbytes)
    assert any("Big-endian" in note for note in volume.notes) == (layout in ("big-endian", "HDF5, big-endian"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_threads_read_the_same_volume_at_the_same_time(stored, layout):
    wrong = []

    def work(seed):
        for z, y in np.random.default_rng(seed).integers(0, (7, 40), (15, 2)):
            if not np.array_equal(stored[layout].data[z, y : y + 9], VALUES[z, y : y + 9]):
                wrong.append((z, y))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint32", "int32", "float32"])
def test_a_compressed_tiff_of_any_number_type_is_read(tmp_path, dtype):
    values = (VALUES.astype(np.int64) - 300).astype(dtype)
    _pages(tmp_path / "a.tif", values, compression="zlib")
    assert np.array_equal(read_volume(tmp_path / "a.tif").data[...], values)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_the_predictor_of_libtiff_is_undone(tmp_path, dtype):
    values = VALUES.astype(dtype)
    first, *rest = (Image.fromarray(plane) for plane in values)
    options = {"compression": "tiff_adobe_deflate", "tiffinfo": {317: 2}, "save_all": True}
    first.save(tmp_path / "a.tif", append_images=rest, **options)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.pages.first.predictor == 2
    assert np.array_equal(read_volume(tmp_path / "a.tif").data[...], values)


@pytest.mark.parametrize(
    ("compression", "predictor", "dtype"),
    [
        ("lzw", 1, "uint16"),
        ("lzw", 2, "uint16"),
        ("zstd", 2, "uint16"),
        ("zlib", 3, "float32"),
        ("packbits", 1, "uint8"),
    ],
)
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_the_codecs_of_imagecodecs_are_used_where_that_is_installed(tmp_path, compression, predictor, dtype, tile):
    pytest.importorskip("imagecodecs")
    values = VALUES.astype(dtype)
    _pages(tmp_path / "a.tif", values, compression=compression, predictor=predictor, tile=tile)
    volume = read_volume(tmp_path / "a.tif")
    assert np.array_equal(volume.data[...], values)
    assert np.array_equal(volume.data[1:4, 5:30, 3:20], values[1:4, 5:30, 3:20])


def test_a_blank_compressed_plane_is_no_bomb(tmp_path):
    _pages(tmp_path / "a.tif", np.zeros((2, 2000, 2000), np.uint16), compression="zlib", rowsperstrip=2000)
    assert (tmp_path / "a.tif").stat().st_size * 900 < 2 * 2000 * 2000 * 2
    assert not read_volume(tmp_path / "a.tif").data[...].any()


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m"])
def test_imagej_gives_spacing_unit_resolution_and_origin(tmp_path, unit):
    metadata = {"axes": "ZYX", "spacing": 0.5, "unit": unit, "xorigin": -20.0}
    tifffile.imwrite(tmp_path / "a.tif", VALUES, imagej=True, resolution=(1 / 0.1, 1 / 0.235), metadata=metadata)
    volume = read_volume(tmp_path / "a.tif")
    assert volume.voxel_size == (0.5, 0.235, 0.1)
    assert volume.unit == "um"
    assert volume.translate == (0.0, 0.0, 2.0)


def test_ome_gives_physical_sizes_in_one_unit(tmp_path):
    metadata = {"axes": "ZYX", "PhysicalSizeX": 100.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 100.0}
    metadata |= {"PhysicalSizeYUnit": "nm", "PhysicalSizeZ": 0.3, "PhysicalSizeZUnit": "µm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", VALUES, metadata=metadata)
    volume = read_volume(tmp_path / "a.ome.tif")
    assert volume.voxel_size == pytest.approx((0.3, 0.1, 0.1))
    assert (volume.unit, volume.name) == ("um", "a")


def test_a_plain_tiff_gives_y_and_x_and_says_that_z_is_unknown(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for plane in VALUES:
            writer.write(plane, resolution=(20_000, 10_000), resolutionunit="CENTIMETER", metadata=None)
    volume = read_volume(tmp_path / "a.tif")
    assert volume.voxel_size == (1.0, 1.0, 0.5)
    assert volume.unit == "um"
    assert volume.notes == ("The file gives no voxel size along z that this program reads; 1 um is used.",)


def test_only_the_first_image_of_a_file_is_read_and_that_is_noted(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        for values in (VALUES, VALUES[:3]):
            writer.write(values, metadata={"axes": "ZYX"})
    volume = read_volume(tmp_path / "a.ome.tif")
    (note,) = (note for note in volume.notes if "2 images; the first is read" in note)
    assert "Left out: Image1 3 x 40 x 33" in note
    assert np.array_equal(read_volume(note.rpartition("such as ")[2]).data[...], VALUES[:3])
    assert np.array_equal(volume.data[...], VALUES)


def test_channels_come_last_where_the_file_names_them(tmp_path):
    values = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, metadata={"axes": "ZCYX"})
    volume = read_volume(tmp_path / "a.tif")
    assert (volume.shape, volume.n_channels) == ((2, 4, 5), 3)
    assert np.array_equal(volume.data[...], values.transpose(0, 2, 3, 1))
    assert np.array_equal(volume.data[1:, 2:, :, 1], values[1:, 1, 2:])


@pytest.mark.parametrize("planarconfig", ["CONTIG", "SEPARATE"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_colour_stack_is_read_as_channels_only_where_that_is_asked_for(tmp_path, planarconfig, compression):
    colour = np.random.default_rng(1).integers(0, 255, (4, 20, 30, 3)).astype(np.uint8)
    stored_order = colour if planarconfig == "CONTIG" else colour.transpose(0, 3, 1, 2)
    options = {
        "photometric": "rgb",
        "planarconfig": planarconfig,
        "compression": compression,
        "rowsperstrip": 7,
    }
    _pages(tmp_path / "a.tif", stored_order, **options)
    with pytest.raises(VolumeError, match=r"colour samples = 3.*--axes z"):
        read_volume(tmp_path / "a.tif")
    axes = "zyxc" if planarconfig == "CONTIG" else "zcyx"
    volume = read_volume(tmp_path / "a.tif", axes=axes)
    assert np.array_equal(volume.data[...], colour)
    assert np.array_equal(volume.data[1:3, 5:9, 3:, 1:], colour[1:3, 5:9, 3:, 1:])


def test_slices_are_read_in_natural_order(tmp_path):
    for z in (1, 2, 10):
        tifffile.imwrite(tmp_path / f"{z}.tif", np.full((3, 4), z, np.uint8))
    (tmp_path / "notes.txt").write_text("not a slice")
    (tmp_path / "._1.tif").write_text("left by another system")
    with pytest.raises(VolumeError, match=r"lacks slices: 3, 4, 5"):
        read_volume(tmp_path)
    os.rename(tmp_path / "10.tif", tmp_path / "3.tif")
    assert read_volume(tmp_path).data[:, 0, 0].tolist() == [1, 2, 10]


def test_every_tenth_slice_is_a_stack_without_gaps(tmp_path):
    for z in (0, 10, 20, 30):
        tifffile.imwrite(tmp_path / f"z{z:03}_c1.tif", np.full((3, 4), z, np.uint8))
    assert read_volume(tmp_path).data[:, 0, 0].tolist() == [0, 10, 20, 30]


def test_a_slice_of_a_stack_may_be_one_file_of_a_larger_ome_image(tmp_path):
    for z in range(3):
        text = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
            '<Image ID="Image:0">'
            '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8"'
            ' SizeX="4" SizeY="3" SizeZ="3" SizeC="1" '
            'SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.5" PhysicalSizeZ="2"><TiffData/></Pixels>'
            "</Image></OME>"
        )
        plane = np.full((3, 4), z, np.uint8)
        tifffile.imwrite(tmp_path / f"z{z}.tif", plane, description=text, metadata=None)
    volume = read_volume(tmp_path)
    assert volume.data[:, 0, 0].tolist() == [0, 1, 2]
    assert volume.voxel_size == (2.0, 0.5, 0.5)


def test_bilevel_and_palette_png_slices_are_read_as_numbers(tmp_path):
    (tmp_path / "bits").mkdir()
    (tmp_path / "palette").mkdir()
    mask = np.eye(5, dtype=bool)
    Image.fromarray(mask).save(tmp_path / "bits" / "0.png", bits=1)
    palette = Image.fromarray(np.arange(200, 225, dtype=np.uint8).reshape(5, 5), mode=None).convert("P")
    palette.putpalette([0, 0, 0] * 256)
    palette.save(tmp_path / "palette" / "0.png")
    assert np.array_equal(read_volume(tmp_path / "bits").data[0], mask.astype(np.uint8))
    assert np.array_equal(read_volume(tmp_path / "palette").data[0], np.asarray(palette))


def test_a_sample_folder_gives_image_and_mask(tmp_path):
    _slices(tmp_path / "image", VALUES, ".tif")
    _slices(tmp_path / "mask", (VALUES > 9).astype(np.uint8), ".png")
    assert is_sample(tmp_path)
    assert not is_sample(tmp_path / "image")
    image, mask = read_sample(tmp_path)
    assert np.array_equal(image.data[...], VALUES)
    assert np.array_equal(mask.data[...], VALUES > 9)
    assert np.array_equal(read_volume(tmp_path).data[...], VALUES)
    with pytest.raises(VolumeError, match="is not a sample"):
        read_sample(tmp_path / "image")


def test_an_hdf5_array_is_named_behind_a_colon_or_as_dataset(tmp_path):
    _hdf5(tmp_path / "a.h5", VALUES)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["volumes/raw"].attrs["element_size_um"] = (0.3, 0.2, 0.1)
        file["other"] = VALUES[:3].astype(np.float64)
        file["table"] = np.zeros(4)
        file["soft"] = h5py.SoftLink("/volumes/raw")
    for volume in (
        read_volume(f"{tmp_path}/a.h5:/volumes/raw"),
        read_volume(f"{tmp_path}/a.h5:volumes/raw"),
        read_volume(tmp_path / "a.h5", dataset="volumes/raw"),
        read_volume(f"{tmp_path}/a.h5:/soft"),
    ):
        assert volume.voxel_size == (0.3, 0.2, 0.1)
        assert volume.unit == "um"
        assert np.array_equal(volume.data[2], VALUES[2])
    assert [(info.name, info.shape, info.dtype) for info in list_arrays(tmp_path / "a.h5")] == [
        ("/other", (3, 40, 33), "float64"),
        ("/table", (4,), "float64"),
        ("/volumes/raw", SHAPE, "uint16"),
    ]
    with pytest.raises(
        VolumeError, match=r"several arrays: /other 3 x 40 x 33 float64; .*Name one: .*a.h5:/volumes/raw"
    ):
        read_volume(tmp_path / "a.h5")
    with pytest.raises(VolumeError, match=r"no array '/nothing'; its arrays are: /other"):
        read_volume(f"{tmp_path}/a.h5:/nothing")
    with pytest.raises(VolumeError, match=r"/volumes is a group, not an array"):
        read_volume(f"{tmp_path}/a.h5:/volumes")


def test_the_axis_tags_of_ilastik_are_understood(tmp_path):
    _hdf5(tmp_path / "a.h5", np.zeros((1, 4, 5, 6, 2), np.uint8))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["volumes/raw"].attrs["axistags"] = '{"axes": [' + ", ".join(f'{{"key": "{k}"}}' for k in "tzyxc") + "]}"
    volume = read_volume(tmp_path / "a.h5", dataset="volumes/raw")
    assert (volume.shape, volume.n_channels) == ((4, 5, 6), 2)


def test_a_bare_zarr_array_may_name_its_axes(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=VALUES, dimension_names=["x", "z", "y"])
    assert np.array_equal(read_volume(tmp_path / "a.zarr").data[...], VALUES.transpose(1, 2, 0))


def _ome_zarr(path, version, *, dataset_scale, outer=None, unit="micrometer"):
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": axis, "type": "space", "unit": unit} for axis in "zyx"]
    steps = [
        {"type": "scale", "scale": [1, *dataset_scale]},
        {"type": "translation", "translation": [0, 1, 2, 3]},
    ]
    half = [{"type": "scale", "scale": [1, *(2 * size for size in dataset_scale)]}]
    datasets = [
        {"path": "0", "coordinateTransformations": steps},
        {"path": "1", "coordinateTransformations": half},
    ]
    multiscale = {"axes": axes, "datasets": datasets, "version": version}
    if outer:
        multiscale["coordinateTransformations"] = [{"type": "scale", "scale": [1, *outer]}]
    is_new = version == "0.5"
    attributes = {"ome": {"version": "0.5", "multiscales": [multiscale]}} if is_new else {"multiscales": [multiscale]}
    group = zarr.create_group(path, zarr_format=3 if is_new else 2, attributes=attributes)
    group.create_array("0", data=VALUES[None], chunks=(1, 4, 16, 16))
    group.create_array("1", data=VALUES[None, ::2, ::2, ::2], chunks=(1, 4, 16, 16))
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_gives_scale_and_translation_of_both_levels_of_metadata(tmp_path, version):
    path = _ome_zarr(tmp_path / "a.ome.zarr", version, dataset_scale=(0.5, 0.25, 0.25), outer=(2, 2, 2))
    volume = read_volume(path)
    assert (volume.shape, volume.n_channels) == (SHAPE, 1)
    assert volume.voxel_size == (1.0, 0.5, 0.5)
    assert volume.translate == (2.0, 4.0, 6.0)
    assert (volume.unit, volume.name, volume.notes) == ("um", "a", ())
    assert np.array_equal(volume.data[...], VALUES)
    level = read_volume(path / "1")
    assert level.voxel_size == (2.0, 1.0, 1.0)
    assert np.array_equal(level.data[...], VALUES[::2, ::2, ::2])
    assert read_volume(path, dataset="1").voxel_size == (2.0, 1.0, 1.0)
    assert read_volume(f"{path}:/1").voxel_size == (2.0, 1.0, 1.0)


@pytest.mark.parametrize("name", ["with space", "Gewebe-µm-ü", "#1", "50%", "a:b", "[x]*", "日本"])
@pytest.mark.parametrize("kind", ["a.tif", "a.h5", "a.zarr", "stack"])
def test_names_with_spaces_and_signs_are_read(tmp_path, name, kind):
    folder = tmp_path / name
    folder.mkdir()
    place = folder / f"{name}{kind}"
    {
        "a.tif": lambda: tifffile.imwrite(place, VALUES),
        "a.h5": lambda: _hdf5(place, VALUES),
        "a.zarr": lambda: _zarr(place, VALUES),
        "stack": lambda: _slices(place, VALUES, ".tif"),
    }[kind]()
    assert np.array_equal(read_volume(place).data[2], VALUES[2])
    if kind == "a.h5":
        assert np.array_equal(read_volume(f"{place}:/volumes/raw").data[2], VALUES[2])


_C_LOCALE = """
import os
import sys
from napari_unet3d.errors import VolumeError
from napari_unet3d.volumes import create_output, read_volume
folder = sys.argv[1]
for name in (os.fsdecode("ü#.tif".encode()), os.fsdecode("ü#.zarr".encode())):
    with create_output(f"{folder}/{name}", (2, 3, 4), "uint8", voxel_size=(1, 1, 1), unit="um") as output:
        output[:] = 7
        output.commit()
    assert (read_volume(f"{folder}/{name}").data[...] == 7).all()
try:
    read_volume(f"{folder}/missing.tif")
except VolumeError as error:
    print(error)
"""


@pytest.mark.parametrize("environment", [{}, {"PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}])
def test_names_work_without_a_locale(tmp_path, environment):
    folder = tmp_path / "größe #1"
    folder.mkdir()
    variables = {**os.environ, "LC_ALL": "C", "LANG": "C", "PYTHONIOENCODING": "utf-8", **environment}
    (tmp_path / "script.py").write_text(_C_LOCALE, "utf-8")
    command = [sys.executable, tmp_path / "script.py", folder]
    done = subprocess.run(command, env=variables, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert "does not exist" in done.stdout.decode()
    assert sorted(path.name for path in folder.iterdir()) == ["ü#.tif", "ü#.zarr"]


def test_the_libraries_of_the_formats_are_not_imported_before_they_are_needed():
    code = (
        "import sys, napari_unet3d.volumes; "
        "print(sorted({'h5py', 'zarr', 'tifffile', 'yaozarrs', 'PIL', 'napari'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_file_that_changes_under_a_volume_is_not_read_on(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", VALUES)
    volume = read_volume(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "a.tif", VALUES[:5])
    with pytest.raises(VolumeError, match="was changed after it was opened"):
        volume.data[0]


def test_the_path_is_kept_as_it_was_passed(tmp_path):
    _hdf5(tmp_path / "a.h5", VALUES)
    text = f"{tmp_path}/a.h5:/volumes/raw"
    volume = read_volume(text)
    assert (volume.path, volume.name) == (text, "a volumes/raw")
    assert replace(volume, name="b").data is volume.data

"""One of several is never taken without a word: what is left out is said, and can be chosen as the message says."""

from __future__ import annotations

import re
import zipfile

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet3d.errors import VolumeError
from napari_unet3d.volumes import read_volume
from napari_unet3d.volumes.tiff.directories import TiffFile
from napari_unet3d.volumes.tiff.ome import OmeError, parse_ome

VALUES = np.random.default_rng(0).integers(0, 60_000, (9, 20, 30)).astype(np.uint16)
NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.sampled_from(["minisblack", "bigtiff", "deflate", "no description"]),
)
def test_planes_that_were_appended_in_any_parts_are_one_stack(tmp_path_factory, parts, how):
    path = tmp_path_factory.mktemp("appended") / "a.tif"
    values = np.random.default_rng(1).integers(0, 999, (sum(parts), 6, 7)).astype(np.uint16)
    start = 0
    for n in parts:
        part = values[start : start + n] if n > 1 else values[start]
        options = {"metadata": None} if how == "no description" else {}
        compression = "zlib" if how == "deflate" else None
        tifffile.imwrite(
            path,
            part,
            append=start > 0,
            bigtiff=how == "bigtiff",
            compression=compression,
            photometric="minisblack",
            **options,
        )
        start += n
    if len(values) == 1:
        return
    volume = read_volume(path)
    assert np.array_equal(volume.data[...], values)
    assert len(parts) == 1 or how == "no description" or any("read as one stack" in note for note in volume.notes)


def _ome_xml(blocks, *, n_planes=9, uuid="urn:uuid:1", order="XYZCT", sizes=(9, 1, 1), more=""):
    z, c, t = sizes
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{NAMESPACE}" UUID="{uuid}">{more}<Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="{order}" Type="uint16" SizeX="30" SizeY="20" SizeZ="{z}" SizeC="{c}" '
        f'SizeT="{t}" PhysicalSizeX="0.2" PhysicalSizeY="0.2" PhysicalSizeZ="1">{blocks}</Pixels></Image></OME>'
    ).encode()


def _ome_tiff(path, planes, xml, **options):
    with tifffile.TiffWriter(path) as writer:
        for at, plane in enumerate(planes):
            writer.write(plane, description=xml if at == 0 else None, metadata=None, contiguous=False, **options)
    return path


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(9)), st.booleans())
def test_ome_planes_lie_in_any_order(tmp_path_factory, order, is_compressed):
    path = tmp_path_factory.mktemp("ome") / "a.ome.tif"
    blocks = "".join(f'<TiffData IFD="{at}" FirstZ="{z}" PlaneCount="1"/>' for at, z in enumerate(order))
    _ome_tiff(path, [VALUES[z] for z in order], _ome_xml(blocks), compression="zlib" if is_compressed else None)
    assert np.array_equal(read_volume(path).data[...], VALUES)


@pytest.mark.parametrize("order", ["XYZCT", "XYCZT", "XYTZC", "XYZTC"])
def test_channels_and_times_of_ome_are_where_its_order_says(tmp_path, order):
    values = VALUES[:8].reshape(2, 2, 2, 20, 30)  # in the order of the file, slowest first
    letters = order[:1:-1]
    xml = _ome_xml("", order=order, sizes=(2, 2, 2))
    path = _ome_tiff(tmp_path / "a.ome.tif", VALUES[:8], xml)
    for channel in (0, 1):
        for timepoint in (0, 1):
            index = tuple({"C": channel, "T": timepoint, "Z": slice(None)}[letter] for letter in letters)
            got = read_volume(path, channel=channel, timepoint=timepoint).data[...]
            assert np.array_equal(got, values[index])


@pytest.mark.parametrize("blocks", ['<TiffData IFD="0"/>', '<TiffData IFD="0" PlaneCount="1"/>'])
def test_planes_that_ome_does_not_mention_are_read_in_order_and_that_is_said(tmp_path, blocks):
    path = _ome_tiff(tmp_path / "a.ome.tif", VALUES, _ome_xml(blocks))
    volume = read_volume(path)
    assert np.array_equal(volume.data[...], VALUES)
    assert any("1 of 9 planes" in note for note in volume.notes)
    with pytest.raises(VolumeError, match="planes declared: 9, planes readable: 1"):
        read_volume(_ome_tiff(tmp_path / "b.ome.tif", VALUES[:8], _ome_xml(blocks)))


@pytest.mark.parametrize("name", ["old.ome.tif", "C:\\data\\old.ome.tif"])
def test_a_single_ome_file_may_have_been_renamed(tmp_path, name):
    blocks = "".join(
        f'<TiffData IFD="{z}" FirstZ="{z}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:1</UUID></TiffData>'
        for z in range(9)
    )
    path = _ome_tiff(tmp_path / "new.ome.tif", VALUES, _ome_xml(blocks, uuid=""))
    assert np.array_equal(read_volume(path).data[...], VALUES)


def test_planes_beyond_those_of_ome_are_left_out_and_counted(tmp_path):
    volume = read_volume(_ome_tiff(tmp_path / "a.ome.tif", VALUES, _ome_xml("<TiffData/>", sizes=(6, 1, 1))))
    assert np.array_equal(volume.data[...], VALUES[:6])
    assert "3 planes that its OME-XML does not count are left out." in volume.notes


def test_images_of_ome_that_do_not_say_where_their_planes_lie_follow_each_other(tmp_path):
    one = _ome_xml("", sizes=(4, 1, 1)).decode()
    start, end = one.index("<Image"), one.index("</OME>")
    second = one[start:end].replace('SizeZ="4"', 'SizeZ="5"')
    path = _ome_tiff(tmp_path / "a.ome.tif", VALUES, (one[:end] + second + one[end:]).encode())
    assert np.array_equal(read_volume(path).data[...], VALUES[:4])
    assert np.array_equal(read_volume(f"{path}:1").data[...], VALUES[4:])


def test_the_position_of_an_ome_image_is_that_of_its_first_plane(tmp_path):
    planes = "".join(
        f'<Plane TheZ="{z}" TheC="0" TheT="0" PositionZ="{7 + z}" PositionZUnit="µm"/>' for z in reversed(range(9))
    )
    volume = read_volume(_ome_tiff(tmp_path / "a.ome.tif", VALUES, _ome_xml("<TiffData/>" + planes)))
    assert volume.calibration.positions == (7.0, None, None)


def test_a_first_level_that_is_a_smaller_copy_is_passed_over_and_that_is_said(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    for level in range(3):
        group.create_array(str(level), data=VALUES[:, :: 2**level, :: 2**level])
    axes = [{"name": axis, "type": "space"} for axis in "zyx"]
    datasets = [{"path": str(level)} for level in (2, 1, 0)]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    volume = read_volume(tmp_path / "a.zarr")
    assert np.array_equal(volume.data[...], VALUES)
    assert any("begin with a smaller copy" in note for note in volume.notes)


SETTINGS = "SI.VERSION_MAJOR = 2018\nSI.hChannels.channelSave = {}\nSI.hStackManager.numSlices = {}\n"


@pytest.mark.parametrize(("channels", "n_slices", "n_read"), [("1", 8, 8), ("[1;2]", 4, 8), ("[1 2]", 9, 6)])
def test_channels_of_scanimage_are_no_slices(tmp_path, channels, n_slices, n_read):
    software = SETTINGS.format(channels, n_slices)
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=True) as writer:
        for at, plane in enumerate(VALUES[:n_read]):
            text = f"frameNumbers = {at + 1}"
            writer.write(plane, description=text, software=software, metadata=None, contiguous=False)
    n_channels = 1 if channels == "1" else 2
    expected = VALUES[:n_read].reshape(-1, n_channels, 20, 30).transpose(0, 2, 3, 1)
    volume = read_volume(tmp_path / "a.tif")
    assert volume.n_channels == n_channels
    assert np.array_equal(volume.data[...].reshape(expected.shape), expected)


def _split_ome(folder, names=("a.ome.tif", "b.ome.tif"), uuids=("urn:uuid:1", "urn:uuid:2"), cut=4):
    blocks = "".join(
        f'<TiffData IFD="{z if z < cut else z - cut}" FirstZ="{z}" PlaneCount="1">'
        f'<UUID FileName="{names[z >= cut]}">{uuids[z >= cut]}</UUID></TiffData>'
        for z in range(9)
    )
    for at, planes in enumerate((VALUES[:cut], VALUES[cut:])):
        _ome_tiff(folder / ("a.ome.tif", "b.ome.tif")[at], planes, _ome_xml(blocks, uuid=uuids[at]))
    return folder / "a.ome.tif"


def test_an_image_in_two_files_is_completed_from_the_file_beside_it(tmp_path):
    first = _split_ome(tmp_path)
    for path in (first, tmp_path / "b.ome.tif"):
        volume = read_volume(path)
        assert np.array_equal(volume.data[...], VALUES)
        assert np.array_equal(volume.data[3:6, 2], VALUES[3:6, 2])
        assert any("goes on in 1 more file" in note for note in volume.notes)
    renamed = first.rename(tmp_path / "renamed.ome.tif")
    assert np.array_equal(read_volume(renamed).data[...], VALUES)


def test_a_file_that_is_missing_beside_an_image_is_named(tmp_path):
    first = _split_ome(tmp_path)
    (tmp_path / "b.ome.tif").unlink()
    with pytest.raises(VolumeError, match=r"b\.ome\.tif is not beside it. Copy all files"):
        read_volume(first)


@pytest.mark.parametrize("name", ["../b.ome.tif", "/etc/passwd", "sub/b.ome.tif", "..", "C:\\b.tif"])
def test_an_image_names_no_file_outside_its_folder(tmp_path, name):
    first = _split_ome(tmp_path, names=("a.ome.tif", name))
    with pytest.raises(VolumeError, match="names a file outside its folder"):
        read_volume(first)


def test_a_link_beside_an_image_does_not_lead_out_of_the_folder(tmp_path):
    first = _split_ome(tmp_path)
    away = tmp_path / "away"
    away.mkdir()
    (tmp_path / "b.ome.tif").rename(away / "secret.tif")
    (tmp_path / "b.ome.tif").symlink_to(away / "secret.tif")
    with pytest.raises(VolumeError, match="names a file outside its folder"):
        read_volume(first)


def test_metadata_in_a_file_of_its_own_are_read_from_beside(tmp_path):
    blocks = '<TiffData IFD="0" FirstZ="0" PlaneCount="9"><UUID FileName="a.ome.tif">urn:uuid:1</UUID></TiffData>'
    (tmp_path / "a.companion.ome").write_bytes(_ome_xml(blocks, uuid="urn:uuid:9"))
    binary = '<BinaryOnly MetadataFile="a.companion.ome" UUID="urn:uuid:9"/>'
    only = f'<OME xmlns="{NAMESPACE}" UUID="urn:uuid:1">{binary}</OME>'
    path = _ome_tiff(tmp_path / "a.ome.tif", VALUES, only.encode())
    volume = read_volume(path)
    assert np.array_equal(volume.data[...], VALUES)
    assert volume.voxel_size == (1.0, 0.2, 0.2)
    assert not any("more file" in note for note in volume.notes)
    renamed = path.rename(tmp_path / "renamed.ome.tif")
    assert np.array_equal(read_volume(renamed).data[...], VALUES)
    with pytest.raises(VolumeError, match=r"is the metadata of an OME-TIFF; pass one of the \.ome\.tif"):
        read_volume(tmp_path / "a.companion.ome")


@pytest.mark.parametrize("junk", ["<!-- \x07 -->", "<!-- &#x1f; -->", "<x>\x01\x02</x>", "<!-- \x0b\x0c -->"])
def test_characters_that_xml_forbids_do_not_make_voxels_unreadable(tmp_path, junk):
    volume = read_volume(_ome_tiff(tmp_path / "a.ome.tif", VALUES, _ome_xml("", more=junk)))
    assert np.array_equal(volume.data[...], VALUES)
    assert volume.voxel_size == (1.0, 0.2, 0.2)


def test_xml_that_is_broken_leaves_the_pages_readable_and_is_said(tmp_path):
    volume = read_volume(_ome_tiff(tmp_path / "a.ome.tif", VALUES, _ome_xml("<TiffData>")))
    assert np.array_equal(volume.data[...], VALUES)
    assert any("OME-XML cannot be read" in note for note in volume.notes)


def test_xml_with_entities_is_not_parsed():
    bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><OME><Image><Pixels/></Image></OME>'
    with pytest.raises(OmeError, match="document type"):
        parse_ome(bomb)


def test_of_a_preview_and_a_stack_the_stack_is_read_and_that_is_said(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        writer.write(VALUES[0, ::2, ::2], metadata={"axes": "YX"})
        writer.write(VALUES, metadata={"axes": "ZYX"})
    volume = read_volume(tmp_path / "a.ome.tif")
    assert np.array_equal(volume.data[...], VALUES)
    assert any("2 images; number 1, counted from 0, is read (Image1 9 x 20 x 30)" in note for note in volume.notes)
    with pytest.raises(VolumeError, match="one 2D image"):
        read_volume(f"{tmp_path}/a.ome.tif:0")


def test_smaller_copies_of_planes_are_no_planes(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for plane in VALUES:
            writer.write(plane, metadata=None, contiguous=False)
            writer.write(plane[::2, ::2], metadata=None, contiguous=False, subfiletype=1)
    volume = read_volume(tmp_path / "a.tif")
    assert np.array_equal(volume.data[...], VALUES)
    assert any("9 smaller copies" in note for note in volume.notes)


def _advised(message):
    return re.search(r"(?:Name one: |Choose one: |such as )(\S+)$", message)[1]


def _several_hdf5(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file["label"] = (VALUES > 30_000).astype(np.uint16)
        file["raw"] = VALUES
        file["thumbnail"] = VALUES[:, ::4, ::4]
    return folder / "a.h5"


def _several_slices(folder):
    for name, planes in (("DAPI", VALUES), ("GFP", VALUES + 1)):
        for z, plane in enumerate(planes):
            tifffile.imwrite(folder / f"{name}_{z:03d}.tif", plane)
    return folder


def _several_shapes(folder):
    with tifffile.TiffWriter(folder / "a.tif") as writer:
        for plane in (*VALUES, *VALUES[:, 1:]):
            writer.write(plane, metadata=None, contiguous=False)
    return folder / "a.tif"


@pytest.mark.parametrize("make", [_several_hdf5, _several_slices, _several_shapes])
def test_what_cannot_be_told_apart_is_refused_and_the_advice_works(tmp_path, make):
    path = make(tmp_path)
    with pytest.raises(VolumeError) as caught:
        read_volume(path)
    assert np.array_equal(read_volume(_advised(str(caught.value))).data[...], VALUES)


def _two_images(folder):
    group = zarr.create_group(folder / "a.zarr", zarr_format=2)
    axes = [{"name": axis, "type": "space"} for axis in "zyx"]
    for name, values in (("a", VALUES), ("b", VALUES[::2])):
        group.create_array(name, data=values)
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": name}]} for name in "ab"]
    return folder / "a.zarr", VALUES[::2]


def _two_series(folder):
    group = zarr.create_group(folder / "b.zarr", zarr_format=2, attributes={"bioformats2raw.layout": 3})
    axes = [{"name": axis, "type": "space"} for axis in "zyx"]
    for name, values in (("0", VALUES), ("1", VALUES[::3])):
        image = group.create_group(name)
        image.create_array("0", data=values)
        image.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]
    return folder / "b.zarr", VALUES[::3]


def _two_in_a_tiff(folder):
    with tifffile.TiffWriter(folder / "a.ome.tif", ome=True) as writer:
        for values in (VALUES, VALUES[:3]):
            writer.write(values, metadata={"axes": "ZYX"})
    return folder / "a.ome.tif", VALUES[:3]


@pytest.mark.parametrize("make", [_two_images, _two_series, _two_in_a_tiff])
def test_of_several_images_the_first_is_read_the_others_are_said_and_can_be_chosen(tmp_path, make):
    path, second = make(tmp_path)
    volume = read_volume(path)
    assert np.array_equal(volume.data[...], VALUES)
    (note,) = (note for note in volume.notes if "2 images" in note)
    assert np.array_equal(read_volume(_advised(note)).data[...], second)


def test_a_zip_of_a_zarr_is_read_as_the_folder_is(tmp_path):
    import shutil

    path, _ = _two_images(tmp_path)
    shutil.make_archive(str(tmp_path / "flat"), "zip", path)
    shutil.make_archive(str(tmp_path / "nested"), "zip", tmp_path, "a.zarr")
    shutil.copy(tmp_path / "nested.zip", tmp_path / "macos.zip")
    with zipfile.ZipFile(tmp_path / "macos.zip", "a") as archive:
        archive.writestr("__MACOSX/a.zarr/._.zattrs", b"")
    for name in ("flat.zip", "nested.zip", "macos.zip"):
        assert np.array_equal(read_volume(tmp_path / name).data[...], VALUES)
        assert np.array_equal(read_volume(f"{tmp_path / name}:b").data[2:4, 5], VALUES[::2][2:4, 5])


@pytest.mark.parametrize(
    "description", ['{"shape": [9, 20, 30]}', '{"axes": "ZYX", "shape": [9, 20, 30]}', "shape=(9, 20, 30)"]
)
@pytest.mark.parametrize("has_directories", [True, False])
def test_the_description_of_every_version_of_tifffile_is_understood(tmp_path, description, has_directories):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for at, plane in enumerate(VALUES if has_directories else [VALUES.reshape(-1, 30)]):
            text = description if at == 0 else None
            writer.write(plane, description=text, metadata=None, contiguous=False)
    if not has_directories:
        with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tif:
            tif.pages.first.tags[257].overwrite(20)
            tif.pages.first.tags[278].overwrite(20)
            tif.pages.first.tags[279].overwrite(20 * 30 * 2)
    assert np.array_equal(read_volume(tmp_path / "a.tif").data[...], VALUES)


def test_planes_of_a_tiff_are_counted_once_however_their_directories_are_written(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", VALUES, bigtiff=True, byteorder=">")
    file = TiffFile(tmp_path / "a.tif")
    assert len(file.directories) == len(VALUES)
    assert {directory.shape for directory in file.directories} == {(20, 30)}

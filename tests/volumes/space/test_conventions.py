"""Voxel sizes, axes and number types as each program writes them: a file of each is made here and read."""

from __future__ import annotations

import json
import re
import struct

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet3d.errors import VolumeError
from napari_unet3d.volumes import read_volume
from napari_unet3d.volumes.space.calibration import micrometers, normalize_unit

VALUES = np.random.default_rng(0).integers(0, 60_000, (5, 20, 30)).astype(np.uint16)
SIZE = (1.5, 0.3, 0.2)
PER_UNIT = (1 / 0.2, 1 / 0.3)  # x, y


def _tiff(path, values=VALUES, **options):
    tifffile.imwrite(path, values, photometric="minisblack", **options)
    return path


def _imagej(path, unit="um", spacing=1.5, **more):
    return _tiff(
        path, imagej=True, resolution=PER_UNIT, metadata={"axes": "ZYX", "unit": unit, "spacing": spacing} | more
    )


def _ome(path, unit="µm", factor=1.0):
    sizes = {f"PhysicalSize{a}": s * factor for a, s in zip("ZYX", SIZE, strict=True)}
    units = {f"PhysicalSize{a}Unit": unit for a in "ZYX"}
    return _tiff(path, ome=True, metadata={"axes": "ZYX"} | sizes | units)


def _micro_manager(path):
    text = json.dumps({"PixelSizeUm": 0.2, "Summary": {"z-step_um": 1.5}}).encode()
    tag = (51123, 2, len(text) + 1, text, True)
    return _tiff(path, metadata=None, extratags=[tag])


def _stack_of_micro_manager(path):
    """Write what Micro-Manager 1.4 writes: the step of z stands only in a summary in front of the planes."""
    tifffile.imwrite(path, VALUES, metadata=None, photometric="minisblack", contiguous=True)
    text = json.dumps({"PixelSizeUm": 0.2}).encode()
    summary = json.dumps({"z-step_um": 1.5}).encode()
    with tifffile.TiffWriter(path) as writer:
        for plane in VALUES:
            writer.write(plane, metadata=None, contiguous=False, extratags=[(51123, 2, len(text) + 1, text, True)])
    data = path.read_bytes()
    shift = 40 + len(summary) + len(summary) % 2
    header = b"II*\0" + bytes(28) + struct.pack("<II", 2355492, len(summary)) + summary.ljust(shift - 40, b"\0")
    path.write_bytes(_shifted(data, shift, header))
    return path


def _shifted(data, shift, header):
    """Return a little-endian TIFF behind a longer header: all offsets in its directories are moved."""
    moved = bytearray(data)
    widths = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 12: 8}
    at = struct.unpack_from("<I", moved, 4)[0]
    first = at + shift
    while at:
        (n,) = struct.unpack_from("<H", moved, at)
        for entry in range(at + 2, at + 2 + 12 * n, 12):
            tag, kind, count, value = struct.unpack_from("<HHII", moved, entry)
            if count * widths[kind] > 4 or tag == 273:
                struct.pack_into("<I", moved, entry + 8, value + shift)
        (following,) = struct.unpack_from("<I", moved, at + 2 + 12 * n)
        struct.pack_into("<I", moved, at + 2 + 12 * n, following + shift if following else 0)
        at = following
    return header[:4] + struct.pack("<I", first) + header[8:] + bytes(moved)


def _ome_with(path, text, old, new):
    """Write an OME-TIFF whose XML has some bytes in the place of others."""
    _ome(path, unit=text)
    with tifffile.TiffFile(path) as tif:
        xml = tif.ome_metadata.encode()
    assert old in xml
    tifffile.tiffcomment(path, xml.replace(old, new))
    return path


def _hdf5(path, attributes, values=VALUES, name="raw"):
    with h5py.File(path, "w") as file:
        file[name] = values
        file[name].attrs.update(attributes)
    return path


def _zarr(path, attributes, values=VALUES, **options):
    zarr.create_array(path, data=values, chunks=(5, 10, 10), attributes=attributes, **options)
    return path


def _tags(order="zyx"):
    by_axis = dict(zip("zyx", SIZE, strict=True))
    axes = [{"key": key, "typeFlags": 2, "resolution": by_axis.get(key, 0), "description": ""} for key in order]
    return json.dumps({"axes": axes})


def _ngff(path, version, transforms, outer=None):
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": transforms}]}
    if outer is not None:
        image["coordinateTransformations"] = outer
    is_old = version == "0.4"
    attributes = (
        {"multiscales": [image | {"version": version}]}
        if is_old
        else {"ome": {"version": version, "multiscales": [image]}}
    )
    group = zarr.create_group(path, zarr_format=2 if is_old else 3, attributes=attributes)
    group.create_array("0", data=VALUES)
    return path


def _ome_prefixed(path):
    """Write XML whose names have a prefix, as some libraries do it."""
    _ome(path)
    with tifffile.TiffFile(path) as tif:
        xml = tif.ome_metadata
    xml = re.sub(r"<(/?)(?=[A-Z])", r"<\1OME:", xml).replace("xmlns=", "xmlns:OME=", 1)
    tifffile.tiffcomment(path, xml.encode())
    return path


SCALE = {"type": "scale", "scale": list(SIZE)}
HALF = {"type": "scale", "scale": [s / 2 for s in SIZE]}
TWICE = {"type": "scale", "scale": [2, 2, 2]}

KNOWN = {
    "ImageJ": lambda d: _imagej(d / "a.tif"),
    "ImageJ, slices the other way round": lambda d: _imagej(d / "a.tif", spacing=-1.5),
    "ImageJ, micro as an escape": lambda d: _imagej(d / "a.tif", unit="\\u00B5m"),
    "ImageJ, Greek mu as an escape": lambda d: _imagej(d / "a.tif", unit="\\u03BCm"),
    "OME": lambda d: _ome(d / "a.ome.tif"),
    "tifffile with a resolution without a unit": lambda d: _tiff(
        d / "a.tif", resolution=PER_UNIT, metadata={"axes": "ZYX", "spacing": 1.5, "unit": "um"}
    ),
    "COSEM": lambda d: _zarr(
        d / "a.zarr",
        {"transform": {"axes": list("zyx"), "scale": list(SIZE), "translate": [0, 0, 0], "units": ["um"] * 3}},
    ),
    "OME in Latin-1": lambda d: _ome_with(d / "a.ome.tif", "um", b'"um"', b'"\xb5m"'),
    "OME with a prefix": lambda d: _ome_prefixed(d / "a.ome.tif"),
    "Micro-Manager's stack": lambda d: _stack_of_micro_manager(d / "a.tif"),
    "OME in nanometres": lambda d: _ome(d / "a.ome.tif", unit="nm", factor=1000),
    "tifffile": lambda d: _tiff(
        d / "a.tif",
        resolution=[n * 1e4 for n in PER_UNIT],
        resolutionunit="CENTIMETER",
        metadata={"axes": "ZYX", "spacing": 1.5, "unit": "um"},
    ),
    "tifffile with the names of OME": lambda d: _tiff(
        d / "a.tif", metadata={"axes": "ZYX"} | {f"PhysicalSize{a}": s for a, s in zip("ZYX", SIZE, strict=True)}
    ),
    "PlantSeg": lambda d: _hdf5(d / "a.h5", {"element_size_um": SIZE}),
    "ilastik": lambda d: _hdf5(d / "a.h5", {"axistags": _tags(), "axis_units": json.dumps(dict.fromkeys("zyx", "um"))}),
    "CREMI": lambda d: _hdf5(d / "a.h5", {"resolution": [s * 1000 for s in SIZE]}),
    "funlib": lambda d: _zarr(
        d / "a.zarr", {"voxel_size": list(SIZE), "units": ["um"] * 3, "axis_names": list("zyx")}, zarr_format=2
    ),
    "gunpowder in HDF5": lambda d: _hdf5(d / "a.h5", {"resolution": SIZE, "units": ["um"] * 3}),
    "N5's way in Zarr": lambda d: _zarr(
        d / "a.zarr", {"pixelResolution": {"unit": "um", "dimensions": list(SIZE[::-1])}}
    ),
    "OME-Zarr 0.4": lambda d: _ngff(d / "a.zarr", "0.4", [SCALE]),
    "OME-Zarr 0.5, an outer scale": lambda d: _ngff(d / "a.zarr", "0.5", [HALF], [TWICE]),
    "OME-Zarr, a sequence": lambda d: _ngff(
        d / "a.zarr", "0.6", [{"type": "sequence", "transformations": [HALF, TWICE]}]
    ),
}


@pytest.mark.parametrize("writer", KNOWN)
def test_the_voxel_size_of_each_writer_is_found(tmp_path, writer):
    volume = read_volume(KNOWN[writer](tmp_path))
    in_um = [size * (micrometers(volume.unit) or 0) for size in volume.voxel_size]
    wanted = (1.5, 0.2, 0.2) if writer == "Micro-Manager's stack" else SIZE
    assert in_um == pytest.approx(wanted, rel=1e-6)
    assert np.array_equal(volume.data[...], VALUES)


def test_micro_manager_gives_pixels_and_the_step(tmp_path):
    volume = read_volume(_micro_manager(tmp_path / "a.tif"))
    assert (volume.voxel_size, volume.unit) == (pytest.approx((1.5, 0.2, 0.2)), "um")


METASERIES = (
    '<MetaData>\r\n<prop id="spatial-calibration-state" type="bool" value="{}"/>\r\n'
    '<prop id="spatial-calibration-x" type="float" value="0.2"/>\r\n'
    '<prop id="spatial-calibration-y" type="float" value="0.3"/>\r\n'
    '<prop id="spatial-calibration-units" type="string" value="um"/>\r\n</MetaData>'
)
FEI = b"[Scan]\r\nPixelWidth=2e-07\r\nPixelHeight=3e-07\r\n"
IN_THE_PLANE = {
    "MetaMorph": {"description": METASERIES.format("on")},
    "FEI": {"extratags": [(34682, 2, len(FEI) + 1, FEI, True)]},
    "the resolution in millimetres": {"resolution": [n * 1e3 for n in PER_UNIT], "resolutionunit": 4},
    "the resolution in micrometres": {"resolution": PER_UNIT, "resolutionunit": 5},
}


@pytest.mark.parametrize("writer", IN_THE_PLANE)
def test_sizes_in_the_plane_are_found_in_slices(tmp_path, writer):
    for z, plane in enumerate(VALUES):
        _tiff(tmp_path / f"z{z}.tif", plane, metadata=None, **IN_THE_PLANE[writer])
    volume = read_volume(tmp_path)
    in_um = [size * (micrometers(volume.unit) or 0) for size in volume.voxel_size]
    assert in_um[1:] == pytest.approx(SIZE[1:])
    assert volume.calibration.sizes[0] is None


def test_a_calibration_of_metamorph_that_is_off_is_none(tmp_path):
    path = _tiff(tmp_path / "a.tif", metadata=None, description=METASERIES.format("off"))
    assert read_volume(path).unit == "pixel"


@pytest.mark.parametrize("per_inch", [(72, 72), (72.0001, 72.0001), (1, 1)])
def test_72_per_inch_is_no_size(tmp_path, per_inch):
    found = read_volume(
        _tiff(tmp_path / "a.tif", resolution=per_inch, resolutionunit="INCH", metadata=None)
    ).calibration
    assert (found.sizes, found.unit) == ((None, None, None), "pixel")


@pytest.mark.parametrize(("per_inch", "is_nominal"), [(72, False), (300, True)])
@pytest.mark.parametrize("kind", ["ImageJ in inches", "turned into centimetres"])
def test_a_resolution_for_printing_is_known_in_other_clothes(tmp_path, per_inch, is_nominal, kind):
    options = {"metadata": None, "resolutionunit": "CENTIMETER", "resolution": (per_inch / 2.54,) * 2}
    if kind == "ImageJ in inches":
        options = {"imagej": True, "metadata": {"axes": "ZYX", "unit": "inch"}, "resolution": (per_inch,) * 2}
        options["resolutionunit"] = "INCH"
    found = read_volume(_tiff(tmp_path / "a.tif", **options)).calibration
    assert found.is_nominal == is_nominal
    assert (found.unit == "pixel") == (not is_nominal)


def test_the_origin_of_imagej_does_not_turn_with_the_sign_of_its_spacing(tmp_path):
    for spacing in (1.5, -1.5):
        volume = read_volume(_imagej(tmp_path / "a.tif", spacing=spacing, zorigin=2.0, xorigin=10.0))
        assert volume.translate == pytest.approx((-3.0, 0.0, -2.0))


@pytest.mark.parametrize(
    ("text", "length"), [("km", 1e9), ("dm", 1e5), ("fm", 1e-9), ("thou", 25.4), ("kilometers", 1e9), ("in", 25_400)]
)
def test_further_units_of_ome_are_lengths(text, length):
    assert micrometers(text) == pytest.approx(length)


@pytest.mark.parametrize("per_inch", [96, 300, 600])
def test_another_number_per_inch_is_nominal_and_that_is_said(tmp_path, per_inch):
    found = read_volume(
        _tiff(tmp_path / "a.tif", resolution=(per_inch, per_inch), resolutionunit="INCH", metadata=None)
    ).calibration
    assert found.is_nominal
    assert found.voxel_size[1:] == pytest.approx((25_400 / per_inch,) * 2, rel=1e-6)
    assert any("is nominal" in note for note in found.notes)


MICRO = [
    "um",
    "µm",
    "μm",
    "Âµm",
    "Î¼m",
    "\\u00B5m",
    "\\u03bcm",
    "\\xb5m",
    "<b5>m",
    "&micro;m",
    "&#181;m",
    "micron",
    "Microns",
    "MICROMETER",
    "micrometres",
    '"um"',
    "[um]",
    "um/pixel",
    "µm/px",
]


@pytest.mark.parametrize("text", MICRO)
def test_every_spelling_of_micro_is_um(text):
    assert normalize_unit(text) == ("um", 1.0)


@given(st.text(max_size=12))
def test_any_text_is_a_unit_or_none_at_all(text):
    unit, factor = normalize_unit(text)
    assert unit in ("um", "nm", "mm", "pixel")
    assert factor > 0
    assert (micrometers(text) is None) == (unit == "pixel")


@settings(max_examples=25, deadline=None)
@given(st.permutations("zyx"), st.sampled_from([None, "c", "t"]))
def test_the_axes_that_a_file_names_are_believed(tmp_path_factory, order, more):
    folder = tmp_path_factory.mktemp("axes")
    letters = ("" if more is None else more) + "".join(order)
    values = VALUES.transpose(["zyx".index(letter) for letter in order])
    stored = values if more is None else np.stack([values, values + 1])
    path = _hdf5(folder / "a.h5", {"axistags": json.dumps({"axes": [{"key": k} for k in letters]})}, stored)
    if more == "t":
        with pytest.raises(VolumeError, match=r"several points in time.*--timepoint"):
            read_volume(path)
    choice = {None: {}, "c": {"channel": 1}, "t": {"timepoint": 1}}[more]
    assert np.array_equal(read_volume(path, **choice).data[...], VALUES if more is None else VALUES + 1)


@settings(max_examples=20, deadline=None)
@given(st.permutations("zyx"))
def test_the_axes_that_tifffile_names_are_believed_for_the_pages_too(tmp_path_factory, order):
    stored = VALUES.transpose(["zyx".index(letter) for letter in order])
    path = _tiff(tmp_path_factory.mktemp("named") / "a.tif", stored, metadata={"axes": "".join(order).upper()})
    assert np.array_equal(read_volume(path).data[...], VALUES)


@pytest.mark.parametrize("names", [("depth", "height", "width"), ("plane", "row", "col"), ("Z", "Y", "X")])
def test_axes_of_ome_zarr_may_have_other_names(tmp_path, names):
    path = _ngff(tmp_path / "a.zarr", "0.4", [SCALE])
    text = (path / ".zattrs").read_text()
    for old, new in zip("zyx", names, strict=True):
        text = text.replace(f'"{old}"', f'"{new}"')
    (path / ".zattrs").write_text(text)
    volume = read_volume(path)
    assert (volume.voxel_size, volume.unit) == (SIZE, "um")


def test_axes_that_are_named_by_hand_have_the_sizes_of_the_file(tmp_path):
    path = _ngff(tmp_path / "a.zarr", "0.4", [SCALE])
    (path / ".zattrs").write_text(re.sub(r'"name": "[zyx]"', '"name": "?"', (path / ".zattrs").read_text()))
    with pytest.raises(VolumeError, match="--axes zyx"):
        read_volume(path)
    assert read_volume(path, axes="zyx").voxel_size == SIZE


def test_white_that_is_0_is_said(tmp_path):
    for at, plane in enumerate(VALUES):
        tifffile.imwrite(tmp_path / f"z{at}.tif", plane, photometric="miniswhite", metadata=None)
    tifffile.imwrite(tmp_path / "stack.tiff", VALUES, photometric="miniswhite", metadata=None)
    for path in (tmp_path / "stack.tiff", f"{tmp_path}:z*.tif"):
        volume = read_volume(path)
        assert np.array_equal(volume.data[...], VALUES)
        assert any("MinIsWhite" in note for note in volume.notes)


@pytest.mark.parametrize("axes", ["LYX", "AYX", "PYX", "EYX"])
def test_an_axis_that_is_named_and_none_of_ours_is_no_z(tmp_path, axes):
    path = _tiff(tmp_path / "a.tif", metadata={"axes": axes})
    with pytest.raises(VolumeError, match=r"another axis = 5.*--axes zyx"):
        read_volume(path)
    assert np.array_equal(read_volume(path, axes="zyx").data[...], VALUES)


@pytest.mark.parametrize("axes", ["IYX", "QYX"])
def test_an_axis_that_is_only_counted_is_z(tmp_path, axes):
    assert np.array_equal(read_volume(_tiff(tmp_path / "a.tif", metadata={"axes": axes})).data[...], VALUES)


@pytest.mark.parametrize("axes", ["CYX", "TYX"])
@pytest.mark.parametrize("kind", [{}, {"imagej": True}, {"ome": True}])
def test_named_channels_and_points_in_time_are_no_z(tmp_path, axes, kind):
    path = _tiff(tmp_path / ("a.ome.tif" if "ome" in kind else "a.tif"), metadata={"axes": axes}, **kind)
    with pytest.raises(VolumeError, match="--axes zyx"):
        read_volume(path)
    assert np.array_equal(read_volume(path, axes="zyx").data[...], VALUES)


@pytest.mark.parametrize("n", [3, 4])
@pytest.mark.parametrize("write", [lambda d, a: _hdf5(d / "a.h5", {}, a), lambda d, a: _zarr(d / "a.zarr", {}, a)])
def test_a_last_axis_of_3_or_4_in_uint8_is_doubted(tmp_path, n, write):
    path = write(tmp_path, np.zeros((20, 30, n), np.uint8))
    with pytest.raises(VolumeError, match=f"2D colour image.*colour samples = {n}.*--axes zyx"):
        read_volume(path)
    assert read_volume(path, axes="zyx").shape == (20, 30, n)


def test_what_matlab_keeps_for_itself_is_no_volume(tmp_path):
    path = _hdf5(tmp_path / "a.mat", {"MATLAB_class": np.bytes_(b"uint16")}, VALUES.transpose(0, 2, 1))
    with h5py.File(path, "a") as file:
        file["#refs#/b"] = np.zeros((2, 3, 4))
    assert np.array_equal(read_volume(path).data[...], VALUES)


def test_unsigned_numbers_of_bigdataviewer_and_the_order_of_matlab_are_known_by_their_marks(tmp_path):
    path = _hdf5(tmp_path / "bdv.h5", {}, VALUES.view(np.int16), "t00000/s00/0/cells")
    volume = read_volume(path)
    assert np.array_equal(volume.data[...], VALUES)
    assert any("unsigned" in note for note in volume.notes)
    path = _hdf5(tmp_path / "a.mat", {"MATLAB_class": np.bytes_(b"uint16")}, VALUES.transpose(0, 2, 1))
    assert np.array_equal(read_volume(path).data[...], VALUES)


def _imaris(path, channels=(0,), times=(0,), level=0):
    def text(value):
        return np.array([c.encode() for c in str(value)], dtype="S1")

    with h5py.File(path, "w") as file:
        padded = np.zeros((8, 32, 32), np.uint16)
        padded[:5, :20, :30] = VALUES
        for t in times:
            for c in channels:
                group = file.create_group(f"DataSet/ResolutionLevel {level}/TimePoint {t}/Channel {c}")
                group.create_dataset("Data", data=padded + 10 * c + t, chunks=(8, 32, 32), compression="gzip")
                for axis, n in zip("XYZ", (30, 20, 5), strict=True):
                    group.attrs[f"ImageSize{axis}"] = text(n)
        image = file.create_group("DataSetInfo/Image")
        image.attrs["Unit"] = text("um")
        for k, (n, step) in enumerate(zip((30, 20, 5), SIZE[::-1], strict=True)):
            image.attrs[f"ExtMin{k}"], image.attrs[f"ExtMax{k}"] = text(0.0), text(n * step)
    return path


def test_imaris_is_cut_to_its_image_and_has_its_voxel_size(tmp_path):
    volume = read_volume(_imaris(tmp_path / "a.ims"))
    assert (volume.voxel_size, volume.unit) == (pytest.approx(SIZE), "um")
    assert np.array_equal(volume.data[...], VALUES)


def test_imaris_with_channels_and_times_is_chosen_from(tmp_path):
    path = _imaris(tmp_path / "a.ims", channels=(0, 1), times=(0, 1))
    with pytest.raises(VolumeError, match="several points in time"):
        read_volume(path)
    assert read_volume(path, timepoint=1).n_channels == 2
    assert np.array_equal(read_volume(path, channel=1, timepoint=1).data[1:3, :, 5], VALUES[1:3, :, 5] + 11)

"""What napari saves with this plugin, through napari itself, and what is read back."""

from __future__ import annotations

import json
from pathlib import Path

import dask.array as da
import npe2
import numpy as np
import pandas as pd
import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager

from napari_unet3d.errors import OutputError
from napari_unet3d.volumes import create_output, read_volume
from napari_unet3d.widgets.layers import writers
from napari_unet3d.widgets.layers.volumes import add_layer, layer_data

MANIFEST = Path(__file__).parents[3] / "src" / "napari_unet3d" / "napari.yaml"
PLUGIN = "napari-unet3d"
SPACE = {
    "scale": (0.18, 0.1, 0.05),
    "translate": (1.8, -3.0, 0.25),
    "units": ("um", "um", "um"),
    "axis_labels": ("z", "y", "x"),
}
SUFFIXES = (".tif", ".ome.tif", ".zarr")


@pytest.fixture
def viewer(npe2pm) -> ViewerModel:
    npe2pm.register(npe2.PluginManifest.from_file(MANIFEST))
    return ViewerModel()


@pytest.fixture
def notices():
    notification_manager.records.clear()
    yield lambda: [record.message for record in notification_manager.records]
    notification_manager.records.clear()


class Spy:
    """An array on disk that remembers how many voxels were asked for at once."""

    def __init__(self, values: np.ndarray) -> None:
        self._values, self.most, self.total = values, 0, 0
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __getitem__(self, key):
        found = self._values[key]
        self.most, self.total = max(self.most, found.size), self.total + found.size
        return found


def ramp(shape: tuple[int, ...] = (4, 5, 6), dtype: type = np.uint16) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def assert_in_the_same_place(volume, space=SPACE):
    assert volume.voxel_size == pytest.approx(space["scale"])
    assert volume.translate == pytest.approx(space["translate"])
    assert volume.unit == "um"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_labels_that_are_saved_and_read_are_equal_and_in_the_same_place(viewer, tmp_path, suffix, notices):
    layer = viewer.add_labels(ramp(dtype=np.int64), name="cells", **SPACE)
    path = tmp_path / f"a b#1{suffix}"
    assert layer.save(path, plugin=PLUGIN) == [str(path)]
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data[...], ramp())
    assert volume.dtype == np.uint8
    assert_in_the_same_place(volume)
    assert notices() == []
    again = add_layer(viewer, layer_data(volume, kind="labels"))
    np.testing.assert_allclose(again.data_to_world((3, 4, 5)), layer.data_to_world((3, 4, 5)))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_an_image_that_is_saved_and_read_is_equal_and_in_the_same_place(viewer, tmp_path, suffix, dtype, notices):
    values = ramp(dtype=dtype) - (60 if dtype is np.int16 else 0)
    viewer.add_image(values, **SPACE).save(tmp_path / f"a{suffix}", plugin=PLUGIN)
    volume = read_volume(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(volume.data[...], values)
    assert volume.dtype == dtype
    assert_in_the_same_place(volume)
    assert notices() == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_channels_come_first_in_napari_and_are_channels_in_the_file(viewer, tmp_path, suffix):
    space = {
        "scale": (1, *SPACE["scale"]),
        "translate": (0, *SPACE["translate"]),
        "units": ("pixel", *SPACE["units"]),
        "axis_labels": ("c", "z", "y", "x"),
    }
    viewer.add_image(ramp((2, 4, 5, 6)), **space).save(tmp_path / f"a{suffix}", plugin=PLUGIN)
    volume = read_volume(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(volume.data[...], np.moveaxis(ramp((2, 4, 5, 6)), 0, -1))
    assert_in_the_same_place(volume)


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0, 255, np.uint8),
        (0, 256, np.uint16),
        (0, 65_536, np.uint32),
        (0, 2**32 - 1, np.uint32),
        (-1, 127, np.int8),
        (-1, 128, np.int16),
        (-1, 40_000, np.int32),
    ],
)
def test_labels_go_to_the_smallest_type_that_holds_them(viewer, tmp_path, low, high, dtype):
    values = np.zeros((2, 3, 4), np.int64)
    values[0, 0, 0], values[1, 2, 3] = low, high
    viewer.add_labels(values).save(tmp_path / "a.tif", plugin=PLUGIN)
    volume = read_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.data[...], values)
    assert volume.dtype == dtype


def test_labels_that_no_output_holds_are_refused(viewer, tmp_path):
    layer = viewer.add_labels(np.full((2, 2, 2), 2**32, np.int64), name="ids")
    with pytest.raises(OutputError, match="'ids' holds labels from 4294967296 to 4294967296"):
        layer.save(tmp_path / "a.tif", plugin=PLUGIN)
    assert list(tmp_path.iterdir()) == []


def saved_class_names(path: Path) -> list[str]:
    label = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["image-label"]
    return [entry["class"] for entry in label.get("properties", [])]


def test_the_names_of_the_classes_go_to_zarr(viewer, tmp_path):
    features = pd.DataFrame({"index": [2, 0, 1], "class": ["soma", "background", "axon"]})
    viewer.add_labels(ramp() % 3, features=features).save(tmp_path / "a.zarr", plugin=PLUGIN)
    assert saved_class_names(tmp_path / "a.zarr") == ["background", "axon", "soma"]


@pytest.mark.parametrize(
    "features",
    [{"index": [0, 2], "class": ["background", "soma"]}, {"index": [0, 1], "class": ["background", np.nan]}, {}],
)
def test_names_that_are_not_complete_are_left_out(viewer, tmp_path, features):
    viewer.add_labels(ramp() % 3, features=pd.DataFrame(features)).save(tmp_path / "a.zarr", plugin=PLUGIN)
    assert saved_class_names(tmp_path / "a.zarr") == []


@pytest.mark.parametrize("add", ["add_image", "add_labels"])
@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_a_layer_on_disk_is_never_loaded_whole(viewer, tmp_path, monkeypatch, add, suffix):
    monkeypatch.setattr(writers, "_BOX_BYTES", 4000)
    monkeypatch.setattr(writers, "_ZARR_CHUNK", 8)
    values = ramp((24, 20, 16), np.uint8)
    spy = Spy(values)
    limits = {"contrast_limits": (0, 255)} if add == "add_image" else {}
    layer = getattr(viewer, add)(spy, **limits)
    spy.most = spy.total = 0
    layer.save(tmp_path / f"a{suffix}", plugin=PLUGIN)
    np.testing.assert_array_equal(read_volume(tmp_path / f"a{suffix}").data[...], values)
    assert spy.most <= 4000
    # Once to be written, labels once before that for their range, and a slice for the layer.
    assert spy.total <= (2 if add == "add_labels" else 1) * values.size + 2 * 20 * 16


@pytest.mark.parametrize("chunk", [1, 4, 128])
@pytest.mark.parametrize("shape", [(1, 1, 1), (9, 10, 11), (3, 200, 5), (130, 3, 4, 2)])
@pytest.mark.parametrize("limit", [1, 500, 10**6])
def test_the_boxes_partition_the_volume_and_begin_on_chunks(monkeypatch, chunk, shape, limit):
    monkeypatch.setattr(writers, "_BOX_BYTES", limit)
    times_covered = np.zeros(shape, int)
    for box in writers._Voxels(lambda box: box, shape, np.dtype(np.uint8)).boxes(chunk):
        times_covered[box] += 1
        assert all(part.start % chunk == 0 for part in box[:2])
    assert (times_covered == 1).all()


def test_arrays_of_other_plugins_and_levels_of_resolution_are_written(viewer, tmp_path):
    whole = ramp((8, 8, 8))
    viewer.add_image(da.from_array(whole, chunks=4), **SPACE).save(tmp_path / "dask.tif", plugin=PLUGIN)
    viewer.add_image([whole, whole[::2, ::2, ::2]], multiscale=True, **SPACE).save(tmp_path / "m.tif", plugin=PLUGIN)
    viewer.add_labels([whole, whole[::2, ::2, ::2]], multiscale=True, **SPACE).save(tmp_path / "l.tif", plugin=PLUGIN)
    for name in ("dask.tif", "m.tif", "l.tif"):
        volume = read_volume(tmp_path / name)
        np.testing.assert_array_equal(volume.data[...], whole)
        assert_in_the_same_place(volume)


@pytest.mark.parametrize(
    "transform",
    [
        {"rotate": (0, 0, 30)},
        {"shear": (0.1, 0, 0)},
        {"affine": [[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 5], [0, 0, 0, 1]]},
        {"scale": (-0.18, 0.1, 0.05)},
    ],
)
def test_a_transform_that_the_file_cannot_hold_is_said(viewer, tmp_path, transform, notices):
    viewer.add_image(ramp(), **{**SPACE, **transform}).save(tmp_path / "a.tif", plugin=PLUGIN)
    (notice,) = notices()
    assert "a.tif: The layer is rotated, sheared, mirrored or has an affine" in notice
    volume = read_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.data[...], ramp())
    assert_in_the_same_place(volume)


def test_an_affine_that_only_moves_and_scales_is_kept(viewer, tmp_path, notices):
    affine = [[2, 0, 0, 10], [0, 1, 0, 0], [0, 0, 1, 5], [0, 0, 0, 1]]
    viewer.add_image(ramp(), affine=affine, **SPACE).save(tmp_path / "a.zarr", plugin=PLUGIN)
    volume = read_volume(tmp_path / "a.zarr")
    assert volume.voxel_size == pytest.approx((0.36, 0.1, 0.05))
    assert volume.translate == pytest.approx((13.6, -3.0, 5.25))
    assert notices() == []


@pytest.mark.parametrize(
    ("units", "voxel_size", "unit"),
    [
        ("nm", (0.18, 0.1, 0.05), "nm"),
        ("cm", (1800, 1000, 500), "um"),
        (("um", "nm", "nm"), (0.18, 1e-4, 5e-5), "um"),
        ("pixel", (0.18, 0.1, 0.05), "pixel"),
    ],
)
def test_units_are_kept_or_converted(viewer, tmp_path, units, voxel_size, unit):
    viewer.add_image(ramp(), **{**SPACE, "units": units, "translate": (0, 0, 0)}).save(
        tmp_path / "a.zarr", plugin=PLUGIN
    )
    volume = read_volume(tmp_path / "a.zarr")
    assert volume.voxel_size == pytest.approx(voxel_size)
    assert volume.unit == unit


def test_numbers_that_lose_precision_are_said(viewer, tmp_path, notices):
    viewer.add_image(ramp(dtype=np.float64)).save(tmp_path / "a.tif", plugin=PLUGIN)
    assert any("float64 is written as float32" in notice for notice in notices())


@pytest.mark.parametrize(
    ("add", "values", "said", "keywords"),
    [
        ("add_image", np.zeros((5, 6)), "is 2D", {}),
        ("add_image", np.zeros((4, 5, 6, 3), np.uint8), "colour", {"rgb": True}),
        ("add_image", np.zeros((2, 2, 4, 5, 6)), "has 5 axes", {}),
        ("add_image", np.zeros((2, 4, 5, 6)), "several points in time", {"axis_labels": ("t", "z", "y", "x")}),
        ("add_labels", np.zeros((2, 4, 5, 6), int), "holds 2 volumes of labels along its axis 0", {}),
        ("add_labels", np.zeros((5, 6), int), "is 2D", {}),
        ("add_image", np.full((4, 5, 6), 2**40), "holds values from", {}),
    ],
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_volume_is_refused_and_leaves_nothing(viewer, tmp_path, add, values, said, keywords, suffix):
    layer = getattr(viewer, add)(values, name="mine", **keywords)
    with pytest.raises(OutputError, match=said):
        layer.save(tmp_path / f"a{suffix}", plugin=PLUGIN)
    assert list(tmp_path.iterdir()) == []


def test_one_volume_of_labels_on_an_axis_of_its_own_is_written(viewer, tmp_path):
    viewer.add_labels(ramp((1, 4, 5, 6))).save(tmp_path / "a.tif", plugin=PLUGIN)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").data[...], ramp())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_there_is_replaced(viewer, tmp_path, suffix):
    for values in (ramp(), ramp()[:2] + 1):
        viewer.add_image(values).save(tmp_path / f"a{suffix}", plugin=PLUGIN)
    np.testing.assert_array_equal(read_volume(tmp_path / f"a{suffix}").data[...], ramp()[:2] + 1)


def test_a_folder_that_is_no_zarr_is_not_replaced(viewer, tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="is a folder but not a Zarr"):
        viewer.add_image(ramp()).save(tmp_path / "a.zarr", plugin=PLUGIN)
    assert (tmp_path / "a.zarr" / "thesis.txt").read_text() == "years of work"


def test_a_missing_folder_is_said(viewer, tmp_path):
    with pytest.raises(OutputError, match=r"The folder .* does not exist"):
        viewer.add_image(ramp()).save(tmp_path / "missing" / "a.tif", plugin=PLUGIN)


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_a_layer_that_is_read_from_a_file_does_not_replace_that_file(viewer, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with create_output(path, (4, 5, 6), "uint16", voxel_size=(1, 1, 1), unit="um", kind="image") as output:
        output[:] = ramp()
        output.commit()
    # As it is on disk: larger volumes are not loaded.
    layer = add_layer(viewer, layer_data(read_volume(path)))
    with pytest.raises(OutputError, match="Choose another name"):
        layer.save(path, plugin=PLUGIN)
    np.testing.assert_array_equal(read_volume(path).data[...], ramp())
    layer.save(tmp_path / f"b{suffix}", plugin=PLUGIN)
    np.testing.assert_array_equal(read_volume(tmp_path / f"b{suffix}").data[...], ramp())

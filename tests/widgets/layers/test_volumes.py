from __future__ import annotations

import warnings

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel

from napari_unet3d.errors import VolumeError
from napari_unet3d.volumes import create_output, read_volume
from napari_unet3d.widgets.layers.volumes import (
    add_layer,
    layer_data,
    layer_volume,
    load_if_small,
    unwrap,
    why_no_volume,
)

VOXEL_SIZES = [(1.0, 1.0, 1.0), (0.18, 0.1, 0.1), (3.0, 0.5, 0.25)]
numbers = st.floats(-3, 3)
sizes = st.floats(0.05, 5)


def placed(data: np.ndarray, **keywords):
    """Return an image layer; napari warns of rotated slices, which is what is tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ViewerModel().add_image(data, **keywords)


@st.composite
def transforms(draw):
    affine = np.eye(4)
    affine[:3, :3] += draw(st.lists(numbers, min_size=9, max_size=9).map(lambda n: 0.1 * np.reshape(n, (3, 3))))
    affine[:3, 3] = draw(st.tuples(numbers, numbers, numbers))
    return {
        "scale": draw(st.tuples(sizes, sizes, sizes)),
        "translate": draw(st.tuples(numbers, numbers, numbers)),
        "rotate": draw(st.tuples(*[st.floats(-90, 90)] * 3)),
        "shear": draw(st.tuples(numbers, numbers, numbers)),
        "affine": affine,
        "units": ("um", "um", "um"),
        "axis_labels": ("z", "y", "x"),
    }


@given(transforms(), st.tuples(*[st.integers(0, 3)] * 3))
@settings(deadline=None, max_examples=30)
def test_a_part_of_a_volume_lies_where_it_lay_in_the_whole(keywords, start):
    layer = placed(np.zeros((4, 4, 4), np.uint8), **keywords)
    space = layer_volume(layer).space.moved(start)
    part = placed(np.zeros((2, 2, 2), np.uint8), **space.keywords)
    for voxel in ((0, 0, 0), (1, 0, 1)):
        there = layer.data_to_world(np.add(start, voxel))
        np.testing.assert_allclose(part.data_to_world(voxel), there, atol=1e-9)
    assert part.units == layer.units
    assert part.axis_labels == layer.axis_labels


@given(transforms())
@settings(deadline=None, max_examples=20)
def test_a_layer_with_channels_gives_the_place_of_its_last_axes(keywords):
    plain = placed(np.zeros((4, 4, 4), np.uint8), **keywords)
    rotate, affine = np.eye(4), np.eye(5)
    rotate[1:, 1:], affine[1:, 1:] = plain.rotate, np.asarray(plain.affine)
    shear = np.eye(4)
    shear[1:, 1:][np.triu_indices(3, 1)] = keywords["shear"]
    layer = placed(
        np.zeros((2, 4, 4, 4), np.uint8),
        scale=(1, *keywords["scale"]),
        translate=(0, *keywords["translate"]),
        rotate=rotate,
        shear=shear[np.triu_indices(4, 1)],
        affine=affine,
        units=("pixel", *keywords["units"]),
        axis_labels=("c", "z", "y", "x"),
    )
    chosen = layer_volume(layer, channels=2)
    result = placed(np.zeros((4, 4, 4), np.uint8), **chosen.space.keywords)
    for voxel in ((0, 0, 0), (3, 1, 2)):
        np.testing.assert_allclose(result.data_to_world(voxel), plain.data_to_world(voxel), atol=1e-9)
        np.testing.assert_allclose(result.data_to_world(voxel), layer.data_to_world((1, *voxel))[1:], atol=1e-9)
    assert result.units == plain.units


@pytest.mark.parametrize("voxel_size", VOXEL_SIZES)
def test_scale_and_units_are_kept_to_the_last_digit(voxel_size):
    layer = placed(np.zeros((3, 4, 5)), scale=voxel_size, translate=(1, 2, 3), units=("nm",) * 3)
    chosen = layer_volume(layer)
    assert tuple(chosen.space.scale) == voxel_size == chosen.volume.voxel_size
    assert chosen.volume.unit == "nm"
    assert tuple(chosen.space.moved((2, 0, 0)).scale) == voxel_size


def test_names_of_axes_are_given_where_the_layer_has_none():
    assert layer_volume(placed(np.zeros((3, 4, 5)))).space.axis_labels == ("z", "y", "x")


@pytest.mark.parametrize(
    ("data", "keywords", "reason"),
    [
        (np.zeros((5, 6)), {}, "'x' is 2D"),
        (np.zeros((4, 5, 3), np.uint8), {"rgb": True}, "'x' is a colour"),
        (np.zeros((2, 2, 3, 4, 5)), {}, "'x' has 5 axes"),
    ],
)
def test_what_is_no_volume_is_refused_with_the_reason(data, keywords, reason):
    layer = placed(data, name="x", **keywords)
    assert why_no_volume(layer).startswith(reason)
    with pytest.raises(VolumeError, match=reason):
        layer_volume(layer)
    assert why_no_volume(None) == "Open a volume, or choose an image layer."


def test_a_transform_that_mixes_an_axis_of_time_into_space_is_refused():
    rotate = np.eye(4)
    rotate[:2, :2] = [[0, -1], [1, 0]]
    with pytest.raises(VolumeError, match="mixes z, y or x"):
        layer_volume(placed(np.zeros((2, 3, 4, 5)), rotate=rotate))


@pytest.mark.parametrize(
    ("names", "axis"),
    [
        (("c", "z", "y", "x"), 0),
        (("z", "channel", "y", "x"), 1),
        (("z", "y", "x", "c"), 3),
        (("z", "y", "x", "t"), 3),
        (None, 0),
    ],
)
def test_the_axis_besides_space_is_found_by_its_name_or_is_the_first(names, axis):
    data = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    layer = placed(data, axis_labels=names)
    chosen = layer_volume(layer, position=1)
    np.testing.assert_array_equal(chosen.volume.data[:, :, :], data.take(1, axis=axis))
    with_channels = layer_volume(layer, channels=data.shape[axis])
    np.testing.assert_array_equal(with_channels.volume.data[:, :, :], np.moveaxis(data, axis, -1))
    assert (chosen.extra_axis, chosen.position, with_channels.position) == (axis, 1, None)


def test_a_level_of_a_multiscale_layer_lies_over_the_full_resolution():
    full = np.arange(8 * 8 * 8).reshape(8, 8, 8).astype(np.uint16)
    layer = placed([full, full[::2, ::2, ::2]], multiscale=True, scale=(0.2, 0.1, 0.1), translate=(1, 0, 0))
    chosen = layer_volume(layer, level=1)
    assert chosen.shape == (4, 4, 4)
    assert tuple(chosen.space.scale) == pytest.approx((0.4, 0.2, 0.2))
    coarse = placed(full[::2, ::2, ::2], **chosen.space.keywords)
    # The centre of the first large voxel is the centre of the 2 x 2 x 2 it stands for.
    assert coarse.data_to_world((0, 0, 0)) == pytest.approx(layer.data_to_world((0.5, 0.5, 0.5)))


class Counted:
    """An array that counts what is read."""

    def __init__(self, data: np.ndarray) -> None:
        self.data, self.n_read = data, 0

    def block(self, block_info=None):
        self.n_read += 1
        place = tuple(slice(*interval) for interval in block_info[None]["array-location"])
        return self.data[place]


def test_a_layer_of_dask_is_a_volume_of_which_nothing_is_read():
    source = Counted(np.arange(64 * 8 * 8).reshape(64, 8, 8).astype(np.uint16))
    array = da.map_blocks(
        source.block, chunks=((8,) * 8, (8,), (8,)), dtype=np.uint16, meta=np.zeros((0, 0, 0), np.uint16)
    )
    layer = placed(array, contrast_limits=(0, 1))
    source.n_read = 0
    chosen = layer_volume(layer)
    assert source.n_read == 0
    np.testing.assert_array_equal(chosen.volume.data[8:12, :, :], source.data[8:12])
    assert source.n_read == 1


@pytest.mark.parametrize("dtype", [bool, "float64", ">u2", "int64"])
def test_numbers_of_other_types_are_converted_with_a_note(dtype):
    chosen = layer_volume(placed(np.ones((3, 4, 5), dtype)))
    assert chosen.volume.dtype.name in ("uint8", "float32", "uint16", "int32")
    assert chosen.volume.notes


def test_a_file_that_is_not_loaded_can_be_opened_by_a_worker_itself(tmp_path):
    path = tmp_path / "image.zarr"
    with create_output(path, (3, 4, 5), "uint8", voxel_size=(0.3, 0.2, 0.1), unit="um", kind="image") as output:
        output.commit()
    volume = read_volume(path)
    viewer = ViewerModel()
    lazy = add_layer(viewer, layer_data(volume))
    assert layer_volume(lazy).on_disk.path == str(path)
    assert tuple(lazy.scale) == (0.3, 0.2, 0.1)
    in_memory = add_layer(viewer, layer_data(load_if_small(volume)))
    assert isinstance(in_memory.data, np.ndarray)
    assert layer_volume(in_memory).on_disk is None
    # Data that a user puts in its place is not that of the file.
    lazy.data = np.ones((3, 4, 5), np.uint8)
    assert layer_volume(lazy).on_disk is None


def test_channels_come_first_in_napari_and_last_in_a_volume(tmp_path):
    values = np.arange(3 * 4 * 5 * 2, dtype=np.uint16).reshape(3, 4, 5, 2)
    path = tmp_path / "two.zarr"
    with create_output(path, values.shape, "uint16", voxel_size=(3, 2, 1), unit="um", kind="image") as output:
        output[...] = values
        output.commit()
    for volume in (read_volume(path), load_if_small(read_volume(path))):
        layer = add_layer(ViewerModel(), layer_data(volume))
        assert layer.data.shape == (2, 3, 4, 5)
        np.testing.assert_array_equal(np.asarray(layer.data[1]), values[..., 1])
        np.testing.assert_array_equal(layer_volume(layer, channels=2).volume.data[:, :, :], values)


def test_a_proxy_of_napari_is_taken_off():
    from napari.utils._proxies import PublicOnlyProxy

    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((3, 4, 5)))
    assert unwrap(PublicOnlyProxy(viewer)) is viewer
    assert unwrap(PublicOnlyProxy(viewer).layers[0]) is layer
    assert unwrap(layer) is layer

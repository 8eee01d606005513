"""Arrays on disk are indexed as NumPy's."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, basic_indices

from napari_unet3d.errors import VolumeError
from napari_unet3d.volumes.arrays import DecodedCache, LazyArray, arrange


class OnDisk(LazyArray):
    """An array that gives plain boxes only, and notes which."""

    def __init__(self, values):
        super().__init__(values.shape, values.dtype)
        self.values = values
        self.boxes = []

    @property
    def dtype(self):
        return self.values.dtype

    def read(self, box):
        self.boxes.append(box)
        assert all(part.step is None and part.start < part.stop for part in box)
        return self.values[box]


@given(data=st.data())
def test_any_index_gives_what_numpy_gives(data):
    shape = data.draw(array_shapes(min_dims=1, max_dims=4, max_side=5))
    values = np.arange(np.prod(shape)).reshape(shape)
    key = data.draw(basic_indices(shape, allow_newaxis=False))
    found = OnDisk(values)[key]
    assert np.array_equal(found, values[key])
    assert np.shape(found) == np.shape(values[key])


@given(order=st.permutations("zyxc"), data=st.data())
def test_any_order_of_axes_becomes_z_y_x_c(order, data):
    sizes = {"z": 2, "y": 3, "x": 4, "c": 5}
    wanted = np.arange(120).reshape(2, 3, 4, 5).astype(np.int32)
    stored = wanted.transpose(["zyxc".index(letter) for letter in order])
    assert stored.shape == tuple(sizes[letter] for letter in order)
    volume, notes = arrange(OnDisk(stored), "".join(order), "a file")
    key = data.draw(basic_indices(wanted.shape, allow_newaxis=False))
    assert np.array_equal(volume[key], wanted[key])
    assert notes == []


def test_only_the_box_that_is_asked_for_is_read():
    source = OnDisk(np.zeros((9, 8, 7), np.uint8))
    volume, _ = arrange(source, "zyx", "a file")
    volume[2:4, 5:6, 0:7]
    assert source.boxes == [(slice(2, 4), slice(5, 6), slice(0, 7))]


@pytest.mark.parametrize(
    ("stored", "read_as", "word"),
    [
        ("bool", "uint8", "True and false"),
        ("float64", "float32", "float64"),
        ("float16", "float32", "float16"),
        ("int64", "int32", "int64"),
        ("uint64", "uint32", "uint64"),
        (">u2", "uint16", "Big-endian"),
        (">f4", "float32", "Big-endian"),
    ],
)
def test_a_number_type_that_must_be_converted_is_noted(stored, read_as, word):
    values = np.array([[[0, 1, 1]]]).astype(stored)
    volume, notes = arrange(OnDisk(values), "zyx", "a file")
    assert volume.dtype == read_as
    assert volume.dtype.isnative
    assert volume[...].dtype == read_as
    assert volume[...].tolist() == [[[0, 1, 1]]]
    assert len(notes) == 1
    assert word in notes[0]


@pytest.mark.parametrize("dtype", ["complex64", "O", "U3", "M8[s]"])
def test_what_is_no_number_is_refused(dtype):
    with pytest.raises(VolumeError, match=r"a file holds numbers of type .*, which is not an image"):
        arrange(OnDisk(np.zeros((1, 1, 1), dtype)), "zyx", "a file")


def test_a_64_bit_value_that_does_not_fit_stops_the_reading():
    volume, _ = arrange(OnDisk(np.array([[[1, 2**31]]])), "zyx", "a file")
    assert volume[:, :, :1].tolist() == [[[1]]]
    with pytest.raises(VolumeError, match=r"values from 1 to 2147483648.*int32"):
        volume[...]


@given(arrays(np.float64, 3, elements=st.floats(-1e300, 1e300)))
def test_a_float64_is_rounded_to_the_nearest_float32(values):
    volume, _ = arrange(OnDisk(values.reshape(1, 1, 3)), "zyx", "a file")
    with np.errstate(over="ignore"):
        assert np.array_equal(volume[...].ravel(), values.astype(np.float32))


@settings(max_examples=30)
@given(st.lists(st.integers(0, 9), max_size=50))
def test_the_cache_gives_what_decoding_gives_and_keeps_to_its_limit(keys):
    cache = DecodedCache(limit_bytes=3 * 8)
    for key in keys:
        assert cache.fetch(key, lambda key=key: np.array([key])) == key
        assert cache._bytes == 8 * len(cache._pieces) <= 24


def test_the_cache_serves_threads_at_the_same_time():
    cache, wrong = DecodedCache(limit_bytes=800), []

    def work(seed):
        for key in np.random.default_rng(seed).integers(0, 30, 500):
            if cache.fetch(int(key), lambda key=key: np.full(10, key))[0] != key:
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert cache._bytes <= 800

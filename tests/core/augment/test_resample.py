"""The fused resampling against SciPy on coordinates that are written out, and against exact permutations."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from napari_unet3d.core.augment.deformation import Deformation
from napari_unet3d.core.augment.resample import hold, resample, resample_labels
from napari_unet3d.core.boxes import Box
from napari_unet3d.errors import VolumeError
from tests.support.augmenting import MODES, deformations, places, volumes


def by_scipy(volume, deformation, **options):
    channels = volume if volume.ndim == 4 else volume[..., np.newaxis]
    at = places(deformation).T
    parts = [map_coordinates(part, at, **options).reshape(deformation.shape) for part in np.moveaxis(channels, -1, 0)]
    return np.stack(parts, -1) if volume.ndim == 4 else parts[0]


def cube(n, **choices):
    return Deformation(shape=(n, n, n), centre=((n - 1) / 2,) * 3, **choices)


@given(volumes(), deformations(), st.sampled_from(MODES))
@settings(deadline=None, max_examples=200)
def test_images_are_what_scipy_gives_on_the_same_coordinates(volume, deformation, mode):
    expected = by_scipy(volume.astype(float), deformation, order=1, mode=mode, cval=7)
    found = resample(volume, deformation, mode=mode, fill=7)
    assert found.dtype == np.float32
    # At the very border float32 and float64 may disagree about what is outside.
    is_clear = np.ones(deformation.shape, bool)
    if mode == "constant":
        at, ends = places(deformation), np.array(volume.shape[:3]) - 1
        is_clear = (np.minimum(np.abs(at), np.abs(at - ends)) > 1e-4).all(axis=1).reshape(deformation.shape)
    np.testing.assert_allclose(found[is_clear], expected[is_clear], rtol=0, atol=1e-4 * 251)


@given(volumes(dtypes=("uint8", "uint16", "int32", "int64", "float32")), deformations(), st.sampled_from(MODES))
@settings(deadline=None, max_examples=200)
def test_labels_are_what_scipy_gives_away_from_ties(volume, deformation, mode):
    expected = by_scipy(volume, deformation, order=0, mode=mode)
    found = resample_labels(volume, deformation, mode=mode)
    assert found.dtype == volume.dtype
    assert set(np.unique(found)) <= {*np.unique(volume), 0}
    at = places(deformation)
    is_clear = (np.abs(at - np.floor(at) - 0.5) > 1e-4).all(axis=1)
    if mode == "constant":
        # SciPy leaves out the half voxel on either end, in which we still see the border voxel.
        is_clear &= ((at >= 0) & (at <= np.array(volume.shape[:3]) - 1)).all(axis=1)
    is_clear = is_clear.reshape(deformation.shape)
    np.testing.assert_array_equal(found[is_clear], expected[is_clear])


@given(volumes(dtypes=("uint8", "uint16", "float32")), st.sampled_from(MODES))
@settings(deadline=None)
def test_no_displacement_is_the_identity_bit_for_bit(volume, mode):
    shape = volume.shape[:3]
    centre = tuple((n - 1) / 2 for n in shape)
    still = Deformation(shape=shape, centre=centre, nodes=np.zeros((3, 3, 3, 3)))
    assert resample(volume, still, mode=mode).tobytes() == volume.astype(np.float32).tobytes()
    assert resample_labels(volume, still, mode=mode).tobytes() == volume.tobytes()


@pytest.mark.parametrize("n", [5, 6])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_quarter_turns_and_flips_are_exact_permutations(order, n):
    volume = np.random.default_rng(0).random((n, n, n), np.float32)
    for signs in itertools.product((1, -1), repeat=3):
        matrix = np.zeros((3, 3))
        matrix[range(3), order] = signs
        # The source's axis a runs along the output's axis order[a], backwards where the sign is negative.
        flipped = volume[tuple(slice(None, None, sign) for sign in signs)]
        expected = np.moveaxis(flipped, range(3), order)
        assert resample(volume, cube(n, matrix=matrix)).tobytes() == np.ascontiguousarray(expected).tobytes()
        assert resample_labels(volume, cube(n, matrix=matrix)).tobytes() == np.ascontiguousarray(expected).tobytes()


def test_a_flip_twice_is_the_identity_and_once_is_numpy_s():
    volume = np.arange(64, dtype=np.uint8).reshape(4, 4, 4)
    flip = cube(4, matrix=np.diag([1, -1, 1]))
    once = resample_labels(volume, flip)
    np.testing.assert_array_equal(once, volume[:, ::-1])
    np.testing.assert_array_equal(resample_labels(once, flip), volume)


@given(volumes(), deformations(), st.sampled_from(MODES), st.data())
@settings(deadline=None, max_examples=100)
def test_a_box_has_the_bytes_of_that_part_of_the_whole_on_any_number_of_threads(volume, deformation, mode, data):
    bounds = [sorted((data.draw(st.integers(0, n - 1)), data.draw(st.integers(1, n)))) for n in deformation.shape]
    box = Box(*((a, max(b, a + 1)) for a, b in bounds))
    for function in (resample, resample_labels):
        whole = function(volume, deformation, mode=mode, threads=data.draw(st.integers(1, 3)))
        part = function(volume, deformation, box, mode=mode, threads=data.draw(st.integers(1, 3)))
        assert part.tobytes() == np.ascontiguousarray(whole[box.slices]).tobytes()


def test_threads_share_many_planes_and_give_the_same_bytes():
    volume = np.random.default_rng(0).integers(0, 60_000, (90, 40, 40)).astype(np.uint16)
    nodes = np.random.default_rng(1).normal(0, 5, (5, 5, 5, 3))
    deformation = Deformation(shape=(90, 40, 70), centre=(44, 20, 20), nodes=nodes)
    one = resample(volume, deformation)
    assert all(resample(volume, deformation, threads=n).tobytes() == one.tobytes() for n in (2, 3, 5))


class Watched:
    """A volume that remembers what was read of it."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, []

    def __getitem__(self, key):
        self.read.append(key)
        return self.array[key]


def test_only_what_is_needed_is_read():
    volume = Watched(np.zeros((500, 400, 300), np.uint8))
    resample(volume, Deformation(shape=(20, 20, 20), centre=(250, 200, 150)))
    resample_labels(volume, Deformation(shape=(20, 20, 20), centre=(2, 200, 299)))
    for key in volume.read:
        assert all(part.stop - part.start <= 24 for part in key)
    # A mirror image beyond the border reads what is mirrored.
    assert volume.read[1][0] == slice(0, 13)


def test_labels_that_cover_a_part_of_the_volume_are_unlabelled_elsewhere():
    whole = np.zeros((12, 12, 12), np.uint8)
    whole[3:7, 2:9, 5:11] = np.random.default_rng(0).integers(1, 4, (4, 7, 6))
    part = whole[3:7, 2:9, 5:11]
    deformation = Deformation(
        shape=(16, 16, 16),
        centre=(5, 6, 7),
        matrix=[[0, 1, 0], [-1, 0, 0], [0, 0, 1]],
        nodes=np.full((2, 2, 2, 3), 1.25),
    )
    found = resample_labels(part, deformation, origin=(3, 2, 5), bounds=(12, 12, 12))
    np.testing.assert_array_equal(found, resample_labels(whole, deformation))
    far = Deformation(shape=(2, 2, 2), centre=(1, 1, 1))
    np.testing.assert_array_equal(
        resample_labels(part, far, origin=(3, 2, 5), bounds=(12, 12, 12), fill=9), np.full((2, 2, 2), 9)
    )


def test_a_volume_far_along_an_axis_is_as_exact_as_a_small_one():
    # 32 bits do not hold such a place to a thousandth of a voxel.
    volume = np.zeros((1, 2, 200_000), np.float32)
    volume[..., 199_990:] = np.arange(10)
    shifted = Deformation(shape=(1, 1, 4), centre=(0, 0, 199_993.501))
    np.testing.assert_allclose(resample(volume, shifted)[0, 0], [2.001, 3.001, 4.001, 5.001], atol=1e-5)


@pytest.mark.parametrize("ratio", [30, 500, 5000])
@pytest.mark.parametrize("mode", MODES)
def test_steps_of_many_voxels_read_nothing_but_the_volume(ratio, mode):
    # As of voxels that are much longer along z, turned. One more number would be an endless one.
    rng = np.random.default_rng(ratio)
    volume = rng.uniform(100, 200, (8, 40, 3000)).astype(np.float32)
    matrix = np.array([[0.3, 0, 0], [0, 1, 0], [ratio, 0, 1]])
    nodes = rng.normal(0, 2, (3, 3, 3, 3))
    for centre in ((4, 20, 1500), (4, 20, -7000), (4, 20, 9000)):
        deformation = Deformation(shape=(20, 20, 70), centre=centre, matrix=matrix, nodes=nodes)
        found = resample(volume, deformation, mode=mode, fill=150)
        assert 100 <= found.min() <= found.max() <= 200
        assert resample_labels(volume.astype(np.uint8), deformation, mode=mode, fill=150).min() >= 100


@pytest.mark.parametrize(
    "choices",
    [
        {"centre": (0, 0, 3e9)},
        {"centre": (0, -2e6, 0)},
        {"matrix": np.diag([1, 1e8, 1])},
        {"matrix": np.diag([1, 1e308, 1])},
        {"nodes": np.full((2, 2, 2, 3), 1e7)},
    ],
)
def test_what_lies_too_far_away_is_refused_before_anything_is_read(choices):
    volume = np.ones((9, 9, 9), np.float32)
    deformation = Deformation(**({"shape": (8, 8, 8), "centre": (4, 4, 4)} | choices))
    for call in (resample, resample_labels):
        with pytest.raises(VolumeError, match=r"too far away. Check where it lies, the voxel size"):
            call(volume, deformation)


def test_a_patch_that_comes_from_too_much_is_refused_before_anything_is_read():
    class Large:
        shape = (600, 6000, 6000)
        dtype = np.dtype(np.uint16)

        def __getitem__(self, _):
            raise AssertionError("it was read")

    # Voxels 40 times as long along z, a patch that is turned to stand on its side.
    deformation = Deformation(
        shape=(220, 220, 220), centre=(300, 3000, 3000), matrix=[[0.5, 0.01, 0.01], [30, 1, 0], [30, 0, 1]]
    )
    for call in (resample, resample_labels, lambda *given: hold(*given, Box.whole((220, 220, 220)))):
        with pytest.raises(VolumeError, match="rotate about z alone, as the preset 'anisotropic stack' does"):
            call(Large(), deformation)


@pytest.mark.parametrize("dtype", [">u2", ">f4", ">i4", "bool", "float16"])
def test_numbers_of_any_kind_and_order_are_taken(dtype):
    volume = np.random.default_rng(0).integers(0, 100, (6, 7, 8)).astype(dtype)
    still = Deformation(shape=volume.shape, centre=(2.5, 3, 3.5))
    np.testing.assert_array_equal(resample(volume, still), volume.astype(np.float32))
    np.testing.assert_array_equal(resample_labels(volume, still), volume)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_an_array_is_used_where_it_lies(dtype):
    volume = np.random.default_rng(0).integers(0, 999, (90, 200, 200)).astype(dtype)
    deformation = Deformation(shape=(8, 8, 8), centre=(40, 90, 90), nodes=np.ones((2, 2, 2, 3)))
    parts = [volume, Copied(volume)]
    expected, again = (resample(part, deformation).tobytes() for part in parts)
    assert again == expected
    tracemalloc.start()
    resample(volume, deformation)
    resample_labels(volume, deformation)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < volume.nbytes / 4


class Copied:
    """A volume that gives copies of its boxes, as files do."""

    def __init__(self, array):
        self.shape, self.dtype, self._array = array.shape, array.dtype, array

    def __getitem__(self, box):
        return self._array[box].copy()

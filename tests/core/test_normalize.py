from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from napari_unet3d.core.normalize import SAMPLE_VOXELS, Normalization, measure, sample_voxels
from napari_unet3d.errors import VolumeError

RNG = np.random.default_rng(0)
KINDS = ["percentiles", "zscore", "background"]


def volume(dtype: str = "uint16", channels: tuple[int, ...] = ()) -> np.ndarray:
    return RNG.gamma(2.0, 300.0, (12, 20, 30, *channels)).astype(dtype)


def test_percentiles_go_to_zero_and_one():
    image = volume("float32")
    scaled = measure(Normalization(kind="percentiles", low=10, high=90), image).apply(image)
    np.testing.assert_allclose(np.percentile(scaled, [10, 90]), [0, 1], atol=1e-5)


def test_the_z_score_has_mean_zero_and_deviation_one():
    image = volume()
    scaled = measure(Normalization(kind="zscore"), image).apply(image)
    assert scaled.mean() == pytest.approx(0, abs=1e-4)
    assert scaled.std() == pytest.approx(1, abs=1e-4)


def test_the_background_goes_to_zero_and_its_noise_to_a_fixed_width():
    image = RNG.normal(500, 20, (20, 30, 40))
    image[:1] = 5000
    scaling = measure(Normalization(kind="background", spread=10), image)
    assert scaling.offset[0] == pytest.approx(500, abs=5)
    assert scaling.scale[0] == pytest.approx(1 / 200, rel=0.15)


def test_fixed_numbers_are_used_as_they_are():
    image = volume()
    scaled = measure(Normalization(kind="fixed", offset=100, scale=0.5), image).apply(image)
    np.testing.assert_array_equal(scaled[..., 0], (image.astype(np.float32) - 100) * np.float32(0.5))


@given(st.sampled_from(KINDS), st.floats(0.1, 10), st.floats(-1000, 1000))
@settings(deadline=None)
def test_another_gain_and_offset_of_the_camera_change_nothing(kind, gain, offset):
    image = volume("float64")
    normalization = Normalization(kind=kind)
    other = image * gain + offset
    np.testing.assert_allclose(
        measure(normalization, other).apply(other), measure(normalization, image).apply(image), atol=2e-2
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_volume_becomes_zero_and_is_said(kind):
    image = np.full((5, 6, 7), 1430, np.uint16)
    scaling = measure(Normalization(kind=kind), image)
    assert not scaling.apply(image).any()
    assert "the same value 1430" in scaling.notes[0]


@pytest.mark.parametrize("kind", KINDS)
def test_channels_are_measured_one_by_one(kind):
    image = volume("float32", (2,))
    image[..., 1] = image[..., 1] * 7 + 40
    scaling = measure(Normalization(kind=kind), image)
    for channel in range(2):
        alone = measure(Normalization(kind=kind), image[..., channel])
        np.testing.assert_allclose(
            scaling.apply(image)[..., channel], alone.apply(image[..., channel])[..., 0], rtol=1e-6
        )


def test_values_that_are_not_finite_do_not_count():
    image = volume("float32")
    expected = measure(Normalization(kind="zscore"), image[1:])
    image[0] = np.nan
    image[0, 0, 0] = np.inf
    assert measure(Normalization(kind="zscore"), image) == expected
    with pytest.raises(VolumeError, match="no finite voxel"):
        measure(Normalization(kind="zscore"), np.full((3, 3, 3), np.nan))


def test_the_argument_is_not_changed():
    image = volume("float32")
    before = image.copy()
    measure(Normalization(kind="zscore"), image).apply(image)
    np.testing.assert_array_equal(image, before)


class Lazy:
    """A volume too large for memory, whose values are its z, that counts what is read of it."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.n_read = 0

    def __getitem__(self, index):
        z, y, x = (range(n)[s] for n, s in zip(self.shape, index, strict=True))
        self.n_read += len(z) * len(y) * len(x)
        return np.broadcast_to(np.asarray(z, np.float32)[:, None, None], (len(z), len(y), len(x)))


@pytest.mark.parametrize("shape", [(10_000, 20_000, 20_000), (5, 100_000, 100_000), (100_000, 70, 70)])
def test_the_sample_of_a_large_volume_is_bounded_and_spread_over_it(shape):
    lazy = Lazy(shape)
    sample = sample_voxels(lazy)
    assert SAMPLE_VOXELS / 8 < lazy.n_read <= SAMPLE_VOXELS
    assert sample.mean() == pytest.approx((shape[0] - 1) / 2, rel=0.01)
    assert sample.min() < shape[0] * 0.01 + 1


def test_a_small_volume_is_its_own_sample():
    image = volume()
    np.testing.assert_array_equal(sample_voxels(image)[:, 0], image.ravel())


def test_choices_that_contradict_each_other_are_refused():
    with pytest.raises(ValidationError, match="not below"):
        Normalization(kind="percentiles", low=50, high=50)
    with pytest.raises(ValidationError):
        Normalization(kind="fixed", scale=float("nan"))

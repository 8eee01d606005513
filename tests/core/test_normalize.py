from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from napari_unet3d.core.normalize import (
    MOST_SPREAD,
    SAMPLE_VOXELS,
    WIDEST,
    Normalization,
    WithoutEdges,
    measure,
    sample_voxels,
    settled,
)
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


OPEN = Normalization(kind="background", spread=None)


@pytest.mark.parametrize(("bright", "expected"), [(0.0, 2.3), (0.4, 10), (0.012, 10)])
def test_the_images_settle_how_many_deviations_become_one(bright, expected):
    image = RNG.normal(500, 20, (30, 40, 50))
    image[RNG.random(image.shape) < bright] += 2000
    spread = settled(OPEN, [image]).spread
    assert spread == pytest.approx(expected, rel=0.1)
    # A model that was settled scales every volume so, and each by its own background.
    assert measure(settled(OPEN, [image]), image).scale == pytest.approx(measure(OPEN, image).scale, rel=0.03)


@given(st.floats(0.05, 20), st.floats(-1000, 1000), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20)
def test_no_camera_changes_what_is_settled(gain, offset, seed):
    image = np.random.default_rng(seed).gamma(2, 100, (12, 20, 30))
    assert settled(OPEN, [image]).spread == pytest.approx(settled(OPEN, [image * gain + offset]).spread, rel=0.06)


def test_what_was_chosen_is_not_settled_and_of_several_images_the_middle_one_counts():
    dense, sparse = RNG.normal(500, 20, (20, 30, 40)), RNG.normal(500, 20, (20, 30, 40))
    sparse[:1] = 5000
    for kind in ("percentiles", "zscore", "none"):
        assert settled(Normalization(kind=kind, spread=None), [dense]) == Normalization(kind=kind, spread=None)
    assert settled(Normalization(kind="background", spread=7), [dense]).spread == 7
    assert settled(OPEN, [dense, dense, sparse]) == settled(OPEN, [dense])
    assert settled(OPEN, [np.full((4, 5, 6), 7)]).spread == MOST_SPREAD


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


SHAPE = (30, 40, 50)
VOLUMES = {
    "uint16 with a tail": lambda rng: rng.gamma(2, 300, SHAPE).astype(np.uint16) + 500,
    "float32 noise": lambda rng: rng.normal(500, 20, SHAPE).astype(np.float32),
    "float64 around 0": lambda rng: rng.normal(0, 1e-3, SHAPE),
    "uint8": lambda rng: rng.normal(120, 25, SHAPE).clip(0, 255).astype(np.uint8),
    "int16": lambda rng: rng.normal(-300, 200, SHAPE).astype(np.int16),
}


def padded(image: np.ndarray, share: float, axis: int, value: float) -> np.ndarray:
    """Return a volume of which a share has one value, along the sides of an axis."""
    n = round(image.shape[axis] * share / (1 - share) / 2)
    return np.pad(image, [(n, n) if i == axis else (0, 0) for i in range(3)], constant_values=value)


@given(
    st.sampled_from(KINDS),
    st.sampled_from(list(VOLUMES)),
    st.floats(0, 0.8),
    st.integers(0, 2),
    st.sampled_from(["0", "lowest", "dtype's highest"]),
    st.integers(0, 1000),
)
@settings(deadline=None)
def test_a_volume_is_scaled_as_it_would_be_without_its_padding(kind, name, share, axis, value, seed):
    image = VOLUMES[name](np.random.default_rng(seed))
    limit = 65535 if image.dtype.kind == "f" else np.iinfo(image.dtype).max
    fill = {"0": 0, "lowest": image.min(), "dtype's highest": limit}[value]
    normalization = Normalization(kind=kind)
    alone, within = measure(normalization, image), measure(normalization, padded(image, share, axis, fill))
    assert within.scale[0] == pytest.approx(alone.scale[0], rel=0.03)
    assert within.offset[0] * alone.scale[0] == pytest.approx(alone.offset[0] * alone.scale[0], abs=0.05)


@st.composite
def hard_volumes(draw) -> np.ndarray:
    """Volumes that were ruined: few photons, two or three values, fill values, tiny noise beside huge numbers."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    kind = draw(st.sampled_from(["photons", "few values", "clipped", "tiny noise"]))
    if kind == "photons":
        image = rng.poisson(draw(st.floats(0.01, 3)), (12, 20, 30)).astype(np.uint16)
    elif kind == "few values":
        image = rng.choice(draw(st.lists(st.integers(0, 65535), min_size=1, max_size=3)), (12, 20, 30)).astype(
            np.uint16
        )
    elif kind == "clipped":
        image = (rng.normal(0, 200, (12, 20, 30)) - draw(st.floats(-600, 600))).clip(0).astype(np.uint16)
    else:
        image = rng.normal(1, 1e-6, (12, 20, 30)).astype(np.float32)
    if draw(st.booleans()):
        image[: draw(st.integers(0, 11))] = draw(st.sampled_from([0, 60000]))
    return image


@given(st.sampled_from(KINDS), hard_volumes())
@settings(deadline=None, max_examples=200)
def test_no_scaling_lets_raw_counts_through(kind, image):
    scaling = measure(Normalization(kind=kind), image)
    found, counts = np.unique(image, return_counts=True)
    rest = image[image != found[counts.argmax()]]
    if not rest.size:
        assert scaling.scale == (0.0,)
        assert "normalized to 0" in scaling.notes[0]
        return
    assert scaling.scale[0] > 0
    assert "normalized to 0" not in " ".join(scaling.notes)
    middle = np.percentile(scaling.apply(rest[:, None, None]), [1, 99])
    assert np.abs(middle).max() <= WIDEST * 1.001


@given(st.sampled_from(KINDS), st.sampled_from(list(VOLUMES)), st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_a_volume_without_frequent_values_is_scaled_by_the_plain_formulas(kind, name, seed):
    image = VOLUMES[name](np.random.default_rng(seed))
    scaling = measure(Normalization(kind=kind), image)
    if kind == "percentiles":
        low, high = np.percentile(image, [1, 99.8])
        expected = float(low), 1 / float(high - low)
    elif kind == "zscore":
        expected = float(image.mean(dtype=np.float64)), 1 / float(image.std(dtype=np.float64))
    else:
        median = float(np.median(image))
        deviation = float(np.median(np.abs(image.astype(np.float32) - np.float32(median))))
        expected = median, 1 / (10.0 * 1.4826 * deviation)
    assert (scaling.offset[0], scaling.scale[0], scaling.notes, scaling.read_as) == (*expected, (), ())


@pytest.mark.parametrize("kind", KINDS)
def test_two_values_become_zero_and_one(kind):
    image = np.zeros((8, 9, 10), np.uint16)
    image[4, 4:6, 4:6] = 900
    np.testing.assert_array_equal(np.unique(measure(Normalization(kind=kind), image).apply(image)), [0, 1])


def test_an_edge_of_padding_far_below_everything_is_read_as_a_little_darker_than_the_darkest():
    image = RNG.normal(600, 10, (20, 30, 40)).astype(np.uint16)
    image[:5] = 0
    scaling = measure(Normalization(kind="background"), image)
    scaled = scaling.apply(image)[..., 0]
    assert -1.5 < scaled[:5].min() == scaled[:5].max() < scaled[5:].min()
    assert "exactly 0 in 25.0 % of its voxels" in scaling.notes[0]
    assert f"0 is read as {WithoutEdges(image, scaling)[0:1, 0:1, 0:1].item():g}" in scaling.notes[0]
    np.testing.assert_array_equal(scaling.apply(np.asarray(WithoutEdges(image, scaling)[:, :, :]))[..., 0], scaled)
    assert not image[:5].any()


def test_clipped_counts_and_saturation_stay_where_they_are():
    image = RNG.normal(0, 60, (20, 30, 40)).clip(0, 100).astype(np.uint8)
    scaling = measure(Normalization(kind="background"), image)
    assert scaling.read_as == ()
    assert "exactly 0 or 100" in scaling.notes[0]


@pytest.mark.parametrize("at", ["min", "max"])
@pytest.mark.parametrize("name", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"])
def test_a_fill_value_at_the_end_of_its_type_is_never_read_as_one_beyond_it(name, at):
    ends = np.iinfo(name)
    # Narrow, with a long tail towards the middle of the type.
    rng, fill = np.random.default_rng(0), getattr(ends, at)
    away = rng.normal(55, 3, (20, 30, 40)).round()
    away[:6] = rng.integers(60, 156, (6, 30, 40))
    away = away.astype(np.int64).astype(name) * np.array((int(ends.max) - int(ends.min)) // 256, name)
    image = fill + away if at == "min" else fill - away
    image[6:8] = fill
    scaling = measure(Normalization(kind="background"), image)
    assert np.isfinite(scaling.apply(image)).all()
    read = scaling.without_edges(image)
    assert read.dtype == image.dtype
    np.testing.assert_array_equal(read[image != fill], image[image != fill])


class Island(Lazy):
    """A volume too large for memory that is 0 but for a small part, which the coarse sample misses."""

    def __getitem__(self, index):
        z, y, x = (np.asarray(range(n)[s]) for n, s in zip(self.shape, index, strict=True))
        noise = 1000 + (z[:, None, None] * 7919 + y[:, None] * 104729 + x * 1299709) % 97
        inside = (abs(z - 150) < 30)[:, None, None] & (abs(y - 500) < 300)[:, None] & (abs(x - 500) < 300)
        return np.where(inside, noise, 0).astype(np.uint16)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_that_lies_in_the_padding_alone_does_not_decide(kind):
    island = Island((1000, 1000, 1000))
    scaling = measure(Normalization(kind=kind), island)
    assert scaling.scale[0] > 0
    assert 1000 <= scaling.offset[0] < 1097


def test_choices_that_contradict_each_other_are_refused():
    with pytest.raises(ValidationError, match="not below"):
        Normalization(kind="percentiles", low=50, high=50)
    with pytest.raises(ValidationError):
        Normalization(kind="fixed", scale=float("nan"))

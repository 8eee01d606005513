"""Drawing and applying augmentations: records that replay, parts that do not disturb each other, what each does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage, stats

from napari_unet3d.core.augment.choices import AugmentSpec
from napari_unet3d.core.augment.draw import PatchFrame, Sample, augment_image, augment_labels, draw_corner, draw_sample
from napari_unet3d.core.augment.intensity import Intensity
from napari_unet3d.core.augment.presets import PRESETS, preset
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.normalize import Scaling
from napari_unet3d.errors import SpecError

FRAME = PatchFrame(shape=(28, 36, 36), halo=6, voxel_size=(0.3, 0.1, 0.1))
RNG = np.random.default_rng(0)
IMAGE = ndimage.gaussian_filter(RNG.random((40, 60, 60)).astype(np.float32), 1.5) * 3000
IMAGE = IMAGE.astype(np.uint16)
LABELS = (int(np.median(IMAGE)) < IMAGE).astype(np.uint8) * 2
SCALING = Scaling((1400.0,), (0.005,))


def drawn(seed=0, frame=FRAME, **parts):
    """Return a sample in which only the named parts are done, each for certain."""
    spec = AugmentSpec(**{name: {"probability": 1, **choices} for name, choices in parts.items()})
    return draw_sample(spec, frame, draw_corner(frame, IMAGE.shape, seed), seed)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("seed", [0, 1, 12345678901])
def test_a_sample_replays_to_the_same_bytes_from_its_json_in_any_box(name, seed):
    sample = draw_sample(PRESETS[name], FRAME, draw_corner(FRAME, IMAGE.shape, seed), seed)
    again = Sample.model_validate_json(sample.model_dump_json())
    image, labels = augment_image(sample, IMAGE, scaling=SCALING), augment_labels(sample, LABELS)
    assert image.shape == FRAME.shape
    assert labels.shape == FRAME.output.shape
    assert augment_image(again, IMAGE, scaling=SCALING, threads=2).tobytes() == image.tobytes()
    assert augment_labels(again, LABELS, threads=2).tobytes() == labels.tobytes()
    box = Box((3, 17), (5, 36), (0, 21))
    part = augment_image(again, IMAGE, box, scaling=SCALING)
    assert part.tobytes() == np.ascontiguousarray(image[box.slices]).tobytes()
    assert np.isfinite(image).all()
    assert set(np.unique(labels)) <= {0, 2}


def test_nothing_done_is_the_volume_itself():
    sample = draw_sample(AugmentSpec(), FRAME, (4, 10, 12), 3)
    np.testing.assert_array_equal(augment_image(sample, IMAGE), IMAGE[sample.place.slices])
    np.testing.assert_array_equal(
        augment_image(sample, IMAGE, scaling=SCALING), SCALING.apply(IMAGE)[sample.place.slices][..., 0]
    )
    inner = FRAME.output.shifted((4, 10, 12))
    np.testing.assert_array_equal(augment_labels(sample, LABELS), LABELS[inner.slices])


def test_other_seeds_give_other_samples_and_one_part_does_not_disturb_another():
    parts = {"rotation": {}, "elastic": {}}
    assert drawn(1, **parts) == drawn(1, **parts)
    assert drawn(1, **parts) != drawn(2, **parts)
    more = drawn(1, **parts, blur={}, noise={}, occlusion={"side": (3, 4)})
    assert more.deformation == drawn(1, **parts).deformation
    assert drawn(1, blur={}, gain={}).intensity.blur == more.intensity.blur


def test_a_part_is_done_as_often_as_its_probability_says():
    spec = AugmentSpec(gain={"probability": 0.3})
    done = sum(draw_sample(spec, FRAME, (0, 0, 0), seed).intensity.gain != 1 for seed in range(2000))
    assert stats.binomtest(done, 2000, 0.3).pvalue > 1e-3


@given(st.integers(0, 2**31), st.tuples(*[st.integers(1, 80)] * 3))
@settings(deadline=None)
def test_the_output_of_a_patch_lies_in_the_volume_or_around_it(seed, volume):
    corner = draw_corner(FRAME, volume, seed)
    for (low, high), n in zip(FRAME.output.shifted(corner), volume, strict=True):
        assert (low >= 0 and high <= n) or (low <= 0 and n <= high)


def test_rotations_are_uniform_and_rigid_in_physical_space():
    size = np.array(FRAME.voxel_size)
    turned = []
    for seed in range(400):
        physical = drawn(seed, rotation={}).deformation.matrix * size[:, None] / size
        np.testing.assert_allclose(physical @ physical.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(physical) == pytest.approx(1)
        turned.append(physical @ [0, 0, 1])
    # A uniform rotation takes an axis evenly over the sphere, so each coordinate is even in -1 .. 1.
    for coordinate in np.array(turned).T:
        assert stats.kstest(coordinate, stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_rotations_about_z_leave_z_and_keep_to_their_angle():
    for seed in range(30):
        matrix = drawn(seed, rotation={"kind": "about z", "degrees": 20}).deformation.matrix
        np.testing.assert_allclose(matrix[0], [1, 0, 0], atol=1e-12)
        assert np.degrees(np.arccos(matrix[1, 1])) <= 20
        size = np.array(FRAME.voxel_size)
        physical = drawn(seed, rotation={"kind": "within", "degrees": 10}).deformation.matrix * size[:, None] / size
        assert np.degrees(np.arccos(np.clip((np.trace(physical) - 1) / 2, -1, 1))) <= 10 + 1e-6


def test_a_factor_above_one_magnifies():
    frame = PatchFrame(shape=(21, 21, 21))
    volume = np.zeros((41, 41, 41), np.uint8)
    volume[17:24, 17:24, 17:24] = 1
    spec = AugmentSpec(scale={"probability": 1, "factor": (1.9, 1.9)})
    labels = augment_labels(draw_sample(spec, frame, (10, 10, 10), 0), volume)
    assert labels[10, 10].sum() == 13


def test_quarter_turns_exchange_only_axes_with_voxels_of_one_size_and_interpolate_nothing():
    frame = PatchFrame(shape=(20, 24, 24), voxel_size=(0.3, 0.1, 0.1))
    seen = set()
    for seed in range(100):
        sample = drawn(seed, frame, quarter_turns={}, flips={})
        matrix = sample.deformation.matrix
        assert set(np.unique(matrix)) <= {-1, 0, 1}
        assert abs(matrix[0, 0]) == 1
        seen.add(matrix.tobytes())
        image = augment_image(sample, IMAGE)
        assert (image == np.rint(image)).all()
    # The square's eight positions, each with z or mirrored along it.
    assert len(seen) == 16


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("voxels", (8, 8, 8)), ("finest voxels", (8 / 3, 8, 8)), ("physical", (8 / 0.3, 80, 80))],
)
def test_the_unit_of_an_elastic_displacement(unit, expected):
    nodes = drawn(elastic={"lines": 24, "sigma": 8, "unit": unit}).deformation.nodes
    np.testing.assert_allclose(nodes.std(axis=(0, 1, 2)), expected, rtol=0.03)
    # Every axis has a field of its own; the old code had one for all three.
    assert np.abs(np.corrcoef(nodes.reshape(-1, 3).T) - np.eye(3)).max() < 0.05
    flat = drawn(elastic={"unit": unit, "axes": ("y", "x")}).deformation.nodes
    assert not flat[..., 0].any()
    assert flat[..., 1].any()


@pytest.mark.parametrize("unit", ["voxels", "finest voxels", "physical"])
@given(sides=st.tuples(*(st.integers(2, 200),) * 3), spacing=st.floats(12, 100), seed=st.integers(0, 1 << 30))
def test_a_patch_is_bent_alike_whatever_its_size(unit, sides, spacing, seed):
    frame = PatchFrame(shape=sides, voxel_size=(0.3, 0.1, 0.1))
    elastic = {"spacing": spacing, "sigma": 1, "unit": unit}
    nodes = drawn(seed, frame, elastic=elastic).deformation.nodes
    in_voxels = {"voxels": (1, 1, 1), "finest voxels": (1 / 3, 1, 1), "physical": (1 / 0.3, 10, 10)}[unit]
    gaps = [(n - 1) / (lines - 1) / (spacing * by) for n, lines, by in zip(sides, nodes.shape, in_voxels, strict=False)]
    # A gap between nodes is one between lines, or less of it where the patch is shorter.
    assert max(gaps) <= 1 + 1e-9
    assert all(gap > 0.5 or lines == 2 for gap, lines in zip(gaps, nodes.shape, strict=False))
    for axis, gap in enumerate(gaps):
        # From one node to the next a part of the way from one line to the next.
        steps = np.diff(nodes, axis=axis) / in_voxels
        assert np.abs(steps).max() <= gap * 2 * 6


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"as the original"}))
@pytest.mark.parametrize("shape", [(18, 84, 84), (68, 68, 68), (24, 220, 40)])
def test_the_presets_hardly_fold(name, shape):
    spec = PRESETS[name].model_copy(update={"elastic": PRESETS[name].elastic.model_copy(update={"probability": 1.0})})
    frame = PatchFrame(shape=shape)
    samples = [draw_sample(spec, frame, draw_corner(frame, IMAGE.shape, seed), seed) for seed in range(20)]
    assert np.mean([sample.folded for sample in samples]) < 0.01


def test_a_thin_patch_is_hardly_slanted():
    frame = PatchFrame(shape=(18, 84, 84))
    slants = []
    for seed in range(200):
        nodes = drawn(seed, frame, elastic={"spacing": 48, "sigma": 4, "axes": ("y", "x")}).deformation.nodes
        assert nodes.shape == (2, 3, 3, 3)
        slants.append(np.diff(nodes[:, 0, 0, 1:], axis=0))
    # Of lines 48 voxels apart, it sees 17 / 48 of their difference.
    assert np.std(slants) == pytest.approx(4 * 2**0.5 * 17 / 48, rel=0.15)


def test_the_field_of_the_original_lies_on_five_lines_of_its_cube():
    frame = PatchFrame(shape=(220, 220, 220))
    choices = PRESETS["as the original"].elastic
    spaced, lines = (
        drawn(3, frame, elastic=part.model_dump()).deformation.nodes
        for part in (choices, choices.model_copy(update={"lines": 5}))
    )
    np.testing.assert_allclose(spaced, lines, atol=1e-12)


def test_shifted_slices_move_image_and_labels_alike_and_missing_ones_only_the_image():
    shifted = drawn(4, shifted_slices={"number": (2, 2), "voxels": 3})
    image, labels = augment_image(shifted, IMAGE), augment_labels(shifted, LABELS)
    (z0, y0, x0), (halo, _, _) = shifted.corner, FRAME.halo
    assert len(shifted.deformation.shifts) == 2
    for z in range(FRAME.shape[0]):
        y, x = shifted.deformation.shift_of(z)
        inner = (z0 + z, slice(y0 + halo + y, y0 + 36 - halo + y), slice(x0 + halo + x, x0 + 36 - halo + x))
        np.testing.assert_array_equal(image[z, halo:-halo, halo:-halo], IMAGE[inner])
        if halo <= z < 28 - halo:
            np.testing.assert_array_equal(labels[z - halo], LABELS[inner])
    missing = drawn(4, missing_slices={"number": (3, 3)})
    gone = [z for z, plane in enumerate(augment_image(missing, IMAGE)) if not plane.any()]
    assert tuple(gone) == missing.intensity.missing
    assert len(gone) == 3
    np.testing.assert_array_equal(augment_labels(missing, LABELS), LABELS[FRAME.output.shifted(missing.corner).slices])


def test_an_occlusion_is_a_cube_of_one_value_in_the_image_alone():
    sample = drawn(2, occlusion={"side": (7, 9), "number": (2, 2), "value": 0.5})
    image = augment_image(sample, IMAGE, scaling=SCALING)
    plain = augment_image(drawn(2), IMAGE, scaling=SCALING)
    covered = np.zeros(FRAME.shape, bool)
    for box in sample.intensity.occlusions:
        assert all(7 <= side <= 9 for side in box.shape)
        covered[box.slices] = True
    np.testing.assert_array_equal(image, np.where(covered, np.float32(0.5), plain))


def test_gamma_gain_and_offset_are_one_formula():
    values = np.linspace(-0.5, 3, 27, dtype=np.float32).reshape(3, 3, 3)
    change = Intensity(gamma=1.7, gain=0.6, offset=0.1)
    found = change.apply(values.copy(), Box.whole((3, 3, 3)), (3, 3, 3), scaling=(0.25, 2.0))
    v = (values.astype(float) - 0.25) * 2
    expected = 0.6 * np.where(v > 0, np.abs(v) ** 1.7, v) + 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", range(3))
def test_a_blur_is_scipy_s_and_a_thick_slice_is_an_average(axis):
    volume = np.random.default_rng(0).random((18, 20, 22), np.float32)
    sigma = [0.0] * 3
    sigma[axis] = 1.3
    whole = Box.whole(volume.shape)
    expected = ndimage.gaussian_filter1d(volume.astype(float), 1.3, axis=axis, mode="reflect", truncate=4)
    np.testing.assert_allclose(Intensity(blur=sigma).apply(volume.copy(), whole, volume.shape), expected, atol=2e-4)
    thick = [1.0] * 3
    thick[axis] = 2.0
    found = np.moveaxis(Intensity(slice_thickness=thick).apply(volume.copy(), whole, volume.shape), axis, 0)
    pairs = np.moveaxis(volume, axis, 0).reshape(volume.shape[axis] // 2, 2, *found.shape[1:]).mean(axis=1)
    # Three quarters of the own slice and a quarter of the next, half a slice away; only the own one at the ends.
    np.testing.assert_allclose(found[1], 0.75 * pairs[0] + 0.25 * pairs[1], atol=1e-5)
    np.testing.assert_allclose(found[0], pairs[0], atol=1e-5)


def test_noise_is_normal_independent_and_differs_between_seeds_and_channels():
    shape = (40, 100, 100)
    flat = np.full(shape, 4.0, np.float32)
    made = [
        (Intensity(noise=0.3, noise_seed=(seed, 7)).apply(flat.copy(), Box.whole(shape), shape, channel=channel) - 4)
        / 0.3
        for seed, channel in ((1, 0), (2, 0), (1, 1))
    ]
    for noise in made:
        assert stats.kstest(noise.ravel()[::4], "norm").pvalue > 1e-3
        for axis in range(3):
            pairs = np.moveaxis(noise, axis, 0)
            assert abs(np.corrcoef(pairs[1:].ravel(), pairs[:-1].ravel())[0, 1]) < 0.01
    assert np.abs(np.corrcoef([noise.ravel() for noise in made]) - np.eye(3)).max() < 0.01
    shot = Intensity(shot_noise=0.2, noise_seed=(3, 4)).apply(flat.copy(), Box.whole(shape), shape)
    assert (shot - 4).std() == pytest.approx(0.2 * 2, rel=0.01)
    dark = Intensity(shot_noise=0.2, noise_seed=(3, 4)).apply(-flat, Box.whole(shape), shape)
    np.testing.assert_array_equal(dark, -flat)


def test_channels_are_deformed_alike_and_scaled_each_by_its_own_numbers():
    both = np.stack([IMAGE, IMAGE // 2], axis=-1)
    sample = drawn(5, rotation={}, elastic={})
    found = augment_image(sample, both, scaling=Scaling((0.0, 0.0), (1.0, 2.0)))
    np.testing.assert_array_equal(found[..., 0], augment_image(sample, IMAGE))
    np.testing.assert_array_equal(found[..., 1], 2 * augment_image(sample, IMAGE // 2))


@pytest.mark.parametrize(
    "wrong",
    [
        {"rotation": {"probability": 2}},
        {"scale": {"factor": (0, 1)}},
        {"gain": {"factor": (2, 1)}},
        {"noise": {"sigma": (-1, 1)}},
        {"blurr": {}},
    ],
)
def test_choices_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        AugmentSpec(**wrong)


def test_an_unknown_preset_names_those_that_there_are():
    with pytest.raises(SpecError, match="'electron microscopy'"):
        preset("light")


def test_sizes_in_metres_are_compared_like_all_others():
    spec = AugmentSpec(quarter_turns={"probability": 1})
    for unit in (1.0, 1e-9):
        frame = PatchFrame(shape=(20, 20, 20), voxel_size=(8 * unit, 4 * unit, 4 * unit))
        for seed in range(50):
            matrix = draw_sample(spec, frame, (0, 0, 0), seed).deformation.matrix
            assert abs(matrix[0, 0]) == 1


def test_a_record_of_two_shapes_is_none():
    sample = draw_sample(AugmentSpec(), PatchFrame(shape=(20, 20, 20)), (0, 0, 0), 0)
    wrong = sample.model_dump() | {"frame": {"shape": (20, 20, 21)}}
    with pytest.raises(ValidationError, match=r"the frame has .* and the deformation"):
        Sample.model_validate(wrong)

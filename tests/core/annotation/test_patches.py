"""Where training patches are cut: around annotated voxels, classes alike, the same for a seed."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.annotation.patches import AnnotatedSource, AnnotatedVolume
from napari_unet3d.core.annotation.targets import IGNORED, read_targets
from napari_unet3d.core.augment.choices import AugmentSpec
from napari_unet3d.core.augment.draw import PatchFrame
from napari_unet3d.core.augment.presets import PRESETS
from napari_unet3d.core.augment.sampler import PatchSampler
from napari_unet3d.core.normalize import Scaling
from napari_unet3d.errors import SpecError, VolumeError

MEANINGS = Meanings.painted(("background", "axon"))
FRAME = PatchFrame(shape=(24, 24, 24), halo=6)
RNG = np.random.default_rng(0)


def volume(planes, shape=(40, 50, 60), rare=0.02, dtype=np.uint16):
    labels = np.zeros(shape, np.uint8)
    for z in planes:
        labels[z] = 1 + (RNG.random(shape[1:]) < rare)
    image = RNG.integers(0, 4000, shape).astype(dtype)
    return AnnotatedVolume(image, read_targets(labels, MEANINGS), Scaling((1000.0,), (0.001,)))


def test_every_class_is_drawn_equally_often_however_rare_it_is():
    first, second = volume([3, 20]), volume([10], rare=0.1)
    source = AnnotatedSource([first, second], AugmentSpec(), FRAME)
    places = [source.place(seed) for seed in range(2000)]
    from_second = np.mean([which == 1 for which, _ in places])
    shares = [second.targets.counts[i] / (first.targets.counts[i] + second.targets.counts[i]) for i in range(2)]
    assert from_second == pytest.approx(np.mean(shares), abs=0.04)


def test_the_output_lies_in_the_volume_and_around_a_smaller_one():
    source = AnnotatedSource([volume([0, 39])], AugmentSpec(), FRAME)
    for seed in range(200):
        _, corner = source.place(seed)
        for at, n in zip(corner, (40, 50, 60), strict=True):
            assert at + 6 >= 0
            assert at + 18 <= n
    small = AnnotatedSource([volume([2], shape=(4, 50, 60), rare=0.5)], AugmentSpec(), FRAME)
    patch = small.patch(0)
    assert patch.sample.corner[0] == (4 - 12) // 2 - 6
    assert patch.image.shape == (24, 24, 24)


@pytest.mark.parametrize("name", ["nothing", "as the original", "isotropic light microscopy", "electron microscopy"])
def test_every_patch_holds_annotation(name):
    source = AnnotatedSource([volume([3, 20])], PRESETS[name], FRAME)
    for seed in range(40):
        patch = source.patch(seed)
        assert patch.labels.shape == (12, 12, 12)
        assert (patch.labels != IGNORED).any()
        assert set(np.unique(patch.labels)) <= {0, 1, IGNORED}


def test_without_augmentation_it_is_what_lies_there():
    whole = volume([3, 20])
    source = AnnotatedSource([whole], AugmentSpec(), FRAME)
    for seed in range(20):
        z, y, x = source.place(seed)[1]
        patch = source.patch(seed)
        box = tuple(slice(at + 6, at + 18) for at in (z, y, x))
        assert (patch.labels == whole.targets[box]).all()
        assert (patch.image[6:18, 6:18, 6:18] == whole.scaling.apply(whole.image[box])[..., 0]).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_the_sampler_gives_the_same_patches_on_any_number_of_threads(threads):
    source = AnnotatedSource([volume([3, 20]), volume([8])], PRESETS["isotropic light microscopy"], FRAME)
    alone = [source.patch(seed) for seed in range(7, 13)]
    with PatchSampler(source, seed=7, threads=threads) as patches:
        for expected in alone:
            patch = next(patches)
            assert patch.image.tobytes() == expected.image.tobytes()
            assert patch.labels.tobytes() == expected.labels.tobytes()


def test_nan_where_a_patch_lies_is_refused():
    whole = volume([20], dtype=np.float32)
    whole.image[:] = np.nan
    source = AnnotatedSource([whole], AugmentSpec(), FRAME)
    with pytest.raises(VolumeError, match="NaN"):
        source.patch(0)


def test_nothing_to_learn_from_is_refused():
    whole = volume([20])
    bare = AnnotatedVolume(whole.image, whole.targets.within(()), whole.scaling)
    with pytest.raises(SpecError, match="no annotated voxels"):
        AnnotatedSource([bare], AugmentSpec(), FRAME)

"""Choices that suit the annotation, and what is typed about its values."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet3d.core.annotation import Meanings
from napari_unet3d.core.architecture import NetworkSpec
from napari_unet3d.core.augmentation import PRESETS
from napari_unet3d.core.geometry import output_shape
from napari_unet3d.core.targets import read_targets
from napari_unet3d.errors import SpecError
from napari_unet3d.tasks.recipes import guessed_meanings, meanings_from, names_of_recipes, recipe
from napari_unet3d.tasks.train_spec import TrainSpec

PAINTED = Meanings.painted(("background", "axon"))
NAMES = {"class_names": ("background", "axon")}


def targets(planes, depth=60):
    labels = np.zeros((depth, 8, 8), np.uint8)
    labels[planes] = np.arange(64).reshape(8, 8) % 2 + 1
    return read_targets(labels, PAINTED)


@pytest.mark.parametrize("blocks", [0, 1, 2, 3])
@pytest.mark.parametrize("preset", [None, *names_of_recipes()])
@pytest.mark.parametrize("planes", [[30], [5, 30, 50], list(range(60))])
def test_every_recipe_is_a_run_that_fits_its_network(blocks, preset, planes):
    network = NetworkSpec(blocks=blocks, filters=4)
    spec = TrainSpec(network=network, **NAMES, **recipe(preset, network, [targets(planes)], (1, 1, 1)))
    output = output_shape(spec.patch, blocks=blocks)
    assert min(output) >= 1
    if preset == "as the original" or len(planes) == 60:
        assert len(set(spec.patch)) == 1
    else:
        assert output[0] < output[1] == output[2]


@pytest.mark.parametrize(
    ("planes", "voxel_size", "expected"),
    [
        ([5, 30], (1, 1, 1), "anisotropic stack"),
        (list(range(60)), (1, 1, 1), "isotropic light microscopy"),
        (list(range(60)), (5, 1, 1), "anisotropic stack"),
    ],
)
def test_voxels_and_annotation_decide_where_nobody_does(planes, voxel_size, expected):
    assert recipe(None, NetworkSpec(), [targets(planes)], voxel_size)["augment"] == PRESETS[expected]


def test_as_the_original_is_what_the_facts_say():
    made = recipe("as the original", NetworkSpec(), [targets([5, 30])], (1, 1, 1))
    assert made["class_weights"] == (1, 5)
    assert (made["cross_entropy_share"], made["learning_rate"]) == (0.7, 1e-3)
    assert made["augment"] == PRESETS["as the original"]


def test_an_unknown_recipe_is_answered_with_those_there_are():
    with pytest.raises(SpecError, match="'isotropic light microscopy'"):
        recipe("x-rays", NetworkSpec(), [targets([5])], (1, 1, 1))


def test_a_star_is_every_other_value():
    meanings = meanings_from("0=background,*=cell")
    assert [meanings.of(value) for value in (0, 1, 977)] == [0, 1, 1]


def test_the_background_is_the_first_class_wherever_it_stands():
    assert meanings_from("3=axon,1=background,0=ignore").class_names == ("background", "axon")


def test_a_complete_mask_of_0_and_1_needs_no_words():
    assert guessed_meanings({0: 10, 1: 5}).classes == {0: 0, 1: 1}
    with pytest.raises(SpecError, match=r"0 \(10 voxels\), 2 \(5 voxels\)"):
        guessed_meanings({0: 10, 2: 5})

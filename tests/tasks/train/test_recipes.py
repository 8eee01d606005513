"""Choices that suit the annotation, and what is typed about its values."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet3d.core.annotation.meanings import Meanings, meanings_from
from napari_unet3d.core.annotation.targets import read_targets
from napari_unet3d.core.augment.presets import PRESETS
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import SpecError
from napari_unet3d.tasks.train.annotation import Painted
from napari_unet3d.tasks.train.choosing import TrainChoices, choose_spec
from napari_unet3d.tasks.train.recipes import names_of_recipes, recipe
from napari_unet3d.tasks.train.spec import TrainSpec

PAINTED = Meanings.painted(("background", "axon"))
NAMES = {"class_names": ("background", "axon")}


def painted(planes, voxel_size=(1, 1, 1), depth=60):
    labels = np.zeros((depth, 8, 8), np.uint8)
    labels[planes] = np.arange(64).reshape(8, 8) % 2 + 1
    return Painted.of(PAINTED.class_names, [read_targets(labels, PAINTED).profile(0)], 1, voxel_size)


@pytest.mark.parametrize("blocks", [0, 1, 2, 3])
@pytest.mark.parametrize("preset", [None, *names_of_recipes()])
@pytest.mark.parametrize("planes", [[30], [5, 30, 50], list(range(60))])
def test_every_recipe_is_a_run_that_fits_its_network(blocks, preset, planes):
    network = NetworkSpec(blocks=blocks, filters=4)
    spec = TrainSpec(network=network, **NAMES, **recipe(preset, network, painted(planes)))
    output = network.geometry.output_shape(spec.patch)
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
    assert recipe(None, NetworkSpec(), painted(planes, voxel_size))["augment"] == PRESETS[expected]


@pytest.mark.parametrize(
    ("voxels", "is_slicewise", "weights"),
    [
        ((80, 20), True, (1, 1)),
        ((20, 80), True, (1, 1)),
        ((95, 5), True, (1, 1)),
        ((9_900, 100), True, (1, 2.2)),
        ((9_900, 100), False, (1, 4.5)),
        ((80, 20), False, (1, 1)),
        ((10**7, 1, 10**6), False, (1, 10, 1.5)),
        ((10, 0), True, (1, 10)),
    ],
)
def test_a_class_weighs_more_the_rarer_it_is(voxels, is_slicewise, weights):
    names = ("background", "a", "b")[: len(voxels)]
    assert choose_spec(Painted(names, voxels, is_slicewise)).class_weights == weights


def test_as_the_original_is_what_the_facts_say():
    made = recipe("as the original", NetworkSpec(), painted([5, 30]))
    assert made["class_weights"] == (1, 5)
    assert (made["cross_entropy_share"], made["learning_rate"]) == (0.7, 1e-3)
    assert made["augment"] == PRESETS["as the original"]


def test_an_unknown_recipe_is_answered_with_those_there_are():
    with pytest.raises(SpecError, match="'isotropic light microscopy'"):
        recipe("x-rays", NetworkSpec(), painted([5]))


def test_a_star_is_every_other_value():
    meanings = meanings_from("0=background,*=cell")
    assert [meanings.of(value) for value in (0, 1, 977)] == [0, 1, 1]


def test_the_background_is_the_first_class_wherever_it_stands():
    assert meanings_from("3=axon,1=background,0=ignore").class_names == ("background", "axon")


def test_what_was_chosen_stays_and_the_rest_suits_the_annotation():
    made = choose_spec(painted([5, 30]), TrainChoices(None, {"blocks": 0}, {"steps": 7, "learning_rate": 0.1}))
    assert (made.network.blocks, made.steps, made.learning_rate) == (0, 7, 0.1)
    assert made.augment == PRESETS["anisotropic stack"]
    assert made.class_names == PAINTED.class_names


def test_a_run_that_goes_on_keeps_what_it_was_begun_with():
    base = choose_spec(painted([5, 30]), TrainChoices("as the original", {"filters": 4}, {"steps": 7}))
    assert choose_spec(painted(list(range(60))), base=base) == base
    longer = choose_spec(painted([5, 30]), TrainChoices(given={"steps": 9}), base=base)
    assert longer == base.changed(steps=9)

"""The model that comes with the package: it finds neurons that it was not trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import napari_unet3d
from napari_unet3d.core.scores.overlap import dice
from napari_unet3d.network.model import Model
from napari_unet3d.network.store import load_model
from napari_unet3d.sample_data import VOXEL_SIZE, synthetic_neurons

FOLDER = Path(napari_unet3d.__file__).parent / "models" / "demo-neuron.unet3d"


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(FOLDER)


def dice_of(model, image, sample):
    return dice(napari_unet3d.segment(image, model).data == 1, sample.mask == 1)


def test_neurons_of_the_sample_in_the_menu_are_found_as_well_as_the_card_says(model):
    sample = synthetic_neurons(seed=0)
    score = dice_of(model, sample.image, sample)
    assert score >= 0.85
    assert score == pytest.approx(model.card.metrics["dice neurite, held-out seed 0"], abs=0.01)


def test_neurons_of_a_seed_that_the_script_never_used_are_found_with_another_camera(model):
    sample = synthetic_neurons(seed=7)
    darker = np.rint(0.5 * sample.image + 500).astype(np.uint16)
    assert dice_of(model, sample.image, sample) >= 0.85
    assert dice_of(model, darker, sample) >= 0.85


def test_the_card_says_what_the_model_is_for_and_where_it_comes_from(model):
    card = model.card
    assert card.class_names == ("background", "neurite")
    assert (card.voxel_size, card.unit) == (VOXEL_SIZE, "um")
    assert card.normalization.kind == "background"
    assert card.training["script"] == "scripts/train_demo_model.py"
    assert card.metrics["dice neurite"] >= 0.85


def test_the_model_is_small_enough_to_come_with_the_package():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1.5e6

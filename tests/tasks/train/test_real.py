"""Training on a real, sparsely painted volume: it learns what was painted, and another camera changes little."""

from __future__ import annotations

import numpy as np
import tifffile

import napari_unet3d
from napari_unet3d.core.annotation.meanings import meanings_from
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.scores.overlap import dice
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.tasks.train.annotation import TrainingPair, read_annotation
from napari_unet3d.tasks.train.loop import train
from napari_unet3d.tasks.train.recipes import recipe
from napari_unet3d.tasks.train.spec import HeldOutBox, TrainSpec
from tests.tasks.train.test_train import run_to_end

HELD_OUT = 77
STEPS = 120


def test_axons_of_a_held_out_slice_are_found_also_with_another_offset_and_gain(shared_data):
    folder = shared_data / "trailmap" / "sparse"
    image, labels = tifffile.imread(folder / "volume.tif"), tifffile.imread(folder / "labels.tif")
    meanings = meanings_from("0=ignore,1=background,2=axon,4=ignore")
    pair = TrainingPair(image, labels, meanings)
    network = NetworkSpec(blocks=1, filters=8)
    spec = TrainSpec(
        network=network,
        class_names=meanings.class_names,
        steps=STEPS,
        validate_every=STEPS,
        validation=(HeldOutBox(box=Box((HELD_OUT, HELD_OUT + 1), (0, 120), (0, 120))),),
        device="cpu",
        **recipe(None, network, read_annotation([pair]).painted),
    )
    result, _ = run_to_end(train(spec, [pair]))
    other = np.clip(image * 0.3 + 2000, 0, 65535).astype(np.uint16)
    true = labels[HELD_OUT]
    plain, changed = (
        dice(napari_unet3d.segment(volume, result.last).data[HELD_OUT] == 1, true == 2, (true == 1) | (true == 2))
        for volume in (image, other)
    )
    assert plain > 0.7
    assert changed > 0.9 * plain

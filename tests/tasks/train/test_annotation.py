"""What is painted is read once, whoever asks."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.errors import SpecError
from napari_unet3d.tasks.train.annotation import ASSUMED, Painted, TrainingPair, read_annotation
from napari_unet3d.tasks.train.choosing import choose_spec
from napari_unet3d.tasks.train.data import read_training_data

NAMES = ("background", "ball")
IMAGE = np.random.default_rng(0).normal(size=(60, 8, 8)).astype(np.float32)


class Counted:
    """Labels that know how often their planes were read."""

    def __init__(self, labels):
        self.labels, self.shape, self.n_read = labels, labels.shape, np.zeros(len(labels), int)

    def __getitem__(self, box):
        self.n_read[box[0]] += 1
        return self.labels[box]


def labels(*planes):
    made = np.zeros((60, 8, 8), np.uint8)
    for z in planes:
        made[z] = np.arange(64).reshape(8, 8) % 2 + 1
    return made


def test_from_reading_to_training_each_plane_is_read_once():
    read = Counted(labels(5, 30))
    annotation = read_annotation([TrainingPair(IMAGE, read, Meanings.painted(NAMES))])
    spec = choose_spec(annotation.painted)
    data = read_training_data(annotation, spec)
    assert set(read.n_read) == {1}
    assert data.volumes[0].targets is annotation.targets[0]
    assert annotation.counts == ({0: 58 * 64, 1: 64, 2: 64},)
    assert annotation.painted == Painted(NAMES, (64, 64), True, 1, (1.0, 1.0, 1.0), 26)


def test_a_complete_mask_of_0_and_1_needs_no_words_and_all_else_is_asked():
    mask = labels(*range(60)) - 1
    assert read_annotation([TrainingPair(IMAGE, mask, ASSUMED)], is_assumed=True).painted.voxels == (1920, 1920)
    with pytest.raises(SpecError, match=r"hold 0 \(1,920 voxels\), 2 \(1,920 voxels\). Say what they mean"):
        read_annotation([TrainingPair(IMAGE, mask * 2, ASSUMED)], is_assumed=True)
    with pytest.raises(SpecError, match="hold 0"):
        read_annotation([TrainingPair(IMAGE, labels(), ASSUMED)], is_assumed=True)


def test_pairs_with_other_classes_are_refused():
    pairs = [TrainingPair(IMAGE, labels(5), Meanings.painted(names)) for names in (NAMES, ("a", "b", "c"))]
    with pytest.raises(SpecError, match="different classes"):
        read_annotation(pairs)
    with pytest.raises(SpecError, match="nothing to train on"):
        read_annotation([])

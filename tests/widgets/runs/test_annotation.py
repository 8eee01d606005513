"""What is known of labels: it goes with the layer, and comes back after a restart."""

from __future__ import annotations

import gc
import json

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer

from napari_unet3d.core.annotation import survey
from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.sample_data import neuron_layers
from napari_unet3d.tasks.train.annotation import TrainingPair
from napari_unet3d.tasks.train.kept.run_folder import LabelsRecord, RunFolder, RunRecord
from napari_unet3d.tasks.train.spec import TrainSpec
from napari_unet3d.widgets.layers.colours import annotation_features, class_features
from napari_unet3d.widgets.runs.annotation import Annotations

NAMES = ("background", "axon")
PAINTED = Meanings.painted(NAMES)
LABELS = np.array([[[0, 1, 2, 2]]], np.uint8)


@pytest.fixture
def notes(qtbot, tmp_path):
    notes = Annotations(lambda: tmp_path / "runs")
    yield notes
    notes.close()


@pytest.fixture
def looked(qtbot, notes):
    """Return a function that adds a layer, waits until it was looked at and returns what is known of it."""

    def looked(data, **keywords):
        layer = ViewerModel().add_labels(data, **keywords)
        notes.watch(layer)
        qtbot.waitUntil(lambda: notes.of(layer).survey is not None, timeout=30_000)
        return layer, notes.of(layer)

    return looked


def saved_and_opened(layer):
    """Return a layer as a file that keeps metadata would give it back: as JSON."""
    data, keywords, kind = layer.as_layer_data_tuple()
    metadata = json.loads(json.dumps(keywords["metadata"]))
    return Layer.create(data, {"name": keywords["name"], "metadata": metadata}, kind)


def test_what_was_said_comes_back_with_the_metadata_of_the_layer(notes, looked, tmp_path):
    layer, known = looked(LABELS.copy(), name="painted")
    assert not known.is_said
    notes.say(layer, PAINTED)
    other = Annotations(lambda: tmp_path)
    again = saved_and_opened(layer)
    other.watch(again)
    assert (other.of(again).meanings, other.of(again).is_said) == (PAINTED, True)
    assert other.names_of(again) == NAMES
    other.close()


@pytest.mark.parametrize("told", [{"meanings": 3}, {"meanings": {"class_names": []}}, "text", 3, None])
def test_metadata_of_others_are_no_meanings(looked, told):
    _, known = looked(LABELS.copy(), metadata={"napari-unet3d": told})
    assert not known.is_said
    assert known.meanings.of(0) is None


def test_a_guess_is_not_written_into_the_metadata(looked):
    layer, known = looked(LABELS.copy())
    assert known.meanings is not None
    assert "napari-unet3d" not in layer.metadata


def test_what_a_run_has_learnt_from_tells_what_labels_of_that_name_mean(looked, tmp_path):
    spec = TrainSpec(class_names=NAMES, patch=(92, 92, 92))
    for number, meanings in enumerate([Meanings.indices(NAMES), PAINTED]):
        pair = TrainingPair(LABELS, LABELS, meanings, name="painted")
        with RunFolder(tmp_path / "runs" / f"run {number}") as folder:
            folder.begin(RunRecord(spec=spec, labels=(LabelsRecord.of(pair),)))
    (tmp_path / "runs" / "damaged").mkdir()
    (tmp_path / "runs" / "damaged" / "run.json").write_text("{")
    layer, known = looked(LABELS.copy(), name="painted")
    assert (known.meanings, known.is_said, known.reason) == (PAINTED, True, "As set for the training run run 1.")
    assert layer.metadata["napari-unet3d"]["meanings"]["class_names"] == list(NAMES)
    # Neither another name, nor another shape, nor a value that means nothing there.
    for data, name in ((LABELS, "others"), (LABELS[..., 1:], "painted"), (LABELS * 3, "painted")):
        assert not looked(data.copy(), name=name)[1].is_said


def test_our_own_layers_say_what_their_values_mean(looked):
    assert looked(LABELS.copy(), features=class_features((*NAMES, "soma")))[1].meanings.of(0) == 0
    assert looked(LABELS.copy(), features=annotation_features(NAMES))[1].meanings == PAINTED
    _, (mask, keywords, _) = neuron_layers()
    _, known = looked(mask, **keywords)
    assert (known.meanings.of(0), known.question) == (0, "")
    assert known.reason == "A complete mask: 0 is background."


def test_numbered_objects_leave_open_what_0_is(looked):
    _, known = looked(np.arange(64).reshape(4, 4, 4))
    assert (known.meanings.of(0), known.meanings.of(63)) == (None, 1)
    assert known.question


def test_a_stroke_is_counted_once(qtbot, notes, looked, monkeypatch):
    layer, _ = looked(np.zeros((3, 20, 20), np.uint8))
    read = []
    monkeypatch.setattr(
        "napari_unet3d.widgets.runs.annotation.survey_labels",
        lambda labels: (read.append(labels), survey.survey_labels(labels))[1],
    )
    told = []
    notes.changed.connect(told.append)
    for x in range(5):
        layer.data_setitem((np.array([1]), np.array([2]), np.array([x])), 1)
    qtbot.waitUntil(lambda: notes.of(layer).counts == {0: 1195, 1: 5}, timeout=30_000)
    qtbot.wait(600)
    assert (len(read), told) == (1, [layer])


def test_what_is_known_goes_with_the_layer(notes, looked):
    layer, _ = looked(LABELS.copy())
    assert len(notes._watched) == 1
    del layer
    gc.collect()
    assert len(notes._watched) <= 1


def test_labels_that_cannot_be_read_are_said(qtbot, notes):
    layer = ViewerModel().add_labels(np.zeros((4, 4), np.uint8))
    notes.watch(layer)
    qtbot.waitUntil(lambda: "is 2D" in notes.of(layer).problem, timeout=30_000)

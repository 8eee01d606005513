"""Scores on what is held out: all classes, against the trivial answer, with an interval, also of older runs."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet3d.cli.training_report import final_text
from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.annotation.patches import AnnotatedVolume
from napari_unet3d.core.annotation.targets import read_targets
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.heads import numpy_ops
from napari_unet3d.core.heads.base import Balance
from napari_unet3d.core.heads.block_ops import BlockOps
from napari_unet3d.core.heads.classes import Classes, best_trivial
from napari_unet3d.core.normalize import Normalization, measure
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.network.store import load_model
from napari_unet3d.tasks.events import Note, Validated
from napari_unet3d.tasks.train.kept.checkpoints import TrainState, write_checkpoint
from napari_unet3d.tasks.train.kept.history import Curves, score_columns, score_row, scores_in
from napari_unet3d.tasks.train.kept.run_folder import BEST, CHECKPOINT_FILE, HISTORY_FILE, RunFolder
from napari_unet3d.tasks.train.metrics import card_metrics, metric_texts
from napari_unet3d.tasks.train.training import TrainResult
from napari_unet3d.tasks.train.validate import HeldOutScores, ValidationSet, block_of_voxels
from tests.support.models import random_model
from tests.tasks.train.test_train import contents, in_folder, run_to_end, stop_after, with_changes

HEAD = Classes(names=("background", "cell"))
BALANCE = Balance((1.0, 1.0), 0.7)
NETWORK = NetworkSpec(blocks=0, filters=2)


def scores_of(labels, predicted, head=HEAD):
    """Return the scores of an answer, (z, y, x) classes, beside labels: 0 is unlabelled, 1 the first class."""
    targets = read_targets(labels, Meanings.painted(head.names))
    image = predicted.astype(np.float32)
    scaling = measure(Normalization(kind="none"), image)
    tiles = ValidationSet([AnnotatedVolume(image, targets, scaling, (1.0, 1.0, 1.0))], NETWORK, 1 << 30)

    def logits(read):
        halo = NETWORK.geometry.halo
        inside = tuple(slice(n, size - n) for n, size in zip(halo, read.shape, strict=False))
        classes = read[inside].reshape(read[inside].shape[:3])
        return np.where(classes[..., None] == np.arange(len(head.names)), 9, 0).astype(np.float32)

    return tiles.score(logits, head, BALANCE)


def painted(share):
    """Return a painted slice whose first rows are cells."""
    labels = np.zeros((8, 100, 100), np.uint8)
    labels[4] = 1
    labels[4, : round(100 * share)] = 2
    return labels


@pytest.mark.parametrize("index", [0, 1])
def test_whoever_calls_everything_the_same_gets_the_trivial_score_and_0_for_the_rest(index):
    labels = painted(0.8)
    scores = scores_of(labels, np.full(labels.shape, index))
    p = (0.2, 0.8)[index]
    assert scores.scores["dice"][index] == scores.trivial[index] == pytest.approx(2 * p / (1 + p))
    assert scores.scores["dice"][1 - index] == 0
    assert scores.rank == pytest.approx(p / (1 + p))
    assert best_trivial(scores.trivial) == (pytest.approx(0.8 / 1.8), 1)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=5))
def test_the_best_trivial_mean_is_that_of_the_most_frequent_class(voxels):
    head = Classes(names=tuple("abcde"[: len(voxels)]))
    found = best_trivial(head.trivial(voxels))
    if sum(n > 0 for n in voxels) < 2:
        assert found is None
    else:
        assert found is not None
        assert voxels[found[1]] == max(voxels)


def test_a_perfect_answer_is_perfect_without_doubt():
    labels = painted(0.5)
    scores = scores_of(labels, labels == 2)
    assert scores.scores["dice"] == (1.0, 1.0)
    assert scores.intervals == ((1.0, 1.0), (1.0, 1.0))
    assert scores.mean_interval == (1.0, 1.0)


def test_where_mistakes_are_made_the_interval_is_around_the_score():
    labels = painted(0.5)
    predicted = labels == 2
    predicted[4, :, :30] = False
    scores = scores_of(labels, predicted)
    for value, (low, high) in zip(scores.first, scores.intervals, strict=True):
        assert 0 < low < value < high < 1
    assert scores.mean_interval[0] < scores.rank < scores.mean_interval[1]
    assert scores == scores_of(labels, predicted)


def test_of_a_class_at_few_places_the_interval_is_not_known_nor_that_of_the_mean():
    labels = painted(0)
    labels[4, :10, :10] = 2
    scores = scores_of(labels, labels == 2)
    assert scores.first == (1.0, 1.0)
    assert scores.intervals[0] == (1.0, 1.0)
    assert all(map(math.isnan, (*scores.intervals[1], *scores.mean_interval)))
    assert "dice cell 1.00 of 100 voxels" in metric_texts(card_metrics(scores, HEAD))


def test_one_class_alone_has_no_score_no_interval_and_nothing_to_beat():
    labels = painted(1)
    scores = scores_of(labels, labels == 2)
    assert np.isnan([*scores.first, *scores.trivial, *np.ravel(scores.intervals), *scores.mean_interval]).all()
    assert best_trivial(scores.trivial) is None
    assert scores.rank == -scores.loss
    assert card_metrics(scores, HEAD) == {"held-out voxels of background": 0, "held-out voxels of cell": 10_000}


@given(st.tuples(*[st.integers(1, 150)] * 3))
def test_blocks_part_a_box_into_boxes_of_nearly_one_size(shape):
    blocks = block_of_voxels(Box.whole(shape))
    sizes = np.bincount(blocks.ravel())
    assert blocks.shape == shape
    assert sizes.min() > 0
    assert len(sizes) <= 512
    assert sizes.max() <= 3.4 * sizes.min()


def test_sums_of_blocks_add_up_to_those_of_the_whole():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(500, 2)).astype(np.float32), rng.integers(0, 2, 500).astype(np.uint8)
    blocks = HEAD.sums(logits, targets, BlockOps(rng.integers(0, 7, 500), 7))
    for name, whole in HEAD.sums(logits, targets, numpy_ops).items():
        assert blocks[name].shape == (7, 2)
        np.testing.assert_allclose(blocks[name].sum(axis=0), whole, rtol=1e-6)


def as_texts(row):
    return {name: str(value) for name, value in row.items()} | {"loss": "0.5"}


def test_a_score_comes_back_from_its_row():
    labels = painted(0.5)
    scores = scores_of(labels, np.roll(labels == 2, 7, 1))
    row = as_texts(score_row(HEAD, scores))
    assert tuple(row)[:-1] == score_columns(HEAD)
    found = scores_in(row, HEAD)
    assert found.voxels == scores.voxels
    assert found.trivial == scores.trivial
    for name in ("first", "intervals", "mean_interval"):
        np.testing.assert_allclose(getattr(found, name), getattr(scores, name), atol=1e-5)
    assert scores_in(row, Classes(names=("background", "axon"))) is None


def test_a_row_of_an_older_version_has_no_score_of_the_first_class():
    row = {"loss": "0.5", "dice cell": "0.75", "iou cell": "0.6", "voxels cell": "12"}
    found = scores_in(row, HEAD)
    assert np.isnan(found.first).tolist() == [True, False]
    assert np.isnan([*found.trivial, *found.mean_interval]).all()
    assert (found.first[1], found.voxels) == (0.75, (0, 12))


def make_old(run):
    """Make of a run what an older version would have left: no score of the first class anywhere."""
    with RunFolder(run) as folder:
        found = folder.load_checkpoint()
        rows = folder.history()
    # Without the field, which older versions did not have.
    state = TrainState(**found.train_state.model_dump(exclude={"ranks_all"}) | {"best_score": 0.99})
    write_checkpoint(run / CHECKPOINT_FILE, found.state, state)
    ours = ("background", "low", "high", "mean")
    columns = [name for name in rows[0] if not any(word in name for word in ours)]
    with open(run / HISTORY_FILE, "w", newline="") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def test_a_run_of_an_older_version_goes_on_and_its_best_model_is_scored_again_with_all_classes(tmp_path):
    run = tmp_path / "run"
    stop_after(in_folder(run), 4)
    make_old(run)
    result, events = run_to_end(in_folder(run, resume=True))
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("without its score of background" in note for note in notes)
    assert "The best model so far stays until there is a better one." in notes
    _, state, rows = contents(run)
    assert state.ranks_all
    kept = load_model(run / BEST).card.metrics
    assert state.best_score == pytest.approx(kept["mean dice"], abs=1e-4)
    head = result.last.card.head
    scored = [scores_in(row, head) for row in rows if row["kind"] == "score"]
    assert [math.isnan(score.first[0]) for score in scored] == [True, False, False]
    assert not any(math.isnan(score.first[1]) for score in scored)
    text = final_text(result, rows, run, 8)
    assert re.search(r"background: 0\.\d+ to 0\.\d+, held out", text)


def test_a_best_model_that_an_older_version_scored_is_not_compared_with_the_trivial_answer(tmp_path):
    row = {"kind": "score", "step": "3", "loss": "0.5", "dice cell": "0.75", "iou cell": "0.6", "voxels cell": "12"}
    model = model_of(HEAD)
    text = final_text(TrainResult(model, model, 3, None, 3), [row], tmp_path, 3)
    assert "An older version scored the best model, without background." in text
    assert "better than" not in text


def test_a_run_goes_on_without_a_word_about_its_scores(tmp_path):
    run = tmp_path / "run"
    stop_after(in_folder(run), 4)
    _, events = run_to_end(in_folder(run, resume=True))
    assert not any("older version" in event.text for event in events if isinstance(event, Note))


def model_of(head):
    model = random_model(blocks=0, filters=2)
    return replace(model, card=model.card.model_copy(update={"head": head}))


def report(tmp_path, scores):
    """Return what is said at the end of a run with one score."""
    model = model_of(HEAD)
    row = as_texts(score_row(HEAD, scores)) | {"kind": "score", "step": "3"}
    return final_text(TrainResult(model, model, 3, scores, 3), [row], tmp_path, 3)


def test_the_end_of_a_run_says_that_it_is_no_better_than_calling_everything_cell(tmp_path):
    labels = painted(0.8)
    text = report(tmp_path, scores_of(labels, np.ones_like(labels)))
    assert "no better than calling everything cell (0.44)." in text
    assert "Mean Dice of the best model: 0.44 (" in text


def test_the_end_of_a_run_says_how_much_better_it_is_and_how_sure_that_is(tmp_path):
    labels = painted(0.8)
    predicted = labels == 2
    predicted[4, :, :10] = False
    text = report(tmp_path, scores_of(labels, predicted))
    assert re.search(
        r"Mean Dice of the best model: 0\.8\d \(0\.\d\d to 0\.\d\d\), better than calling everything", text
    )
    assert re.search(r"^cell +8,000 +0\.9\d \(0\.\d\d to 0\.\d\d\)", text, re.MULTILINE)


def test_a_class_that_is_found_no_better_than_by_calling_everything_so_is_named(tmp_path):
    labels = painted(0.8)
    predicted = np.ones_like(labels)
    predicted[4, 60:] = False
    text = report(tmp_path, scores_of(labels, predicted))
    assert "cell: Dice 0.86 is no better than calling everything cell (0.89)." in text


def test_the_end_of_a_run_names_the_best_model_only_where_there_is_one(tmp_path):
    result, events = run_to_end(in_folder(tmp_path / "none", with_changes(steps=2, validation="none")))
    assert not any(isinstance(event, Validated) for event in events)
    text = final_text(result, [], tmp_path / "none", 2)
    assert text.endswith("2 steps; last.unet3d is the model.")
    assert not (tmp_path / "none" / BEST).exists()


@pytest.mark.parametrize(
    ("interval", "floor"), [((0.6, 0.8), 0.6), ((np.nan, np.nan), 0.6), ((0.75, 0.9), 0.7), ((-0.1, 0.9), -0.1)]
)
def test_a_later_model_takes_the_place_of_the_best_unless_it_is_clearly_worse(interval, floor):
    scores = HeldOutScores(0.3, {"dice": (0.8, 0.6)}, (5, 5), (0.5, 0.5), ((0, 1), (0, 1)), interval)
    assert scores.rank == pytest.approx(0.7)
    assert scores.floor == pytest.approx(floor)


@given(
    st.lists(st.lists(st.sampled_from([math.nan, 0.0, 0.25, 0.5]), min_size=2, max_size=2), max_size=12),
    st.lists(st.integers(0, 12), max_size=4),
)
def test_the_best_score_is_that_of_all_whenever_it_is_asked_and_after_a_step_back(values, back_to):
    curves = Curves(Classes(names=("background", "ball")))

    def check():
        for index in (0, 1):
            found = [
                (score.scores["dice"][index], -score.step)
                for score in curves.scored
                if score.scores["dice"][index] >= 0
            ]
            value, step = max(found, default=(None, 0))
            assert curves.best(index) == (None if value is None else (value, -step))

    for step, scores in enumerate(values, start=1):
        curves.scored.append(Validated(step, 1.0, {"dice": tuple(scores)}, (1, 1), is_best=False))
        check()
    for step in back_to:
        curves.forget_after(step)
        check()

"""Training as a task: it learns, it stops at once, it goes on to the same bytes, and it says what is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.annotation.validation import KEPT
from napari_unet3d.core.augment.presets import PRESETS
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.heads.prior import REMEMBERED
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import (
    ModelError,
    OutOfMemoryError,
    OutputError,
    SpecError,
    TrainingError,
    VolumeError,
)
from napari_unet3d.network import learner as training
from napari_unet3d.network.store import load_model
from napari_unet3d.tasks.driving import drive
from napari_unet3d.tasks.events import Checkpointed, HeldOut, Note, Started, StepDone, Validated
from napari_unet3d.tasks.run_lock import LOCK_FILE
from napari_unet3d.tasks.train.annotation import TrainingPair
from napari_unet3d.tasks.train.check_images import check_images
from napari_unet3d.tasks.train.data import read_training_data
from napari_unet3d.tasks.train.kept.run_folder import BEST, LAST, RunFolder
from napari_unet3d.tasks.train.loop import train
from napari_unet3d.tasks.train.spec import HeldOutBox, TrainSpec
from tests.support.balls import balls

NAMES = ("background", "ball")
MEANINGS = Meanings.painted(NAMES)


IMAGE, LABELS = balls()
PAIR = TrainingPair(IMAGE, LABELS, MEANINGS, voxel_size=(0.2, 0.1, 0.1))
SPEC = TrainSpec(
    network=NetworkSpec(blocks=0, filters=4, dropout=0.2),
    class_names=NAMES,
    patch=(28, 28, 28),
    steps=8,
    validate_every=3,
    augment=PRESETS["isotropic light microscopy"],
    learning_rate=5e-3,
    device="cpu",
)


def with_changes(**changes):
    return SPEC.changed(**changes)


def run_to_end(events):
    seen = []
    return drive(events, seen.append), seen


def stop_after(events, step):
    for event in events:
        if isinstance(event, StepDone) and event.step == step:
            events.close()
            return


def in_folder(path, spec=SPEC, **choices):
    with RunFolder(path) as folder:
        return (yield from train(spec, [PAIR], folder, **choices))


def contents(path):
    """Return the bytes that a run leaves, without what tells the time."""
    with RunFolder(path) as folder:
        found = folder.load_checkpoint()
        state, train_state = found.state, found.train_state
        history = [{k: v for k, v in row.items() if k != "seconds"} for row in folder.history()]
    return (
        {name: array.tobytes() for name, array in state.items()},
        train_state.model_copy(update={"seconds": 0}),
        history,
    )


def weights_of(path):
    return {name: array.tobytes() for name, array in load_model(path).weights.items()}


def test_it_learns_what_is_painted_and_is_scored_on_what_is_held_out():
    whole = (HeldOutBox(box=Box((52, 53), (0, 64), (0, 64))),)
    spec = with_changes(steps=80, validate_every=20, augment=PRESETS["nothing"], validation=whole)
    result, events = run_to_end(train(spec, [PAIR]))
    scores = [event for event in events if isinstance(event, Validated)]
    losses = [event.loss for event in events if isinstance(event, StepDone)]
    assert len(losses) == 80
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])
    assert scores[-1].scores["dice"][1] > 0.8
    assert [event.step for event in scores] == [20, 40, 60, 80]
    held = next(event.text for event in events if isinstance(event, Note) and KEPT in event.text)
    assert f"{64 * 64:,} voxels" in held
    best = [event for event in scores if event.is_best][-1]
    highest = max(scores, key=lambda event: np.mean(event.scores["dice"]))
    assert np.mean(best.scores["dice"]) >= highest.mean_interval[0]
    # Of those that are not clearly worse than the highest, the latest.
    later = [event for event in scores if event.step > max(best.step, highest.step)]
    assert all(np.mean(event.scores["dice"]) < highest.mean_interval[0] for event in later)
    metrics = result.best.card.metrics
    for index, name in enumerate(NAMES):
        assert metrics[f"held-out voxels of {name}"] == scores[0].voxels[index]
        assert metrics[f"dice {name}"] == pytest.approx(best.scores["dice"][index], abs=1e-4)
        low, high = (metrics[f"dice {name}, 90 % interval {word}"] for word in ("from", "to"))
        assert (low, high) == pytest.approx(best.intervals[index], abs=1e-4)
        assert low < metrics[f"dice {name}"] < high
    assert metrics["mean dice"] == pytest.approx(np.mean(best.scores["dice"]), abs=1e-4)
    assert result.best.card.voxel_size == (0.2, 0.1, 0.1)
    assert result.best_step == best.step


def test_the_score_is_that_of_the_whole_volume_segmented():
    import napari_unet3d
    from napari_unet3d.core.scores.overlap import overlap

    spec = with_changes(steps=20, validate_every=20, validation=(HeldOutBox(box=Box((52, 53), (0, 64), (0, 64))),))
    result, events = run_to_end(train(spec, [PAIR]))
    found = napari_unet3d.segment(IMAGE, result.last).data[52]
    expected = [overlap(found == index, LABELS[52] == index + 1, LABELS[52] > 0) for index in (0, 1)]
    (score,) = [event for event in events if isinstance(event, Validated)]
    assert score.scores["dice"] == tuple(one.dice for one in expected)
    assert score.scores["iou"] == tuple(one.iou for one in expected)


@pytest.mark.parametrize("broken_after", [1, 3, 4, 7])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(tmp_path, broken_after):
    run_to_end(in_folder(tmp_path / "whole"))
    stop_after(in_folder(tmp_path / "broken"), broken_after)
    result, events = run_to_end(in_folder(tmp_path / "broken", resume=True))
    assert [event.step for event in events if isinstance(event, StepDone)] == list(range(broken_after + 1, 9))
    assert contents(tmp_path / "whole") == contents(tmp_path / "broken")
    for name in (BEST, LAST):
        assert weights_of(tmp_path / "whole" / name) == weights_of(tmp_path / "broken" / name)
    assert result.steps == 8
    assert not list(tmp_path.glob("*/.*"))
    assert not list(tmp_path.glob(f"*/{LOCK_FILE}"))


def test_stop_keeps_the_model_of_that_step(tmp_path):
    stop_after(in_folder(tmp_path / "run"), 2)
    assert load_model(tmp_path / "run" / LAST).card.training["steps"] == 2
    with RunFolder(tmp_path / "run") as folder:
        assert folder.load_checkpoint().train_state.step == 2
        assert [row["step"] for row in folder.history()] == ["1", "2"]


def test_a_checkpoint_is_kept_every_minute_however_seldom_is_scored(tmp_path, monkeypatch):
    from napari_unet3d.tasks.train import training as module

    monkeypatch.setattr(module, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    _, events = run_to_end(in_folder(tmp_path / "often", with_changes(validate_every=8)))
    assert [event.step for event in events if isinstance(event, Checkpointed)] == [*range(1, 9), 8]
    monkeypatch.undo()
    run_to_end(in_folder(tmp_path / "seldom", with_changes(validate_every=8)))
    assert contents(tmp_path / "often") == contents(tmp_path / "seldom")


def test_threads_do_not_change_the_result():
    one, two = (run_to_end(train(SPEC, [PAIR], threads=n))[0] for n in (1, 2))
    assert all((array == two.last.weights[name]).all() for name, array in one.last.weights.items())


def test_a_loss_that_is_no_number_stops_at_once_and_the_best_model_stays(tmp_path):
    run_to_end(in_folder(tmp_path / "run", with_changes(steps=3)))
    best = weights_of(tmp_path / "run" / BEST)
    wild = with_changes(steps=30, learning_rate=1e30, schedule="constant", warm_up=0.0, clip_norm=1e30)
    with pytest.raises(TrainingError, match=r"not a finite number.*lower learning rate than 1e\+30"):
        run_to_end(in_folder(tmp_path / "run", wild, resume=True, force=True))
    assert weights_of(tmp_path / "run" / BEST) == best


def test_another_run_in_the_folder_is_not_replaced(tmp_path):
    stop_after(in_folder(tmp_path / "run"), 1)
    with pytest.raises(OutputError, match="holds a run already"):
        run_to_end(in_folder(tmp_path / "run"))


def test_other_choices_or_data_are_refused_with_the_difference(tmp_path):
    stop_after(in_folder(tmp_path / "run"), 2)
    with pytest.raises(TrainingError, match=r"learning_rate: 0.005, now 0.1"):
        run_to_end(in_folder(tmp_path / "run", with_changes(learning_rate=0.1), resume=True))
    other = LABELS.copy()
    other[8, 0, 0] = 3 - other[8, 0, 0]
    seen = []
    with RunFolder(tmp_path / "run") as folder, pytest.raises(TrainingError, match="annotation have changed"):
        seen += train(SPEC, [TrainingPair(IMAGE, other, MEANINGS)], folder, resume=True)
    # Nothing is said of a split that no run has.
    assert not [event for event in seen if isinstance(event, HeldOut | Note)]
    result, _ = run_to_end(in_folder(tmp_path / "run", with_changes(learning_rate=0.1), resume=True, force=True))
    assert result.steps == 8


def test_a_second_run_in_a_folder_is_refused_with_who_has_it(tmp_path):
    import os

    with RunFolder(tmp_path / "run"), pytest.raises(TrainingError, match=f"process {os.getpid()}"):
        run_to_end(in_folder(tmp_path / "run"))
    run_to_end(in_folder(tmp_path / "run", with_changes(steps=1)))


def test_a_folder_that_cannot_be_written_is_said_and_tried_again(tmp_path, monkeypatch):
    from napari_unet3d import atomic

    put, failures = atomic.put_in_place, iter([True, False, False])

    def fails_once(partial, target, *, overwrite):
        if target.name == LAST and next(failures, False):
            raise OSError(28, "No space left on device")
        put(partial, target, overwrite=overwrite)

    monkeypatch.setattr(atomic, "put_in_place", fails_once)
    _, events = run_to_end(in_folder(tmp_path / "run"))
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("goes on in memory" in text and "does not fit on the disk" in text for text in notes)
    assert [event.step for event in events if isinstance(event, Checkpointed)] == [6, 8]
    with RunFolder(tmp_path / "run") as folder:
        assert [row["step"] for row in folder.history() if row["kind"] == "step"] == [str(n) for n in range(1, 9)]


def test_a_folder_that_is_removed_is_made_again(tmp_path):
    import shutil

    events = in_folder(tmp_path / "run")
    for event in events:
        if isinstance(event, StepDone) and event.step == 4:
            shutil.rmtree(tmp_path / "run")
            break
    run_to_end(events)
    assert load_model(tmp_path / "run" / LAST).card.training["steps"] == 8
    assert (tmp_path / "run" / BEST).is_dir()
    with RunFolder(tmp_path / "run") as folder:
        assert folder.record().spec == SPEC


def test_memory_that_runs_out_makes_the_patches_smaller_three_times(monkeypatch):
    step = training.Learner.step

    def full_above(largest):
        def limited(self, images, targets, **choices):
            if images.shape[1] > largest:
                raise OutOfMemoryError("full")
            return step(self, images, targets, **choices)

        monkeypatch.setattr(training.Learner, "step", limited)

    full_above(23)
    result, events = run_to_end(train(SPEC, [PAIR]))
    assert [event.input_shape for event in events if isinstance(event, Started)] == [(28, 28, 28), (22, 22, 22)]
    assert result.steps == 8
    assert any("smaller patches of 22 x 22 x 22" in event.text for event in events if isinstance(event, Note))
    full_above(0)
    with pytest.raises(OutOfMemoryError, match="no memory left for a patch"):
        run_to_end(train(SPEC, [PAIR]))


def test_memory_that_runs_out_in_a_score_leaves_the_patches_and_the_next_score(monkeypatch):
    from napari_unet3d.tasks.train.validate import ValidationSet

    score, calls = ValidationSet.score, iter([True, False, False])

    def full_once(self, *arguments, **choices):
        if next(calls):
            raise OutOfMemoryError("full")
        return score(self, *arguments, **choices)

    monkeypatch.setattr(ValidationSet, "score", full_once)
    _, events = run_to_end(train(SPEC, [PAIR]))
    assert [event.step for event in events if isinstance(event, Validated)] == [6, 8]
    assert len([event for event in events if isinstance(event, Started)]) == 1
    assert any("no memory left for a score" in event.text for event in events if isinstance(event, Note))


def test_memory_that_runs_out_in_the_preview_ends_the_preview(monkeypatch):
    from napari_unet3d.tasks.train.live import LivePreview, Watcher

    def full(self, probabilities):
        raise OutOfMemoryError("full")

    monkeypatch.setattr(Watcher, "look", full)
    live = LivePreview(0, np.zeros((1, 1, 4), np.int32), np.zeros(IMAGE.shape, np.uint8))
    result, events = run_to_end(train(SPEC, [PAIR], live=live))
    assert result.steps == 8
    notes = [event.text for event in events if isinstance(event, Note)]
    assert sum("no memory left for the live preview" in text for text in notes) == 1


def test_what_does_not_fit_the_checkpoint_leaves_the_folder_as_it_was(tmp_path):
    stop_after(in_folder(tmp_path / "run"), 4)

    def files():
        return {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}

    before = files()
    wider = with_changes(network=NetworkSpec(blocks=0, filters=5))
    with pytest.raises(ModelError, match="of shape"):
        run_to_end(in_folder(tmp_path / "run", wider, resume=True, force=True))
    assert files() == before


def test_the_scored_tiles_do_not_depend_on_free_memory(monkeypatch):
    from napari_unet3d.network.machine import devices

    def scores():
        return [event.loss for event in run_to_end(train(SPEC, [PAIR]))[1] if isinstance(event, Validated)]

    plenty = scores()
    monkeypatch.setattr(devices, "usable_memory", lambda *_, **__: 256 << 20)
    assert scores() == plenty


def test_an_image_that_is_passed_twice_is_held_out_once():
    first, second = LABELS.copy(), LABELS.copy()
    first[40:], second[:40] = 0, 0
    pairs = [TrainingPair(IMAGE, painted, MEANINGS) for painted in (first, second)]
    spec = with_changes(steps=1, validation=(HeldOutBox(pair=0, box=Box((30, 31), (0, 64), (0, 64))),))
    data = read_training_data(pairs, spec)
    both = [data.volumes[i].targets.within([Box((10, 51), (0, 64), (0, 64))]).n_voxels for i in (0, 1)]
    left = [data.learnt[i].targets.n_voxels for i in (0, 1)]
    assert all(n < data.volumes[i].targets.n_voxels for i, n in enumerate(left) if both[i])
    other = np.ascontiguousarray(IMAGE[::-1])
    apart = read_training_data([pairs[0], TrainingPair(other, second, MEANINGS)], spec)
    assert apart.learnt[1].targets.n_voxels == data.volumes[1].targets.n_voxels


def test_batch_normalization_learns_and_goes_on_to_the_same_bytes(tmp_path):
    spec = with_changes(network=NetworkSpec(blocks=0, filters=4, batch_normalization=True))
    whole, _ = run_to_end(in_folder(tmp_path / "whole", spec))
    stop_after(in_folder(tmp_path / "broken", spec), 4)
    run_to_end(in_folder(tmp_path / "broken", spec, resume=True))
    assert contents(tmp_path / "whole") == contents(tmp_path / "broken")
    assert weights_of(tmp_path / "whole" / LAST) == weights_of(tmp_path / "broken" / LAST)
    grown, _ = run_to_end(train(spec.changed(steps=1), [PAIR], start=whole.last))
    assert grown.last.spec.batch_normalization
    with pytest.raises(SpecError, match="has batch normalization"):
        run_to_end(train(SPEC, [PAIR], start=whole.last))


def test_a_run_whose_patches_shrank_goes_on_with_the_same_scored_tiles(tmp_path, monkeypatch):
    step = training.Learner.step

    def full_once(self, images, targets, **choices):
        if images.shape[1] > 23 and choices["number"] == 4:
            raise OutOfMemoryError("full")
        return step(self, images, targets, **choices)

    monkeypatch.setattr(training.Learner, "step", full_once)
    run_to_end(in_folder(tmp_path / "whole"))
    stop_after(in_folder(tmp_path / "broken"), 6)
    run_to_end(in_folder(tmp_path / "broken", resume=True))
    assert contents(tmp_path / "whole") == contents(tmp_path / "broken")
    with RunFolder(tmp_path / "broken") as folder:
        train_state = folder.load_checkpoint().train_state
    assert (train_state.patch, train_state.scored_patch) == ((22, 22, 22), (28, 28, 28))


def test_it_stops_when_it_gets_no_better():
    spec = with_changes(steps=60, validate_every=1, patience=3, learning_rate=1e-9)
    result, events = run_to_end(train(spec, [PAIR]))
    assert result.steps < 60
    assert any("No better score" in event.text for event in events if isinstance(event, Note))


def test_at_the_end_it_says_whether_more_steps_would_help():
    _, events = run_to_end(train(with_changes(steps=9, validate_every=1, learning_rate=1e-9), [PAIR]))
    assert any("has not risen since step 1" in event.text for event in events if isinstance(event, Note))
    _, events = run_to_end(train(with_changes(steps=3, validate_every=1, learning_rate=1e-9), [PAIR]))
    assert not any("has not risen" in event.text for event in events if isinstance(event, Note))


def test_a_model_is_trained_on_and_a_new_class_starts_anew():
    first, _ = run_to_end(train(with_changes(steps=2, averaging=0.0), [PAIR]))
    same, _ = run_to_end(train(with_changes(steps=1, learning_rate=1e-12), [PAIR], start=first.last))
    for name, array in first.last.weights.items():
        np.testing.assert_allclose(same.last.weights[name], array, atol=1e-6)
    # What it has learnt with is not forgotten in a step.
    shares = first.last.card.shares
    assert sum(shares) == pytest.approx(1)
    assert same.last.card.shares == pytest.approx(shares, abs=1 / REMEMBERED)
    three = Meanings.painted(("background", "ring", "ball"))
    spec = with_changes(
        steps=1, learning_rate=1e-12, network=NetworkSpec(blocks=0, filters=4, classes=3), class_names=three.class_names
    )
    labels = LABELS * 1
    labels[LABELS == 2] = 3
    labels[8, :10, :10] = labels[52, :10, :10] = labels[30, :10, :10] = 2
    grown, _ = run_to_end(train(spec, [TrainingPair(IMAGE, labels, three)], start=first.last))
    old, new = first.last.weights["output_logits/kernel"], grown.last.weights["output_logits/kernel"]
    np.testing.assert_allclose(new[..., [0, 2]], old, atol=1e-6)
    with pytest.raises(SpecError, match="4 filters and the network 2"):
        run_to_end(train(with_changes(network=NetworkSpec(blocks=0, filters=2)), [PAIR], start=first.last))


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([], "nothing to train on"),
        ([TrainingPair(IMAGE, np.zeros_like(LABELS), MEANINGS)], "no annotated voxels"),
        ([TrainingPair(IMAGE, LABELS[:50, :50], MEANINGS, origin=(20, 0, 0))], "labels must lie in their image"),
        ([TrainingPair(IMAGE, LABELS, Meanings.painted(("background", "tube")))], "not those of the run"),
        ([TrainingPair(np.stack([IMAGE] * 2, -1), LABELS, MEANINGS)], "2 channels"),
    ],
)
def test_what_cannot_be_learnt_is_refused_before_the_first_step(pairs, words):
    with pytest.raises(SpecError, match=words):
        run_to_end(train(SPEC, pairs))


def test_one_class_alone_is_warned_of():
    labels = np.where(LABELS == 2, 2, 0).astype(np.uint8)
    events = train(with_changes(steps=1), [TrainingPair(IMAGE, labels, MEANINGS)])
    _, seen = run_to_end(events)
    assert any("Only ball is painted" in event.text for event in seen if isinstance(event, Note))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_image_with_voxels_that_are_no_numbers_is_refused_before_it_is_learnt_from(bad, dtype):
    with np.errstate(over="ignore"):
        image = IMAGE.astype(dtype)
        image[50, 3:5, 60:] = bad
    with pytest.raises(VolumeError, match=r"Image 2 holds NaN, infinity .* 8 voxels .* \(50, 3, 60\)"):
        run_to_end(train(SPEC, [PAIR, replace(PAIR, image=image)]))


def test_an_image_of_whole_numbers_is_not_read_to_see_that_they_are_numbers():
    n_read = []

    class Counted:
        shape = IMAGE.shape

        def __getitem__(self, key):
            part = IMAGE.astype(np.uint16)[key]
            n_read.append(part.size)
            return part

    volumes = read_training_data([PAIR], SPEC).volumes
    assert not list(check_images([replace(volumes[0], image=Counted())], SPEC.patch))
    assert n_read == [1]


def test_what_training_does_not_read_may_hold_anything():
    labels = np.zeros_like(LABELS)
    labels[8] = LABELS[8]
    image = IMAGE.astype(np.float32)
    image[55:] = np.nan
    _, events = run_to_end(train(with_changes(steps=1), [replace(PAIR, image=image, labels=labels)]))
    assert any(isinstance(event, StepDone) for event in events)


@pytest.mark.parametrize("painted", [1, 2])
def test_where_one_class_is_held_out_there_is_no_score_and_it_is_said(painted):
    labels = np.where(painted == LABELS, LABELS, 0).astype(np.uint8)
    result, events = run_to_end(train(with_changes(steps=3), [replace(PAIR, labels=labels)]))
    scores = [event for event in events if isinstance(event, Validated)]
    assert scores
    assert all(np.isnan([*event.scores.values()]).all() for event in scores)
    assert not any("dice" in name for name in result.last.card.metrics)
    name = NAMES[painted - 1]
    assert any(f"There will be no score: only {name}" in event.text for event in events if isinstance(event, Note))


def test_a_class_that_is_not_held_out_has_no_score_while_others_have():
    meanings = Meanings.painted((*NAMES, "rare"))
    labels = LABELS.copy()
    labels[8, :20, :20] = 3
    spec = with_changes(
        network=NetworkSpec(blocks=0, filters=2, classes=3),
        class_names=meanings.class_names,
        steps=1,
        validation=(HeldOutBox(box=Box((52, 53), (0, 64), (0, 64))),),
    )
    result, events = run_to_end(train(spec, [replace(PAIR, labels=labels, meanings=meanings)]))
    (score,) = [event for event in events if isinstance(event, Validated)]
    assert np.isnan(score.scores["dice"]).tolist() == [False, False, True]
    assert result.scores is not None
    assert result.scores.rank == np.mean(score.scores["dice"][:2])
    assert "There will be no score of rare: none is held out." in [e.text for e in events if isinstance(e, Note)]


def test_more_patches_a_step_than_memory_holds_are_refused_by_arithmetic():
    with pytest.raises(
        SpecError, match=r"100,000,000 patches per step of .* GiB may be used\. [\d,]+ per step would fit"
    ):
        run_to_end(train(with_changes(batch=100_000_000), [PAIR]))


@pytest.mark.parametrize("weights", [(-1.0, 1.0), (0.0, 0.0), (1.0, float("nan")), (1.0, float("inf"))])
def test_class_weights_that_mean_nothing_are_refused(weights):
    with pytest.raises(ValidationError, match=r"class weights .* are not possible"):
        with_changes(class_weights=weights)
    assert with_changes(class_weights=(0.0, 1.0)).weights_of_classes == (0.0, 1.0)

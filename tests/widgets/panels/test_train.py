"""The tab Train on a viewer without a window, with a real worker that learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
from napari.utils.notifications import notification_manager

from napari_unet3d import PredictSpec, Volume, segment
from napari_unet3d.core.annotation.meanings import Meanings
from napari_unet3d.core.heads.classes import Classes
from napari_unet3d.network.store import load_model
from napari_unet3d.tasks.events import Validated
from napari_unet3d.tasks.train.kept.history import Curves
from napari_unet3d.tasks.train.kept.run_folder import BEST, LAST, RunFolder
from napari_unet3d.tasks.train.spec import HeldOutBox
from napari_unet3d.widgets.bricks.panel import PANEL_WIDTH
from napari_unet3d.widgets.layers.volumes import is_illustration
from napari_unet3d.widgets.panels.train.form import MODEL
from napari_unet3d.widgets.panels.train.tab import TrainPanel
from napari_unet3d.widgets.runs.corrections import choose_corrections
from tests.support.balls import balls
from tests.tasks.train.test_command import command

IMAGE, LABELS = balls()
NAMES = ("background", "ball")
MEANINGS = Meanings.painted(NAMES)
SPACE = {"scale": (0.5, 0.2, 0.2), "translate": (3, 4, 5), "units": ("um",) * 3}


@pytest.fixture
def panel(session, viewer, qtbot):
    session.image = viewer.add_image(IMAGE, name="cells", **SPACE)
    session.labels = viewer.add_labels(LABELS.copy(), name="painted", **SPACE)
    shown = []
    session.annotation.say(session.labels, MEANINGS)
    panel = TrainPanel(session, lambda: shown.append("Segment"))
    panel.shown = shown
    qtbot.addWidget(panel.native)
    panel.form.blocks.value, panel.form.filters.value = 0, 2
    panel.form.steps.value, panel.form.every.value = 6, 2
    qtbot.waitUntil(lambda: panel.spec is not None and panel.spec.steps == 6 and panel.spec.network.blocks == 0)
    return panel


@pytest.fixture
def ended(session, qtbot):
    """Return a function that waits until the run has ended."""

    def ended(timeout=120_000):
        qtbot.waitUntil(lambda: not session.training.is_active, timeout=timeout)
        return session.training

    return ended


def test_it_trains_and_its_curves_and_scores_are_there(panel, session, viewer, ended):
    assert panel.state.planned.pairs == ("cells + painted",)
    counts = [int((value == LABELS).sum()) for value in (1, 2)]
    assert panel.state.planned.voxels == tuple(counts)
    assert panel.start.enabled
    panel.start.native.click()
    run = ended()
    assert (run.state, run.error) == ("done", None)
    assert run.curves.steps == [1, 2, 3, 4, 5, 6]
    assert [score.step for score in run.curves.scored] == [2, 4, 6]
    assert run.curves.scored[0].voxels == run.curves.scored[-1].voxels
    for index in (0, 1):
        _, _, held_out, dice, _, worth = panel._table.rows[index]
        voxels = run.curves.scored[-1].voxels[index]
        assert (held_out, dice) == (f"{voxels:,}", f"{run.curves.of('dice', index)[-1]:.3f}")
        assert f"after step {run.curves.best(index)[1]}" in worth
        assert f"Calling every voxel {NAMES[index]} would give {run.curves.trivial()[index]:.3f}." in worth
        assert " to " in worth
    # A dashed line per class: what calling everything so would give.
    assert [line.value() for line in panel.plot._trivial] == pytest.approx(run.curves.trivial())
    # The panel is no wider than its dock.
    assert panel.native.minimumSizeHint().width() <= PANEL_WIDTH
    assert panel.plot.values_at(3).startswith("step 3: loss")
    with RunFolder(run.folder) as folder:
        assert [row["step"] for row in folder.history() if row["kind"] == "step"] == list("123456")
    card = load_model(run.folder / BEST).card
    assert card.voxel_size == pytest.approx((0.5, 0.2, 0.2))
    assert not panel.train_on.native.isHidden()
    assert panel.segment.enabled


def test_the_window_and_the_command_train_the_same_bytes(panel, session, ended, tmp_path):
    from napari_unet3d.tasks.train.annotation import TrainingPair
    from napari_unet3d.tasks.train.loop import train

    panel.start.native.click()
    run = ended()
    pair = TrainingPair(IMAGE, LABELS, MEANINGS, voxel_size=(0.5, 0.2, 0.2))
    with RunFolder(tmp_path / "run") as folder:
        for _ in train(run.spec, [pair], folder):
            pass
    ours, theirs = (load_model(path / LAST).weights for path in (run.folder, tmp_path / "run"))
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


def test_a_saved_job_trains_the_bytes_of_the_window(panel, session, ended, tmp_path):
    panel.start.native.click()
    run = ended()
    panel.save_job(tmp_path / "job.json")
    assert sorted(path.name for path in tmp_path.glob("job*")) == [
        "job-image.ome.tif",
        "job-labels.ome.tif",
        "job.json",
    ]
    assert command("run", tmp_path / "job.json") == 0
    ours, theirs = (load_model(path / LAST) for path in (run.folder, tmp_path / "job"))
    assert all(ours.weights[name].tobytes() == theirs.weights[name].tobytes() for name in ours.weights)
    assert theirs.card.voxel_size == pytest.approx((0.5, 0.2, 0.2))


def test_what_is_looked_at_is_segmented_meanwhile(panel, session, viewer, qtbot, ended):
    viewer.dims.set_point(0, 3 + 30 * 0.5)
    # A network that gives two planes at least, of which one is not painted.
    panel.form.steps.value, panel.form.flat.value = 2000, 0
    qtbot.waitUntil(lambda: panel.spec is not None and panel.spec.steps == 2000)
    panel.start.native.click()
    run = session.training
    qtbot.waitUntil(lambda: run.previewed is not None, timeout=120_000)
    (z0, z1), _, _ = run.previewed
    assert z0 <= 30 < z1
    assert is_illustration(run.layer)
    np.testing.assert_allclose(run.layer.scale, SPACE["scale"])
    corner = [start for start, _ in run.previewed]
    np.testing.assert_allclose(run.layer.translate, np.add(SPACE["translate"], np.multiply(SPACE["scale"], corner)))
    assert run.layer.data.shape == run.previewed.shape
    labels = session.labels
    before = labels.data.copy()
    viewer.dims.set_point(0, 3 + 31 * 0.5) if z1 > 31 else viewer.dims.set_point(0, 3 + 29 * 0.5)
    assert panel.correct.enabled
    panel.correct.native.click()
    changed = labels.data != before
    assert changed.any()
    assert (before[changed] == 0).all()
    assert set(np.unique(labels.data)) <= {0, 1, 2}
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    # The annotation is in hand, and what was copied can be seen.
    assert (labels.mode, run.layer.visible) == ("paint", False)
    run.layer.visible = True
    shown = run.preview
    qtbot.waitUntil(lambda: run.preview is not shown, timeout=120_000)
    assert run.layer.data is run.preview
    assert not run.layer.editable
    panel.stop.native.click()
    assert ended().state == "stopped"


def test_the_preview_lives_on_after_the_run(panel, session, viewer, qtbot, ended):
    viewer.dims.set_point(0, 3 + 30 * 0.5)
    panel.form.steps.value, panel.form.flat.value = 2000, 0
    qtbot.waitUntil(lambda: panel.spec is not None and panel.spec.steps == 2000)
    panel.start.native.click()
    run = session.training
    qtbot.waitUntil(lambda: run.previewed is not None, timeout=120_000)
    panel.stop.native.click()
    ended()
    viewer.dims.set_point(0, 3 + 58 * 0.5)
    qtbot.waitUntil(lambda: run.previewed.z[0] <= 58 < run.previewed.z[1], timeout=120_000)
    # It is what Segment finds there, with the class shares that were learnt.
    model, box = load_model(run.best), run.previewed
    volume = Volume.from_array(IMAGE, voxel_size=(0.5, 0.2, 0.2), unit="um")
    np.testing.assert_array_equal(
        run.preview, segment(volume, model, spec=PredictSpec(region=box, prior="training")).data
    )
    assert run.layer.data is run.preview
    # Whoever has taken the layer away wants no preview.
    viewer.layers.remove(run.layer)
    afterwards = run._afterwards
    viewer.dims.set_point(0, 3 + 5 * 0.5)
    afterwards._look_around()
    assert not afterwards.is_active


def test_stop_keeps_everything_and_continue_goes_on(panel, session, qtbot, ended):
    panel.form.steps.value = 400
    qtbot.waitUntil(lambda: panel.spec is not None and panel.spec.steps == 400)
    panel.start.native.click()
    run = session.training
    qtbot.waitUntil(lambda: run.step >= 3, timeout=120_000)
    panel.stop.native.click()
    assert ended().state == "stopped"
    assert (run.folder / LAST).is_dir()
    stopped_at = load_model(run.folder / LAST).card.training["steps"]
    qtbot.waitUntil(lambda: panel.start.text == "Continue" and panel.start.enabled)
    panel.start.native.click()
    assert session.training is run
    qtbot.waitUntil(lambda: run.step > stopped_at, timeout=120_000)
    assert run.curves.steps == list(range(1, len(run.curves.steps) + 1))
    panel.stop.native.click()
    ended()


def test_train_on_starts_from_the_model_and_learns_what_is_painted_now(panel, session, qtbot, ended):
    panel.start.native.click()
    first = ended()
    session.labels.data[40] = 1
    session.labels.refresh()
    qtbot.waitUntil(lambda: not panel.train_on.native.isHidden())
    panel.train_on.native.click()
    second = ended()
    assert second is not first
    assert second.error is None
    with RunFolder(second.folder) as folder:
        record = folder.record()
    assert record.start is not None
    assert record.spec.learning_rate <= 5e-4
    with RunFolder(first.folder) as folder:
        assert folder.record().data != record.data


def test_what_is_painted_during_a_run_is_said_and_taken_in_by_train_on(panel, session, qtbot, ended):
    panel.start.native.click()
    painted = session.labels
    n_before = int(np.count_nonzero(painted.data))
    painted.paint((5, 30, 30), 2)
    n_new = int(np.count_nonzero(painted.data)) - n_before
    assert n_new > 0
    said = f"{n_new:,} voxels painted since Start. They are learnt when you train on."
    qtbot.waitUntil(lambda: said in panel.state.progress or not session.training.is_active, timeout=60_000)
    run = ended()
    assert run.n_painted == n_before
    qtbot.waitUntil(lambda: panel.train_on.text == f"Train on with {n_new:,} new voxels", timeout=60_000)
    painted.undo()
    qtbot.waitUntil(lambda: panel.train_on.text == "Train 200 steps more", timeout=60_000)


def test_an_earlier_run_is_opened_as_it_was_left(panel, session, qtbot, ended):
    panel.start.native.click()
    run = ended()
    # As in a new window, where nothing was chosen.
    session.training = None
    panel.form.steps.value = 99
    panel.update_state()
    panel.earlier.open(run.folder)
    opened = session.training
    assert opened is not run
    assert (opened.state, opened.step, opened.spec) == ("done", 6, run.spec)
    assert opened.best == run.best
    assert opened.curves.steps == run.curves.steps
    assert [score.step for score in opened.curves.scored] == [2, 4, 6]
    assert opened.curves.scored[-1].scores["dice"] == pytest.approx(run.curves.scored[-1].scores["dice"], abs=1e-4)
    assert [(part.pair, part.box) for part in opened.held_out] == [(part.pair, part.box) for part in run.held_out]
    assert panel.form.steps.value == 6
    assert panel.segment.enabled
    qtbot.waitUntil(lambda: panel.train_on.text == "Train 200 steps more", timeout=60_000)
    panel.train_on.native.click()
    assert session.training.start_model == run.best
    assert ended().state == "done"
    # What was held out before still is.
    assert [part.box for part in session.training.held_out] == [part.box for part in run.held_out]


def test_a_stopped_run_that_is_opened_goes_on_to_the_bytes_of_an_unbroken_one(panel, session, qtbot, ended, tmp_path):
    panel.form.steps.value = 40
    qtbot.waitUntil(lambda: panel.spec is not None and panel.spec.steps == 40, timeout=60_000)
    panel.start.native.click()
    qtbot.waitUntil(lambda: session.training.step >= 3, timeout=120_000)
    panel.stop.native.click()
    stopped = ended()
    assert stopped.step < 40
    session.training = None
    panel.earlier.open(stopped.folder)
    qtbot.waitUntil(lambda: panel.start.text == "Continue", timeout=60_000)
    panel.start.native.click()
    assert ended().step == 40
    assert session.training.folder == stopped.folder


def test_the_last_run_of_a_project_is_shown_if_it_was_stopped_and_nothing_if_it_was_done(panel, session, qtbot, ended):
    panel.earlier.show_unfinished()
    assert session.training is None
    panel.form.steps.value = 40
    qtbot.waitUntil(lambda: panel.spec is not None and panel.spec.steps == 40, timeout=60_000)
    panel.start.native.click()
    qtbot.waitUntil(lambda: session.training.step >= 3, timeout=120_000)
    panel.stop.native.click()
    stopped = ended()
    session.training = None
    panel.earlier.show_unfinished()
    qtbot.waitUntil(lambda: panel.start.text == "Continue", timeout=60_000)
    assert session.training.folder == stopped.folder
    panel.start.native.click()
    ended()
    session.training = None
    panel.earlier.show_unfinished()
    assert session.training is None


def test_a_folder_without_a_run_is_refused_in_words(panel, session, tmp_path):
    with notification_manager:
        before = len(notification_manager.records)
        panel.earlier.open(tmp_path)
    assert "holds no run to go on with" in notification_manager.records[before].message
    assert session.training is None


def test_what_will_hardly_be_learnt_is_said_before_start(panel, session, qtbot):
    labels = session.labels
    assert not panel._doubts.visible or panel._doubts.value == ""
    data = labels.data.copy()
    data[data == 2] = 0
    labels.data = data
    only = "Only background is painted. Paint other classes too, so that the network can tell them apart."
    qtbot.waitUntil(lambda: panel._doubts.value == only, timeout=60_000)
    data = data.copy()
    data[0, 0, :5] = 2
    labels.data = data
    qtbot.waitUntil(lambda: panel._doubts.value.startswith("Only 5 voxels of ball are painted, but "), timeout=60_000)


def test_the_model_is_handed_to_segment(panel, session, ended):
    panel.start.native.click()
    run = ended()
    panel.segment.native.click()
    assert session.model == run.best
    assert panel.shown == ["Segment"]
    panel.form.start.value = MODEL
    assert not panel.form.blocks.enabled


def test_pairs_are_listed_and_learnt_from_together(panel, session, viewer, qtbot, ended):
    panel.add_pair.native.click()
    image, labels = balls(seed=5)
    session.image = viewer.add_image(image, name="others", **SPACE)
    session.labels = viewer.add_labels(labels[:, 10:, :], name="part", **{**SPACE, "translate": (3, 4 + 10 * 0.2, 5)})
    session.annotation.say(session.labels, MEANINGS)
    panel.add_pair.native.click()
    qtbot.waitUntil(lambda: panel.state.planned.pairs == ("cells + painted", "others + part"))
    assert session.training_pairs[1].place().origin == (0, 10, 0)
    qtbot.waitUntil(lambda: panel.start.enabled)
    panel.start.native.click()
    assert ended().error is None
    panel.remove_pair.native.click()
    qtbot.waitUntil(lambda: panel.state.planned.pairs == ("cells + painted",))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s, v: setattr(s.labels, "scale", (0.5, 0.3, 0.2)), "their voxels must have the same size"),
        (lambda s, v: setattr(s.labels, "data", np.zeros_like(LABELS)), "no annotated voxels"),
        (lambda s, v: setattr(s.labels, "data", np.full_like(LABELS, 7)), "mean no class: 7"),
        (lambda s, v: v.layers.remove(s.labels), "Choose the labels in Data"),
    ],
)
def test_what_is_missing_is_said_and_start_waits(panel, session, viewer, qtbot, change, said):
    change(session, viewer)
    panel.look()
    qtbot.waitUntil(lambda: said in panel.state.planned.sentence)
    assert not panel.start.enabled


def test_labels_that_say_that_they_lie_elsewhere_are_laid_on_their_image_by_a_button(panel, session, viewer, qtbot):
    labels, image = session.labels, session.image
    assert panel.lay.native.isHidden()
    labels.scale, labels.translate = (4.0, 4.0, 4.0), (100.0, 0.0, 0.0)
    panel.look()
    qtbot.waitUntil(lambda: not panel.lay.native.isHidden())
    assert "press 'Lay labels on image'" in panel.state.planned.sentence
    panel.lay.native.click()
    qtbot.waitUntil(lambda: panel.start.enabled)
    assert panel.lay.native.isHidden()
    for name in ("scale", "translate", "units"):
        assert list(getattr(labels, name)) == list(getattr(image, name))


def test_a_stroke_is_learnt_from_without_asking(panel, session, qtbot):
    before = panel.state.planned.voxels
    where = np.full(20, 40), np.arange(20), np.arange(20)
    session.labels.data_setitem(where, 1)
    qtbot.waitUntil(lambda: panel.state.planned.voxels != before)


def test_held_out_annotation_is_outlined_where_it_lies(panel, session, viewer, ended):
    panel.start.native.click()
    run = ended()
    panel.held_out.native.click()
    layer = viewer.layers["cells, held out"]
    (part,) = run.held_out
    expected = run.pairs[0].image.space.to_world([start for start, _ in part.box])
    np.testing.assert_allclose(layer.data_to_world((0, 0, 0)), expected)
    assert layer.data.shape == part.box.shape
    assert is_illustration(layer)
    panel.held_out.native.click()
    assert [layer.name for layer in viewer.layers].count("cells, held out") == 1


def test_a_run_goes_on_while_the_panel_is_closed(panel, session, qtbot, ended):
    panel.start.native.click()
    run = session.training
    other = TrainPanel(session, lambda: None)
    qtbot.addWidget(other.native)
    ended()
    assert other.plot.values_at(6).startswith("step 6")
    assert run.state == "done"


def test_the_worker_that_dies_is_one_notice_and_continue_goes_on(panel, session, qtbot, ended, engine):
    import psutil

    panel.form.steps.value = 400
    qtbot.waitUntil(lambda: panel.spec is not None and panel.spec.steps == 400)
    panel.start.native.click()
    run = session.training
    qtbot.waitUntil(lambda: run.has_checkpoint, timeout=120_000)
    psutil.Process(engine.pid).kill()
    assert ended().state == "failed"
    assert "killed" in str(run.error)
    qtbot.waitUntil(lambda: panel.start.text == "Continue" and panel.start.enabled)
    panel.start.native.click()
    before = run.curves.scored[-1].step
    qtbot.waitUntil(lambda: run.step > before + 2, timeout=120_000)
    assert run.curves.steps == list(range(1, len(run.curves.steps) + 1))
    panel.stop.native.click()
    ended()


def test_the_history_is_a_table():
    curves = Curves(
        Classes(names=("background", "a")),
        [1, 2],
        [0.5, 0.25],
        [Validated(2, 0.3, {"dice": (0.9, 0.75), "iou": (0.8, 0.6)}, (300, 100), True)],
    )
    assert curves.as_csv().splitlines() == [
        "step,loss,held-out loss,dice background,dice a,voxels background,voxels a",
        "1,0.5,,,,,",
        "2,0.25,0.3,0.9,0.75,300,100",
    ]
    curves.forget_after(1)
    assert (curves.steps, curves.scored) == ([1], [])


def test_what_was_held_out_stays_with_its_image(panel, session, viewer, qtbot, ended):
    panel.start.native.click()
    run = ended()
    box = run.held_out[0].box
    image, labels = balls(seed=5)
    old = session.image, session.labels
    session.image = viewer.add_image(image, name="others", **SPACE)
    session.labels = viewer.add_labels(labels, name="more", **SPACE)
    session.annotation.say(session.labels, MEANINGS)
    panel.add_pair.native.click()
    session.image, session.labels = old
    panel.add_pair.native.click()
    assert choose_corrections(run, panel.pairs(), steps=5).validation == (HeldOutBox(pair=1, box=box),)
    assert choose_corrections(run, panel.pairs()[:1], steps=5).validation == "auto"


def test_pairs_with_other_classes_are_said_and_counted_apart(panel, session, viewer, qtbot):
    panel.add_pair.native.click()
    image, labels = balls(seed=5)
    session.image = viewer.add_image(image, name="others", **SPACE)
    session.labels = viewer.add_labels(labels, name="more", **SPACE)
    session.annotation.say(session.labels, Meanings.painted(("background", "ball", "ring")))
    panel.add_pair.native.click()
    qtbot.waitUntil(lambda: "different classes" in panel.state.planned.sentence)
    assert not panel.start.enabled
    assert panel.state.planned.voxels == tuple(int((value == LABELS).sum()) for value in (1, 2))


def test_a_class_without_a_score_has_no_best_one():
    curves = Curves(Classes(names=("background", "ball", "ring")), steps=[1, 2], losses=[1.0, 0.5])
    scores = {"dice": (0.8, math.nan, 0.5), "iou": (0.7, math.nan, 0.3)}
    curves.scored = [Validated(step, 1 / step, scores, (9, 0, 4), step == 1) for step in (1, 2)]
    assert curves.best(1) is None
    assert curves.best(2) == (0.5, 1)
    assert [round(value, 3) for value in curves.trivial() if value == value] == [0.818, 0.471]


@pytest.fixture
def two_channels(session, viewer, qtbot):
    """Return a panel for an image with two channels, of which the second is noise."""
    noise = np.random.default_rng(0).integers(0, 99, IMAGE.shape).astype(IMAGE.dtype)
    space = {"scale": (1, *SPACE["scale"]), "axis_labels": ("c", "z", "y", "x")}
    session.image = viewer.add_image(np.stack([IMAGE, noise]), name="cells", **space)
    session.labels = viewer.add_labels(LABELS.copy(), name="painted", scale=SPACE["scale"])
    session.annotation.say(session.labels, MEANINGS)
    panel = TrainPanel(session, lambda: None)
    qtbot.addWidget(panel.native)
    panel.form.blocks.value, panel.form.filters.value = 0, 2
    panel.form.steps.value, panel.form.every.value = 6, 2
    return panel


@pytest.mark.parametrize(("choice", "channels"), [("the one that is shown", 1), ("all 2", 2)])
def test_a_network_learns_from_one_channel_or_from_all(two_channels, session, qtbot, ended, choice, channels):
    panel = two_channels
    assert not panel._channels_row.native.isHidden()
    panel.channels.value = choice
    qtbot.waitUntil(lambda: panel.spec is not None and panel.spec.network.channels == channels, timeout=60_000)
    panel.start.native.click()
    run = ended()
    assert (run.state, run.error) == ("done", None)
    assert load_model(run.best).spec.channels == channels
    session.choose_model(run.best)
    assert session.volume().volume.n_channels == channels


def test_time_is_no_channel(two_channels, session, viewer):
    stack = np.stack([IMAGE, IMAGE])
    session.image = viewer.add_image(stack, axis_labels=("t", "z", "y", "x"), name="film")
    assert two_channels._channels_row.native.isHidden()
    session.image = viewer.add_image(np.stack([IMAGE[:4]] * 20), name="many")
    assert two_channels._channels_row.native.isHidden()

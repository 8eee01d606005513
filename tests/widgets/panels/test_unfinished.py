"""A segmentation into a file that was stopped, or whose window was closed, is offered again and goes on."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.normalize import Normalization
from napari_unet3d.core.objects.clean_up import Cleanup
from napari_unet3d.network.machine.devices import list_devices
from napari_unet3d.network.store import load_model, save_model
from napari_unet3d.tasks.jobs.segment import SegmentJob
from napari_unet3d.tasks.jobs.unfinished import forget_unfinished, remember_unfinished, unfinished_runs
from napari_unet3d.tasks.on_disk import OnDisk
from napari_unet3d.tasks.segment.work.ledger import boxes_done, is_in_use
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes import create_output, read_volume
from napari_unet3d.widgets.host.preferences import Preferences
from napari_unet3d.widgets.layers.volumes import add_layer, layer_data, load_if_small
from napari_unet3d.widgets.panels.segment.tab import SegmentPanel
from napari_unet3d.widgets.plugin import workbench as workbenches
from napari_unet3d.widgets.plugin.workbench import Workbench
from napari_unet3d.widgets.runs.results import check_cluster
from napari_unet3d.widgets.runs.session import Session
from napari_unet3d.words import calendar_day, times
from tests.support.dialogs import answer
from tests.support.models import random_model
from tests.support.segmenting import segment

LONG_MS = 120_000
VOLUME = np.random.default_rng(0).integers(0, 3000, (40, 61, 92)).astype(np.uint16)
SPEC = PredictSpec(tile_shape=(60, 60, 60), device="cpu", cleanup=Cleanup(high=0.5, low=0.5, min_voxels=3))


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory):
    """Return a folder with a model that takes seconds for the volume, so that a run is stopped in its middle."""
    folder = tmp_path_factory.mktemp("models")
    scaled = Normalization(kind="fixed", offset=0, scale=1 / 3000)
    save_model(random_model(blocks=1, filters=10, normalization=scaled, seed=1), folder / "small.unet3d")
    return folder


@pytest.fixture
def on_disk(tmp_path):
    path = tmp_path / "neurons.ome.tif"
    with create_output(path, VOLUME.shape, "uint16", voxel_size=(0.3, 0.2, 0.1), unit="um", kind="image") as output:
        output[:, :, :] = VOLUME
        output.commit()
    return path


@pytest.fixture
def opened(viewer, engine, previewer, models_folder, tmp_path, monkeypatch):
    """Return a function that opens one more window on the same program, with notes of their own for these tests."""
    monkeypatch.setattr("napari_unet3d.tasks.speeds.user_cache_path", lambda *_, **__: tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "models").symlink_to(models_folder)
    sessions = []

    def opened(viewer=viewer):
        preferences = Preferences(tmp_path / "own" / "models", warm_start=False)
        sessions.append(Session(viewer, engine, preferences, previewer))
        return sessions[-1]

    yield opened
    for session in sessions:
        session.close()


def panel_of(qtbot, session, viewer, path, tmp_path, spec=SPEC):
    """Return the tab Segment of a window where everything is ready for Start."""
    panel = SegmentPanel(session)
    qtbot.addWidget(panel.native)
    session.image = add_layer(viewer, layer_data(read_volume(path)))
    session.choose_model(session.preferences.models_folder / "small.unet3d")
    panel.form.spec = spec
    panel.form.place.value = tmp_path / "result.zarr"
    panel.update_plan()
    return panel


def stopped_after_two(qtbot, session, panel, close):
    """Start, and end the run after two tiles; return what is on the disk then."""
    panel.start.native.click()
    run = session.segmentation
    qtbot.waitUntil(lambda: run.n_done >= 2 or not run.is_active, timeout=LONG_MS)
    assert run.is_active
    close()
    qtbot.waitUntil(run._run.has_ended.is_set, timeout=LONG_MS)
    qtbot.waitUntil(lambda: not is_in_use(run.result.path), timeout=LONG_MS)
    boxes = boxes_done(run.result.path)
    assert len(boxes) >= 2
    return boxes


def test_a_later_window_offers_what_was_not_finished_and_goes_on_from_an_empty_viewer(
    qtbot, opened, viewer, on_disk, tmp_path, models_folder, monkeypatch
):
    session = opened()
    boxes = stopped_after_two(qtbot, session, panel_of(qtbot, session, viewer, on_disk, tmp_path), session.close)
    viewer.layers.clear()
    later = opened()
    monkeypatch.setattr(workbenches, "session_of", lambda _: later)
    workbench = Workbench(viewer)
    qtbot.addWidget(workbench)
    qtbot.waitUntil(lambda: bool(later.unfinished), timeout=LONG_MS)
    button = workbench.data.unfinished.buttons[0]
    assert not workbench.data.unfinished.native.isHidden()
    assert button.text == f"Go on with result.zarr, {calendar_day(datetime.now().astimezone())}"
    button.native.click()
    assert workbench._tabs.tabText(workbench._tabs.currentIndex()) == "Segment"
    qtbot.waitUntil(lambda: later.segmentation is not None, timeout=LONG_MS)
    run = later.segmentation
    assert run.share >= sum(box.n_voxels for box in boxes) / VOLUME.size
    qtbot.waitUntil(lambda: not run.is_active, timeout=LONG_MS)
    assert run.state == "done", run.error
    want = segment(VOLUME, load_model(models_folder / "small.unet3d"), spec=SPEC)
    np.testing.assert_array_equal(read_volume(tmp_path / "result.zarr").data[:, :, :], want)
    np.testing.assert_array_equal(np.asarray(run.layer.data[:, :, :]), want)
    # It is not offered any more.
    qtbot.waitUntil(lambda: not later.unfinished, timeout=LONG_MS)
    assert workbench.segment.unfinished.native.isHidden()


def test_with_the_image_and_the_file_chosen_start_goes_on_and_start_again_begins_anew(
    qtbot, opened, viewer, on_disk, tmp_path
):
    first = opened()
    boxes = stopped_after_two(qtbot, first, panel_of(qtbot, first, viewer, on_disk, tmp_path), first.close)
    session = opened()
    panel = panel_of(qtbot, session, viewer, on_disk, tmp_path)
    share = panel.state.planned.begun
    assert 0 < share < 1
    assert panel.start.text == f"Go on ({share:.0%} done)"
    assert panel.anew.visible or not panel.anew.native.isHidden()
    # Other choices do not go on with it, and that is said before Start.
    panel.form.spec = SPEC.model_copy(update={"region": Box((0, 30), (0, 60), (0, 90))})
    panel.update_plan()
    assert panel.start.text == "Start"
    assert "had other choices; Start begins again" in panel.state.planned.sentence
    # What is done is not thrown away unasked.
    asked = answer("Cancel")
    panel.start.native.click()
    assert asked == [f"A run into result.zarr was stopped when {share:.0%} was done. Throw that away and begin again?"]
    assert session.segmentation is None
    assert boxes_done(tmp_path / "result.zarr") == boxes
    panel.form.spec = SPEC
    panel.update_plan()
    totals = set()
    answer("Begin again")
    panel.anew.native.click()
    run = session.segmentation
    run.changed.connect(lambda: totals.add(run.n_tiles) if run.phase == "segmenting" else None)
    qtbot.waitUntil(lambda: not run.is_active, timeout=LONG_MS)
    assert run.state == "done"
    assert 40 in totals


def test_in_the_tab_segment_only_runs_of_the_chosen_image_are_offered(qtbot, opened, viewer, on_disk, tmp_path):
    session = opened()
    panel = panel_of(qtbot, session, viewer, on_disk, tmp_path)
    stopped_after_two(qtbot, session, panel, lambda: session.segmentation.cancel())
    qtbot.waitUntil(lambda: bool(session.unfinished), timeout=LONG_MS)
    assert not panel.unfinished.native.isHidden()
    session.image = viewer.add_image(VOLUME + 1, name="another")
    assert panel.unfinished.native.isHidden()


def test_a_start_again_that_is_thought_better_of_leaves_everything_as_it_was(qtbot, opened, viewer, on_disk, tmp_path):
    session = opened()
    panel = panel_of(qtbot, session, viewer, on_disk, tmp_path)
    boxes = stopped_after_two(qtbot, session, panel, lambda: session.segmentation.cancel())
    qtbot.waitUntil(lambda: panel.start.text.startswith("Go on"), timeout=LONG_MS)
    text, run = panel.start.text, session.segmentation
    shown = np.array(run.layer.data[boxes[0].slices])
    assert shown.any()
    answer("Cancel")
    panel.anew.native.click()
    panel.update_state()
    assert (panel.start.text, session.segmentation) == (text, run)
    np.testing.assert_array_equal(run.layer.data[boxes[0].slices], shown)
    assert run._job().resume
    assert boxes_done(tmp_path / "result.zarr") == boxes


def test_a_file_that_appeared_meanwhile_is_not_replaced_unasked(qtbot, opened, viewer, on_disk, tmp_path):
    session = opened()
    panel = panel_of(qtbot, session, viewer, on_disk, tmp_path)
    stopped_after_two(qtbot, session, panel, lambda: session.segmentation.cancel())
    qtbot.waitUntil(lambda: panel.start.text.startswith("Go on"), timeout=LONG_MS)
    other = tmp_path / "result.zarr" / "somebody's"
    other.parent.mkdir()
    other.touch()
    asked = answer("Cancel")
    panel.start.native.click()
    assert len(asked) == 1
    assert session.segmentation.state == "stopped"
    assert other.exists()


def test_another_model_or_volume_does_not_go_on_and_the_offer_stays_as_it_was(
    qtbot, opened, viewer, on_disk, tmp_path, models_folder
):
    first = opened()
    stopped_after_two(qtbot, first, panel_of(qtbot, first, viewer, on_disk, tmp_path), first.close)
    session = opened()
    panel = panel_of(qtbot, session, viewer, on_disk, tmp_path)
    assert panel.state.planned.begun
    scale = Normalization(kind="zscore")
    other = save_model(random_model(blocks=1, filters=2, normalization=scale, seed=7), tmp_path / "other.unet3d")
    session.choose_model(other)
    panel.update_plan()
    assert not panel.state.planned.begun
    assert "had other choices" in panel.state.planned.sentence
    session.choose_model(session.preferences.models_folder / "small.unet3d")
    panel.update_plan()
    assert panel.state.planned.begun
    session.image.scale = (0.4, 0.2, 0.1)
    panel.update_plan()
    assert not panel.state.planned.begun
    # A run that fails before it begins leaves the note of the one that can go on.
    session.choose_model(other)
    notes = {path.name: path.read_text() for path in session.preferences.unfinished_folder.iterdir()}
    panel.update_plan()
    on_disk.unlink()
    answer("Begin again")
    panel.start.native.click()
    qtbot.waitUntil(lambda: not session.segmentation.is_active, timeout=LONG_MS)
    assert session.segmentation.state == "failed"
    assert {path.name: path.read_text() for path in session.preferences.unfinished_folder.iterdir()} == notes
    assert len(notes) == 1
    assert boxes_done(tmp_path / "result.zarr")


def test_an_image_that_was_loaded_is_offered_too_and_a_cluster_finds_its_file(qtbot, opened, viewer, on_disk, tmp_path):
    session = opened()
    panel = panel_of(qtbot, session, viewer, on_disk, tmp_path)
    session.image = add_layer(viewer, layer_data(load_if_small(read_volume(on_disk))))
    assert session.volume().on_disk is None
    panel.update_plan()
    stopped_after_two(qtbot, session, panel, lambda: session.segmentation.cancel())
    (offered,) = unfinished_runs(session.preferences.unfinished_folder)
    assert offered.job.image == OnDisk(path=str(on_disk))
    check_cluster(session.volume(), replace(panel.choices(), cluster="tcp://127.0.0.1:8786"))


def test_where_the_devices_are_not_known_yet_it_begins_as_soon_as_they_are(
    qtbot, opened, viewer, on_disk, tmp_path, monkeypatch
):
    first = opened()
    stopped_after_two(qtbot, first, panel_of(qtbot, first, viewer, on_disk, tmp_path), first.close)
    (offered,) = unfinished_runs(first.preferences.unfinished_folder)
    session = opened()
    panel = SegmentPanel(session)
    qtbot.addWidget(panel.native)
    known, session.devices = session.devices, None
    # Another window may have asked the worker already.
    monkeypatch.setattr(session.engine, "devices", None)
    session.going_on.emit(offered)
    qtbot.waitUntil(lambda: "Asking the worker" in panel.state.planned.sentence, timeout=LONG_MS)
    assert session.segmentation is None
    session.devices = known or list_devices()
    session.devices_changed.emit()
    qtbot.waitUntil(lambda: session.segmentation is not None, timeout=LONG_MS)
    qtbot.waitUntil(lambda: not session.segmentation.is_active, timeout=LONG_MS)
    assert session.segmentation.state == "done"
    # What the window had added is no choice of a person.
    assert panel.form.also_set == f"Also set: tiles of {times(SPEC.tile_shape)} voxels."


def test_what_another_version_has_begun_is_not_thrown_away_unasked(qtbot, opened, viewer, on_disk, tmp_path):
    first = opened()
    stopped_after_two(qtbot, first, panel_of(qtbot, first, viewer, on_disk, tmp_path), first.close)
    head = tmp_path / "result.zarr.unfinished" / "run.json"
    head.write_text(head.read_text().replace('"format_version": 1', '"format_version": 99'))
    session = opened()
    panel = panel_of(qtbot, session, viewer, on_disk, tmp_path)
    asked = answer("Cancel")
    panel.start.native.click()
    assert "Throw that away" in asked[0]
    assert boxes_done(tmp_path / "result.zarr")


@pytest.fixture
def job(tmp_path, on_disk, models_folder):
    model = models_folder / "small.unet3d"
    return SegmentJob(model=model, image=OnDisk(path=str(on_disk)), output=tmp_path / "out.zarr")


def test_what_is_not_begun_or_gone_is_not_offered(tmp_path, job):
    notes = tmp_path / "notes"
    assert unfinished_runs(notes) == []
    remember_unfinished(notes, job)
    assert unfinished_runs(notes) == []
    (notes / "damaged.json").write_text("{")
    (notes / "other.json").write_text("[]")
    assert unfinished_runs(notes) == []
    forget_unfinished(notes, job.output)
    assert {path.name for path in notes.iterdir()} == {"damaged.json", "other.json"}


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_offer(tmp_path, job):
    (tmp_path / "file").write_text("")
    remember_unfinished(tmp_path / "file" / "notes", job)
    assert unfinished_runs(tmp_path / "file" / "notes") == []

"""What belongs to one time point is seen and painted there alone; what belongs to all channels, at all of them."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel

from napari_unet3d.errors import SpecError
from napari_unet3d.network.store import load_model
from napari_unet3d.widgets.host.preferences import Preferences
from napari_unet3d.widgets.layers.placing import is_time, place_of
from napari_unet3d.widgets.layers.volumes import layer_volume
from napari_unet3d.widgets.panels.data.tab import DataPanel
from napari_unet3d.widgets.panels.segment.tab import SegmentPanel
from napari_unet3d.widgets.panels.train.tab import TrainPanel
from napari_unet3d.widgets.runs.accepting import AcceptBrush
from napari_unet3d.widgets.runs.annotating import new_annotation
from napari_unet3d.widgets.runs.corrections import copy_found
from napari_unet3d.widgets.runs.session import Session
from tests.support.segmenting import segment

LONG_MS = 60_000
MOVIE = np.random.default_rng(0).integers(0, 3000, (3, 20, 50, 60)).astype(np.uint16)
SPACE = {"scale": (30, 0.3, 0.2, 0.1), "translate": (90, 1, 2, 3)}


@pytest.fixture
def movie(viewer, session):
    """Return an image with three time points, of which the second is shown."""
    session.image = viewer.add_image(MOVIE, name="movie", axis_labels=("t", "z", "y", "x"), **SPACE)
    show(viewer, 1)
    return session.image


@pytest.fixture
def data(qtbot, session, movie):
    panel = DataPanel(session)
    qtbot.addWidget(panel.native)
    return panel


def show(viewer, t) -> None:
    viewer.dims.set_point(0, 90 + 30 * t)


def shown_at(viewer, layer) -> list[int]:
    """Return the time points at which something of a layer is on the screen."""
    seen = []
    before = viewer.dims.point
    for t in range(3):
        show(viewer, t)
        if not layer._slice.empty:
            seen.append(t)
    viewer.dims.set_point(range(4), before)
    return seen


def test_the_result_of_one_time_point_lies_over_no_other_one(qtbot, session, viewer, movie, models_folder):
    panel = SegmentPanel(session)
    qtbot.addWidget(panel.native)
    session.choose_model(models_folder / "small.unet3d")
    panel.update_plan()
    panel.start.native.click()
    run = session.segmentation
    # Somebody looks elsewhere while it fills.
    assert run.is_active
    show(viewer, 2)
    qtbot.waitUntil(lambda: not run.is_active, timeout=LONG_MS)
    layer = run.layer
    assert (layer.name, layer.data.shape) == ("movie, segmented, t 1", (1, 20, 50, 60))
    assert shown_at(viewer, layer) == [1]
    np.testing.assert_array_equal(layer.data[0], segment(MOVIE[1], load_model(models_folder / "small.unet3d")))
    np.testing.assert_allclose(layer.data_to_world((0, 4, 5, 6)), movie.data_to_world((1, 4, 5, 6)))
    assert layer_volume(layer).shape == (20, 50, 60)
    # Nor is it accepted at another one, where it is not on the screen.
    new_annotation(session, ("background", "object"))
    with pytest.raises(SpecError, match="nothing to accept"):
        AcceptBrush(session).take()


def test_an_annotation_is_painted_at_its_time_point_alone(data, session, viewer):
    data.annotate.native.click()
    labels = session.labels
    assert (labels.name, labels.data.shape) == ("movie, annotation, t 1", (1, 20, 50, 60))
    assert shown_at(viewer, labels) == [1]
    assert (labels.editable, labels.mode) == (True, "paint")
    # A step back would be the last voxel along that axis.
    for t in (0, 2):
        show(viewer, t)
        assert not labels.editable
        assert "belongs to another time point" in data._elsewhere.value
        assert data.annotate.native.styleSheet()
    show(viewer, 1)
    assert (labels.editable, labels.mode) == (True, "paint")
    assert data._elsewhere.value == ""
    labels.paint(labels.world_to_data(viewer.dims.point), 2)
    assert (labels.data == 2).any()


def test_the_annotation_of_the_time_point_that_is_shown_is_chosen(data, session, viewer):
    data.new_annotation()
    first = session.labels
    show(viewer, 2)
    data.annotate.native.click()
    second = session.labels
    assert second is not first
    second.selected_label = 1
    show(viewer, 1)
    assert session.labels is first
    assert viewer.layers.selection.active is first
    assert (first.mode, first.selected_label) == ("paint", 1)
    show(viewer, 2)
    assert session.labels is second


def test_training_takes_the_time_point_that_was_annotated(qtbot, data, session, viewer):
    data.new_annotation()
    session.labels.data[0, 3] = 1
    session.labels.data[0, 3, :20] = 2
    show(viewer, 0)
    panel = TrainPanel(session, lambda: None)
    qtbot.addWidget(panel.native)
    (pair,) = panel.pairs()
    np.testing.assert_array_equal(pair.image.volume.data[:, :, :], MOVIE[1])
    assert pair.place().origin == (0, 0, 0)


def test_help_and_correct_work_at_the_time_point_and_undo_takes_them_back(data, session, viewer):
    data.new_annotation()
    labels = session.labels
    data.help.fill((10, 30, 30))
    assert (labels.data[0, 10] == 2).any()
    labels.undo()
    assert not labels.data.any()
    place = place_of(session.volume())
    found = viewer.add_labels(place.spread(np.ones((20, 50, 60), np.uint8)), **place.keywords)
    for layer in (labels, found):
        layer.corner_pixels = np.array([[0] * 4, [n - 1 for n in layer.data.shape]])
    names, known = ("background", "object"), session.annotation.of(labels).meanings
    copied = copy_found(viewer, found, names, labels, known)
    assert (labels.data == 2).sum() == copied.n_voxels == 50 * 60
    labels.undo()
    assert not labels.data.any()
    labels.data[0, 2, 10:20, 10:20] = labels.data[0, 8, 10:20, 10:20] = 2
    viewer.dims.set_point(1, 1 + 0.3 * 5)
    data.help.between.native.click()
    assert all((labels.data[0, z] == 2).sum() == 100 for z in range(2, 9))
    show(viewer, 0)
    data.help.between.native.click()
    assert "of another time point" in data.help._said.value


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_what_is_computed_from_channels_lies_on_the_image_at_all_of_them(viewer, axis):
    shape = [20, 50, 60]
    shape.insert(axis, 4)
    labels = ["z", "y", "x"]
    labels.insert(axis, "c")
    image = viewer.add_image(np.zeros(shape), axis_labels=labels, rgb=False, scale=(2, 3, 4, 5), translate=(9, 8, 7, 6))
    for found in (layer_volume(image, position=2), layer_volume(image, channels=4)):
        place = place_of(found, (1, 2, 3))
        voxels = np.zeros((5, 6, 7), np.uint8)
        layer = viewer.add_labels(place.spread(voxels), **place.keywords)
        for channel in range(4):
            voxel = np.insert([3, 4, 5], axis, channel)
            world = image.data_to_world(voxel)
            assert list(np.delete(np.rint(layer.world_to_data(world)), axis if layer.ndim == 4 else [])) == [2, 2, 2]
            viewer.dims.set_point(range(4), world)
            assert not layer._slice.empty


def test_what_the_fourth_axis_is_can_be_said_in_the_tab_data(qtbot, session, viewer):
    panel = DataPanel(session)
    qtbot.addWidget(panel.native)
    assert not panel.fourth_axis.visible
    session.image = image = viewer.add_image(MOVIE, rgb=False)
    assert not panel.fourth_axis.native.isHidden()
    # Without a name, few are taken for channels.
    assert (panel.fourth_axis.axis.value, panel.fourth_axis.kind.value) == (0, "channels")
    assert "channel 1 of 0 .. 2, as shown" in panel._facts.value
    panel.fourth_axis.kind.value = "time"
    assert image.axis_labels == ("t", "z", "y", "x")
    assert is_time(image)
    assert "time point 1 of 0 .. 2, as shown" in panel._facts.value
    panel.fourth_axis.axis.value = 1
    assert image.axis_labels == ("z", "t", "y", "x")
    assert session.volume().shape == (3, 50, 60)
    assert panel._facts.value.startswith("3 x 50 x 60 voxels")
    session.image = viewer.add_image(MOVIE[0], rgb=False)
    assert panel.fourth_axis.native.isHidden()


def test_an_annotation_comes_back_at_its_time_point(qtbot, engine, previewer, tmp_path):
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, MOVIE)
    preferences = Preferences(tmp_path / "own" / "models", warm_start=False)

    def window():
        session = Session(ViewerModel(), engine, preferences, previewer)
        panel = DataPanel(session)
        qtbot.addWidget(panel.native)
        # As napari reads it: an axis without a name.
        known = {"napari-unet3d": {"path": str(path)}}
        session.image = session.viewer.add_image(MOVIE, rgb=False, name="movie", metadata=known)
        return session, panel

    session, panel = window()
    panel.fourth_axis.kind.value = "time"
    session.viewer.dims.set_point(0, 2)
    panel.new_annotation()
    session.labels.paint((0, 5, 20, 20), 2)
    painted = session.labels.data.copy()
    session.close()
    session, panel = window()
    qtbot.waitUntil(lambda: session.project.offered is not None, timeout=LONG_MS)
    panel.resume.native.click()
    qtbot.waitUntil(lambda: session.labels is not None, timeout=LONG_MS)
    labels = session.labels
    np.testing.assert_array_equal(labels.data, painted)
    assert is_time(session.image)
    assert labels.data_to_world((0, 0, 0, 0))[0] == 2
    # And goes on in the same place.
    session.viewer.dims.set_point(0, 2)
    labels.paint((0, 9, 20, 20), 2)
    qtbot.waitUntil(lambda: session.project.saved_line(labels)[0].endswith(" in movie.tif.unet3d-project"))
    session.close()
    assert len(list((tmp_path / "movie.tif.unet3d-project" / "annotation").iterdir())) == 1

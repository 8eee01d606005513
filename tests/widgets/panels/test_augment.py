"""The tab Augment on a viewer without a window, with a real worker that makes the patches."""

from __future__ import annotations

import numpy as np
import psutil
import pytest
from qtpy.QtCore import Qt

from napari_unet3d.core.augment.choices import AugmentSpec
from napari_unet3d.core.augment.presets import PRESETS
from napari_unet3d.core.augment.sampler import PatchSampler
from napari_unet3d.core.normalize import Scaling
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.tasks.augment.patches import GRID, PATCH, PATCH_LABELS, mosaic, source_of
from napari_unet3d.tasks.train.spec import TrainSpec
from napari_unet3d.widgets.layers.view import view_of
from napari_unet3d.widgets.layers.volumes import is_illustration
from napari_unet3d.widgets.panels.augment.form import OTHER, AugmentForm
from napari_unet3d.widgets.panels.augment.tab import AROUND, DRAWN, AugmentPanel

RNG = np.random.default_rng(0)
IMAGE = RNG.gamma(2, 300, (60, 110, 120)).astype(np.uint16)
LABELS = (IMAGE > 900).astype(np.uint8) * 2
SMALL = 92
SPACE = {"scale": (0.5, 0.2, 0.2), "translate": (3, 4, 5), "units": ("um",) * 3}


@pytest.fixture
def panel(session, viewer, qtbot):
    viewer.add_image(IMAGE, name="cells", **SPACE)
    viewer.add_labels(LABELS, name="mask", **SPACE)
    panel = AugmentPanel(session)
    qtbot.addWidget(panel.native)
    panel.size.value = SMALL
    return panel


@pytest.fixture
def made(session, qtbot):
    """Return a function that waits until the preview is there."""

    def made():
        preview = session.preview
        qtbot.waitUntil(lambda: not preview.is_active, timeout=60_000)
        assert preview.error is None
        return preview

    return made


def test_what_is_previewed_is_what_training_gets(panel, made):
    panel.place.value = DRAWN
    panel.seed.value = 7
    panel.show_preview()
    layers = made().layers
    request = panel.request()
    scaling = Scaling(*made().result.scaling)
    source = source_of(request.model_copy(update={"corner": None}), IMAGE, LABELS, scaling)
    with PatchSampler(source, seed=5) as patches:
        patch = [next(patches) for _ in range(3)][-1]
    assert layers[PATCH].data.tobytes() == patch.image.tobytes()
    assert layers[PATCH_LABELS].data.tobytes() == patch.labels.tobytes()
    assert made().result.samples[0] == patch.sample
    assert source.spec == panel.form.spec


@pytest.mark.parametrize("scale", [(1.0, 1.0, 1.0), (0.18, 0.1, 0.1), (5.0, 0.5, 0.5)])
def test_the_layers_lie_where_the_patch_was_cut(session, viewer, qtbot, made, scale):
    viewer.add_image(IMAGE, scale=scale, translate=(7, 8, 9), units=("um",) * 3, rotate=20)
    panel = AugmentPanel(session)
    qtbot.addWidget(panel.native)
    panel.size.value = SMALL
    panel.form.spec = AugmentSpec()
    panel.arrows.value = panel.grid.value = True
    panel.show_preview()
    preview = made()
    corner = preview.result.samples[0].corner
    assert set(preview.layers) == {PATCH, GRID, "displacement", "box"}
    for name, layer in preview.layers.items():
        at = np.array([9, 11, 13])
        inner = 44 if name == "box" else 0
        in_volume = viewer.layers[0].data_to_world(at + corner + inner)
        np.testing.assert_allclose(layer.data_to_world(at), in_volume)
        assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    # Nothing was done, so what is shown lies over what it was cut from.
    values = (IMAGE.astype(np.float32) - preview.result.scaling[0][0]) * np.float32(preview.result.scaling[1][0])
    place = preview.result.samples[0].place
    inside = [(max(0, a), min(b, n)) for (a, b), n in zip(place, IMAGE.shape, strict=True)]
    ours = tuple(slice(a - start, b - start) for (a, b), start in zip(inside, corner, strict=True))
    theirs = tuple(slice(a, b) for a, b in inside)
    np.testing.assert_allclose(preview.layers[PATCH].data[ours], values[theirs], rtol=1e-5, atol=1e-5)


def test_a_change_updates_the_same_layers(panel, viewer, made, qtbot):
    panel.show_preview()
    before = made().layers
    n, data = len(viewer.layers), before[PATCH].data.copy()
    panel.form.spec = AugmentSpec(gain={"probability": 1})
    qtbot.waitUntil(lambda: made().result.samples[0].intensity.gain != 1, timeout=60_000)
    assert made().layers == before
    assert len(viewer.layers) == n
    assert not np.array_equal(before[PATCH].data, data)


def test_next_takes_the_next_seed_and_a_typed_one_comes_again(panel, made):
    panel.show_preview()
    first = made().layers[PATCH].data.copy()
    panel.show_next()
    assert panel.seed.value == 1
    assert made().result.samples[0].seed == 1
    assert not np.array_equal(made().layers[PATCH].data, first)
    panel.seed.value = 0
    panel.update_preview()
    np.testing.assert_array_equal(made().layers[PATCH].data, first)


def test_compare_shows_patches_side_by_side_and_preview_shows_one_again(panel, made):
    panel.show_several()
    preview = made()
    assert [sample.seed for sample in preview.result.samples] == list(range(9))
    shape, _ = mosaic(9, (4, 4, 4))
    assert preview.layers[PATCH].data.shape == shape
    assert "box" not in preview.layers
    panel.show_preview()
    made()
    assert preview.layers[PATCH].data.shape == (SMALL,) * 3
    assert "box" in preview.layers


def test_painting_goes_on_where_it_was_and_previews_are_no_annotation(panel, viewer, made):
    viewer.layers.selection.active = viewer.layers["mask"]
    panel.show_preview()
    layers = made().layers
    assert viewer.layers.selection.active is viewer.layers["mask"]
    assert all(is_illustration(layer) for layer in layers.values())
    assert [layer for layer in panel.image.choices if layer is not None] == [viewer.layers["cells"]]
    assert panel.labels_layer.value.name == "mask"


def test_without_labels_the_image_alone_is_shown(panel, made):
    panel.labels_layer.value = None
    panel.show_preview()
    assert PATCH_LABELS not in made().layers


@pytest.mark.parametrize(
    ("keywords", "word"),
    [({"shape": (5, 6, 7)}, "5 x 6 x 7"), ({"scale": (0.5, 0.3, 0.3)}, "0.5 x 0.3 x 0.3")],
)
def test_labels_that_do_not_fit_are_said_and_nothing_can_be_pressed(panel, viewer, keywords, word):
    data = np.zeros(keywords.get("shape", IMAGE.shape), np.uint8)
    scale = keywords.get("scale", (0.5, 0.2, 0.2))
    panel.labels_layer.value = viewer.add_labels(
        data, name="other", scale=scale, translate=(3, 4, 5), units=("um",) * 3
    )
    assert word in panel.state.problem
    assert not panel.preview.enabled
    panel.labels_layer.value = viewer.layers["mask"]
    assert panel.preview.enabled


def test_without_an_image_the_button_is_disabled_and_says_why(session, qtbot):
    panel = AugmentPanel(session)
    qtbot.addWidget(panel.native)
    assert "Open a volume" in panel.state.problem
    assert not panel.preview.enabled


def test_folding_is_said_where_there_is_any(panel, made):
    panel.form.spec = AugmentSpec(elastic={"probability": 1, "sigma": 30})
    panel.show_preview()
    assert made().result.folded[0] > 0.01
    assert "folds" in panel.state.folded
    panel.form.spec = AugmentSpec()
    panel.update_preview()
    made()
    assert panel.state.folded == ""


def test_a_worker_that_was_killed_is_said_and_the_next_preview_works(panel, session, made, qtbot):
    panel.show_preview()
    preview = made()
    panel.seed.value = 3
    panel.update_preview()
    psutil.Process(preview.engine.pid).kill()
    qtbot.waitUntil(lambda: not preview.is_active, timeout=60_000)
    panel.show_preview()
    made()


@pytest.mark.parametrize("name", PRESETS)
def test_the_form_gives_back_every_preset(qtbot, name):
    form = AugmentForm(lambda: None)
    qtbot.addWidget(form.native)
    form.spec = PRESETS[name]
    assert form.spec == PRESETS[name]
    assert form.preset.value == name


def test_a_preset_that_was_changed_is_called_other_and_chosen_again_it_is_back(qtbot):
    changes = []
    form = AugmentForm(lambda: changes.append(form.spec))
    qtbot.addWidget(form.native)
    form.parts["elastic"].fields["sigma"].widgets[0].value = 3
    assert form.preset.value == OTHER
    assert changes[-1].elastic.sigma == 3
    form.preset.value = "electron microscopy"
    assert changes[-1] == form.spec
    assert form.spec.missing_slices.probability == 0.2


def test_intensities_are_measured_on_what_is_shown(panel, session, viewer, made, models_folder):
    panel.form.spec = AugmentSpec()
    panel.show_preview()
    first = made().result.scaling
    # Another image is chosen while a preview is made: its numbers are its own.
    panel.show_preview()
    session.image = viewer.add_image(IMAGE.astype(np.float32) * 10, name="brighter", **SPACE)
    panel.show_preview()
    second = made().result.scaling
    np.testing.assert_allclose(second[1], np.divide(first[1], 10), rtol=1e-3)
    # So they are after a failure, and for each way to scale.
    bad = IMAGE.astype(np.float32) * 100
    bad[:, 40:70, 40:70] = np.nan
    session.image = viewer.add_image(bad, name="bad", **SPACE)
    panel.show_preview()
    with pytest.raises(AssertionError):
        made()
    assert panel.request().scaling is None
    session.image = viewer.layers["cells"]
    panel.show_preview()
    assert made().result.scaling == first
    session.choose_model(models_folder / "small.unet3d")
    assert panel.request().normalization.kind == "zscore"
    assert panel.request().scaling is None


def test_image_and_labels_with_a_fourth_axis_are_taken_at_one_position(session, viewer, qtbot, made):
    images, labels = np.stack([IMAGE, IMAGE * 2]), np.stack([LABELS, np.full_like(LABELS, 7)])
    viewer.add_image(images, name="i", axis_labels=("c", "z", "y", "x"))
    viewer.add_labels(labels, name="l", axis_labels=("c", "z", "y", "x"))
    panel = AugmentPanel(session)
    qtbot.addWidget(panel.native)
    panel.size.value = SMALL
    panel.form.spec = AugmentSpec()
    viewer.dims.set_current_step(0, 1)
    panel.show_preview()
    assert set(np.unique(made().layers[PATCH_LABELS].data)) == {7}
    session.labels = viewer.add_labels(labels[:1], name="one", axis_labels=("c", "z", "y", "x"))
    panel.update_state()
    assert "is shown at position 1 of its fourth axis; 'one' lies at another one" in panel.state.problem


def test_what_is_typed_on_the_way_to_a_number_is_no_error(panel, qtbot):
    spacing = panel.form.parts["elastic"].fields["spacing"].widgets[0]
    gain = panel.form.parts["gain"].fields["factor"].widgets[0]
    assert "lines" not in panel.form.parts["elastic"].fields
    assert spacing.min > 0
    assert gain.min > 0
    spacing.native.setFocus()
    spacing.native.selectAll()
    qtbot.keyClicks(spacing.native, "12")
    qtbot.keyClick(spacing.native, Qt.Key.Key_Return)
    assert panel.form.spec.elastic.spacing == 12
    assert panel.preview.enabled


def test_labels_that_were_cleared_stay_so(panel, viewer, made):
    panel.labels_layer.value = None
    panel.show_preview()
    assert PATCH_LABELS not in made().layers
    assert panel.labels_layer.value is None
    new = viewer.add_labels(LABELS, name="new", **SPACE)
    assert panel.labels_layer.value is new


def test_selecting_a_label_in_one_layer_changes_nothing_in_the_other(panel, viewer, made):
    panel.show_preview()
    shown, own = made().layers[PATCH_LABELS], viewer.layers["mask"]
    own.selected_label = 1
    own.show_selected_label = True
    assert not shown.show_selected_label
    assert shown.colormap.map(np.uint8(2))[-1] > 0
    own.show_selected_label = False
    shown.show_selected_label = True
    assert own.colormap.map(np.uint8(2))[-1] > 0


def test_a_change_while_several_are_compared_compares_them_again(panel, made):
    panel.place.value = DRAWN
    panel.show_several()
    corners = {sample.corner for sample in made().result.samples}
    assert len(corners) == 9
    panel.form.spec = AugmentSpec(gain={"probability": 1})
    panel.update_preview()
    assert len(made().result.samples) == 9
    panel.show_preview()
    assert len(made().result.samples) == 1


def test_the_last_seed_is_followed_by_the_first(panel, made):
    panel.seed.value = panel.seed.max
    panel.show_next()
    made()
    assert panel.seed.value == 0


def test_layers_are_called_after_the_image_that_they_show(panel, session, viewer, made):
    panel.show_preview()
    made().layers[PATCH].name = "mine"
    session.image = viewer.add_image(IMAGE, name="others", **SPACE)
    panel.show_preview()
    layers = made().layers
    assert layers[PATCH].name == "mine"
    assert layers[PATCH_LABELS].name == "others, augmented labels"


def test_the_preset_suits_the_voxels_until_the_user_chooses(session, viewer, qtbot):
    viewer.add_image(IMAGE, name="cubes", scale=(1, 1, 1))
    panel = AugmentPanel(session)
    qtbot.addWidget(panel.native)
    assert panel.form.preset.value == "isotropic light microscopy"
    session.image = viewer.add_image(IMAGE, name="stack", scale=(5, 1, 1))
    assert panel.form.spec == PRESETS["anisotropic stack"]
    session.image = viewer.layers["cubes"]
    assert panel.form.preset.value == "isotropic light microscopy"
    panel.form.preset.value = "electron microscopy"
    session.image = viewer.layers["stack"]
    assert panel.form.preset.value == "electron microscopy"


def test_a_slider_sets_the_numbers_behind_it_and_shows_them(qtbot):
    changes = []
    form = AugmentForm(lambda: changes.append(form.spec))
    qtbot.addWidget(form.native)
    form.native.show()
    form.show_voxel_size(0.2, "um")
    elastic = form.parts["elastic"]
    strong, wide = elastic.sliders
    assert (strong._words.value, wide._words.value) == ("0.8 um", "9.6 um")
    assert not elastic.fields["sigma"].native_row.native.isVisible()
    strong.slider.value = 10
    assert strong._words.value == "2 um"
    assert (len(changes), changes[-1].elastic.sigma) == (1, 10)
    wide.slider.value = 64
    assert changes[-1].elastic.spacing == 64
    form.parts["gain"].sliders[0].slider.value = 1.0
    assert changes[-1].gain.factor == (0.5, 2.0)
    # The other way round: a number that is typed moves the slider.
    form.numbers.native.click()
    assert elastic.fields["sigma"].native_row.native.isVisible()
    elastic.fields["sigma"].widgets[0].value = 4
    assert strong.slider.value == pytest.approx(4, abs=0.2)
    assert form.spec.elastic.sigma == 4


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "nothing"])
def test_sliders_that_nobody_moves_change_nothing(qtbot, name):
    form = AugmentForm(lambda: None)
    qtbot.addWidget(form.native)
    form.spec = PRESETS[name]
    form.numbers.value = True
    form.show_voxel_size(0.3, "um")
    assert form.spec == PRESETS[name]


def test_what_is_set_here_is_what_train_takes(panel, session, made):
    from napari_unet3d.widgets.panels.train.form import AS_AUGMENT, AUTOMATIC, TrainForm

    form = TrainForm(lambda: None, lambda: session.augment)
    session.augment_changed.connect(form.take_augment)
    assert form.preset.value == AUTOMATIC
    assert AS_AUGMENT not in form.preset.choices
    assert "augment" not in form.choices.given
    panel.form.parts["elastic"].sliders[0].slider.value = 3
    assert form.preset.value == AS_AUGMENT
    assert form.choices.given["augment"] == panel.form.spec
    assert panel.form.spec.elastic.sigma == 3
    form.preset.value = "anisotropic stack"
    assert "augment" not in form.choices.given
    panel.form.parts["elastic"].sliders[0].slider.value = 4
    assert form.choices.given["augment"].elastic.sigma == 4


def test_it_opens_with_what_train_does_around_annotation(panel, session, viewer, made, qtbot):
    trained = TrainSpec(
        patch=(60, 92, 92),
        network=NetworkSpec(blocks=1, filters=2),
        class_names=("background", "cell"),
        augment=PRESETS["electron microscopy"],
    )
    painted = np.zeros_like(LABELS)
    painted[41, 70:74, 90:95] = 2
    session.labels = viewer.add_labels(painted, name="painted", **SPACE)
    panel.follow_training(None)
    assert panel.place.value != AROUND
    panel.follow_training(trained)
    assert panel.size.native.currentText() == "Train: 60 x 92 x 92"
    assert panel.place.value == AROUND
    assert panel.form.preset.value == "electron microscopy"
    assert session.augment is None
    qtbot.waitUntil(lambda: session.annotation.of(session.labels).meanings is not None)
    panel.show_preview()
    sample = made().result.samples[0]
    assert sample.frame.shape == (60, 92, 92)
    middle = [first + n // 2 for first, n in zip(sample.corner, sample.frame.shape, strict=True)]
    assert abs(middle[1] - 72) <= 3
    assert abs(middle[2] - 92) <= 3
    # What was set here stays.
    panel.form.preset.value = "anisotropic stack"
    panel.follow_training(trained.changed(steps=7))
    assert panel.form.preset.value == "anisotropic stack"


def test_a_preset_as_it_comes_does_not_warn_of_folds(panel, made):
    for name in ("isotropic light microscopy", "anisotropic stack", "electron microscopy", "as the original"):
        panel.form.preset.value = name
        panel.show_several()
        made()
        assert panel.state.folded == ""


def test_a_preview_is_removed_by_a_click_and_compared_patches_are_in_view(panel, viewer, made, qtbot):
    n, before = len(viewer.layers), view_of(viewer)
    assert panel.remove_all.native.isHidden()
    panel.compare.native.click()
    layer = made().layers[PATCH]
    middle = layer.extent.world.mean(axis=0)
    np.testing.assert_allclose(viewer.scene.camera.center[1:], middle[1:], atol=1)
    assert viewer.dims.point[0] == pytest.approx(middle[0], abs=1)
    assert not panel.remove_all.native.isHidden()
    panel.remove_all.native.click()
    assert len(viewer.layers) == n
    assert panel.remove_all.native.isHidden()
    after = view_of(viewer)
    assert after.point == pytest.approx(before.point)
    assert after.center == pytest.approx(before.center)
    # A change does not bring it back.
    panel.form.parts["noise"].sliders[0].slider.value = 0.3
    qtbot.wait(200)
    assert len(viewer.layers) == n

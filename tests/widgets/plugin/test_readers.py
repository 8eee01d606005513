"""What napari opens with this plugin, through napari itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import npe2
import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from PIL import Image

from napari_unet3d.errors import ModelError, Unet3dError, VolumeError
from napari_unet3d.network.store import save_model
from napari_unet3d.volumes import create_output
from napari_unet3d.widgets.plugin.readers import get_reader
from tests.support.models import random_model

MANIFEST = Path(__file__).parents[3] / "src" / "napari_unet3d" / "napari.yaml"
PLUGIN = "napari-unet3d"
VOXEL_SIZE = (0.18, 0.1, 0.05)


@pytest.fixture
def viewer(npe2pm) -> ViewerModel:
    npe2pm.register(npe2.PluginManifest.from_file(MANIFEST))
    return ViewerModel()


@pytest.fixture
def application(request):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    return request.getfixturevalue("qapp")


@pytest.fixture
def notices():
    notification_manager.records.clear()
    yield lambda: [record.message for record in notification_manager.records]
    notification_manager.records.clear()


@pytest.fixture
def answer(application):
    """Return a function that answers the next dialogs, one function each; the test fails if one is not asked."""
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication

    waiting, errors = [], []

    def look():
        dialog = QApplication.activeModalWidget()
        if dialog is None or not waiting:
            return
        try:
            waiting.pop(0)(dialog)
        except Exception as error:  # noqa: BLE001 - it is raised below, where pytest sees it
            errors.append(error)
            dialog.reject()

    timer = QTimer()
    timer.timeout.connect(look)
    timer.start(20)
    yield waiting.append
    timer.stop()
    assert not errors
    assert not waiting, "a dialog was expected and did not come"


def write_slices(folder: Path, volume: np.ndarray, suffix: str = ".tif") -> None:
    folder.mkdir(parents=True)
    for z, plane in enumerate(volume):
        if suffix == ".png":
            Image.fromarray(plane).save(folder / f"z{z}.png")
        else:
            tifffile.imwrite(
                folder / f"z{z}.tif",
                plane,
                imagej=True,
                resolution=(1 / VOXEL_SIZE[2], 1 / VOXEL_SIZE[1]),
                metadata={"unit": "um", "spacing": VOXEL_SIZE[0]},
            )


def write_hdf5(path: Path, **arrays: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
            if array.ndim == 3:
                file[name].attrs["element_size_um"] = VOXEL_SIZE
    return path


def ramp(shape: tuple[int, ...] = (4, 5, 6), dtype: type = np.uint16) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def assert_in_physical_space(layer, voxel_size=VOXEL_SIZE):
    assert tuple(layer.scale) == pytest.approx(voxel_size)
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    assert tuple(layer.axis_labels) == ("z", "y", "x")


def test_a_sample_opens_as_an_image_and_labels_in_one_space(viewer, tmp_path, notices):
    write_slices(tmp_path / "s 1" / "image", ramp())
    # As most masks are: PNG, which has no voxel size.
    write_slices(tmp_path / "s 1" / "mask", ramp(dtype=np.uint8) % 3, ".png")
    image, mask = viewer.open(tmp_path / "s 1", plugin=PLUGIN)
    assert (image._type_string, mask._type_string) == ("image", "labels")
    assert (image.name, mask.name) == ("s 1 image", "s 1 mask")
    np.testing.assert_array_equal(image.data, ramp())
    np.testing.assert_array_equal(mask.data, ramp() % 3)
    assert_in_physical_space(image)
    assert_in_physical_space(mask)
    assert notices() == []


def test_a_sample_whose_parts_do_not_fit_says_so(viewer, tmp_path, notices):
    write_slices(tmp_path / "s" / "image", ramp())
    write_slices(tmp_path / "s" / "mask", ramp((3, 5, 6), np.uint8))
    assert len(viewer.open(tmp_path / "s", plugin=PLUGIN)) == 2
    (notice,) = notices()
    assert "The image has 4 x 5 x 6 voxels of 0.18 x 0.1 x 0.05 um, the mask 3 x 5 x 6" in notice


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_folder_of_slices_opens_as_one_image(viewer, tmp_path, suffix, notices):
    write_slices(tmp_path / "stack", ramp((12, 5, 6)), suffix)
    (layer,) = viewer.open(tmp_path / "stack", plugin=PLUGIN)
    np.testing.assert_array_equal(layer.data, ramp((12, 5, 6)))
    if suffix == ".tif":
        assert_in_physical_space(layer)
    else:
        assert any("no voxel size" in notice for notice in notices())


def test_an_image_that_is_alone_in_its_file_opens_without_a_question(viewer, tmp_path):
    path = write_hdf5(tmp_path / "a.h5", raw=ramp(), times=np.arange(4.0), names=np.array([b"a", b"b"]))
    (layer,) = viewer.open(path, plugin=PLUGIN)
    assert layer._type_string == "image"
    assert layer.name == "a raw"
    np.testing.assert_array_equal(layer.data, ramp())
    assert_in_physical_space(layer)
    # It is in memory: the file is free for whoever writes it.
    with h5py.File(path, "a") as file:
        del file["raw"]


@pytest.mark.parametrize(
    ("name", "dtype", "kind"),
    [
        ("labels", np.uint16, "labels"),
        ("volumes/neuron_seg", np.int32, "labels"),
        ("mask", np.bool_, "labels"),
        ("label_probability", np.float32, "image"),
        ("unmasked", np.uint8, "image"),
    ],
)
def test_the_name_and_the_type_say_what_are_labels(viewer, tmp_path, name, dtype, kind):
    path = write_hdf5(tmp_path / "a.hdf5", **{name: ramp(dtype=dtype)})
    (layer,) = viewer.open(path, plugin=PLUGIN)
    assert layer._type_string == kind
    assert_in_physical_space(layer)


def test_several_arrays_are_asked_for_and_open_together(viewer, shared_data, answer):
    def open_both(dialog):
        assert dialog.list.topLevelItemCount() == 2
        # The image is chosen, the labels are ticked already.
        assert dialog.chosen == [("/raw", False)]
        dialog.list.selectAll()
        assert dialog.chosen == [("/label", True), ("/raw", False)]
        dialog.accept()

    answer(open_both)
    labels, image = viewer.open(shared_data / "ovule" / "sample_ovule.h5", plugin=PLUGIN)
    assert (labels._type_string, image._type_string) == ("labels", "image")
    assert (labels.name, image.name) == ("sample_ovule label", "sample_ovule raw")
    assert labels.data.shape == image.data.shape == (32, 128, 128)
    assert labels.data.max() > 1


def test_the_largest_3d_array_is_chosen_and_any_integers_can_be_labels(viewer, tmp_path, answer):
    path = write_hdf5(tmp_path / "a.h5", small=ramp((2, 2, 2)), large=ramp(), floats=ramp(dtype=np.float32)[:3])

    def tick(dialog):
        from qtpy.QtCore import Qt

        items = [dialog.list.topLevelItem(at) for at in range(3)]
        large = next(item for item in items if item.text(0) == "/large")
        floats = next(item for item in items if item.text(0) == "/floats")
        assert large.isSelected()
        assert floats.data(3, Qt.ItemDataRole.CheckStateRole) is None
        large.setCheckState(3, Qt.CheckState.Checked)
        dialog.accept()

    answer(tick)
    (layer,) = viewer.open(path, plugin=PLUGIN)
    assert layer._type_string == "labels"
    np.testing.assert_array_equal(layer.data, ramp())


def test_without_a_choice_the_file_cannot_be_opened(viewer, shared_data, answer):
    def look(dialog):
        from qtpy.QtWidgets import QDialogButtonBox

        dialog.list.clearSelection()
        assert not dialog.buttons.button(QDialogButtonBox.StandardButton.Open).isEnabled()
        dialog.reject()

    answer(look)
    assert viewer.open(shared_data / "ovule" / "sample_ovule.h5", plugin=PLUGIN) == []


def test_axes_that_are_not_clear_are_asked_for_until_they_fit(viewer, tmp_path, answer, notices):
    path = write_hdf5(tmp_path / "a.h5", data=ramp((2, 4, 5, 6)))

    def type_nonsense(dialog):
        assert "command line" not in str([child.text() for child in dialog.children() if hasattr(child, "text")])
        dialog.line.setText("zz")
        dialog.accept()

    def type_axes(dialog):
        assert dialog.line.text() == "zz"
        dialog.line.setText("c z y x")
        dialog.accept()

    answer(type_nonsense)
    answer(type_axes)
    (layer,) = viewer.open(path, plugin=PLUGIN)
    np.testing.assert_array_equal(layer.data, ramp((2, 4, 5, 6)))
    assert tuple(layer.axis_labels) == ("c", "z", "y", "x")


def test_a_question_for_axes_can_be_cancelled(viewer, tmp_path, answer):
    answer(lambda dialog: dialog.reject())
    assert viewer.open(write_hdf5(tmp_path / "a.h5", data=ramp((2, 4, 5, 6))), plugin=PLUGIN) == []


def test_no_question_is_asked_outside_the_thread_of_the_window(application, tmp_path):
    several = write_hdf5(tmp_path / "a.h5", raw=ramp(), label=ramp())
    unclear = write_hdf5(tmp_path / "b.h5", data=ramp((2, 4, 5, 6)))
    said = []

    def read():
        for path in (several, unclear):
            try:
                get_reader(str(path))(str(path))
            except VolumeError as error:
                said.append(str(error))

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert "/label 4 x 5 x 6 uint16; /raw 4 x 5 x 6 uint16" in said[0]
    assert f"read_volume('{several}:/label')" in said[0]
    assert "axes='" in said[1]


def test_without_a_window_the_arrays_are_listed_and_nothing_heavy_is_imported(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", raw=ramp(), label=ramp())
    code = (
        "import sys\n"
        "from napari_unet3d.widgets.plugin.readers import get_reader\n"
        "heavy = {'keras', 'tensorflow', 'h5py', 'zarr', 'tifffile'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))\n"
        "try:\n"
        "    get_reader(sys.argv[1])(sys.argv[1])\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
        "print(sorted({'keras', 'tensorflow'} & {name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    before, message, after = done.stdout.splitlines()
    assert before == after == "[]"
    assert message.startswith("VolumeError")
    assert "/raw 4 x 5 x 6 uint16" in message


def damaged_files(folder: Path) -> dict[str, Path]:
    (folder / "empty.h5").touch()
    (folder / "page.h5").write_text("<!DOCTYPE html><html></html>")
    whole = write_hdf5(folder / "whole.h5", raw=ramp((8, 40, 40))).read_bytes()
    (folder / "cut.h5").write_bytes(whole[: len(whole) // 2])
    write_hdf5(folder / "flat.h5", data=ramp((5, 6)))
    write_slices(folder / "gap", ramp())
    (folder / "gap" / "z2.tif").unlink()
    write_slices(folder / "sample" / "image", ramp())
    (folder / "sample" / "mask").mkdir()
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty", "is empty (0 bytes)"),
        ("page", "is a web page"),
        ("cut", "damaged"),
        ("flat", "no 3D array"),
        ("gap", "lacks slices: 2"),
        ("sample", "holds no slices"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(viewer, tmp_path, name, said):
    path = damaged_files(tmp_path)[name]
    with pytest.raises(VolumeError) as error:
        viewer.open(path, plugin=PLUGIN)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "Traceback" not in str(error.value)
    assert len(viewer.layers) == 0


def test_weights_of_a_network_are_told_from_a_volume(viewer, shared_data):
    with pytest.raises(VolumeError, match=r"weights of a network, not a volume\. Use napari-unet3d import-model"):
        viewer.open(shared_data / "exllsm" / "neuron_2021.h5", plugin=PLUGIN)


def test_a_damaged_model_is_refused_with_its_reason(viewer, tmp_path):
    path = save_model(random_model(), tmp_path / "a.unet3d")
    (path / "model.json").write_text("{")
    with pytest.raises(ModelError, match=r"model.json cannot be read"):
        viewer.open(path, plugin=PLUGIN)
    (path / "model.json").unlink()
    with pytest.raises(ModelError, match=r"holds no model.json"):
        viewer.open(path, plugin=PLUGIN)


def test_a_model_needs_a_window_to_be_chosen_in(viewer, tmp_path):
    path = save_model(random_model(), tmp_path / "renamed")
    with pytest.raises(Unet3dError, match="is a model, but no napari window is open"):
        viewer.open(path, plugin=PLUGIN)


def test_other_things_are_left_to_other_readers(tmp_path):
    zarr = tmp_path / "a.zarr"
    with create_output(zarr, (2, 2, 2), "uint8", voxel_size=(1, 1, 1), unit="um") as output:
        output.commit()
    unnamed = shutil.copytree(zarr, tmp_path / "a zarr")
    (tmp_path / "empty").mkdir()
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "one.pdf").touch()
    (tmp_path / "papers" / ".hidden.tif").touch()
    tifffile.imwrite(tmp_path / "a.tif", ramp())
    others = [zarr, unnamed, tmp_path / "empty", tmp_path / "papers", tmp_path / "a.tif", tmp_path / "missing.h5"]
    for other in [*map(str, others), "https://example.org/a.h5", "nul\0byte.h5", "", None, 3]:
        assert get_reader(other) is None, other
    assert get_reader([str(tmp_path / "a.h5"), str(tmp_path / "b.h5")]) is None


def test_a_folder_is_not_read_to_be_recognized(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for at in range(20):
        (folder / f"z{at}.tif").write_bytes(b"not read yet")
    assert get_reader(folder) is not None

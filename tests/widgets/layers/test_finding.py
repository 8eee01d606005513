from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_unet3d.volumes import read_volume
from napari_unet3d.widgets.layers.finding import describe_found
from napari_unet3d.widgets.layers.volumes import layer_volume
from napari_unet3d.widgets.runs.saving import LayerSaving

LABELS = np.zeros((10, 10, 10), np.uint8)
LABELS[0] = 1
LABELS[1, :2] = 2


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["background", "axon", "soma"], "10 % axon, 2 % soma"),
        (["background", "axon", "soma", "glia"], "10 % axon, 2 % soma, no glia"),
        (None, "2 objects"),
    ],
)
def test_what_was_found_is_said_by_class_or_as_objects(viewer, names, said):
    features = None if names is None else {"index": range(len(names)), "class": names}
    layer = viewer.add_labels(LABELS, features=features)
    assert describe_found(layer_volume(layer)) == said


def test_of_an_image_nothing_is_said(viewer):
    assert describe_found(layer_volume(viewer.add_image(LABELS))) == ""


def test_a_layer_is_saved_in_a_thread_of_its_own(qtbot, viewer, tmp_path):
    threads = set()

    class Watched:
        shape, dtype, ndim = LABELS.shape, LABELS.dtype, 3

        def __getitem__(self, box):
            threads.add(threading.current_thread().name)
            return LABELS[box]

    found = layer_volume(viewer.add_labels(LABELS))
    object.__setattr__(found, "source", Watched())
    saving, told = LayerSaving(), []
    saving.changed.connect(lambda: told.append(saving.told(found.layer).sentence))
    saving.save(found, tmp_path / "labels.zarr")
    assert told == ["Saving labels.zarr .."]
    qtbot.waitUntil(lambda: not saving.is_active)
    assert told[1:] == [f"Saved (2 objects): {tmp_path / 'labels.zarr'}"]
    assert threads == {"unet3d-aside"}
    np.testing.assert_array_equal(read_volume(tmp_path / "labels.zarr").data[:, :, :], LABELS)


def test_one_file_is_not_saved_twice_at_once(qtbot, viewer, tmp_path):
    found = layer_volume(viewer.add_labels(LABELS))
    saving = LayerSaving()
    saving.save(found, tmp_path / "labels.tif")
    saving.save(found, tmp_path / "labels.tif")
    assert saving.told(found.layer).sentence == "Not saved. labels.tif is being saved already."
    qtbot.waitUntil(lambda: not saving.is_active)
    assert saving.told(found.layer).sentence.startswith("Saved")

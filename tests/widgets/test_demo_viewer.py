from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_unet3d.sample_data import Sample
from napari_unet3d.tasks.demo import DemoResult
from napari_unet3d.widgets.demo_viewer import add_demo_layers


def demo_result(voxel_size: tuple[float, float, float]) -> DemoResult:
    image = np.random.default_rng(0).integers(0, 999, (4, 5, 6), np.uint16)
    mask = (image > 800).astype(np.uint8)
    sample = Sample(image, mask, voxel_size, "um")
    return DemoResult(sample, mask, ("background", "neuron"), Path(), 0.9, 1.0, 1)


@pytest.mark.parametrize("voxel_size", [(1.0, 1.0, 1.0), (0.18, 0.1, 0.1), (3.0, 0.5, 0.25)])
def test_every_layer_lies_in_physical_space(voxel_size):
    viewer = ViewerModel()
    add_demo_layers(viewer, demo_result(voxel_size))
    assert [layer.name for layer in viewer.layers] == ["neurons", "exact mask", "found, Dice 0.90"]
    for layer in viewer.layers:
        assert tuple(layer.scale) == pytest.approx(voxel_size)
        assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
        assert tuple(layer.axis_labels) == ("z", "y", "x")


def test_the_names_of_the_classes_reach_the_labels():
    viewer = ViewerModel()
    add_demo_layers(viewer, demo_result((1, 1, 1)))
    assert list(viewer.layers[-1].features["class"]) == ["background", "neuron"]

"""The table of objects is a file that others read, with physical sizes."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from napari_unet3d import Volume
from napari_unet3d.core.normalize import Normalization
from napari_unet3d.core.objects.clean_up import Cleanup
from napari_unet3d.errors import OutputError, SpecError
from napari_unet3d.tasks.driving import drive
from napari_unet3d.tasks.segment.files import predict_file
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes import read_volume
from tests.support.models import random_model

OBJECTS = Cleanup(high=0.57, low=0.52, min_voxels=3, instances=True)
SPEC = PredictSpec(tile_shape=(40, 40, 40), device="cpu", prior="training", cleanup=OBJECTS)


def test_a_row_says_where_an_object_lies_and_how_large_it_is(tmp_path):
    voxels = np.random.default_rng(3).integers(0, 3000, (30, 40, 50)).astype(np.uint16)
    volume = Volume.from_array(voxels, voxel_size=(2, 0.5, 0.25), unit="um", translate=(10, 20, 30))
    model = random_model(blocks=0, filters=2, normalization=Normalization(kind="zscore"))
    target, table = tmp_path / "a.zarr", tmp_path / "objects.csv"
    drive(predict_file(volume, model, SPEC, target, table=table))
    labels = read_volume(target, kind="labels").data[...]
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == labels.max() > 3
    for row in rows:
        found = np.argwhere(labels == int(row["id"]))
        assert int(row["voxels"]) == len(found)
        assert float(row["volume_um3"]) == pytest.approx(len(found) * 0.25, rel=1e-5)
        middle = found.mean(axis=0) * (2, 0.5, 0.25) + (10, 20, 30)
        assert [float(row[f"centroid_{axis}_um"]) for axis in "zyx"] == pytest.approx(middle, rel=1e-5)
        assert [int(row[f"start_{axis}"]) for axis in "zyx"] == found.min(axis=0).tolist()
        assert [int(row[f"stop_{axis}"]) for axis in "zyx"] == (found.max(axis=0) + 1).tolist()
        assert row["class"] == "class 1"
    with pytest.raises(OutputError, match=r"objects.csv exists already"):
        drive(predict_file(volume, model, SPEC, tmp_path / "b.zarr", table=table))
    plain = SPEC.model_copy(update={"cleanup": None})
    with pytest.raises(SpecError, match="--instances"):
        drive(predict_file(volume, model, plain, tmp_path / "b.zarr", table=tmp_path / "other.csv"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "objects.csv"]

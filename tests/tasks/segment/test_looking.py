"""What is not looked at is 0 and costs nothing, whatever the tiles are."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet3d.cli import main
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.tiles.where import CELL, Cells, Where
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import SpecError
from napari_unet3d.network.store import save_model
from napari_unet3d.tasks.driving import drive
from napari_unet3d.tasks.segment.files import predict_file
from napari_unet3d.tasks.segment.looking import look_where, read_mask
from napari_unet3d.tasks.segment.predict import Sinks
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes import read_volume
from tests.support.identity import Identity, numbered, pipeline, plan_of
from tests.support.models import random_model

SHAPE = (40, 90, 150)


@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    counts=st.tuples(*[st.integers(1, 6)] * 3),
    seed=st.integers(0, 999),
    data=st.data(),
)
def test_cells_say_of_each_box_what_they_say_of_its_voxels(shape, counts, seed, data):
    flags = np.random.default_rng(seed).random([min(a, b) for a, b in zip(counts, shape, strict=True)]) < 0.4
    cells = Cells.of(flags, shape)
    whole = cells.voxels(Box.whole(shape))
    assert whole.shape == shape
    ends = [sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in shape]
    box = Box(*map(tuple, ends))
    np.testing.assert_array_equal(cells.voxels(box), whole[box.slices])
    assert cells.meets(box) == whole[box.slices].any()
    again = Cells.unpack(json.loads(json.dumps(cells.pack())))
    np.testing.assert_array_equal(again.voxels(box), whole[box.slices])


@settings(max_examples=25)
@given(seed=st.integers(0, 999), tile=st.sampled_from([(44, 44, 44), (52, 60, 92), (80, 76, 48)]), cleans=st.booleans())
def test_the_result_is_that_of_the_whole_where_it_is_looked_at_in_any_tiles(seed, tile, cleans):
    network = NetworkSpec(blocks=1, filters=2)
    volume = numbered(SHAPE, seed)
    rng = np.random.default_rng(seed)
    where = Where([Cells.of(rng.random((2, 3, 5)) < 0.3, SHAPE), Cells.of(rng.random((1, 4, 2)) < 0.7, SHAPE)])
    looked_at = where.voxels(Box.whole(SHAPE))
    predictor = Identity(network)
    spec = PredictSpec(tile_shape=tile)
    sink = np.zeros(SHAPE, np.uint8)
    list(pipeline(volume, predictor, network, spec, Sinks(sink), where=where))
    np.testing.assert_array_equal(sink, np.where(looked_at, volume, 0))
    plan = plan_of(volume, network, spec)
    needed = sum(looked_at[written.write.slices].any() for written in plan)
    assert needed <= predictor.n_calls <= len(plan) - where.n_skipped(plan)


def test_cells_with_a_bright_voxel_and_those_beside_them_are_looked_at():
    volume = np.zeros((40, 200, 200), np.uint16)
    volume[39, 100, 199] = 7
    network = NetworkSpec(blocks=1, filters=2)
    spec = PredictSpec(tile_shape=(60, 60, 60), skip_below=7.0)
    packed = drive(look_where(volume, spec, plan_of(volume, network, spec)))
    found = Where([Cells.unpack(one) for one in packed]).voxels(Box.whole(volume.shape))
    want = np.zeros(volume.shape, bool)
    want[:, 2 * CELL : 5 * CELL, 5 * CELL :] = True
    np.testing.assert_array_equal(found, want)
    none = PredictSpec(tile_shape=(60, 60, 60), skip_below=8.0)
    nowhere = drive(look_where(volume, none, plan_of(volume, network, none)))
    assert not Where([Cells.unpack(one) for one in nowhere]).meets(Box.whole(volume.shape))


@pytest.fixture
def place(tmp_path):
    voxels = np.random.default_rng(0).integers(0, 50, SHAPE).astype(np.uint16)
    voxels[:, :, 100:] += 1000
    tifffile.imwrite(tmp_path / "image.tif", voxels, photometric="minisblack")
    mask = np.zeros((4, 9, 15), np.uint8)
    mask[:, :4] = 1
    tifffile.imwrite(tmp_path / "mask.tif", mask, photometric="minisblack")
    save_model(random_model(blocks=0, filters=2), tmp_path / "m.unet3d")
    return tmp_path


def command(*words) -> int:
    with pytest.raises(SystemExit) as stop:
        main([*map(str, words)])
    return int(stop.value.code or 0)


def test_a_mask_and_a_value_from_the_shell_save_what_the_plan_says(place, capsys):
    words = [place / "image.tif", "--model", place / "m.unet3d", "--mask", place / "mask.tif", "--skip-below", "500"]
    assert command("predict", *words, "--device", "cpu", "--tile", "32", "--output", place / "a.zarr") == 0
    said = capsys.readouterr().err
    assert command("predict", *words[:3], "--device", "cpu", "--output", place / "whole.tif") == 0
    found, whole = (read_volume(place / name).data[...] for name in ("a.zarr", "whole.tif"))
    looked_at = np.zeros(SHAPE, bool)
    looked_at[:, :40, 2 * CELL :] = True
    np.testing.assert_array_equal(found, np.where(looked_at, whole, 0))
    assert "tiles are skipped" in said
    capsys.readouterr()
    assert command("plan", *words, "--json", "--memory", "3MiB") == 0
    facts = json.loads(capsys.readouterr().out)
    assert 0 < facts["tiles_skipped"] < facts["tiles"]
    assert command("plan", *words, "--memory", "3MiB") == 0
    assert "less work" in capsys.readouterr().out


def test_a_mask_that_does_not_suit_is_refused(place):
    with pytest.raises(SpecError, match="no more voxels than that"):
        read_mask(str(place / "mask.tif"), (3, 90, 150))
    tifffile.imwrite(place / "none.tif", np.zeros((4, 9, 15), np.uint8), photometric="minisblack")
    with pytest.raises(SpecError, match="0 everywhere"):
        read_mask(str(place / "none.tif"), SHAPE)


def test_a_run_goes_on_with_what_it_has_looked_at(place):
    spec = PredictSpec(tile_shape=(40, 40, 40), device="cpu", mask=str(place / "mask.tif"))
    volume, model = read_volume(place / "image.tif"), random_model(blocks=0, filters=2)
    run = predict_file(volume, model, spec, place / "a.zarr")
    for event in run:
        if getattr(event, "done", 0) == 2 and hasattr(event, "box"):
            run.close()
    drive(predict_file(volume, model, spec, place / "a.zarr", resume=True))
    drive(predict_file(volume, model, spec, place / "b.zarr"))
    a, b = (read_volume(place / name).data[...] for name in ("a.zarr", "b.zarr"))
    np.testing.assert_array_equal(a, b)
    assert a.any()
    assert not a[:, 40:].any()

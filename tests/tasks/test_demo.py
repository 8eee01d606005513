from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_unet3d.errors import OutputError
from napari_unet3d.sample_data import Sample
from napari_unet3d.tasks.demo import peak_memory, run_demo, write_overlay
from napari_unet3d.tasks.events import TileDone
from napari_unet3d.volumes import read_volume


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return run_demo(tmp_path_factory.mktemp("demo"))


def test_the_demonstration_writes_its_files_and_says_its_figures(result):
    assert {path.name for path in result.folder.iterdir()} == {"figures.json", "image.tif", "labels.tif", "overlay.png"}
    assert f"Dice against the exact mask: {result.dice:.3f}" in result.summary
    assert 0 < result.peak_bytes <= peak_memory()


def test_the_demonstration_finds_the_neurons(result):
    true, found = result.sample.mask == 1, result.labels == 1
    assert result.dice == pytest.approx(2 * (true & found).sum() / (true.sum() + found.sum()))
    assert result.dice >= 0.85


def test_what_is_written_carries_the_voxel_size(result):
    for name in ("image.tif", "labels.tif"):
        volume = read_volume(result.folder / name)
        assert volume.voxel_size == pytest.approx(result.sample.voxel_size, rel=1e-4)
        assert volume.unit == "um"


def test_a_second_demonstration_replaces_the_first_and_tells_its_tiles(result):
    events = []
    again = run_demo(result.folder, on_event=events.append)
    assert again.labels.tobytes() == result.labels.tobytes()
    assert any(isinstance(event, TileDone) for event in events)


def test_the_picture_shows_what_was_found_missed_and_wrong(tmp_path):
    mask = np.zeros((2, 30, 40), np.uint8)
    labels = mask.copy()
    mask[0, 5:10, 5:10] = labels[1, 5:10, 5:10] = 1
    mask[0, 20:25, 5:10] = 1
    labels[0, 5:10, 30:35] = 1
    image = np.random.default_rng(0).integers(0, 99, mask.shape, np.uint16)
    write_overlay(tmp_path / "o.png", Sample(image, mask, (1, 1, 1), "um"), labels)
    picture = np.asarray(Image.open(tmp_path / "o.png"))
    right = (40 + 8) * 3
    found, missed, wrong = (tuple(picture[3 * y, right + 3 * x]) for y, x in [(7, 7), (22, 7), (7, 32)])
    assert len({found, missed, wrong}) == 3
    assert found[1] > found[0]
    assert wrong[0] > wrong[1]


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"):
        run_demo(tmp_path / "file" / "demo")

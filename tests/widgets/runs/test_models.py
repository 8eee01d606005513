"""The user's models are listed newest first, with name, date and score; of a run its best."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from napari_unet3d.network.store import DEMO_MODEL, save_model
from napari_unet3d.widgets.runs.models import list_models, listed, model_in, own_models
from tests.support.models import random_model


@pytest.fixture
def home(tmp_path):
    """Return a folder with a model, a run that was scored, and an older one that was not."""
    small = random_model(blocks=1, filters=2)
    scored = replace(small, card=small.card.model_copy(update={"metrics": {"dice object": 0.9, "mean dice": 0.876}}))
    runs = tmp_path / "runs"
    made = {
        tmp_path / "models" / "mine.unet3d": (small, 2000),
        runs / "cells.tif 2026-11-28 14.02.03" / "best.unet3d": (scored, 3000),
        runs / "cells.tif 2026-11-28 14.02.03" / "last.unet3d": (small, 3001),
        runs / "axons 2026-11-27 09.00.00 2" / "last.unet3d": (small, 1000),
    }
    for path, (model, at) in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(model, path)
        os.utime(path / "model.json", (at, at))
        if path.parent.parent == runs:
            (path.parent / "run.json").write_text("{}")
    return tmp_path


def test_they_are_newest_first_with_name_date_and_score(home):
    found = own_models(home / "models", [home / "runs"])
    assert [model.made for model in found] == [3000, 2000, 1000]
    names = [model.label.split(", ")[0] for model in found]
    assert names == ["cells.tif", "mine", "axons (last)"]
    assert found[0].label.endswith(", dice 0.88")
    assert "1970, " in found[0].label
    assert found[1].label.count(",") == 2  # without a score


def test_a_folder_that_is_not_there_holds_none(tmp_path):
    assert own_models(tmp_path / "none", [tmp_path / "none"]) == []
    assert [path.name for path in list_models(tmp_path / "none")] == [DEMO_MODEL]
    assert listed(list_models(tmp_path)[0]).label == "demo-neuron"


def test_the_folder_of_a_run_means_its_best_model(home):
    run = home / "runs" / "cells.tif 2026-11-28 14.02.03"
    assert model_in(run) == run / "best.unet3d"
    assert model_in(run / "last.unet3d") == run / "last.unet3d"
    assert model_in(home) == home

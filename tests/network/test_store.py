from __future__ import annotations

import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from napari_unet3d.core.heads.classes import Classes
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import ModelError, OutputError
from napari_unet3d.network.model import Model, ModelCard
from napari_unet3d.network.store import load_model, save_model
from tests.support.models import random_model

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    return save_model(random_model(), tmp_path / "model.unet3d")


def edit_card(folder, change):
    card = json.loads((folder / "model.json").read_text())
    change(card)
    (folder / "model.json").write_text(json.dumps(card))


def edit_weights(folder, change):
    """Change the weights and make the hash right again, so that only the weights are wrong."""
    import hashlib

    path = folder / "weights.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit_card(folder, lambda card: card["weights"].update(sha256=digest))


def test_a_model_that_is_saved_and_loaded_is_the_same(tmp_path):
    model = random_model(blocks=2, filters=3, classes=4, channels=2)
    card = model.card.model_copy(
        update={
            "voxel_size": (0.18, 0.1, 0.1),
            "metrics": {"dice": 0.9},
            "training": {"steps": 10, "recipe": "tést"},
        }
    )
    model = Model(card, model.weights)
    loaded = load_model(save_model(model, tmp_path / "a model.unet3d"))
    assert loaded.card == model.card
    assert list(loaded.weights) == list(model.weights)
    for name, array in model.weights.items():
        np.testing.assert_array_equal(loaded.weights[name], array)


def test_saving_and_loading_imports_no_keras(tmp_path):
    code = (
        "import sys; from tests.support.models import random_model; from napari_unet3d.network.store import *;"
        f"load_model(save_model(random_model(), {str(tmp_path / 'm.unet3d')!r}));"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_model_is_replaced_only_when_asked(folder):
    other = random_model(seed=1)
    with pytest.raises(OutputError, match="exists already"):
        save_model(other, folder)
    save_model(other, folder, overwrite=True)
    name = next(iter(other.weights))
    np.testing.assert_array_equal(load_model(folder).weights[name], other.weights[name])
    assert os.listdir(folder.parent) == [folder.name]


def test_a_folder_that_is_no_model_is_never_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    with pytest.raises(OutputError, match="not a model folder"):
        save_model(random_model(), tmp_path / "thesis", overwrite=True)


def test_a_model_for_a_place_that_cannot_be_written_says_where(tmp_path):
    with pytest.raises(OutputError, match=r"model\.unet3d cannot be written.*nowhere"):
        save_model(random_model(), tmp_path / "nowhere" / "model.unet3d")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_process_killed_while_saving_leaves_a_whole_model(tmp_path):
    target = tmp_path / "model.unet3d"
    code = (
        "from tests.support.models import random_model\n"
        "from napari_unet3d.network.store import save_model\nimport itertools\n"
        "print('ready', flush=True)\n"
        f"for seed in itertools.count(): save_model(random_model(seed=seed), {str(target)!r}, overwrite=True)"
    )
    save_model(random_model(seed=0), target)
    pause = random.Random(0)
    for _ in range(12):
        saver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
        assert saver.stdout is not None
        saver.stdout.readline()
        time.sleep(pause.uniform(0, 0.05))
        saver.send_signal(signal.SIGKILL)
        saver.wait()
        assert load_model(target).spec == random_model().spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card["model"]["network"].update(depth=3), "network.depth: unknown key"),
        (lambda card: card.update(extra=1), "extra: unknown key"),
        (lambda card: card.update(format_version=7), "version 7; this program reads up to version 2"),
        (lambda card: card.update(format="something"), "its format is not"),
        (lambda card: card["model"]["network"].update(filters=10**9), "network.filters"),
        (lambda card: card["model"]["network"].update(filters=256, levels=[{}] * 6), "parameters .* are refused"),
        (lambda card: card["model"]["head"].update(names=["a", "b", "c"]), "3 class names for 2 classes"),
        (lambda card: card["model"].update(voxel_size=[0, 1, 1]), "not positive"),
        (lambda card: card["model"]["metrics"].update(dice="high"), "metrics.dice"),
        (lambda card: card["weights"].update(file="../../secret"), "must be 'weights.safetensors'"),
        (lambda card: card["weights"].update(sha256="0" * 64), "SHA-256 differs"),
    ],
)
def test_a_card_that_is_wrong_is_refused_with_the_place(folder, change, message):
    edit_card(folder, change)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_models_of_the_first_format_load(tmp_path):
    old = load_model(Path(__file__).parent / "data" / "format-1.unet3d")
    assert old.spec == NetworkSpec(blocks=1, filters=1, classes=3, channels=2, batch_normalization=True)
    assert old.card.head == Classes(names=("background", "axon", "soma"))
    assert (old.card.voxel_size, old.card.metrics) == ((0.18, 0.1, 0.1), {"dice axon": 0.5})
    again = load_model(save_model(old, tmp_path / "new.unet3d"))
    assert again.card == old.card
    assert all((again.weights[name] == array).all() for name, array in old.weights.items())
    content = json.loads((tmp_path / "new.unet3d" / "model.json").read_text())
    assert content["format_version"] == 2
    assert content["model"]["network"]["levels"] == [{"kernel": [3, 3, 3], "pool": [2, 2, 2]}] * 2


@pytest.mark.parametrize("network", [None, [], {"blocks": 9}, {"blocks": "two"}, {"blocks": True}])
def test_a_model_of_the_first_format_that_is_damaged_is_refused(tmp_path, network):
    folder = tmp_path / "old.unet3d"
    shutil.copytree(Path(__file__).parent / "data" / "format-1.unet3d", folder)
    edit_card(folder, lambda card: card["model"].update(network=network))
    with pytest.raises(ModelError, match=r"is refused at model\.network"):
        load_model(folder)


@pytest.mark.parametrize("keep", [0, 1, 50, 300])
def test_a_card_that_is_cut_off_is_refused(folder, keep):
    path = folder / "model.json"
    path.write_text(path.read_text()[:keep])
    with pytest.raises(ModelError, match="cut off or damaged"):
        load_model(folder)


def test_a_card_nested_a_million_deep_is_refused(folder):
    (folder / "model.json").write_text("[" * 1_000_000)
    with pytest.raises(ModelError, match="cut off or damaged"):
        load_model(folder)


def remove(name):
    return lambda weights: weights.pop(name)


def put(name, array):
    return lambda weights: weights.update({name: array})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("output_logits/bias"), "lack the array 'output_logits/bias'"),
        (put("backdoor", np.zeros(1, np.float32)), "hold an array 'backdoor'"),
        (put("output_logits/bias", np.zeros(3, np.float32)), r"'output_logits/bias' .* \(3,\); .* \(2,\)"),
        (put("output_logits/bias", np.zeros(2, np.float64)), "float64"),
        (put("output_logits/bias", np.float32([0, np.nan])), "'output_logits/bias' .* not finite"),
    ],
)
def test_weights_that_are_wrong_are_refused_with_the_name_of_the_array(folder, change, message):
    edit_weights(folder, change)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_missing_weights_are_refused(folder):
    (folder / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match="weights are missing"):
        load_model(folder)


def test_a_header_that_declares_40_gigabytes_is_refused_before_it_is_allocated(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", 40 << 30) + path.read_bytes()[8:])
    with pytest.raises(ModelError, match=r"declares a header of 42,949,672,960 bytes"):
        load_model(folder)


def test_weights_larger_than_the_network_are_refused_before_they_are_read(folder):
    with (folder / "weights.safetensors").open("r+b") as file:
        file.truncate(40 << 30)
    with pytest.raises(ModelError, match="take at most"):
        load_model(folder)


def test_a_flipped_bit_in_the_weights_is_noticed(folder):
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="SHA-256 differs"):
        load_model(folder)


def test_a_path_that_is_no_model_is_said(tmp_path):
    with pytest.raises(ModelError, match="no model folder"):
        load_model(tmp_path / "missing.unet3d")
    with pytest.raises(ModelError, match=r"holds no model\.json"):
        load_model(tmp_path)


def test_a_model_is_checked_when_it_is_made():
    model = random_model()
    with pytest.raises(ModelError, match="lack"):
        Model(model.card, {})
    assert ModelCard.model_validate_json(model.card.model_dump_json()) == model.card

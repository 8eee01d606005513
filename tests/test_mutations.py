"""Files of this program that were damaged, at random places: an error with words, never a trace.

Where a checksum can tell, what is read is what was written.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_unet3d.core.augment.choices import AugmentSpec
from napari_unet3d.core.boxes import Box
from napari_unet3d.errors import ModelError, TrainingError, Unet3dError
from napari_unet3d.network.exchange.exllsm import import_exllsm
from napari_unet3d.network.store import load_model, save_model
from napari_unet3d.tasks.augment.files import read_choices
from napari_unet3d.tasks.jobs.files import JobFile, read_job, write_job
from napari_unet3d.tasks.jobs.segment import SegmentJob
from napari_unet3d.tasks.on_disk import OnDisk
from napari_unet3d.tasks.run_lock import LOCK_FILE
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.tasks.train.kept.checkpoints import Checkpoint, TrainState
from napari_unet3d.tasks.train.kept.run_folder import RUN_FILE, RunFolder
from tests.support.models import random_model

NUMBERS = [0, -1, 2**31, 2**64, 10**400, 1e308, "", None, [], {}, True]
NUMBERS += ["\x00", "\ud800", "9" * 5000, "../x", "/etc/passwd"]


def a_model(folder: Path) -> Path:
    return save_model(random_model(blocks=1, filters=2), folder / "m.unet3d")


def a_keras_file(folder: Path) -> Path:
    model, path = random_model(blocks=1, filters=2), folder / "m.h5"
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights")
        for block in dict.fromkeys(layer.block for layer in model.spec.layers):
            names = [name for layer in model.spec.layers if layer.block == block for name in layer.weight_shapes]
            theirs = block.replace("sample", "sample_block", 1) if "sample" in block else f"{block}_block"
            group = root.create_group(theirs)
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name in names:
                group[name] = model.weights[name]
    return path


def a_job(folder: Path) -> Path:
    spec = PredictSpec(region=Box((0, 8), (0, 8), (0, 8)), memory_bytes=10**9)
    job = SegmentJob(model=folder / "m.unet3d", image=OnDisk(path=str(folder / "i.tif")), spec=spec)
    return write_job(JobFile(job=job, output=folder / "o.tif"), folder / "job.json")


def a_choice(folder: Path) -> Path:
    path = folder / "choices.json"
    path.write_text(AugmentSpec().model_dump_json())
    return path


def a_run(folder: Path) -> Path:
    (folder / "history.csv").write_text("kind,step,loss,learning_rate,seconds\nstep,1,0.5,0.1,2.0\n")
    (folder / LOCK_FILE).write_text("123 456 host")
    with RunFolder(folder / "run") as run:
        run.save_checkpoint({"a": np.arange(9.0)}, train_state())
    shutil.copy(folder / "run" / "checkpoint.safetensors", folder)
    shutil.rmtree(folder / "run")
    return folder


def train_state() -> TrainState:
    return TrainState(patch=(24, 24, 24), step=3, best_score=0.5)


def read_run(folder: Path) -> Checkpoint | None:
    run = RunFolder(folder)
    for read in (run.history, run.record, run.kept_step, run.__enter__):
        with contextlib.suppress(Unet3dError):
            read()
    run.__exit__()
    return run.load_checkpoint()


def summed(kind: str, found: Any) -> Any:
    """Return what of something that was read has a checksum; None where nothing has."""
    if kind not in ("model", "run"):
        return None
    arrays, rest = (found.weights, None) if kind == "model" else (found.state, found.train_state)
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}, rest


KINDS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    "model": (a_model, load_model),
    "keras": (a_keras_file, import_exllsm),
    "job": (a_job, read_job),
    "choices": (a_choice, read_choices),
    "run": (a_run, read_run),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return, by kind, a folder with something whole, the part of it that is read, and what has a checksum there."""
    places = {}
    for kind, (make, read) in KINDS.items():
        folder = tmp_path_factory.mktemp(kind)
        inside = make(folder).relative_to(folder)
        copy = tmp_path_factory.mktemp("read") / kind
        shutil.copytree(folder, copy)
        places[kind] = folder, inside, summed(kind, read(copy / inside))
    return places


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 1 << 30))
def test_what_is_damaged_is_refused_with_words_or_what_has_a_checksum_is_what_was_written(
    tmp_path_factory, whole, kind, seed
):
    source, inside, written = whole[kind]
    folder = tmp_path_factory.mktemp("damaged") / "copy"
    shutil.copytree(source, folder)
    dice = random.Random(seed)
    file = dice.choice([path for path in sorted(folder.rglob("*")) if path.is_file()])
    if file.suffix == ".json" and dice.random() < 0.7:
        file.write_text(json.dumps(_changed(json.loads(file.read_text()), dice)))
    else:
        file.write_bytes(_damaged(bytearray(file.read_bytes()), dice))
    try:
        found = KINDS[kind][1](folder / inside)
    except Unet3dError:
        return
    assert summed(kind, found) == written


def _changed(value: Any, dice: random.Random) -> Any:
    """Return a JSON value of which one part is another."""
    if isinstance(value, dict) and value and dice.random() < 0.85:
        key = dice.choice(list(value))
        return value | {key: _changed(value[key], dice)}
    if isinstance(value, list) and value and dice.random() < 0.85:
        at = dice.randrange(len(value))
        return [*value[:at], _changed(value[at], dice), *value[at + 1 :]]
    return dice.choice(NUMBERS)


def _damaged(content: bytearray, dice: random.Random) -> bytes:
    for _ in range(dice.choice([1, 1, 2, 5])):
        at = dice.choice([dice.randrange(len(content) or 1), dice.randrange(min(len(content), 512) or 1)])
        match dice.randrange(5):
            case 0:
                content[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                del content[at:]
            case 2:
                content[at : at + 8] = dice.choice([0, 2**31, 2**63, 2**64 - 1]).to_bytes(8, "little")
            case 3:
                content[at:at] = bytes(dice.randrange(256) for _ in range(dice.randrange(40)))
            case 4:
                del content[at : at + dice.randrange(40)]
    return bytes(content)


@pytest.mark.parametrize("kind", ["model", "job", "choices"])
def test_json_that_is_nested_too_deep_is_refused_wherever_json_is_read(tmp_path, whole, kind):
    source, inside, _ = whole[kind]
    shutil.copytree(source, tmp_path / kind)
    (file,) = (tmp_path / kind).rglob("*.json")
    file.write_text("[" * 200_000)
    with pytest.raises(Unet3dError):
        KINDS[kind][1](tmp_path / kind / inside)


def test_the_record_of_a_run_that_is_nested_too_deep_is_refused(tmp_path):
    (tmp_path / RUN_FILE).write_text("[" * 200_000)
    with pytest.raises(TrainingError, match="nested too deep"):
        RunFolder(tmp_path).record()


def test_an_array_that_was_never_written_is_not_read_six_times(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        group = file.create_group("model_weights/input_block")
        group.create_dataset("k", (1 << 28,), "f4", chunks=(1 << 20,))
        group.attrs["weight_names"] = [b"k"] * 6
    with pytest.raises(ModelError, match="were never written"):
        import_exllsm(tmp_path / "m.h5")


def test_an_array_that_is_compressed_is_refused_because_nobody_knows_its_size(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        group = file.create_group("model_weights/input_block")
        group.create_dataset("k", data=np.zeros((3, 3, 3, 1, 2), "f4"), compression="gzip")
        group.attrs["weight_names"] = [b"k"]
    with pytest.raises(ModelError, match=r"is compressed. `h5repack -f NONE`"):
        import_exllsm(tmp_path / "m.h5")


def test_weights_that_may_not_be_read_are_refused_with_words(tmp_path, monkeypatch):
    path = a_model(tmp_path)
    weights = path / "weights.safetensors"
    weights.unlink()
    weights.mkdir()
    with pytest.raises(ModelError, match=r"The weights .* cannot be read"):
        load_model(path)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_a_path_that_no_file_can_have_is_refused_with_words(tmp_path, text):
    from napari_unet3d.volumes import list_arrays, read_volume

    for read in (read_volume, list_arrays, load_model, import_exllsm):
        with pytest.raises(Unet3dError):
            read(text)
    content = json.loads(a_job(tmp_path).read_text())
    for key in ("model", "image"):
        changed = content["job"] | {key: text if key == "model" else {"path": text}}
        (tmp_path / "odd.json").write_text(json.dumps(content | {"job": changed}))
        with pytest.raises(Unet3dError, match=r"odd\.json is not a job"):
            read_job(tmp_path / "odd.json")

"""A run takes no more memory than it was given, whatever it reads and however that is stored."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_unet3d.errors import MemoryBudgetError
from napari_unet3d.network.machine.devices import PROGRAM_BYTES
from napari_unet3d.network.store import save_model
from napari_unet3d.tasks.segment.segmenting import plan_prediction
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes import read_volume
from tests.support.models import random_model

SHAPE = (96, 300, 400)
MEMORY = 200 * 2**20
# What the allocators of Python and TensorFlow keep beyond what is in use.
SLACK = 1.1

_RUN = """
import json, resource, sys
import numpy as np
from napari_unet3d import PredictSpec, Volume, load_model, read_volume
from napari_unet3d.tasks.segment.files import predict_file

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))

path, model_path, output, choices = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
model = load_model(model_path)
# The program itself does not count: every library of a run is loaded by a small one.
tiny = Volume.from_array(np.zeros((40, 40, 40), np.uint16))
for event in predict_file(tiny, model, PredictSpec(), output + "0.zarr"):
    pass
read_volume(path).data[:1, :1, :1]
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = peak()
for event in predict_file(read_volume(path), model, PredictSpec(**choices), output):
    pass
print(peak() - before, peak())
"""


def _values():
    noise = np.random.default_rng(0).poisson(40, (8, 300, 400)).astype(np.uint16)
    return np.tile(noise, (SHAPE[0] // 8, 1, 1))


def _deflate(path, values, **options):
    with tifffile.TiffWriter(path) as writer:
        for plane in values:
            writer.write(plane, compression="zlib", metadata=None, contiguous=False, **options)


def _slices(path, values):
    path.mkdir()
    for z, plane in enumerate(values):
        Image.fromarray(plane).save(path / f"z{z:03d}.png")


def _hdf5(path, values, chunks):
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=values, chunks=chunks, compression="gzip", compression_opts=1)


INPUTS = {
    "plain.tif": lambda path, values: tifffile.imwrite(path, values),
    "deflate.tif": _deflate,
    "strips.tif": lambda path, values: _deflate(path, values, rowsperstrip=16),
    "slices": _slices,
    "planes.h5": lambda path, values: _hdf5(path, values, (1, 300, 400)),
    "cubes.h5": lambda path, values: _hdf5(path, values, (64, 64, 64)),
    "cubes.zarr": lambda path, values: zarr.create_array(path, data=values, chunks=(64, 64, 64)),
    "single.zarr": lambda path, values: zarr.create_array(path, data=values, chunks=SHAPE),
    "thin.zarr": lambda path, values: zarr.create_array(
        path, data=values[:3].repeat(4, 1).repeat(4, 2), chunks=(3, 300, 300)
    ),
    "large.zarr": lambda path, values: zarr.create_array(path, data=values, chunks=(40, 300, 200)),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    save_model(random_model(blocks=1, filters=2), folder / "m.unet3d")
    return folder


def _measured(place, name, **choices) -> tuple[int, int]:
    """Return what a run takes at the most, and what the whole process does."""
    path = place / name
    if not path.exists():
        INPUTS[name](path, _values())
    output = place / f"result-{len(list(place.iterdir()))}.zarr"
    words = [str(path), str(place / "m.unet3d"), str(output), json.dumps(choices)]
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *words], capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    run, whole = map(int, done.stdout.split()[-2:])
    return run, whole


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell the peak of a process")
@pytest.mark.parametrize("name", INPUTS)
def test_no_input_takes_more_memory_than_the_run_was_given(place, name):
    run, whole = _measured(place, name, memory_bytes=MEMORY)
    assert run < SLACK * MEMORY
    # What is said to come on top.
    assert whole < MEMORY + PROGRAM_BYTES


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell the peak of a process")
def test_clean_up_keeps_to_the_memory_too(place):
    cleanup = {"high": 0.6, "low": 0.4, "min_voxels": 5}
    assert _measured(place, "plain.tif", memory_bytes=MEMORY, cleanup=cleanup)[0] < SLACK * MEMORY


def test_a_chunk_that_does_not_fit_the_memory_is_refused_with_what_reading_takes(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=np.zeros((64, 256, 256), np.uint16), chunks=(64, 256, 256))
    volume = read_volume(tmp_path / "a.zarr")
    model = random_model(blocks=1, filters=2)
    with pytest.raises(MemoryBudgetError, match="reading the volume takes 72 MiB"):
        plan_prediction(volume.shape, model, PredictSpec(memory_bytes=64 * 2**20), volume=volume.data)
    plan = plan_prediction(volume.shape, model, PredictSpec(memory_bytes=128 * 2**20), volume=volume.data)
    assert plan.reading_bytes == (2 * 8 + 4 * 8 + 32) * 2**20
    assert plan.peak_bytes <= 128 * 2**20

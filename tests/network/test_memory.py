"""The memory that is predicted for a pass is what it takes: measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from napari_unet3d.core.unet.costs import peak_bytes
from napari_unet3d.core.unet.layers import levels_of
from napari_unet3d.core.unet.spec import NetworkSpec

resource = pytest.importorskip("resource", reason="the peak of a process is not told here")

# The numbers of a process that has computed already, then of two passes; see `benchmarks/memory.py` for large ones.
_MEASURE = """
import resource, sys
import numpy as np
import psutil
from napari_unet3d.network.machine.devices import select_device
from napari_unet3d.network.predictor import Predictor
from tests.support.models import random_model

blocks, flat, *shape = map(int, sys.argv[1:])
device = select_device("cpu")
Predictor(random_model(blocks=0, filters=1), device)(np.zeros((20, 20, 20, 1), np.float32), "logits")
model = random_model(blocks=blocks, flat=flat, filters=8)
image = np.random.default_rng(1).random((*shape, 1), dtype=np.float32)
before = psutil.Process().memory_info().rss
predictor = Predictor(model, device)
for _ in range(2):
    predictor(image, "logits")
if sys.platform == "linux":
    # Of this program alone: getrusage tells of whoever started it too, if that was larger.
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(peak - before)
"""


@pytest.mark.parametrize(
    ("blocks", "flat", "shape"), [(2, 0, (132, 132, 132)), (1, 0, (108, 124, 132)), (2, 1, (132, 180, 180))]
)
def test_the_memory_of_a_pass_is_within_what_was_predicted(blocks, flat, shape):
    words = [sys.executable, "-c", _MEASURE, *map(str, (blocks, flat, *shape))]
    measured = int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    predicted = peak_bytes(shape, NetworkSpec(levels=levels_of(blocks, flat=flat)))
    assert 0.5 * predicted < measured < predicted

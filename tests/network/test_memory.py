"""The memory that is predicted for a pass is what it takes: measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from napari_unet3d.core.unet.costs import peak_bytes
from napari_unet3d.core.unet.layers import levels_of
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.network.machine.devices import select_device

resource = pytest.importorskip("resource", reason="the peak of a process is not told here")

# The numbers of a process that has computed already, then of two passes; see `benchmarks/memory.py` for large ones.
_MEASURE = """
import resource, sys
import numpy as np
import psutil
from napari_unet3d.network.machine.devices import select_device
from napari_unet3d.network.predictor import Predictor
from tests.support.models import random_model

precision = sys.argv[1]
blocks, flat, filters, *shape = map(int, sys.argv[2:])
device = select_device("cpu", precision)
Predictor(random_model(blocks=0, filters=1), device)(np.zeros((20, 20, 20, 1), np.float32), "logits")
model = random_model(blocks=blocks, flat=flat, filters=filters)
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
    ("precision", "blocks", "flat", "filters", "shape"),
    [
        ("float32", 2, 0, 8, (132, 132, 132)),
        ("float32", 1, 0, 8, (108, 124, 132)),
        ("float32", 2, 1, 8, (132, 180, 180)),
        ("bfloat16", 2, 0, 8, (132, 132, 132)),
        ("bfloat16", 1, 0, 8, (108, 124, 132)),
        ("bfloat16", 2, 1, 8, (132, 180, 180)),
        ("bfloat16", 2, 0, 4, (220, 220, 220)),
    ],
)
def test_the_memory_of_a_pass_is_within_what_was_predicted(precision, blocks, flat, filters, shape):
    if precision == "bfloat16" and not select_device("cpu").has_bfloat16:
        pytest.skip("this CPU does not multiply bfloat16 numbers")
    words = [sys.executable, "-c", _MEASURE, precision, *map(str, (blocks, flat, filters, *shape))]
    measured = int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    network = NetworkSpec(levels=levels_of(blocks, flat=flat), filters=filters)
    predicted = peak_bytes(shape, network, bytes_per_value=4 if precision == "float32" else 2)
    assert 0.45 * predicted < measured < predicted

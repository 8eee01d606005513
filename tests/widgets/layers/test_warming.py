"""The first labels layer compiles nothing, once the window has warmed what napari needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import numpy as np
from numba.core import event
from napari.layers import Labels
from napari_unet3d.widgets.layers.colours import annotation_colormap, class_colormap
from napari_unet3d.widgets.layers.warming import warm_labels

if sys.argv[1] == "warm":
    assert warm_labels() is warm_labels()
    warm_labels().join()
with event.install_recorder("numba:compile") as compiled:
    Labels(np.zeros((9, 80, 70), np.uint8), colormap=class_colormap(("background", "axon", "soma")))
    Labels(np.zeros((9, 80, 70), np.uint8), colormap=annotation_colormap(("background", "axon", "soma")))
print(len(compiled.buffer))
"""


@pytest.mark.parametrize(("how", "compiles"), [("warm", False), ("cold", True)])
def test_the_first_labels_compile_nothing_once_they_were_warmed(how, compiles):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, how], capture_output=True, text=True, check=True
    )
    assert (int(done.stdout.split()[-1]) > 0) == compiles

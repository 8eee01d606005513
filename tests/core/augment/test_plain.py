"""Where the loops cannot be compiled plain ones take over, with the same bytes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet3d.core.augment import resample as module
from napari_unet3d.core.augment.deformation import Deformation
from napari_unet3d.core.augment.kernels import loops, plain
from napari_unet3d.core.augment.resample import resample, resample_labels
from napari_unet3d.core.boxes import Box
from tests.support.augmenting import MODES, deformations, volumes


def with_plain(function, *arguments, **choices):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "loops", plain)
        return function(*arguments, **choices)


@given(volumes(), deformations(), st.sampled_from(MODES))
@settings(deadline=None, max_examples=60)
def test_images_have_the_same_bytes(volume, deformation, mode):
    fast = resample(volume, deformation, mode=mode, fill=7)
    assert with_plain(resample, volume, deformation, mode=mode, fill=7).tobytes() == fast.tobytes()


@given(volumes(dtypes=("uint8", "int32", "float32")), deformations(), st.sampled_from(MODES))
@settings(deadline=None, max_examples=60)
def test_labels_have_the_same_bytes(volume, deformation, mode):
    fast = resample_labels(volume, deformation, mode=mode, fill=3)
    assert with_plain(resample_labels, volume, deformation, mode=mode, fill=3).tobytes() == fast.tobytes()


@given(deformations(), st.data())
@settings(deadline=None, max_examples=30)
def test_a_box_has_the_same_bytes(deformation, data):
    volume = np.random.default_rng(0).normal(size=(20, 21, 22)).astype(np.float32)
    ends = [st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True) for n in deformation.shape]
    intervals = [sorted(data.draw(two)) for two in ends]
    box = Box(*((start, stop) for start, stop in intervals))
    assert with_plain(resample, volume, deformation, box).tobytes() == resample(volume, deformation, box).tobytes()


@pytest.mark.parametrize("refused", ["numba.extending", "napari_unet3d.core.augment.kernels.lanes"])
def test_without_a_compiler_that_can_they_are_used_and_it_is_said_once(refused):
    code = f"""
import sys, warnings
sys.modules[{refused!r}] = None
import numpy as np
from napari_unet3d.core.augment.deformation import Deformation
from napari_unet3d.core.augment.resample import resample, resample_labels
deformation = Deformation(shape=(5, 6, 7), centre=(2, 2.5, 3))
image = np.arange(210, dtype=np.float32).reshape(5, 6, 7)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    same = resample(image, deformation)
    labels = resample_labels(image.astype(np.uint8), deformation)
assert (same == image).all() and (labels == image.astype(np.uint8)).all()
print(sum("slow ones are used" in str(warning.message) for warning in told))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_compiled_loops_are_used_where_they_can_be():
    resample(np.zeros((4, 4, 4), np.float32), Deformation(shape=(4, 4, 4), centre=(1.5, 1.5, 1.5)))
    assert loops._loops is None

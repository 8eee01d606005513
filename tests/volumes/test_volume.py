"""Units are spelled in one way, and a voxel size is always one that can be divided by."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet3d.volumes import Volume
from napari_unet3d.volumes.space.calibration import calibrate, normalize_unit

NUMBERS = st.one_of(st.none(), st.floats())
UNITS = st.sampled_from([None, "", "um", "µm", "micron", "nm", "mm", "cm", "inch", "parsec", "pixel"])


@given(st.fixed_dictionaries(dict.fromkeys("zyx", NUMBERS)), st.fixed_dictionaries(dict.fromkeys("zyx", UNITS)))
def test_a_voxel_size_is_always_finite_and_positive(sizes, units):
    found = calibrate(sizes, units, sizes)
    assert all(size > 0 for size in found.voxel_size)
    assert all(math.isfinite(size) for size in found.voxel_size)
    assert found.unit in ("um", "nm", "mm", "pixel")
    is_odd = [size is None or not math.isfinite(size) or size <= 0 for size in sizes.values()]
    assert not any(is_odd) or found.notes


@pytest.mark.parametrize("text", ["um", "µm", "μm", "micron", "Microns", "micrometer", "micrometre", "\\u00B5m"])
def test_every_spelling_of_a_micrometre_is_um(text):
    assert normalize_unit(text) == ("um", 1.0)


def test_axes_in_different_units_get_one_unit():
    found = calibrate({"z": 0.3, "y": 100.0, "x": 100.0}, {"z": "µm", "y": "nm", "x": "nm"})
    assert found.unit == "um"
    assert found.voxel_size == pytest.approx((0.3, 0.1, 0.1))
    assert found.notes == ()


@pytest.mark.parametrize(
    ("sizes", "unit", "words"),
    [
        ({}, None, "gives no voxel size that this program reads; 1 pixel"),
        ({"y": 0.1, "x": 0.1}, "um", "along z that this program reads; 1 um"),
        ({"z": 0.0, "y": 0.1, "x": 0.1}, "um", "along z is 0 in the file; 1 is used"),
        ({"z": 1.0, "y": -0.5, "x": 0.5}, "um", "along y is -0.5 in the file; 0.5 is used"),
        ({"z": 1.0, "y": 1.0, "x": math.nan}, "um", "along x is nan"),
        ({"z": 1.0, "y": 1.0, "x": 2.0}, None, "gives no unit"),
        ({"z": 1.0, "y": 1.0, "x": 1.0}, "furlong", "'furlong' is not a length"),
    ],
)
def test_what_is_missing_or_wrong_in_a_voxel_size_is_noted(sizes, unit, words):
    assert any(words in note for note in calibrate(sizes, unit).notes)


@pytest.mark.parametrize("unit", ["pixel", "foo"])
def test_a_size_without_a_length_beside_others_is_said_and_is_1(unit):
    found = calibrate({"z": 2.0, "y": 0.5, "x": 0.5}, {"z": unit, "y": "um", "x": "um"})
    assert (found.sizes, found.unit) == ((None, 0.5, 0.5), "um")
    assert found.notes == (f"The voxel size along z is 2 {unit}, which is not a length; 1 um is used.",)


def test_a_volume_in_memory_says_its_shape_channels_and_bytes():
    volume = Volume.from_array(np.zeros((2, 3, 4, 5), np.uint16), (1.0, 1.0, 1.0), "um")
    assert (volume.shape, volume.n_channels, volume.nbytes, volume.is_lazy) == ((2, 3, 4), 5, 240, False)

"""Every output says how it was made."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

import napari_unet3d
from napari_unet3d import PredictSpec, Volume, read_volume, segment_to
from napari_unet3d.core.objects.clean_up import Cleanup
from napari_unet3d.network.machine.device import Device
from napari_unet3d.tasks.segment.provenance import made_by
from tests.support.models import needs_bfloat16, random_model

MODEL = random_model(blocks=0, filters=2)
VOLUME = Volume.from_array(np.random.default_rng(0).integers(0, 255, (9, 20, 21), np.uint8), (0.3, 0.1, 0.1))


def told(path) -> str:
    if path.suffix == ".zarr":
        return json.loads((path / "zarr.json").read_text())["attributes"]["napari-unet3d"]
    with tifffile.TiffFile(path) as file:
        if file.is_imagej:
            return file.imagej_metadata["Info"]
        return tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Description"]


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.zarr"])
@pytest.mark.parametrize("instances", [False, True])
def test_a_result_carries_program_model_and_choices_and_reads_as_before(tmp_path, name, instances):
    spec = PredictSpec(cleanup=Cleanup(min_voxels=0, instances=True) if instances else None, memory_bytes=1 << 28)
    segment_to(tmp_path / name, VOLUME, MODEL, spec=spec)
    facts = told(tmp_path / name)
    facts = json.loads(facts) if isinstance(facts, str) else facts
    assert facts["software"] == f"napari-unet3d {napari_unet3d.__version__}"
    assert facts["model"]["fingerprint"] == MODEL.fingerprint()
    assert facts["spec"]["cleanup"] == (None if spec.cleanup is None else spec.cleanup.model_dump())
    assert "memory_bytes" not in facts["spec"]
    assert (facts["spec"]["precision"], facts["computed_in"]) == ("float32", "float32")
    again = read_volume(tmp_path / name)
    assert (again.voxel_size, again.unit, again.shape) == (VOLUME.voxel_size, "um", VOLUME.shape)
    assert not again.notes


@needs_bfloat16
def test_a_result_says_that_it_was_computed_in_bfloat16(tmp_path):
    segment_to(tmp_path / "a.tif", VOLUME, MODEL, spec=PredictSpec(precision="bfloat16", device="cpu"))
    facts = json.loads(told(tmp_path / "a.tif"))
    assert (facts["spec"]["precision"], facts["computed_in"]) == ("bfloat16", "bfloat16")


def test_a_gpu_that_takes_float16_for_float32_is_told():
    gpu = Device("gpu:0", "card", mixed_precision=True)
    facts = json.loads(made_by(MODEL, PredictSpec(), gpu.computes_in))
    assert (facts["spec"]["precision"], facts["computed_in"]) == ("float32", "float16")

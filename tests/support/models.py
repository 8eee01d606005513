"""Small models with random weights, for tests that need a real network but not a trained one."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
import pytest

from napari_unet3d.core.normalize import Normalization
from napari_unet3d.core.unet.layers import levels_of
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.network.machine import devices
from napari_unet3d.network.machine.devices import Precision, select_device
from napari_unet3d.network.model import Model, ModelCard
from napari_unet3d.network.predictor import Predictor


def random_model(
    *,
    blocks: int = 1,
    flat: int = 0,
    filters: int = 2,
    classes: int = 2,
    channels: int = 1,
    batch_normalization: bool = False,
    normalization: Normalization | None = None,
    seed: int = 0,
) -> Model:
    """Return a model whose logits differ from voxel to voxel and change sign."""
    spec = NetworkSpec(
        levels=levels_of(blocks, flat=flat),
        filters=filters,
        classes=classes,
        channels=channels,
        batch_normalization=batch_normalization,
    )
    rng = np.random.default_rng(seed)
    weights = {
        name: rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape).astype(np.float32)
        if name.endswith("kernel")
        else rng.normal(1.0 if name.endswith(("gamma", "variance")) else 0.0, 0.1, shape).astype(np.float32)
        for name, shape in spec.weight_shapes.items()
    }
    names = ("background", *(f"class {i}" for i in range(1, classes)))
    card = ModelCard(network=spec, class_names=names, normalization=normalization or Normalization())
    return Model(card, weights)


def logits_of(model: Model, image: npt.NDArray, precision: Precision = "float32") -> npt.NDArray[np.float32]:
    """Return the logits of one pass on the CPU."""
    return Predictor(model, select_device("cpu", precision)).logits(image)


needs_bfloat16 = pytest.mark.skipif(
    not select_device("cpu").has_bfloat16, reason="this CPU does not multiply bfloat16 numbers"
)


def has_amx() -> bool:
    """Return whether this CPU multiplies bfloat16 numbers with AMX, which orders its sums by the shape of the input."""
    is_kept_to_less = "ONEDNN_MAX_CPU_ISA" in os.environ
    has = select_device("cpu").has_bfloat16 and "amx_bf16" in devices._CPU_FACTS.read_text()
    return has and not is_kept_to_less


exact_in_bfloat16 = pytest.mark.skipif(
    has_amx() or not select_device("cpu").has_bfloat16, reason="only AVX512_BF16 gives the same bytes in bfloat16"
)

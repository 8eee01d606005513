"""Frozen batch normalization is a factor and an offset per channel; both go into the convolution before it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.unet.spec import NetworkSpec

# Added to a variance before its root is taken.
EPSILON = 1e-3


def fold(
    spec: NetworkSpec, weights: Mapping[str, npt.NDArray[np.float32]]
) -> tuple[NetworkSpec, Mapping[str, npt.NDArray[np.float32]]]:
    """Return a network without batch normalization that gives the same, and costs what one without it does.

    Parameters
    ----------
    spec
        The network.
    weights
        Its arrays by name.
    """
    if not spec.batch_normalization:
        return spec, weights
    plain: dict[str, npt.NDArray[np.float32]] = {}
    for layer in spec.layers:
        names = list(layer.weight_shapes)
        if not layer.is_normalized:
            plain |= {name: weights[name] for name in names}
            continue
        kernel, gamma, beta, mean, variance = (weights[name].astype(np.float64) for name in names)
        factor = gamma / np.sqrt(variance + EPSILON)
        plain[f"{layer.name}/kernel"] = (kernel * factor).astype(np.float32)
        plain[f"{layer.name}/bias"] = (beta - mean * factor).astype(np.float32)
    return spec.model_copy(update={"batch_normalization": False}), plain

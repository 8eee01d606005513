"""What a model hands on to the one that is trained from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import SpecError
from napari_unet3d.network.model import Model

LAST_KERNEL, LAST_BIAS = "output_logits/kernel", "output_logits/bias"
# What must be the same; classes may differ, and dropout has no weights.
_COUNTS = ("levels", "bottleneck", "filters", "channels")


def transfer_weights(
    start: Model, network: NetworkSpec, class_names: Sequence[str], *, seed: int
) -> dict[str, npt.NDArray[np.float32]]:
    """Return weights to start with: those of a model, and in the last layer its row for every class that it knows.

    Parameters
    ----------
    start
        The model.
    network
        What is trained.
    class_names
        Its classes; the rows of new ones are drawn (He normal).
    seed
        Of what is drawn.

    Raises
    ------
    SpecError
        If the networks differ in more than their classes.
    """
    for name in _COUNTS:
        theirs, ours = getattr(start.spec, name), getattr(network, name)
        if theirs != ours:
            raise SpecError(
                f"The model to start from has {theirs} {name} and the network {ours}; they must be the same."
            )
    if start.spec.batch_normalization != network.batch_normalization:
        has = "has" if start.spec.batch_normalization else "has no"
        raise SpecError(f"The model to start from {has} batch normalization; the network must be the same.")
    weights = {name: np.array(array) for name, array in start.weights.items()}
    known = start.card.class_names
    if known == tuple(class_names):
        return weights
    kernel, bias = weights[LAST_KERNEL], weights[LAST_BIAS]
    rng = np.random.default_rng([seed, 0])
    weights[LAST_KERNEL] = rng.normal(0, np.sqrt(2 / kernel.shape[-2]), (*kernel.shape[:-1], network.classes)).astype(
        np.float32
    )
    weights[LAST_BIAS] = np.zeros(network.classes, np.float32)
    for index, name in enumerate(class_names):
        if name in known:
            weights[LAST_KERNEL][..., index] = kernel[..., known.index(name)]
            weights[LAST_BIAS][index] = bias[known.index(name)]
    return weights

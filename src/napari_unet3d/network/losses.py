"""What training makes small: cross-entropy and soft Dice, over the voxels that are annotated and no others.

Only Keras' own operations, so that they run on any of its backends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from napari_unet3d.core.targets import IGNORED
from napari_unet3d.network.runtime import load_tensorflow

load_tensorflow()

from keras import ops  # noqa: E402

# Keeps the Dice of a patch without any voxel of a class defined, and hardly changes that of others.
_SMOOTH = 1.0


def masked_loss(
    logits: Any, targets: Any, *, class_weights: Sequence[float], cross_entropy_share: float
) -> tuple[Any, Any]:
    """Return the loss of a batch, and how its arg-max overlaps with what is annotated.

    Parameters
    ----------
    logits
        (batch, z, y, x, classes) float32.
    targets
        (batch, z, y, x) uint8: the class, or `IGNORED`.
    class_weights
        Weight of a voxel by its class, in the cross-entropy.
    cross_entropy_share
        The rest is ``1 - soft Dice``, averaged over the classes but the first; over all annotated voxels of the batch.

    Returns
    -------
    loss
        A scalar; 0 where nothing is annotated.
    overlaps
        (classes, 3) float32: voxels that are both, predicted, true.
    """
    n_classes = logits.shape[-1]
    counts = ops.cast(ops.not_equal(targets, IGNORED), "float32")
    classes = ops.where(ops.equal(targets, IGNORED), 0, ops.cast(targets, "int32"))
    true = ops.one_hot(classes, n_classes, dtype="float32") * counts[..., None]
    log_probabilities = ops.log_softmax(logits, axis=-1)
    weighted = true * ops.convert_to_tensor(class_weights, dtype="float32")
    entropy = -ops.sum(weighted * log_probabilities) / ops.maximum(ops.sum(weighted), 1e-6)
    probabilities = ops.exp(log_probabilities) * counts[..., None]
    axes = (0, 1, 2, 3)
    both, mass, n_true = ops.sum(probabilities * true, axes), ops.sum(probabilities, axes), ops.sum(true, axes)
    soft_dice = ops.mean(((2 * both + _SMOOTH) / (mass + n_true + _SMOOTH))[1:])
    is_any = ops.cast(ops.sum(counts) > 0, "float32")
    loss = is_any * (cross_entropy_share * entropy + (1 - cross_entropy_share) * (1 - soft_dice))
    found = ops.one_hot(ops.argmax(logits, axis=-1), n_classes, dtype="float32") * counts[..., None]
    overlaps = ops.stack([ops.sum(found * true, axes), ops.sum(found, axes), n_true], axis=-1)
    return loss, overlaps

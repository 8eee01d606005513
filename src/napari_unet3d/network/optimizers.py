"""What turns gradients into steps: the optimizers of a training run, by name."""

from __future__ import annotations

from typing import Any

from napari_unet3d.network.machine.runtime import load_tensorflow

# Keras imports TensorFlow, which reads its environment once.
load_tensorflow()

import keras  # noqa: E402

ops = keras.ops
# Of the kernels per step, times the learning rate. Without it, long runs on little annotation learn it by heart.
_DECAY = 1.0


def optimizer_named(name: str, clip_norm: float) -> keras.optimizers.Optimizer:
    """Return an optimizer whose learning rate is 0 until it is assigned.

    Parameters
    ----------
    name
        `adam` (Kingma and Ba 2014) or `muon` (Jordan et al. 2024, scaled as in Liu et al. 2025, arXiv 2502.16982).
    clip_norm
        Gradients are scaled down to this norm.

    Raises
    ------
    ValueError
        If there is no such optimizer.
    """
    if name == "adam":
        return keras.optimizers.Adam(0.0, global_clipnorm=clip_norm)
    if name == "muon":
        return ConvolutionMuon(0.0, global_clipnorm=clip_norm, weight_decay=_DECAY, adam_weight_decay=_DECAY)
    raise ValueError(f"there is no optimizer {name!r}; choose one of adam, muon")


class ConvolutionMuon(keras.optimizers.Muon):  # type: ignore[misc]  # Keras has no types
    """Muon for convolutions: the step of a kernel is its momentum, made orthogonal as a matrix (offsets x in, out).

    All directions of a kernel learn equally fast, however weak their gradients are. Biases and the layer that makes the
    logits learn by Adam, as its authors would have it. All kernels decay, those of the logits too, which keeps the
    network from being too sure of little annotation; biases do not.
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        return len(variable.shape) != 5 or "logits" in variable.path

    def _use_weight_decay(self, variable: Any) -> bool:
        return len(variable.shape) == 5

    def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
        self.assign_add(m, ops.add(gradient, m * (self.momentum - 1)))
        ahead = ops.add(gradient, self.momentum * m)
        matrix = ops.reshape(ahead, (-1, gradient.shape[-1]))
        step = self.lr_adjust(lr * self.zeropower_via_newtonschulz5(matrix, self.ns_steps))
        self.assign_sub(variable, ops.reshape(step, gradient.shape))

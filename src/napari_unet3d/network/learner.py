"""A network that learns: one step at a time, its whole state readable and writable as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.heads.base import Balance, Head
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import ModelError
from napari_unet3d.network.machine.device import Device
from napari_unet3d.network.machine.runtime import load_tensorflow, out_of_memory_named
from napari_unet3d.network.optimizers import optimizer_named
from napari_unet3d.network.unet import build_unet

# How the names of what scales the loss begin, in a state; only mixed precision has such.
_LOSS_SCALE = "loss_scale/"

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class StepResult:
    """What a step gave.

    Attributes
    ----------
    loss
        Before the step.
    is_finite
        Whether loss and gradients are numbers; if not, nothing was changed.
    """

    loss: float
    is_finite: bool


class Learner:
    """A network with its optimizer.

    Parameters
    ----------
    spec
        The network.
    weights
        What it starts with; None draws them (He normal) with `seed`.
    device
        Where it runs.
    head, balance
        What the logits mean, and how the parts of its loss are balanced.
    optimizer, clip_norm
        What makes steps of gradients, and to which norm these are scaled down (see `optimizers`).
    averaging
        Share of the average of the weights that a step keeps; 0 does not average.
    seed
        Of the first weights and of the dropout.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        weights: Mapping[str, npt.NDArray[np.float32]] | None,
        device: Device,
        *,
        head: Head,
        balance: Balance,
        optimizer: str,
        clip_norm: float,
        averaging: float,
        seed: int,
    ) -> None:
        self.spec = spec
        self._tf = load_tensorflow()
        self._device = device
        self._seed = seed
        self._averaging = averaging
        self._head, self._balance = head, balance
        import keras

        self._ops = keras.ops
        with out_of_memory_named(self._tf, device), self._on_device():
            if weights is None:
                keras.utils.set_random_seed(seed)
            self._network = build_unet(spec, dtype=device.training_policy)
            # Scores are of what is kept, which is float32.
            self._scorer = build_unet(spec) if device.trains_in_bfloat16 else self._network
            # All of them: what batch normalization knows of the data is kept and averaged like weights.
            self._variables = self._network.weights
            if weights is not None:
                for variable in self._variables:
                    variable.assign(weights[variable.path])
            rule = optimizer_named(optimizer, clip_norm)
            self._optimizer = keras.optimizers.LossScaleOptimizer(rule) if device.mixed_precision else rule
            self._optimizer.build(self._network.trainable_variables)
            self._averages = [self._tf.Variable(variable.value, trainable=False) for variable in self._variables]
        self._rule = rule
        self._dropout = getattr(self._network.get_layer("bottleneck_dropout"), "seed_generator", None)
        self._step = self._tf.function(self._step_graph, jit_compile=False)
        self._forward = self._tf.function(self._forward_graph, jit_compile=False)

    def step(
        self, images: npt.NDArray[np.float32], targets: npt.NDArray[np.uint8], *, learning_rate: float, number: int
    ) -> StepResult:
        """Learn from a batch.

        Parameters
        ----------
        images
            (batch, z, y, x, channels) float32, of one shape for all steps.
        targets
            (batch, z, y, x) uint8.
        learning_rate
            For this step.
        number
            Of the step; dropout depends on it and the seed alone.

        Raises
        ------
        OutOfMemoryError
            If the device has no room.
        """
        tf = self._tf
        with out_of_memory_named(tf, self._device), self._on_device():
            self._rule.learning_rate.assign(learning_rate)
            if self._dropout is not None:
                self._dropout.state.assign(np.array([self._seed, number], np.uint32))
            loss, is_finite = self._step(tf.constant(images), tf.constant(targets))
            return StepResult(float(loss), bool(is_finite))

    def logits(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the logits of one input, with the averaged weights where there are such.

        Parameters
        ----------
        image
            (z, y, x, channels) float32 of a shape that fits.
        """
        with out_of_memory_named(self._tf, self._device), self._on_device(), self._kept_weights():
            result: npt.NDArray[np.float32] = self._forward(self._tf.constant(image[np.newaxis])).numpy()
            return result

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return the weights to keep: the averaged ones where there are such."""
        values = self._averages if self._averaging else [variable.value for variable in self._variables]
        return {
            variable.path: np.array(value.numpy(), np.float32)
            for variable, value in zip(self._variables, values, strict=True)
        }

    def state(self) -> Arrays:
        """Return all that the next step depends on, by name."""
        return {name: np.array(variable.numpy()) for name, variable in self._state_variables().items()}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from a state.

        Raises
        ------
        ModelError
            If it is not the state of such a network.
        """
        variables = self._state_variables()
        missing = variables.keys() - state.keys()
        if {name for name in missing ^ (state.keys() - variables.keys()) if not name.startswith(_LOSS_SCALE)}:
            raise ModelError("The checkpoint belongs to another network or optimizer.")
        # A run may go on on a device that scales its losses, or does not.
        variables = {name: variable for name, variable in variables.items() if name not in missing}
        for name, variable in variables.items():
            if tuple(variable.shape) != state[name].shape:
                raise ModelError(
                    f"The checkpoint holds {name} of shape {state[name].shape}, not {tuple(variable.shape)}."
                )
            variable.assign(state[name])

    def _state_variables(self) -> dict[str, Any]:
        variables = {f"weights/{v.path}": v.value for v in self._variables}
        # Keras counts optimizers in their variables' names, so the place in the list is the name.
        kept = [v for v in self._rule.variables if v is not self._rule.learning_rate]
        variables |= {f"optimizer/{number}": v for number, v in enumerate(kept)}
        if self._averaging:
            variables |= {f"average/{v.path}": a for v, a in zip(self._variables, self._averages, strict=True)}
        if self._optimizer is not self._rule:
            ours = {id(v) for v in self._rule.variables}
            scale = [v for v in self._optimizer.variables if id(v) not in ours]
            variables |= {f"{_LOSS_SCALE}{number}": v for number, v in enumerate(scale)}
        return variables

    def _step_graph(self, images: Any, targets: Any) -> Any:
        tf = self._tf
        variables = self._network.trainable_variables
        # What batch normalization knows of the data changes on the way forward, before it is clear that it may.
        known = [variable for variable in self._variables if not variable.trainable]
        before = [tf.identity(variable.value) for variable in known]
        with tf.GradientTape() as tape:
            sums = self._head.sums(self._network(images, training=True), targets, self._ops)
            loss = self._head.loss(sums, self._balance, self._ops)
            scaled = self._optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [v.value for v in variables])
        is_finite = tf.math.is_finite(loss)
        if not self._device.mixed_precision:
            # Where losses are scaled, gradients overflow now and then; the optimizer skips those steps itself.
            is_finite &= tf.math.is_finite(tf.linalg.global_norm(gradients))

        def learn() -> Any:
            self._optimizer.apply(gradients, variables)
            if self._averaging:
                # A young average follows quickly: it does not hold on to the first weights.
                age = tf.cast(self._rule.iterations.value, tf.float32)
                keep = tf.minimum(self._averaging, (1.0 + age) / (10.0 + age))
                for average, variable in zip(self._averages, self._variables, strict=True):
                    average.assign(average * keep + variable.value * (1.0 - keep))
            return is_finite

        def forget() -> Any:
            for variable, value in zip(known, before, strict=True):
                variable.assign(value)
            return is_finite

        return loss, tf.cond(is_finite, learn, forget)

    def _forward_graph(self, image: Any) -> Any:
        return self._scorer(image, training=False)[0]

    def _on_device(self) -> Any:
        return self._tf.device(self._device.tensorflow_name)

    def _kept_weights(self) -> Any:
        """Let the network that scores have the weights to keep, inside a block."""
        if self._scorer is self._network:
            return _Swapped(self._variables, self._averages) if self._averaging else nullcontext()
        kept = self._averages if self._averaging else [variable.value for variable in self._variables]
        for variable, value in zip(self._scorer.weights, kept, strict=True):
            variable.assign(value)
        return nullcontext()


class _Swapped:
    """The network computes with other weights inside the block."""

    def __init__(self, variables: Sequence[Any], values: Sequence[Any]) -> None:
        self._variables, self._values = variables, values

    def __enter__(self) -> None:
        self._kept = [variable.value.numpy() for variable in self._variables]
        for variable, value in zip(self._variables, self._values, strict=True):
            variable.assign(value)

    def __exit__(self, *_: object) -> None:
        for variable, value in zip(self._variables, self._kept, strict=True):
            variable.assign(value)

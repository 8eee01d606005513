"""The loss counts annotated voxels alone; a step depends on its state and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet3d.core.annotation.targets import IGNORED
from napari_unet3d.core.heads.base import Balance
from napari_unet3d.core.heads.classes import Classes
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import ModelError, OutOfMemoryError
from napari_unet3d.network import learner as training
from napari_unet3d.network.learner import Learner
from napari_unet3d.network.machine.devices import Device, select_device
from napari_unet3d.network.model import Model, ModelCard
from napari_unet3d.network.unet import build_unet
from tests.support.models import logits_of

SPEC = NetworkSpec(blocks=0, filters=2, classes=3, dropout=0.3)
OPTIMIZERS = pytest.mark.parametrize("optimizer", ["adam", "muon"])
SPECS = pytest.mark.parametrize(
    "spec", [SPEC, SPEC.model_copy(update={"batch_normalization": True})], ids=["plain", "normalized"]
)
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, 20, 20, 20, 1)).astype(np.float32)
TARGETS = RNG.integers(0, 3, (2, 4, 4, 4)).astype(np.uint8)
TARGETS[:, :2] = IGNORED
CHOICES = {
    "head": Classes(names=("a", "b", "c")),
    "balance": Balance((1.0, 2.0, 3.0), 0.7),
    "optimizer": "muon",
    "clip_norm": 1.0,
    "averaging": 0.9,
    "seed": 3,
}


def learner(spec=SPEC, **choices):
    return Learner(spec, choices.pop("weights", None), select_device("cpu"), **{**CHOICES, **choices})


def learn(this, steps, first=0, rate=1e-2):
    return [this.step(IMAGES, TARGETS, learning_rate=rate, number=first + i) for i in range(steps)]


def test_a_batch_without_annotation_has_no_loss_and_changes_no_weight():
    # Muon lets kernels decay, whatever is learnt.
    this = learner(averaging=0.0, optimizer="adam")
    before = this.weights()
    result = this.step(IMAGES, np.full_like(TARGETS, IGNORED), learning_rate=0.1, number=0)
    assert result.loss == 0
    assert result.is_finite
    for name, array in this.weights().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_network_without_dropout_learns():
    spec = NetworkSpec(blocks=0, filters=2, classes=3, dropout=0.0)
    losses = [result.loss for result in learn(Learner(spec, None, select_device("cpu"), **CHOICES), 3)]
    assert losses[-1] < losses[0]


@OPTIMIZERS
@SPECS
def test_it_learns(spec, optimizer):
    losses = [result.loss for result in learn(learner(spec, optimizer=optimizer), 30)]
    assert losses[-1] < 0.7 * losses[0]


def test_a_seed_gives_one_network_and_another_seed_another():
    first, again, other = (learner(seed=seed).weights() for seed in (3, 3, 4))
    assert all((first[name] == again[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)


@OPTIMIZERS
@SPECS
def test_it_goes_on_from_its_state_to_the_same_bytes(spec, optimizer):
    unbroken, broken = (learner(spec, optimizer=optimizer) for _ in range(2))
    learn(unbroken, 8)
    learn(broken, 5)
    state = broken.state()
    other = learner(spec, optimizer=optimizer)
    learn(other, 2)
    other.restore(state)
    learn(other, 3, first=5)
    for name, array in unbroken.state().items():
        assert array.tobytes() == other.state()[name].tobytes(), name
    assert all((array == other.weights()[name]).all() for name, array in unbroken.weights().items())


def test_a_state_of_another_network_is_refused():
    this = learner()
    with pytest.raises(ModelError, match="belongs to another network"):
        this.restore({"weights/other": np.zeros(3)})
    state = this.state()
    name = next(iter(state))
    with pytest.raises(ModelError, match="of shape"):
        this.restore({**state, name: np.zeros((1, 1), np.float32)})


@SPECS
def test_weights_are_the_average_and_logits_are_of_it(spec):
    this = learner(spec, averaging=0.9)
    learn(this, 12)
    averaged = Model(ModelCard(network=spec, class_names=("a", "b", "c")), this.weights())
    expected = logits_of(averaged, IMAGES[0, ..., 0])
    np.testing.assert_allclose(this.logits(IMAGES[0]), expected, atol=1e-5)
    state = this.state()
    raw = {name.removeprefix("weights/"): array for name, array in state.items() if name.startswith("weights/")}
    assert any((raw[name] != array).any() for name, array in this.weights().items())
    # Scoring leaves the training as it was.
    assert all((array == this.state()[name]).all() for name, array in state.items())


@SPECS
def test_a_step_that_is_no_number_changes_nothing(spec):
    this = learner(spec)
    before = this.state()
    result = this.step(np.full_like(IMAGES, np.nan), TARGETS, learning_rate=1e-2, number=0)
    assert not result.is_finite
    for name, array in this.state().items():
        assert array.tobytes() == before[name].tobytes(), name


def test_a_device_that_is_full_is_named():
    this = learner()
    full = this._tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    def fails(*_):
        raise full

    this._step = fails
    with pytest.raises(OutOfMemoryError, match="CPU"):
        learn(this, 1)


def test_a_card_with_tensor_cores_scales_its_losses_and_keeps_that_in_its_state(monkeypatch):
    # TensorFlow has no float16 pooling on a CPU, so the layers compute in float32 here.
    monkeypatch.setattr(training, "build_unet", lambda spec, dtype="float32": build_unet(spec))
    this = Learner(SPEC, None, Device("cpu", "a card, for the test", mixed_precision=True), **CHOICES)
    losses = [result.loss for result in learn(this, 25)]
    assert losses[-1] < losses[0]
    other = Learner(SPEC, None, Device("cpu", "a card, for the test", mixed_precision=True), **CHOICES)
    other.restore(this.state())
    learn(this, 2, first=25)
    learn(other, 2, first=25)
    assert all((array == other.weights()[name]).all() for name, array in this.weights().items())
    # A run that was begun there goes on without such a card, and the other way round.
    plain = learner()
    plain.restore(this.state())
    for name, array in plain.weights().items():
        assert array.tobytes() == this.weights()[name].tobytes(), name
    learn(plain, 1, first=27)
    this.restore(plain.state())
    learn(this, 1, first=28)


@pytest.mark.skipif(not select_device("cpu").trains_in_bfloat16, reason="this CPU does not multiply bfloat16 numbers")
def test_in_bfloat16_it_learns_as_well_and_goes_on_to_the_same_bytes():
    device = Device("cpu", "CPU", has_bfloat16=True)
    short, exact = (Learner(SPEC, None, on, **CHOICES) for on in (device, Device("cpu", "CPU")))
    losses, others = ([result.loss for result in learn(this, 40)] for this in (short, exact))
    assert losses != others
    assert losses[:3] == pytest.approx(others[:3], rel=0.05)
    assert np.mean(losses[-5:]) < 0.2 * losses[0]
    assert {array.dtype for array in short.weights().values()} == {np.dtype(np.float32)}
    again = Learner(SPEC, None, device, **CHOICES)
    again.restore(short.state())
    learn(short, 3, first=40)
    learn(again, 3, first=40)
    for name, array in short.state().items():
        assert array.tobytes() == again.state()[name].tobytes(), name

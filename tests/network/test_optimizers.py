"""What an optimizer makes of gradients."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from napari_unet3d.network.optimizers import optimizer_named


def stepped(name, gradient, path="conv", rate=1e-2, begins=0.0):
    """Return where a variable is after its first step."""
    variable = keras.Variable(np.full(gradient.shape, begins, np.float32), name=path)
    optimizer = optimizer_named(name, clip_norm=1e9)
    optimizer.build([variable])
    optimizer.learning_rate.assign(rate)
    optimizer.apply([gradient], [variable])
    return np.array(variable.value)


@pytest.mark.parametrize("shape", [(3, 3, 3, 4, 8), (1, 3, 3, 1, 8), (2, 2, 2, 8, 4)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_muon_moves_all_directions_of_a_kernel_alike_however_weak_they_are(shape, scale):
    rng = np.random.default_rng(0)
    n_in, n_out = int(np.prod(shape[:4])), shape[4]
    rank = min(n_in, n_out)
    left, right = (np.linalg.qr(rng.normal(size=(n, rank)))[0] for n in (n_in, n_out))
    gradient = scale * (left * np.geomspace(1, 0.05, rank)) @ right.T
    moved = stepped("muon", gradient.reshape(shape).astype(np.float32)).reshape(n_in, n_out)
    sizes = np.linalg.svd(moved, compute_uv=False)[:rank]
    assert sizes.max() / sizes.min() < 2
    # As large as a step of Adam is: a fifth of the rate in the mean, so that one rate serves both.
    assert np.sqrt(np.mean(moved**2)) == pytest.approx(0.2e-2, rel=0.4)
    assert np.sum(moved * gradient) < 0


@pytest.mark.parametrize(("shape", "path"), [((8,), "conv"), ((1, 1, 1, 8, 2), "output_logits")])
def test_biases_and_logits_learn_by_adam(shape, path):
    gradient = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(stepped("muon", gradient, path), stepped("adam", gradient, path), rtol=1e-4)


def test_muon_lets_kernels_decay_and_nothing_else():
    kernel, bias = np.zeros((3, 3, 3, 2, 4), np.float32), np.zeros(4, np.float32)
    np.testing.assert_allclose(stepped("muon", kernel, rate=0.1, begins=2.0), 2 * (1 - 0.1), rtol=1e-5)
    np.testing.assert_array_equal(stepped("muon", bias, rate=0.1, begins=2.0), 2)
    logits = stepped("muon", kernel[..., :1], "output_logits", rate=0.1, begins=2.0)
    np.testing.assert_allclose(logits, 2 * (1 - 0.1), rtol=1e-5)


def test_an_optimizer_that_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="no optimizer 'sgd'"):
        optimizer_named("sgd", 1.0)

"""The operations of `heads.base.Ops` on NumPy arrays; sums are made in float64, so that many boxes add up exactly."""

from __future__ import annotations

from typing import Any

import numpy as np


def cast(x: Any, dtype: str) -> Any:
    """Return `x` as another type."""
    return np.asarray(x).astype(dtype)


def equal(x1: Any, x2: Any) -> Any:
    """Return where both are the same."""
    return np.equal(x1, x2)


def where(condition: Any, x1: Any, x2: Any) -> Any:
    """Return `x1` where the condition holds, `x2` elsewhere."""
    return np.where(condition, x1, x2)


def one_hot(x: Any, num_classes: int, *, dtype: str) -> Any:
    """Return a last axis with 1 at the class and 0 elsewhere.

    Examples
    --------
    >>> one_hot(np.array([1, 0]), 2, dtype="uint8").tolist()
    [[0, 1], [1, 0]]
    """
    return (np.asarray(x)[..., None] == np.arange(num_classes)).astype(dtype)


def log_softmax(x: Any, axis: int) -> Any:
    """Return the logarithm of the softmax along an axis."""
    shifted = np.asarray(x) - np.max(x, axis=axis, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def exp(x: Any) -> Any:
    """Return the exponential."""
    return np.exp(x)


def argmax(x: Any, axis: int) -> Any:
    """Return where the largest value along an axis is, the first of them."""
    return np.argmax(x, axis=axis)


def maximum(x1: Any, x2: Any) -> Any:
    """Return the larger one."""
    return np.maximum(x1, x2)


def sum(x: Any, axis: tuple[int, ...] | None = None) -> Any:  # noqa: A001 -- as Keras names it
    """Return the sum along axes, in float64."""
    return np.sum(x, axis=axis, dtype=np.float64)


def mean(x: Any) -> Any:
    """Return the mean of all."""
    return np.mean(x)


def convert_to_tensor(x: Any, dtype: str) -> Any:
    """Return numbers as an array."""
    return np.asarray(x, dtype)

"""What a size costs: parameters, operations, and memory of a pass and of a step of training.

Shapes are (z, y, x) in voxels, memory is bytes beyond the program itself (about 0.7 GB).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.unet.layers import Layer
from napari_unet3d.core.unet.spec import NetworkSpec

Floats = npt.NDArray[np.float64]
# Measured, as bytes touched over bytes of live tensors, for inputs of 92 to 300 voxels (`benchmarks/memory.py`): 1.2 to
# 1.45 where the way down needs most, the more the smaller the input, because weights and buffers do not shrink with it;
# 1.1 to 1.6 where the way up does, because it meets memory already cut up by the skips.
_LOSS_DOWN, _LOSS_UP = 1.5, 1.62
# The same with values of two bytes (`benchmarks/memory.py --precision bfloat16`): up to 1.77 on the way down
# (4 filters, a cube of 220), 1.26 with 8 filters.
_LOSS_DOWN_SHORT = 1.85
# Where a level leaves an axis alone, measured over predicted without this was 0.5 to 1.28 for 12 shapes.
_LOSS_FLAT = 1.3
# Measured likewise for steps of training (`benchmarks/train.py --memory`): 1.6 to 2.4 times what the layers give.
_TRAINING, _TRAINING_BUFFERS = 2.4, 64 << 20


def parameter_counts(spec: NetworkSpec) -> dict[str, int]:
    """Return the number of parameters of every block, in the order of the layers."""
    counts: dict[str, int] = {}
    for layer in spec.layers:
        counts[layer.block] = counts.get(layer.block, 0) + layer.n_parameters
    return counts


def n_parameters(spec: NetworkSpec) -> int:
    """Return the number of parameters of the network.

    Examples
    --------
    >>> n_parameters(NetworkSpec())
    1192610
    """
    return sum(parameter_counts(spec).values())


def flops(shape: Sequence[int], spec: NetworkSpec) -> int:
    """Return the floating point operations of one pass over an input of `shape`.

    A multiply-add counts as two; biases, activations and poolings are left out.

    Examples
    --------
    >>> round(flops((220, 220, 220), NetworkSpec()) / 1e9, 1)
    409.8
    """
    return int(flops_grid(*([n] for n in shape), spec=spec)[0, 0, 0])


def flops_grid(z: Sequence[int], y: Sequence[int], x: Sequence[int], *, spec: NetworkSpec) -> Floats:
    """Return the operations for all combinations of input sizes, (z, y, x) float64."""
    weighted = [i for i, layer in enumerate(spec.layers) if layer.has_weights]
    per_voxel = np.array([_multiply_adds(spec.layers[i]) for i in weighted], float)
    nz, ny, nx = (_lengths_table(sizes, axis, spec)[:, weighted] for axis, sizes in enumerate((z, y, x)))
    return np.asarray(2 * np.einsum("il,jl,kl->ijk", nz * per_voxel, ny, nx, optimize=True))


def _multiply_adds(layer: Layer) -> int:
    # Of the kernel of a transposed convolution whose stride is its size each output voxel meets one voxel.
    kernel = 1 if layer.kind == "upsample" else math.prod(layer.kernel)
    return kernel * layer.channels_in * layer.channels_out


def peak_bytes(shape: Sequence[int], spec: NetworkSpec, *, bytes_per_value: int = 4) -> int:
    """Return the memory that one pass over an input of `shape` takes at its worst moment, in bytes.

    The tensors alive at the same time, times what TensorFlow's allocator loses between them. The program itself
    (about 0.7 GB) is not in it. `benchmarks/memory.py` compares this figure with the measured one.

    Parameters
    ----------
    shape
        Input shape (z, y, x) in voxels.
    spec
        The network.
    bytes_per_value
        4 for float32, 2 for bfloat16 and float16; the image, the first convolution and the logits are float32 anyway.
    """
    return int(peak_grid(*([n] for n in shape), spec=spec, bytes_per_value=bytes_per_value)[0, 0, 0])


def training_flops(patch: Sequence[int], spec: NetworkSpec, *, batch: int = 1) -> int:
    """Return the operations of a training step: a pass, and twice as many for the gradients of activations and weights.

    Parameters
    ----------
    patch
        Input shape (z, y, x).
    spec
        The network.
    batch
        Patches per step.
    """
    return 3 * batch * flops(patch, spec)


def training_bytes(shape: Sequence[int], spec: NetworkSpec, *, batch: int = 1, bytes_per_value: int = 4) -> int:
    """Return the memory that a step of training takes beyond the program itself, in bytes.

    What every layer gives is kept for the way back, before and after batch normalization, and as much again for what
    comes back; the weights with their gradients, two moments and an average.

    Parameters
    ----------
    shape
        Input shape (z, y, x) of a patch.
    spec
        The network.
    batch
        Patches per step.
    bytes_per_value
        4 for float32, 2 for mixed precision.
    """
    tables = [spec.geometry.lengths(size, axis) for axis, size in enumerate(shape)]
    kept = sum(
        tables[0][index] * tables[1][index] * tables[2][index] * layer.channels_out * (2 if layer.is_normalized else 1)
        for index, layer in enumerate(spec.layers)
    )
    return int(_TRAINING * batch * bytes_per_value * kept) + 4 * 4 * n_parameters(spec) + _TRAINING_BUFFERS


def peak_grid(
    z: Sequence[int],
    y: Sequence[int],
    x: Sequence[int],
    *,
    spec: NetworkSpec,
    bytes_per_value: int = 4,
) -> Floats:
    """Return the peak bytes of one pass for all combinations of input sizes, (z, y, x) float64."""
    tables = [_lengths_table(sizes, axis, spec) for axis, sizes in enumerate((z, y, x))]

    def values(index: int, channels: int) -> Floats:
        nz, ny, nx = (table[:, index] for table in tables)
        return channels * nz[:, None, None] * ny[None, :, None] * nx[None, None, :]

    sources = [np.asarray(sizes, float) for sizes in (z, y, x)]
    image = spec.channels * sources[0][:, None, None] * sources[1][None, :, None] * sources[2][None, None, :]
    # What is float32 in any case counts as more values where the others are shorter.
    wide = 4 / bytes_per_value
    # A shorter copy of the image is made from the image, which the caller holds.
    held_image = 0 if wide == 1 else wide * image
    current = image
    skips: dict[int, Floats] = {}
    peak = np.zeros_like(current)
    rising, flat = False, 1.0 if spec.is_isotropic else _LOSS_FLAT
    loss_down = _LOSS_DOWN if wide == 1 else _LOSS_DOWN_SHORT
    for index, layer in enumerate(spec.layers):
        produced = values(index, layer.channels_out)
        held = sum(skips.values(), start=held_image + np.zeros_like(current))
        if wide > 1 and layer.kind == "project":
            # The features as float32 are made from the shorter ones.
            held, current, produced = held + current, wide * current, wide * produced
        elif wide > 1 and index == 0:
            # The first convolution is float32, and its result is shortened.
            current, produced = wide * produced, produced
        rising = rising or layer.kind == "upsample"
        loss = flat * (_LOSS_UP if rising else loss_down)
        np.maximum(peak, loss * (held + current + produced), out=peak)
        if layer.kind == "crop":
            skips[layer.level] = produced
            continue
        if layer.kind == "concatenate":
            del skips[layer.level]
        current = produced
    return np.asarray(peak * bytes_per_value)


def _lengths_table(sizes: Sequence[int], axis: int, spec: NetworkSpec) -> Floats:
    geometry = spec.geometry
    return np.array([geometry.lengths(size, axis) for size in sizes], float)

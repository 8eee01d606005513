"""Size arithmetic of a 3D U-Net with valid convolutions, and what a size costs.

Which input sizes survive every pooling, what comes out, how many operations and how many bytes
that takes. Sizes are voxels along one axis, shapes are (z, y, x); no arrays of voxels, files or
Keras here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.architecture import Layer, NetworkSpec
from napari_unet3d.errors import SizeError

Shape = tuple[int, int, int]
AXES = ("z", "y", "x")
# Measured, as bytes touched over bytes of live tensors, for inputs of 92 to 300 voxels (`benchmarks/memory.py`): 1.2 to
# 1.45 where the way down needs most, the more the smaller the input, because weights and buffers do not shrink with it;
# 1.1 to 1.6 where the way up does, because it meets memory already cut up by the skips.
_LOSS_DOWN, _LOSS_UP = 1.5, 1.62
# Measured likewise for steps of training (`benchmarks/train.py --memory`): 1.6 to 2.4 times what the layers give.
_TRAINING, _TRAINING_BUFFERS = 2.4, 64 << 20
# Along one axis, in voxels; beyond that a patch is a mistake, and what is computed with it would not fit a memory.
LONGEST_PATCH = 4096
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


def alignment(blocks: int) -> int:
    """Return the voxels by which an input may be shifted so that every pooling meets the same phase."""
    return 1 << (blocks + 1)


def halo(blocks: int) -> int:
    """Return the voxels a side that the network consumes.

    Examples
    --------
    >>> [2 * halo(blocks) for blocks in (1, 2, 3)]
    [40, 88, 184]
    """
    return 6 * alignment(blocks) - 4


def reach(blocks: int) -> int:
    """Return how many voxels away, along an axis, a voxel of the input may still change an output voxel.

    More than the halo: where an output voxel lies among those that a pooling takes together decides what it sees.

    Examples
    --------
    >>> [reach(blocks) for blocks in (0, 1, 2)]
    [9, 23, 51]
    """
    return halo(blocks) + alignment(blocks) - 1


def output_size(size: int, *, blocks: int = 2, axis: str | None = None) -> int:
    """Return the output size for an input `size`, in voxels along one axis.

    Parameters
    ----------
    size
        Input size in voxels.
    blocks
        Downsample blocks of the network.
    axis
        Name of the axis, for the message.

    Raises
    ------
    SizeError
        If a pooling does not divide the size, or nothing is left. The message names the nearest
        sizes that fit.

    Examples
    --------
    The author's cubes, and the network of Cicek et al. 2016 (arXiv 1606.06650) with its three poolings:

    >>> [output_size(n) for n in (220, 132, 116)]
    [132, 44, 28]
    """
    where = f" along {axis}" if axis else ""
    reason = why_not(size, blocks=blocks)
    if reason is not None:
        near = " and ".join(str(n) for n in nearest_sizes(size, blocks=blocks))
        raise SizeError(
            f"An input of {size} voxels{where} does not fit a network with {blocks} blocks: "
            f"{reason}. The nearest sizes that fit are {near}."
        )
    return size - 2 * halo(blocks)


def why_not(size: int, *, blocks: int = 2) -> str | None:
    """Return why an input `size` does not fit, as half a sentence, or None where it fits.

    Examples
    --------
    >>> why_not(130), why_not(220)
    ('the second pooling meets 59 voxels, which is odd', None)
    """
    voxels = size
    for level in range(blocks + 1):
        voxels -= 4
        if voxels <= 0:
            return f"nothing is left before the {_ORDINALS[level]} pooling"
        if voxels % 2:
            return f"the {_ORDINALS[level]} pooling meets {voxels} voxels, which is odd"
        voxels //= 2
    if size <= 2 * halo(blocks):
        return f"its convolutions consume {2 * halo(blocks)} voxels, so nothing is left"
    return None


def smallest_size(blocks: int) -> int:
    """Return the smallest input size that fits.

    Examples
    --------
    >>> [smallest_size(blocks) for blocks in (1, 2, 3)]
    [44, 92, 188]
    """
    return next(n for n in range(2 * halo(blocks) + 1, 4 * halo(blocks)) if why_not(n, blocks=blocks) is None)


def valid_sizes(maximum: int, *, blocks: int = 2) -> list[int]:
    """Return all input sizes up to `maximum` that fit, in voxels along one axis.

    Examples
    --------
    >>> valid_sizes(116)
    [92, 100, 108, 116]
    """
    return list(range(smallest_size(blocks), maximum + 1, alignment(blocks)))


def nearest_sizes(size: int, *, blocks: int = 2) -> list[int]:
    """Return the sizes that fit just below and just above `size` (one or two of them)."""
    smallest, step = smallest_size(blocks), alignment(blocks)
    if size < smallest:
        return [smallest]
    below = smallest + (size - smallest) // step * step
    return [below] if below == size else [below, below + step]


def input_size_for(output: int, *, blocks: int = 2) -> int:
    """Return the smallest input size whose output has at least `output` voxels.

    Examples
    --------
    >>> input_size_for(132), input_size_for(133)
    (220, 228)
    """
    smallest, step = smallest_size(blocks), alignment(blocks)
    missing = output - (smallest - 2 * halo(blocks))
    return smallest + max(0, -(-missing // step)) * step


def output_shape(shape: Sequence[int], *, blocks: int = 2) -> Shape:
    """Return the (z, y, x) output shape for an input `shape`, each axis judged by itself."""
    z, y, x = (output_size(n, blocks=blocks, axis=axis) for n, axis in zip(shape, AXES, strict=True))
    return z, y, x


def skip_crops(blocks: int) -> tuple[int, ...]:
    """Return the voxels a side that are cropped from the skip of every level, top first.

    A skip loses what the levels below it consume, whose voxels are twice as large.

    Examples
    --------
    >>> skip_crops(2)
    (40, 16, 4)
    """
    return tuple(2 * halo(blocks - level - 1) for level in range(blocks + 1))


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


def flops_grid(z: Sequence[int], y: Sequence[int], x: Sequence[int], *, spec: NetworkSpec) -> npt.NDArray[np.float64]:
    """Return the operations for all combinations of input sizes, (z, y, x) float64."""
    weighted = [i for i, layer in enumerate(spec.layers) if layer.kernel_voxels]
    per_voxel = np.array([_multiply_adds(spec.layers[i]) for i in weighted], float)
    nz, ny, nx = (_lengths_table(sizes, spec)[:, weighted] for sizes in (z, y, x))
    return np.asarray(2 * np.einsum("il,jl,kl->ijk", nz * per_voxel, ny, nx, optimize=True))


def _multiply_adds(layer: Layer) -> int:
    # Of the 8 kernel voxels of a transposed convolution with stride 2 each output voxel meets one.
    kernel = 1 if layer.kind == "upsample" else layer.kernel_voxels
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
        4 for float32, 2 for mixed precision.
    """
    return int(peak_grid(*([n] for n in shape), spec=spec, bytes_per_value=bytes_per_value)[0, 0, 0])


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
    tables = [_lengths(size, spec.blocks) for size in shape]
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
) -> npt.NDArray[np.float64]:
    """Return the peak bytes of one pass for all combinations of input sizes, (z, y, x) float64."""
    tables = [_lengths_table(sizes, spec) for sizes in (z, y, x)]

    def values(index: int, channels: int) -> npt.NDArray[np.float64]:
        nz, ny, nx = (table[:, index] for table in tables)
        return channels * nz[:, None, None] * ny[None, :, None] * nx[None, None, :]

    sources = [np.asarray(sizes, float) for sizes in (z, y, x)]
    current = spec.channels * sources[0][:, None, None] * sources[1][None, :, None] * sources[2][None, None, :]
    skips: dict[int, npt.NDArray[np.float64]] = {}
    peak = np.zeros_like(current)
    rising = False
    for index, layer in enumerate(spec.layers):
        produced = values(index, layer.channels_out)
        held = sum(skips.values(), start=np.zeros_like(current))
        rising = rising or layer.kind == "upsample"
        loss = _LOSS_UP if rising else _LOSS_DOWN
        np.maximum(peak, loss * (held + current + produced), out=peak)
        if layer.kind == "crop":
            skips[layer.level] = produced
            continue
        if layer.kind == "concatenate":
            del skips[layer.level]
        current = produced
    return np.asarray(peak * bytes_per_value)


def _lengths_table(sizes: Sequence[int], spec: NetworkSpec) -> npt.NDArray[np.float64]:
    return np.array([_lengths(size, spec.blocks) for size in sizes], float)


@cache
def _lengths(size: int, blocks: int) -> tuple[int, ...]:
    """Return the size after every layer for an input `size` along one axis."""
    output_size(size, blocks=blocks)
    crops = skip_crops(blocks)
    lengths = []
    current = size
    for layer in NetworkSpec(blocks=blocks).layers:
        if layer.kind == "crop":
            lengths.append(current - 2 * crops[layer.level])
            continue
        if layer.kind == "conv":
            current -= 2
        elif layer.kind == "pool":
            current //= 2
        elif layer.kind == "upsample":
            current *= 2
        lengths.append(current)
    return tuple(lengths)

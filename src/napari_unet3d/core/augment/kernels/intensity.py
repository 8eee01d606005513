"""The loops of intensity augmentation: scaling, gamma, gain and noise in one pass, and filters along an axis.

Noise is a function of a seed and of the voxel's number, and not of a stream: a voxel has the same noise in every box
and on every number of threads. Logarithm, power and cosine are polynomials here, so that the compiler can work on many
voxels at once, and every processor gives the same bytes; they are right to about 1e-7 of 1. Compiled by numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "boundscheck": False, "error_model": "numpy"}
_INLINE: dict[str, Any] = {**_OPTIONS, "forceinline": True}
_LOG2_E = np.float32(1.4426950408889634)
# log2(1 + t) / t for 1 + t in [sqrt(1/2), sqrt(2)], 2**t for t in [-1/2, 1/2], cos(2 pi r) and sin(2 pi r) / r in
# powers of r**2 for r in [-1/2, 1/2]: interpolated at Chebyshev nodes.
_LOG2 = tuple(
    map(
        np.float32,
        (
            1.442695003567983, -0.7213474682495686, 0.4809107534594289, -0.36069326813421665, 0.2879032609224606,
            -0.23916988143154155, 0.21607822557935413, -0.20586188029298227, 0.1231096842125588,
        ),
    )
)  # fmt: skip
_EXP2 = tuple(
    map(
        np.float32,
        (
            1.0, 0.6931472067028329, 0.24022650922289554, 0.05550327226669895, 0.00961805667843204,
            0.0013400428177711937, 0.00015461444724808513,
        ),
    )
)  # fmt: skip
_COS = tuple(
    map(
        np.float32,
        (
            0.9999999889445765, -19.739204466576158, 64.93911592834692, -85.45011342750767, 60.16742979194585,
            -25.966884612550658, 6.527705962902734,
        ),
    )
)  # fmt: skip
_SIN = tuple(
    map(
        np.float32,
        (
            6.283185302468583, -41.34170039298426, 81.60513081115974, -76.7030055584183, 42.025851491273244,
            -14.899578442214992, 3.23778009308236,
        ),
    )
)  # fmt: skip


@intrinsic
def _bits(_context: Any, number: Any) -> Any:
    """Return the bits of a float32 as int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def _from_bits(_context: Any, bits: Any) -> Any:
    """Return the float32 that int32 bits mean."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@njit(**_INLINE)
def log2(x: Any) -> Any:
    """Return the logarithm of a positive, normal float32."""
    bits = _bits(x)
    # The mantissa in [sqrt(1/2), sqrt(2)): 0x3f3504f3 is sqrt(1/2).
    exponent = np.int32(np.int32(bits - np.int32(0x3F3504F3)) >> np.int32(23))
    t = _from_bits(np.int32(bits - np.int32(exponent << np.int32(23)))) - np.float32(1)
    p = _LOG2[8]
    p = p * t + _LOG2[7]
    p = p * t + _LOG2[6]
    p = p * t + _LOG2[5]
    p = p * t + _LOG2[4]
    p = p * t + _LOG2[3]
    p = p * t + _LOG2[2]
    p = p * t + _LOG2[1]
    p = p * t + _LOG2[0]
    return np.float32(exponent) + p * t


@njit(**_INLINE)
def exp2(x: Any) -> Any:
    """Return 2 to a float32 within -126 and 127, and of those ends beyond them."""
    x = min(max(x, np.float32(-126)), np.float32(127))
    whole = np.floor(x + np.float32(0.5))
    t = x - whole
    p = _EXP2[6]
    p = p * t + _EXP2[5]
    p = p * t + _EXP2[4]
    p = p * t + _EXP2[3]
    p = p * t + _EXP2[2]
    p = p * t + _EXP2[1]
    p = p * t + _EXP2[0]
    return p * _from_bits(np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)))


@njit(**_INLINE)
def _mix(x: Any) -> Any:
    """Return 32 bits that look unrelated to those that came in (a finalizer of the murmur family)."""
    # numba computes with 64 bits unless it is told every time.
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x7FEB352D))
    x = np.uint32(x ^ (x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0x846CA68B))
    return np.uint32(x ^ (x >> np.uint32(16)))


@njit(**_INLINE)
def _fraction(bits: Any) -> Any:
    """Return the upper 24 of 32 bits as a number in [0, 1)."""
    return np.float32(np.int32(bits >> np.uint32(8))) * np.float32(2.0**-24)


@njit(**_INLINE)
def two_normals(number: Any, seed: Any, more: Any) -> Any:
    """Return two numbers of a normal distribution for the number of a voxel, by Box and Muller (1958)."""
    first = _mix(np.uint32(_mix(np.uint32(number ^ seed)) + more))
    second = _mix(np.uint32(first ^ np.uint32(0x9E3779B9) ^ np.uint32(more * np.uint32(3))))
    # In (0, 1), so that there is a logarithm.
    u = _fraction(first) + np.float32(2.0**-25)
    r = _fraction(second) - np.float32(0.5)
    radius = np.sqrt(log2(u) * (np.float32(-2) / _LOG2_E))
    s = r * r
    c = _COS[6]
    c = c * s + _COS[5]
    c = c * s + _COS[4]
    c = c * s + _COS[3]
    c = c * s + _COS[2]
    c = c * s + _COS[1]
    c = c * s + _COS[0]
    q = _SIN[6]
    q = q * s + _SIN[5]
    q = q * s + _SIN[4]
    q = q * s + _SIN[3]
    q = q * s + _SIN[2]
    q = q * s + _SIN[1]
    q = q * s + _SIN[0]
    return radius * c, radius * q * r


@njit(**_OPTIONS)
def tone(
    values: Any, z_first: int, z_last: int, box: Any, frame: Any, scaling: Any, curve: Any, noise: Any, seeds: Any
) -> None:
    """Change planes of values (z, y, x) float32 in place: scale, gamma, gain, offset, noise.

    Parameters
    ----------
    values
        A box of a patch.
    z_first, z_last
        The planes to change, in voxels of the patch.
    box, frame
        Where the box begins (z, y, x), and the shape of the patch.
    scaling
        (offset, scale): first ``(value - offset) * scale``.
    curve
        (gamma, gain, offset): then ``gain * value ** gamma + offset``; values up to 0 have no power taken of them.
    noise
        (normal, shot): the standard deviation, and that at the value 1, from where it goes with the square root.
    seeds
        Two uint32.
    """
    below, scale = np.float32(scaling[0]), np.float32(scaling[1])
    gamma, gain, offset = np.float32(curve[0]), np.float32(curve[1]), np.float32(curve[2])
    normal, shot = np.float32(noise[0]), np.float32(noise[1])
    has_gamma, has_noise = gamma != np.float32(1), normal > 0 or shot > 0
    zero, tiny = np.float32(0), np.float32(1e-30)
    width = values.shape[2]
    for z in range(z_first, z_last):
        for y in range(values.shape[1]):
            line = values[z - box[0], y]
            for x in range(width):
                line[x] = (line[x] - below) * scale
            if has_gamma:
                for x in range(width):
                    v = line[x]
                    power = exp2(gamma * log2(max(v, tiny)))
                    line[x] = power if v > tiny else v
            for x in range(width):
                line[x] = line[x] * gain + offset
            if has_noise:
                start = np.uint32((z * frame[1] + y + box[1]) * frame[2] + box[2])
                for x in range(width):
                    one, other = two_normals(np.uint32(start + np.uint32(x)), seeds[0], seeds[1])
                    v = line[x]
                    line[x] = v + normal * one + shot * np.sqrt(max(v, zero)) * other


@njit(**_OPTIONS)
def filter_axis(values: Any, weights: Any, axis: int, first: int, out_first: int, out: Any) -> None:
    """Fill out (z, y, x) float32 with sums of voxels along an axis.

    Parameters
    ----------
    values
        (z, y, x) float32.
    weights
        (2 * reach + 1, n) float32: of the voxels around each of the n places of the patch; 0 beyond its ends.
    axis
        0, 1 or 2.
    first, out_first
        Where `values` and `out` begin along the axis, in voxels of the patch.
    out
        Changed; as large as `values` but along the axis.
    """
    reach = len(weights) // 2
    depth, height, width = out.shape
    for z in range(depth):
        for y in range(height):
            target = out[z, y]
            for x in range(width):
                target[x] = np.float32(0)
            if axis == 2:
                for tap in range(len(weights)):
                    # Where the voxel that the tap reads lies in the values.
                    move = out_first + tap - reach - first
                    low, high = max(0, -move), min(width, values.shape[2] - move)
                    source, row = (
                        values[z, y, low + move : high + move],
                        weights[tap, out_first + low : out_first + high],
                    )
                    part = target[low:high]
                    for x in range(len(part)):
                        part[x] += row[x] * source[x]
                continue
            place = out_first + (z if axis == 0 else y)
            for tap in range(len(weights)):
                weight = weights[tap, place]
                at = place + tap - reach - first
                if weight == 0 or at < 0 or at >= values.shape[axis]:
                    continue
                source = values[at, y] if axis == 0 else values[z, at]
                for x in range(width):
                    target[x] += weight * source[x]

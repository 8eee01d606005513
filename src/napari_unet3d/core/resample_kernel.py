"""The loop of resampling: where each voxel comes from, and one interpolation; compiled by numba.

A row is cut into segments of at most `SEGMENT` voxels, none of which crosses a cell of the control grid. Within a
segment the coordinates are cubic polynomials of the voxel's number, whatever is rotated, sheared and displaced, so a
coordinate costs three multiplications. A segment begins at the same voxel whatever box is asked for, and no operation
depends on its neighbours: a voxel has the same value in every box, on every number of threads, on every processor.

Everything that can be done for many voxels at once stands in a loop of its own, which the compiler turns into vector
instructions; the loads of voxels, which cannot, stand alone. Two neighbours along x are one load.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

SEGMENT = 64
REFLECT, NEAREST, CONSTANT = 0, 1, 2
# The rows that are worked on together meet the same voxels of the source, while those are in the cache.
_BLOCK_Z, _BLOCK_Y = 16, 16
_WIDE = {types.uint8: types.uint16, types.uint16: types.uint32, types.float32: types.uint64}
_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "boundscheck": False, "error_model": "numpy"}
_INLINE: dict[str, Any] = {**_OPTIONS, "forceinline": True}


class Window(NamedTuple):
    """A part of the volume that is read from, as numba sees it.

    Attributes
    ----------
    voxels
        (c * z * y * x,), flat.
    shape, origin, bounds
        Shape (z, y, x) of the window, its first voxel in the volume, and the shape of the volume.
    """

    voxels: npt.NDArray[Any]
    shape: tuple[int, int, int]
    origin: tuple[int, int, int]
    bounds: tuple[int, int, int]


class Map(NamedTuple):
    """Where the voxels of a box of the output come from: ``matrix @ (o + displacement(o)) + offset``, as numba sees it.

    Attributes
    ----------
    matrix, offset
        (3, 3) and (3,) float64, in voxels.
    coefficients
        Of the displacement's B-spline, (mz, my, mx, 3) float64 in voxels of the output, or empty.
    start, step
        Where the first cell begins, and the size of the cells, in voxels of the output.
    segments
        (n, 3) int64: the first voxel along x, the end, the cell.
    fractions
        (n,) float64: how far into its cell a segment begins, in [0, 1).
    shifts
        (box z, 2) int64: how far the planes of the box are shifted along y and x.
    box
        ((start, stop),) * 3 in voxels of the output.
    """

    matrix: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]
    coefficients: npt.NDArray[np.float64]
    start: tuple[float, float, float]
    step: tuple[float, float, float]
    segments: npt.NDArray[np.int64]
    fractions: npt.NDArray[np.float64]
    shifts: npt.NDArray[np.int64]
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@intrinsic
def _load_pair(_context: Any, array: Any, index: Any) -> Any:
    """Return two neighbours of a flat array as one number, wherever they lie."""
    wide = _WIDE[array.dtype]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = builder.gep(source.data, [arguments[1]])
        return builder.load(builder.bitcast(pointer, ir.IntType(wide.bitwidth).as_pointer()), align=1)

    return wide(array, types.int64), generate


@intrinsic
def _split_pair(_context: Any, pair: Any, array: Any) -> Any:
    """Return the two neighbours as float32; the first lies in the lower bits (little-endian)."""
    element = array.dtype

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = element.bitwidth
        wide, narrow = arguments[0], ir.IntType(bits)
        halves = (wide, builder.lshr(wide, ir.Constant(wide.type, bits)))
        numbers = []
        for half in halves:
            number = builder.trunc(half, narrow)
            if element == types.float32:
                numbers.append(builder.bitcast(number, ir.FloatType()))
            else:
                numbers.append(builder.sitofp(builder.zext(number, ir.IntType(32)), ir.FloatType()))
        return context.make_tuple(builder, signature.return_type, numbers)

    return types.UniTuple(types.float32, 2)(pair, array), generate


@njit(**_INLINE)
def _weights(u: Any) -> Any:
    """Return the weights of the four nodes around a place in a cell, of the cubic B-spline."""
    return (1 - u) ** 3 / 6, (3 * u**3 - 6 * u**2 + 4) / 6, (-3 * u**3 + 3 * u**2 + 3 * u + 1) / 6, u**3 / 6


@njit(**_INLINE)
def _collapse_planes(where: Any, first: int, last: int, planes: Any) -> None:
    """Fill (n, my, mx, 3): the control grid as the planes `first` .. `last` of the output meet it."""
    grid = where.coefficients
    for z in range(first, last):
        q = (z - where.start[0]) / where.step[0]
        k = int(np.floor(q))
        w0, w1, w2, w3 = _weights(q - k)
        for y in range(grid.shape[1]):
            for x in range(grid.shape[2]):
                for a in range(3):
                    planes[z - first, y, x, a] = (
                        w0 * grid[k, y, x, a]
                        + w1 * grid[k + 1, y, x, a]
                        + w2 * grid[k + 2, y, x, a]
                        + w3 * grid[k + 3, y, x, a]
                    )


@njit(**_INLINE)
def _displacement(where: Any, planes: Any, p: int, y: int, cell: int, u: float, out: Any) -> None:
    """Fill out[axis, power]: the displacement along a segment as a polynomial of the voxel's number in it."""
    q = (y - where.start[1]) / where.step[1]
    k = int(np.floor(q))
    w0, w1, w2, w3 = _weights(q - k)
    h = 1 / where.step[2]
    for a in range(3):
        c0 = (
            w0 * planes[p, k, cell, a]
            + w1 * planes[p, k + 1, cell, a]
            + w2 * planes[p, k + 2, cell, a]
            + w3 * planes[p, k + 3, cell, a]
        )
        cell1, cell2, cell3 = cell + 1, cell + 2, cell + 3
        c1 = (
            w0 * planes[p, k, cell1, a]
            + w1 * planes[p, k + 1, cell1, a]
            + w2 * planes[p, k + 2, cell1, a]
            + w3 * planes[p, k + 3, cell1, a]
        )
        c2 = (
            w0 * planes[p, k, cell2, a]
            + w1 * planes[p, k + 1, cell2, a]
            + w2 * planes[p, k + 2, cell2, a]
            + w3 * planes[p, k + 3, cell2, a]
        )
        c3 = (
            w0 * planes[p, k, cell3, a]
            + w1 * planes[p, k + 1, cell3, a]
            + w2 * planes[p, k + 2, cell3, a]
            + w3 * planes[p, k + 3, cell3, a]
        )
        # The spline of the cell in powers of the place in it, which is u at the segment's first voxel.
        b0 = (c0 + 4 * c1 + c2) / 6
        b1 = (c2 - c0) / 2
        b2 = (c0 - 2 * c1 + c2) / 2
        b3 = (c3 - c0) / 6 + (c1 - c2) / 2
        out[a, 0] = b0 + u * (b1 + u * (b2 + u * b3))
        out[a, 1] = (b1 + u * (2 * b2 + 3 * u * b3)) * h
        out[a, 2] = (b2 + 3 * u * b3) * h * h
        out[a, 3] = b3 * h * h * h


@njit(**_INLINE)
def _polynomial(where: Any, z: int, y: int, x: int, displacement: Any, powers: Any, base: Any) -> None:
    """Fill powers[axis, power] and base[axis]: a place in the volume is base + the polynomial of the voxel's number."""
    m = where.matrix
    for a in range(3):
        for power in range(4):
            powers[a, power] = (
                m[a, 0] * displacement[0, power] + m[a, 1] * displacement[1, power] + m[a, 2] * displacement[2, power]
            )
        powers[a, 1] += m[a, 2]
        place = m[a, 0] * z + m[a, 1] * y + m[a, 2] * x + where.offset[a] + powers[a, 0]
        whole = np.floor(place)
        base[a] = int(whole)
        # What is left is small, so that float32 suffices for it in a volume of any size.
        powers[a, 0] = place - whole


@njit(**_INLINE)
def _places(powers: Any, a: int, base: int, first: int, n: int, index: Any, part: Any) -> Any:
    """Fill the voxel before every place, and how far beyond it the place lies; return the lowest and highest voxel."""
    c0, c1, c2, c3 = (
        np.float32(powers[a, 0]),
        np.float32(powers[a, 1]),
        np.float32(powers[a, 2]),
        np.float32(powers[a, 3]),
    )
    b, start = np.int32(base), np.int32(first)
    low, high = np.int32(2147483647), np.int32(-2147483648)
    for i in range(n):
        t = np.float32(np.int32(start + np.int32(i)))
        place = c0 + t * (c1 + t * (c2 + t * c3))
        whole = np.floor(place)
        part[i] = place - whole
        at = np.int32(np.int32(whole) + b)
        index[i] = at
        low, high = np.int32(min(low, at)), np.int32(max(high, at))
    return low, high


@njit(**_INLINE)
def _continue(index: Any, part: Any, outside: Any, n: int, size: int, mode: int) -> None:
    """Bring places beyond the volume back into it; those inside keep the numbers they have.

    Afterwards the voxel `index` and the next one are in the volume, unless that is one voxel long.
    """
    period, last = np.int32(2 * size), np.int32(2 * size - 1)
    end, highest = np.int32(size - 1), np.int32(max(0, size - 2))
    inverse = np.float32(1.0) / np.float32(2 * size)
    half, one = np.float32(0.5), np.int32(1)
    for i in range(n):
        before, f = index[i], part[i]
        after = np.int32(before + one)
        outside[i] |= (before < 0) | (before > end) | ((before == end) & (f > 0))
        if mode == REFLECT:
            # Exact: half a voxel keeps the quotient away from whole numbers.
            before = np.int32(before - period * np.int32(np.floor((np.float32(before) + half) * inverse)))
            after = np.int32(after - period * np.int32(np.floor((np.float32(after) + half) * inverse)))
            before, after = min(before, np.int32(last - before)), min(after, np.int32(last - after))
        else:
            before, after = min(max(before, np.int32(0)), end), min(max(after, np.int32(0)), end)
        low = min(before, after, highest)
        if after < before:
            f = np.float32(1) - f
        elif after == before:
            f = np.float32(before != low)
        index[i] = low
        part[i] = f


@njit(**_INLINE)
def _find(
    where: Any, window: Any, z: int, y: int, s: int, planes: Any, p: int, mode: int, is_nearest: bool, scratch: Any
) -> Any:
    """Fill where the voxels of a segment that lie in the box come from: index and part for every axis.

    Returns
    -------
    at, n, has_left
        The first of them along x of the box, how many they are, and whether any comes from outside of the volume.
    """
    iz, iy, ix, fz, fy, fx, outside, displacement, powers, base = scratch
    begin = where.segments[s, 0]
    shift_y, shift_x = where.shifts[z - where.box[0][0], 0], where.shifts[z - where.box[0][0], 1]
    first = max(begin, where.box[2][0] + shift_x) - begin
    n = min(where.segments[s, 1], where.box[2][1] + shift_x) - begin - first
    at = begin + first - shift_x - where.box[2][0]
    if n <= 0:
        return at, 0, False
    if where.coefficients.size:
        _displacement(where, planes, p, y + shift_y, where.segments[s, 2], where.fractions[s], displacement)
    _polynomial(where, z, y + shift_y, begin, displacement, powers, base)
    z_low, z_high = _places(powers, 0, base[0], first, n, iz, fz)
    y_low, y_high = _places(powers, 1, base[1], first, n, iy, fy)
    x_low, x_high = _places(powers, 2, base[2], first, n, ix, fx)
    if is_nearest:
        _round(iz, fz, n)
        _round(iy, fy, n)
        _round(ix, fx, n)
    # A nearest voxel may be the one after.
    nz, ny, nx = window.bounds
    z_left, y_left, x_left = z_low < 0 or z_high > nz - 2, y_low < 0 or y_high > ny - 2, x_low < 0 or x_high > nx - 2
    has_left = z_left or y_left or x_left
    if has_left:
        for i in range(n):
            outside[i] = False
    if z_left:
        _continue(iz, fz, outside, n, nz, mode)
    if y_left:
        _continue(iy, fy, outside, n, ny, mode)
    if x_left:
        _continue(ix, fx, outside, n, nx, mode)
    if is_nearest and has_left:
        _round(iz, fz, n)
        _round(iy, fy, n)
        _round(ix, fx, n)
    return at, n, has_left


@njit(**_INLINE)
def _round(index: Any, part: Any, n: int) -> None:
    half, zero = np.float32(0.5), np.float32(0)
    for i in range(n):
        index[i] += np.int32(part[i] >= half)
        part[i] = zero


@njit(**_INLINE)
def _scratch() -> Any:
    iz, iy, ix = np.empty(SEGMENT, np.int32), np.empty(SEGMENT, np.int32), np.empty(SEGMENT, np.int32)
    fz, fy, fx = np.empty(SEGMENT, np.float32), np.empty(SEGMENT, np.float32), np.empty(SEGMENT, np.float32)
    outside = np.zeros(SEGMENT, np.bool_)
    return iz, iy, ix, fz, fy, fx, outside, np.zeros((3, 4)), np.empty((3, 4)), np.empty(3, np.int64)


@njit(**_INLINE)
def _gather(voxels: Any, offset: Any, n: int, base: int, row: int, plane: int, pairs: Any) -> None:
    p00, p01, p10, p11 = pairs
    for i in range(n):
        at = base + np.int64(offset[i])
        p00[i] = _load_pair(voxels, at)
        p01[i] = _load_pair(voxels, at + row)
        p10[i] = _load_pair(voxels, at + plane)
        p11[i] = _load_pair(voxels, at + plane + row)


@njit(**_INLINE)
def _blend(voxels: Any, n: int, pairs: Any, fz: Any, fy: Any, fx: Any, out: Any, at: Any) -> None:
    p00, p01, p10, p11 = pairs
    one = np.float32(1)
    for i in range(n):
        gz, gy, gx = fz[i], fy[i], fx[i]
        hz, hy, hx = one - gz, one - gy, one - gx
        a0, a1 = _split_pair(p00[i], voxels)
        b0, b1 = _split_pair(p01[i], voxels)
        c0, c1 = _split_pair(p10[i], voxels)
        d0, d1 = _split_pair(p11[i], voxels)
        # In this form the result is exactly a voxel where the place is one, on either end.
        a, b = a0 * hx + a1 * gx, b0 * hx + b1 * gx
        c, d = c0 * hx + c1 * gx, d0 * hx + d1 * gx
        out[at + np.uint64(i)] = (a * hy + b * gy) * hz + (c * hy + d * gy) * gz


@njit(**_OPTIONS)
def resample_linear(
    window: Any, where: Any, z_first: int, z_last: int, mode: int, fill: float, pairs: Any, shape: Any, out: Any
) -> None:
    """Fill planes of out (c, z, y, x) float32, which is the box of `where`, by trilinear interpolation.

    Parameters
    ----------
    window
        uint8, uint16 or float32; two voxels or more along every axis.
    where
        The box, and where it comes from.
    z_first, z_last
        The planes to fill, in voxels of the output.
    mode, fill
        How the volume continues, and its value outside in the mode CONSTANT.
    pairs
        Room for (4, SEGMENT) numbers, twice as wide as a voxel; changed.
    out
        Changed.
    """
    (nz, ny, nx), (oz, oy, ox) = window.shape, window.origin
    scratch = _scratch()
    iz, iy, ix, fz, fy, fx, outside = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4], scratch[5], scratch[6]
    planes = np.empty((_BLOCK_Z, where.coefficients.shape[1], where.coefficients.shape[2], 3))
    (z_box, _), (y_box, y_end), _ = where.box
    n_channels, depth, height, width = shape
    for z_block in range(z_first, z_last, _BLOCK_Z):
        z_end = min(z_block + _BLOCK_Z, z_last)
        if where.coefficients.size:
            _collapse_planes(where, z_block, z_end, planes)
        for s in range(len(where.segments)):
            for y_block in range(y_box, y_end, _BLOCK_Y):
                for z in range(z_block, z_end):
                    for y in range(y_block, min(y_block + _BLOCK_Y, y_end)):
                        at, n, has_left = _find(where, window, z, y, s, planes, z - z_block, mode, False, scratch)
                        for i in range(n):
                            iz[i] = ((iz[i] - oz) * ny + iy[i] - oy) * nx + ix[i] - ox
                        for channel in range(n_channels):
                            start = np.uint64(((channel * depth + z - z_box) * height + y - y_box) * width + at)
                            _gather(window.voxels, iz, n, channel * nz * ny * nx, nx, ny * nx, pairs)
                            _blend(window.voxels, n, pairs, fz, fy, fx, out, start)
                            if has_left and mode == CONSTANT:
                                for i in range(n):
                                    if outside[i]:
                                        out[start + np.uint64(i)] = fill


@njit(**_OPTIONS)
def resample_nearest(
    window: Any, where: Any, z_first: int, z_last: int, mode: int, fill: Any, shape: Any, out: Any
) -> None:
    """Fill planes of out (c, z, y, x), of the type of `window`, each voxel with the nearest of the volume.

    What lies in the volume and not in the window is `fill`; otherwise as `resample_linear`.
    """
    (nz, ny, nx), (oz, oy, ox) = window.shape, window.origin
    scratch = _scratch()
    iz, iy, ix, outside = scratch[0], scratch[1], scratch[2], scratch[6]
    planes = np.empty((_BLOCK_Z, where.coefficients.shape[1], where.coefficients.shape[2], 3))
    (z_box, _), (y_box, y_end), _ = where.box
    n_channels, depth, height, width = shape
    for z_block in range(z_first, z_last, _BLOCK_Z):
        z_end = min(z_block + _BLOCK_Z, z_last)
        if where.coefficients.size:
            _collapse_planes(where, z_block, z_end, planes)
        for s in range(len(where.segments)):
            for y_block in range(y_box, y_end, _BLOCK_Y):
                for z in range(z_block, z_end):
                    for y in range(y_block, min(y_block + _BLOCK_Y, y_end)):
                        at, n, has_left = _find(where, window, z, y, s, planes, z - z_block, mode, True, scratch)
                        for channel in range(n_channels):
                            start = np.uint64(((channel * depth + z - z_box) * height + y - y_box) * width + at)
                            for i in range(n):
                                jz, jy, jx = iz[i] - oz, iy[i] - oy, ix[i] - ox
                                is_there = 0 <= jz < nz and 0 <= jy < ny and 0 <= jx < nx
                                if not is_there or (mode == CONSTANT and has_left and outside[i]):
                                    out[start + np.uint64(i)] = fill
                                else:
                                    offset = (np.int64(channel * nz + jz) * ny + jy) * nx + jx
                                    out[start + np.uint64(i)] = window.voxels[np.uint64(offset)]

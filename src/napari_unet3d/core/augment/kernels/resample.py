"""The loop of resampling: where each voxel comes from, and one interpolation; compiled by numba.

A row is cut into segments of at most `SEGMENT` voxels, none of which crosses a cell of the control grid. Within a
segment the coordinates are cubic polynomials of the voxel's number, whatever is rotated, sheared and displaced, so a
coordinate costs three multiplications. A segment begins at the same voxel whatever box is asked for, and no operation
depends on its neighbours: a voxel has the same value in every box, on every number of threads, on every processor.

`LANES` voxels are worked on at once, all in registers, from the polynomials to the result; in between, two neighbours
along x are one load. Where fewer are left, the last of them fills the lanes, so nothing is read that is not needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from napari_unet3d.core.augment.kernels.arguments import CONSTANT, REFLECT, SEGMENT
from napari_unet3d.core.augment.kernels.lanes import (
    LANES,
    any_of,
    counting,
    floor,
    gather_pairs,
    load_four,
    maximum,
    minimum,
    store,
    to_float,
    to_int,
    where,
)

# The rows that are worked on together meet the same voxels of the source, while those are in the cache.
_BLOCK_Z, _BLOCK_Y = 16, 16
_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "boundscheck": False, "error_model": "numpy"}
_INLINE: dict[str, Any] = {**_OPTIONS, "forceinline": True}


@njit(**_INLINE)
def _cell(at: int, start: float, step: float) -> Any:
    """Return the first of the four nodes around a place, and their weights, of the cubic B-spline."""
    q = (at - start) / step
    k = int(np.floor(q))
    u = q - k
    return k, (1 - u) ** 3 / 6, (3 * u**3 - 6 * u**2 + 4) / 6, (-3 * u**3 + 3 * u**2 + 3 * u + 1) / 6, u**3 / 6


@njit(**_INLINE)
def _collapse(where_from: Any, first: int, last: int, planes: Any) -> None:
    """Fill (n, my, mx * 4): the control grid as the planes `first` .. `last` of the output meet it."""
    grid = where_from.nodes
    for z in range(first, last):
        k, w0, w1, w2, w3 = _cell(z, where_from.start[0], where_from.step[0])
        for y in range(grid.shape[1]):
            for x in range(grid.shape[2]):
                planes[z - first, y, x] = (
                    w0 * grid[k, y, x] + w1 * grid[k + 1, y, x] + w2 * grid[k + 2, y, x] + w3 * grid[k + 3, y, x]
                )


@njit(**_INLINE)
def _node(planes: Any, at: int, line: int, w0: float, w1: float, w2: float, w3: float) -> Any:
    """Return a node (z, y, x, 0) along x, of four lines of nodes along y."""
    return (
        w0 * load_four(planes, at)
        + w1 * load_four(planes, at + line)
        + w2 * load_four(planes, at + 2 * line)
        + w3 * load_four(planes, at + 3 * line)
    )


@njit(**_INLINE)
def _power(flat: Any, at: int, n0: Any, n1: Any, n2: Any, n3: Any) -> Any:
    return flat[at] * n0 + flat[at + 1] * n1 + flat[at + 2] * n2 + flat[at + 3] * n3


@njit(**_INLINE)
def _rows(where_from: Any, s: int, planes: Any, z_block: int, z_end: int, y_block: int, y_end: int, room: Any) -> None:
    """Fill, for every row of a block, the polynomials of a segment: room = (coefficients, whole).

    A place in the volume is ``whole + c0 + t * (c1 + t * (c2 + t * c3))``, t the voxel's number in the segment. What
    is left beside the whole voxels is small, so that float32 suffices for it in a volume of any size.
    """
    coefficients, whole = room
    line = where_from.nodes.shape[2]
    plane = where_from.nodes.shape[1] * line
    flat, powers = planes.reshape(-1), where_from.powers.reshape(-1)
    columns = where_from.columns
    along_z, along_y, along_x = load_four(columns, 0), load_four(columns, 4), load_four(columns, 8)
    begin = along_x * float(where_from.segments[s, 0]) + load_four(columns, 12)
    row = 0
    for z in range(z_block, z_end):
        shift = where_from.shifts[z - where_from.box[0][0], 0]
        for y in range(y_block + shift, y_end + shift):
            c0, c1 = along_z * float(z) + along_y * float(y) + begin, along_x
            c2 = c3 = along_x * 0.0
            if where_from.nodes.size:
                k, w0, w1, w2, w3 = _cell(y, where_from.start[1], where_from.step[1])
                at = (z - z_block) * plane + k * line + 4 * where_from.segments[s, 2]
                n0, n1 = _node(flat, at, line, w0, w1, w2, w3), _node(flat, at + 4, line, w0, w1, w2, w3)
                n2, n3 = _node(flat, at + 8, line, w0, w1, w2, w3), _node(flat, at + 12, line, w0, w1, w2, w3)
                c0, c1 = c0 + _power(powers, 16 * s, n0, n1, n2, n3), c1 + _power(powers, 16 * s + 4, n0, n1, n2, n3)
                c2, c3 = _power(powers, 16 * s + 8, n0, n1, n2, n3), _power(powers, 16 * s + 12, n0, n1, n2, n3)
            below = floor(c0)
            store(whole, 4 * row, to_int(below))
            store(coefficients, 16 * row, to_float(c0 - below))
            store(coefficients, 16 * row + 4, to_float(c1))
            store(coefficients, 16 * row + 8, to_float(c2))
            store(coefficients, 16 * row + 12, to_float(c3))
            row += 1


@njit(**_INLINE)
def _reach(where_from: Any, s: int, step: int, z: int) -> Any:
    """Return which voxels of a segment are worked on: the first along x of the box, their number, and theirs in it."""
    begin, end = where_from.segments[s, 0], where_from.segments[s, 1]
    shift = where_from.shifts[z - where_from.box[0][0], 1]
    x_first, x_end = where_from.box[2]
    first = max(begin, x_first + shift) + step * LANES
    last = min(end, x_end + shift)
    t = to_float(minimum(counting(np.int32(first - begin)), np.int32(last - 1 - begin)))
    return first - shift - x_first, min(LANES, last - first), t


@njit(**_INLINE)
def _place(room: Any, row: int, axis: int, t: Any) -> Any:
    """Return the voxels before places, and how far beyond them the places lie, in [0, 1)."""
    coefficients, whole = room
    at = 16 * row + axis
    place = coefficients[at] + t * (coefficients[at + 4] + t * (coefficients[at + 8] + t * coefficients[at + 12]))
    below = floor(place)
    return to_int(below) + whole[4 * row + axis], place - below


@njit(**_INLINE)
def _places(room: Any, row: int, t: Any) -> Any:
    return _place(room, row, 0, t), _place(room, row, 1, t), _place(room, row, 2, t)


@njit(**_INLINE)
def _beyond(z: Any, y: Any, x: Any, depth: int, height: int, width: int) -> Any:
    """Return which voxels lie outside of a box of a shape that begins at 0."""
    zero = np.int32(0)
    beyond_z = (z < zero) | (z >= np.int32(depth))
    beyond_y = (y < zero) | (y >= np.int32(height))
    return beyond_z | beyond_y | (x < zero) | (x >= np.int32(width))


@njit(**_INLINE)
def _inside(index: Any, size: int, mode: int) -> Any:
    """Return the voxels of the volume that stand for voxels which may lie beyond it."""
    if mode == REFLECT:
        # Exact: half a voxel keeps the quotient away from whole numbers.
        turns = floor((to_float(index) + np.float32(0.5)) * (np.float32(1.0) / np.float32(2 * size)))
        index = index - to_int(turns) * np.int32(2 * size)
        index = minimum(index, np.int32(2 * size - 1) - index)
    return minimum(maximum(index, np.int32(0)), np.int32(size - 1))


@njit(**_INLINE)
def _continue(index: Any, part: Any, size: int, mode: int) -> Any:
    """Bring places beyond the volume back into it; those inside keep the numbers they have.

    Returns
    -------
    low, part, outside
        The voxel `low` and the next one are in the volume, unless that is one voxel long.
    """
    end, one = np.int32(size - 1), np.float32(1)
    outside = (index < np.int32(0)) | (index > end) | ((index == end) & (part > np.float32(0)))
    before, after = _inside(index, size, mode), _inside(index + np.int32(1), size, mode)
    low = minimum(minimum(before, after), np.int32(max(0, size - 2)))
    same = where(before == low, np.float32(0), part * np.float32(0) + one)
    return low, where(after < before, one - part, where(after == before, same, part)), outside


@njit(**_OPTIONS)
def resample_linear(
    window: Any, where_from: Any, z_first: int, z_last: int, mode: int, fill: float, shape: Any, out: Any
) -> None:
    """Fill planes of out (c, z, y, x) float32, which is the box of `where_from`, by trilinear interpolation.

    Parameters
    ----------
    window
        uint8, uint16 or float32; two voxels or more along every axis.
    where_from
        The box, and where it comes from.
    z_first, z_last
        The planes to fill, in voxels of the output.
    mode, fill
        How the volume continues, and its value outside in the mode CONSTANT.
    shape, out
        (c, z, y, x), and as many voxels, flat; changed.
    """
    (nz, ny, nx), (oz, oy, ox), (bz, by, bx) = window.shape, window.origin, window.bounds
    (z_box, _), (y_box, y_last), _ = where_from.box
    n_channels, depth, height, width = shape
    row_y, row_z, row_c, one = nx, ny * nx, nz * ny * nx, np.float32(1)
    planes = np.empty((_BLOCK_Z, where_from.nodes.shape[1], where_from.nodes.shape[2]))
    room = np.empty(16 * _BLOCK_Z * _BLOCK_Y, np.float32), np.empty(4 * _BLOCK_Z * _BLOCK_Y, np.int32)
    tail = np.empty(LANES, np.float32)
    for z_block in range(z_first, z_last, _BLOCK_Z):
        z_end = min(z_block + _BLOCK_Z, z_last)
        if where_from.nodes.size:
            _collapse(where_from, z_block, z_end, planes)
        for y_block in range(y_box, y_last, _BLOCK_Y):
            y_end = min(y_block + _BLOCK_Y, y_last)
            for s in range(len(where_from.segments)):
                _rows(where_from, s, planes, z_block, z_end, y_block, y_end, room)
                for step in range(SEGMENT // LANES):
                    for z in range(z_block, z_end):
                        at, n, t = _reach(where_from, s, step, z)
                        if n <= 0:
                            continue
                        for y in range(y_block, y_end):
                            row = (z - z_block) * (y_end - y_block) + y - y_block
                            (iz, fz), (iy, fy), (ix, fx) = _places(room, row, t)
                            outside = _beyond(iz, iy, ix, bz - 1, by - 1, bx - 1)
                            has_left = any_of(outside)
                            if has_left:
                                iz, fz, out_z = _continue(iz, fz, bz, mode)
                                iy, fy, out_y = _continue(iy, fy, by, mode)
                                ix, fx, out_x = _continue(ix, fx, bx, mode)
                                outside = out_z | out_y | out_x
                            jz, jy, jx = iz - np.int32(oz), iy - np.int32(oy), ix - np.int32(ox)
                            offset = (jz * np.int32(ny) + jy) * np.int32(nx) + jx
                            hz, hy, hx = one - fz, one - fy, one - fx
                            for channel in range(n_channels):
                                first = channel * row_c
                                a0, a1 = gather_pairs(window.voxels, first, offset)
                                b0, b1 = gather_pairs(window.voxels, first + row_y, offset)
                                c0, c1 = gather_pairs(window.voxels, first + row_z, offset)
                                d0, d1 = gather_pairs(window.voxels, first + row_z + row_y, offset)
                                # In this form the result is exactly a voxel where the place is one, on either end.
                                a, b = a0 * hx + a1 * fx, b0 * hx + b1 * fx
                                c, d = c0 * hx + c1 * fx, d0 * hx + d1 * fx
                                value = (a * hy + b * fy) * hz + (c * hy + d * fy) * fz
                                if mode == CONSTANT and has_left:
                                    value = where(outside, np.float32(fill), value)
                                start = ((channel * depth + z - z_box) * height + y - y_box) * width + at
                                if n == LANES:
                                    store(out, start, value)
                                else:
                                    store(tail, 0, value)
                                    for i in range(n):
                                        out[start + i] = tail[i]


@njit(**_OPTIONS)
def resample_nearest(
    window: Any, where_from: Any, z_first: int, z_last: int, mode: int, fill: Any, shape: Any, out: Any
) -> None:
    """Fill planes of out (c, z, y, x), of the type of `window`, each voxel with the nearest of the volume.

    What lies in the volume and not in the window is `fill`; otherwise as `resample_linear`.
    """
    (nz, ny, nx), (oz, oy, ox), (bz, by, bx) = window.shape, window.origin, window.bounds
    (z_box, _), (y_box, y_last), _ = where_from.box
    n_channels, depth, height, width = shape
    row_c, one, half = nz * ny * nx, np.int32(1), np.float32(0.5)
    planes = np.empty((_BLOCK_Z, where_from.nodes.shape[1], where_from.nodes.shape[2]))
    room = np.empty(16 * _BLOCK_Z * _BLOCK_Y, np.float32), np.empty(4 * _BLOCK_Z * _BLOCK_Y, np.int32)
    offsets = np.empty(LANES, np.int32)
    for z_block in range(z_first, z_last, _BLOCK_Z):
        z_end = min(z_block + _BLOCK_Z, z_last)
        if where_from.nodes.size:
            _collapse(where_from, z_block, z_end, planes)
        for y_block in range(y_box, y_last, _BLOCK_Y):
            y_end = min(y_block + _BLOCK_Y, y_last)
            for s in range(len(where_from.segments)):
                _rows(where_from, s, planes, z_block, z_end, y_block, y_end, room)
                for step in range(SEGMENT // LANES):
                    for z in range(z_block, z_end):
                        at, n, t = _reach(where_from, s, step, z)
                        if n <= 0:
                            continue
                        for y in range(y_block, y_end):
                            row = (z - z_block) * (y_end - y_block) + y - y_block
                            (iz, fz), (iy, fy), (ix, fx) = _places(room, row, t)
                            iz = where(fz >= half, iz + one, iz)
                            iy = where(fy >= half, iy + one, iy)
                            ix = where(fx >= half, ix + one, ix)
                            if mode != CONSTANT and any_of(_beyond(iz, iy, ix, bz, by, bx)):
                                iz, iy, ix = _inside(iz, bz, mode), _inside(iy, by, mode), _inside(ix, bx, mode)
                            jz, jy, jx = iz - np.int32(oz), iy - np.int32(oy), ix - np.int32(ox)
                            # In the mode CONSTANT what is outside of the volume is outside of the window too.
                            absent = _beyond(jz, jy, jx, nz, ny, nx)
                            store(offsets, 0, where(absent, -one, (jz * np.int32(ny) + jy) * np.int32(nx) + jx))
                            for channel in range(n_channels):
                                start = ((channel * depth + z - z_box) * height + y - y_box) * width + at
                                for i in range(n):
                                    offset = offsets[i]
                                    out[start + i] = fill if offset < 0 else window.voxels[channel * row_c + offset]

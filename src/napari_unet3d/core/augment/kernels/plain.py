"""The loops of `kernels.resample` without a compiler, for where numba or LLVM cannot make them.

The same operations in the same order on NumPy arrays, a plane and a segment at a time, so a voxel has the same bytes;
it takes tens of times as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.augment.kernels.arguments import CONSTANT, REFLECT

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

_ONE, _HALF = np.float32(1), np.float32(0.5)
_CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


def _weights(at: Any, start: float, step: float) -> tuple[Any, ...]:
    """Return the first of the four nodes around places, and their weights, of the cubic B-spline."""
    q = (at - start) / step
    k = np.floor(q).astype(np.int64)
    u = q - k
    return k, (1 - u) ** 3 / 6, (3 * u**3 - 6 * u**2 + 4) / 6, (-3 * u**3 + 3 * u**2 + 3 * u + 1) / 6, u**3 / 6


def _plane(where_from: Any, z: int) -> npt.NDArray[np.float64]:
    """Return the control grid (my, mx * 4) as a plane of the output meets it."""
    k, *w = _weights(np.float64(z), where_from.start[0], where_from.step[0])
    grid = where_from.nodes
    return np.asarray(w[0] * grid[k] + w[1] * grid[k + 1] + w[2] * grid[k + 2] + w[3] * grid[k + 3])


def _rows(where_from: Any, s: int, plane: Any, z: int, ys: npt.NDArray[np.int64]) -> tuple[Floats, Ints]:
    """Return the polynomials of a segment for rows: (4, rows, 3) coefficients, and (rows, 3) whole voxels."""
    along_z, along_y, along_x, offset = where_from.columns.reshape(4, 4)[:, :3]
    begin = along_x * float(where_from.segments[s, 0]) + offset
    y = ys.astype(float)[:, None]
    c0 = along_z * float(z) + along_y * y + begin
    c1 = np.broadcast_to(along_x, c0.shape)
    c2 = c3 = np.zeros_like(c0)
    if where_from.nodes.size:
        k, *w = _weights(y[:, 0], where_from.start[1], where_from.step[1])
        at = 4 * int(where_from.segments[s, 2])
        lines = [plane[k + n, at : at + 16].reshape(len(ys), 4, 4)[..., :3] for n in range(4)]
        w = [weight[:, None, None] for weight in w]
        n0, n1, n2, n3 = np.moveaxis(w[0] * lines[0] + w[1] * lines[1] + w[2] * lines[2] + w[3] * lines[3], 1, 0)
        p = where_from.powers[s].reshape(4, 4)
        power = [a[0] * n0 + a[1] * n1 + a[2] * n2 + a[3] * n3 for a in p]
        c0, c1, c2, c3 = c0 + power[0], c1 + power[1], power[2], power[3]
    below = np.floor(c0)
    return np.stack([c0 - below, c1, c2, c3]).astype(np.float32), below.astype(np.int32)


def _pieces(where_from: Any, z_first: int, z_last: int) -> Iterator[tuple[int, slice, list[tuple[Ints, Floats]]]]:
    """Yield the plane of the output, its voxels along x, and for each axis the voxels before places and what is left.

    The arrays are (rows, voxels along x).
    """
    (z_box, _), (y_box, y_last), (x_first, x_end) = where_from.box
    for z in range(z_first, z_last):
        shift_y, shift_x = (int(n) for n in where_from.shifts[z - z_box])
        plane = _plane(where_from, z) if where_from.nodes.size else None
        ys = np.arange(y_box + shift_y, y_last + shift_y)
        for s, (begin, end, _) in enumerate(where_from.segments.tolist()):
            first, last = max(begin, x_first + shift_x), min(end, x_end + shift_x)
            if last <= first:
                continue
            coefficients, whole = _rows(where_from, s, plane, z, ys)
            t = np.arange(first - begin, last - begin).astype(np.float32)
            places = []
            for axis in range(3):
                c0, c1, c2, c3 = (part[:, axis, None] for part in coefficients)
                place = c0 + t * (c1 + t * (c2 + t * c3))
                below = np.floor(place)
                places.append((below.astype(np.int32) + whole[:, axis, None], place - below))
            start = first - shift_x - x_first
            yield z - z_box, slice(start, start + last - first), places


def _beyond(z: Ints, y: Ints, x: Ints, shape: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    outside = np.zeros(z.shape, bool)
    for index, size in zip((z, y, x), shape, strict=True):
        outside |= (index < 0) | (index >= size)
    return outside


def _inside(index: Ints, size: int, mode: int) -> Ints:
    """Return the voxels of the volume that stand for voxels which may lie beyond it."""
    if mode == REFLECT:
        turns = np.floor((index.astype(np.float32) + _HALF) * (_ONE / np.float32(2 * size)))
        index = index - turns.astype(np.int32) * np.int32(2 * size)
        index = np.minimum(index, np.int32(2 * size - 1) - index)
    return np.clip(index, 0, size - 1).astype(np.int32)


def _continue(index: Ints, part: Floats, size: int, mode: int) -> tuple[Ints, Floats, npt.NDArray[np.bool_]]:
    """Bring places beyond the volume back into it; see `kernels.resample`."""
    end = size - 1
    outside = (index < 0) | (index > end) | ((index == end) & (part > 0))
    before, after = _inside(index, size, mode), _inside(index + np.int32(1), size, mode)
    low = np.minimum(np.minimum(before, after), np.int32(max(0, size - 2)))
    same = np.where(before == low, np.float32(0), _ONE)
    return low, np.where(after < before, _ONE - part, np.where(after == before, same, part)), outside


def _along_x(voxels: Any, z: Ints, y: Ints, x: Ints, before: Floats, after: Floats) -> Floats:
    low, high = voxels[z, y, x].astype(np.float32), voxels[z, y, x + 1].astype(np.float32)
    return np.asarray(low * before + high * after)


def resample_linear(
    window: Any, where_from: Any, z_first: int, z_last: int, mode: int, fill: float, shape: Any, out: Any
) -> None:
    """Fill planes of out (c, z, y, x) float32 by trilinear interpolation; see `kernels.resample.resample_linear`."""
    volumes = window.voxels.reshape(-1, *window.shape)
    filled = out.reshape(shape)
    for z, x, places in _pieces(where_from, z_first, z_last):
        (iz, fz), (iy, fy), (ix, fx) = places
        outside = _beyond(iz, iy, ix, tuple(n - 1 for n in window.bounds))
        has_left = bool(outside.any())
        if has_left:
            (iz, fz, out_z), (iy, fy, out_y), (ix, fx, out_x) = (
                _continue(index, part, size, mode) for (index, part), size in zip(places, window.bounds, strict=True)
            )
            outside = out_z | out_y | out_x
        jz, jy, jx = (index - np.int32(n) for index, n in zip((iz, iy, ix), window.origin, strict=True))
        hz, hy, hx = _ONE - fz, _ONE - fy, _ONE - fx
        for channel, voxels in enumerate(volumes):
            a, b, c, d = (_along_x(voxels, jz + dz, jy + dy, jx, hx, fx) for dz, dy in _CORNERS)
            value = (a * hy + b * fy) * hz + (c * hy + d * fy) * fz
            if mode == CONSTANT and has_left:
                value = np.where(outside, np.float32(fill), value)
            filled[channel, z, :, x] = value


def resample_nearest(
    window: Any, where_from: Any, z_first: int, z_last: int, mode: int, fill: Any, shape: Any, out: Any
) -> None:
    """Fill planes of out (c, z, y, x) with the nearest voxels; see `kernels.resample.resample_nearest`."""
    volumes = window.voxels.reshape(-1, *window.shape)
    filled = out.reshape(shape)
    for z, x, places in _pieces(where_from, z_first, z_last):
        nearest = [np.where(part >= _HALF, index + np.int32(1), index) for index, part in places]
        if mode != CONSTANT and _beyond(nearest[0], nearest[1], nearest[2], window.bounds).any():
            nearest = [_inside(index, size, mode) for index, size in zip(nearest, window.bounds, strict=True)]
        jz, jy, jx = (index - np.int32(n) for index, n in zip(nearest, window.origin, strict=True))
        absent = _beyond(jz, jy, jx, window.shape)
        at = tuple(np.where(absent, 0, index) for index in (jz, jy, jx))
        for channel, voxels in enumerate(volumes):
            filled[channel, z, :, x] = np.where(absent, fill, voxels[at])

"""Resampling a volume through a deformation: one interpolation, of the box that is asked for and no more.

`Deformation` says where the voxels come from; the loop is in `kernels.resample`, compiled when it is first called (ten
seconds, kept on disk for later processes). A box has the bytes of the same part of the whole, on any number of threads.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.augment.deformation import Deformation, spline_powers
from napari_unet3d.core.augment.kernels import loops
from napari_unet3d.core.augment.kernels.arguments import CONSTANT, NEAREST, REFLECT, SEGMENT, Map, Window
from napari_unet3d.core.boxes import Box, Interval, Shape
from napari_unet3d.core.tiles.plan import Readable
from napari_unet3d.errors import VolumeError

Mode = Literal["reflect", "nearest", "constant"]
_PLANES_A_PIECE = 16
# Places in a window are 32-bit numbers; and farther beyond a volume, float32 does not count voxels any more.
_MAX_VOXELS = 2**31 - 1
_FARTHEST = 1 << 20
_MODES = {"reflect": REFLECT, "nearest": NEAREST, "constant": CONSTANT}
# Taken as they are.
_TYPES = ("uint8", "uint16", "float32")


def resample(
    image: Readable,
    deformation: Deformation,
    box: Box | None = None,
    *,
    mode: Mode = "reflect",
    fill: float = 0.0,
    threads: int = 1,
) -> npt.NDArray[np.float32]:
    """Return a box of the deformed image, by trilinear interpolation.

    Parameters
    ----------
    image
        (z, y, x) or (z, y, x, c), any real type, finite; only the part that is needed is read. uint8, uint16 and
        float32 are taken as they are, others become float32.
    deformation
        Where each voxel comes from.
    box
        In voxels of the patch; None is the whole patch.
    mode
        How the image continues beyond its border, as SciPy names it: `reflect` (d c b a | a b c d | d c b a), `nearest`
        (a a a a | a b c d | d d d d), or `constant`.
    fill
        The value outside with `constant`.
    threads
        Number of threads that share the planes.

    Returns
    -------
    array
        (z, y, x) or (z, y, x, c) float32.

    Raises
    ------
    VolumeError
        If it comes from too far away, or from too much at once.
    """
    box = Box.whole(deformation.shape) if box is None else box
    bounds = _spatial(image)
    part = _needed(deformation, box, image.shape, mode)
    if isinstance(image, np.ndarray) and _is_taken(image.dtype):
        part = _where_it_lies(image, part)
    voxels = _at_least_two(_flattenable(np.asarray(image[part.slices])))
    window = Window(voxels.reshape(-1), voxels.shape[1:], _origin(part), bounds)
    out = np.empty((len(voxels), *box.shape), np.float32)
    where = _map(deformation, box)

    def work(first: int, last: int) -> None:
        loops.resample_linear(window, where, first, last, _MODES[mode], fill, out.shape, out.reshape(-1))

    in_pieces(work, box.z, threads)
    return _channels_last(out, image)


def resample_labels(
    labels: Readable,
    deformation: Deformation,
    box: Box | None = None,
    *,
    mode: Mode = "reflect",
    fill: int = 0,
    origin: Shape = (0, 0, 0),
    bounds: Shape | None = None,
    threads: int = 1,
) -> npt.NDArray[Any]:
    """Return a box of the deformed labels or voxel weights: for each voxel the nearest of the volume.

    Parameters
    ----------
    labels
        (z, y, x) or (z, y, x, c) of any number type; only the part that is needed is read.
    deformation, box, mode, threads
        As for `resample`.
    fill
        The value of what lies beyond the labels: outside of the volume with `constant`, and in any mode in that part
        of the volume which the labels do not cover.
    origin, bounds
        Where the labels' first voxel lies in the volume, and the shape of the volume; by default they cover it.

    Returns
    -------
    array
        (z, y, x) or (z, y, x, c), of the type of `labels`; it holds no value that is neither there nor `fill`.

    Raises
    ------
    VolumeError
        As `resample`.
    """
    box = Box.whole(deformation.shape) if box is None else box
    bounds = _spatial(labels) if bounds is None else bounds
    wanted = _needed(deformation, box, bounds, mode)
    z, y, x = origin
    part = wanted.intersection(Box.whole(_spatial(labels)).shifted(origin))
    if isinstance(labels, np.ndarray):
        part = _where_it_lies(labels, part.shifted((-z, -y, -x))).shifted(origin)
    given = np.asarray(labels[part.shifted((-z, -y, -x)).slices])
    # Nothing is computed with the numbers, so one type of every width suffices.
    unsigned = np.dtype(f"u{given.dtype.itemsize}")
    voxels = _channels_first(given.view(unsigned))
    window = Window(voxels.reshape(-1), voxels.shape[1:], _origin(part), bounds)
    out = np.empty((len(voxels), *box.shape), unsigned)
    where, outside = _map(deformation, box), np.array(fill, given.dtype).view(unsigned)[()]

    def work(first: int, last: int) -> None:
        loops.resample_nearest(window, where, first, last, _MODES[mode], outside, out.shape, out.reshape(-1))

    in_pieces(work, box.z, threads)
    return _channels_last(out.view(given.dtype), labels)


class Held:
    """A part of a volume in memory, read once, that is indexed like the volume.

    Parameters
    ----------
    volume
        (z, y, x) or (z, y, x, c).
    part
        The box that is read.
    """

    def __init__(self, volume: Readable, part: Box) -> None:
        self.shape = volume.shape
        self.part = part
        self._voxels = np.asarray(volume[part.slices])
        self.dtype = self._voxels.dtype

    def __getitem__(self, box: tuple[slice, slice, slice]) -> npt.NDArray[Any]:
        """Return a box of the volume that lies in the part."""
        own = [slice(a.start - start, a.stop - start) for a, (start, _) in zip(box, self.part, strict=True)]
        return self._voxels[tuple(own)]


def hold(volume: Readable, deformation: Deformation, box: Box, mode: Mode = "reflect") -> Held:
    """Read what a box of the deformed volume is made from, so that its parts can be made one by one."""
    return Held(volume, _needed(deformation, box, volume.shape, mode))


def in_pieces(work: Callable[[int, int], None], planes: Interval, threads: int) -> None:
    """Let threads share a range of planes; `work` gets the first plane and the end of a piece."""
    first, last = planes
    starts = range(first, last, _PLANES_A_PIECE)
    if threads < 2 or len(starts) < 2:
        work(first, last)
        return
    with ThreadPoolExecutor(threads, "unet3d-augment") as pool:
        for done in [pool.submit(work, start, min(start + _PLANES_A_PIECE, last)) for start in starts]:
            done.result()


def _map(deformation: Deformation, box: Box) -> Map:

    spline, matrix = deformation.spline, deformation.matrix
    shifts = np.array([deformation.shift_of(z) for z in range(*box.z)], np.int64).reshape(-1, 2)
    segments, fractions = _segments(deformation, box, int(np.abs(shifts[:, 1]).max(initial=0)))
    columns = np.zeros((4, 4))
    columns[:, :3] = *matrix.T, deformation.offset
    nodes, powers = np.empty((0, 0, 0)), np.empty((0, 16))
    if spline is not None:
        # Not by a matrix product, which rounds as the library for it does on this processor.
        turned = sum(spline.coefficients[..., axis, np.newaxis] * columns[axis] for axis in range(3))
        nodes = np.asarray(turned).reshape(*spline.coefficients.shape[:2], -1)
        powers = spline_powers(fractions, spline.step[2]).reshape(-1, 16)
    return Map(
        columns=columns.reshape(-1),
        nodes=nodes,
        start=(0.0, 0.0, 0.0) if spline is None else spline.start,
        step=(1.0, 1.0, 1.0) if spline is None else spline.step,
        segments=segments,
        powers=powers,
        shifts=shifts,
        box=(box.z, box.y, box.x),
    )


def _segments(deformation: Deformation, box: Box, reach: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Cut a row at the same places for every box: segments (first voxel, end, cell), and how far into the cell."""
    low, high = box.x[0] - reach, box.x[1] + reach
    spline = deformation.spline
    if spline is None:
        starts = np.arange(low // SEGMENT * SEGMENT, high, SEGMENT)
        segments = np.stack([starts, starts + SEGMENT, np.zeros_like(starts)], axis=1)
        return segments.astype(np.int64), np.zeros(len(starts))
    start, step = spline.start[2], spline.step[2]
    n_cells = spline.coefficients.shape[2] - 3
    # The first voxel of every cell; cells smaller than a voxel have none of their own.
    firsts = np.ceil(start + step * np.arange(n_cells + 1)).astype(np.int64)
    found = [
        (at, min(at + SEGMENT, int(end)), cell)
        for cell, (first, end) in enumerate(itertools.pairwise(firsts))
        for at in range(int(first), int(end), SEGMENT)
        if at < high and min(at + SEGMENT, int(end)) > low
    ]
    segments = np.array(found, np.int64).reshape(-1, 3)
    return segments, np.asarray((segments[:, 0] - start) / step - segments[:, 2], np.float64)


def _needed(deformation: Deformation, box: Box, shape: tuple[int, ...], mode: Mode) -> Box:
    """Return what of a volume of `shape` (z, y, x[, c]) a box of the patch is made from.

    Raises
    ------
    VolumeError
        If that is too far away, or too much at once.
    """
    bounds, source = shape[:3], deformation.source_box(box)
    if any(max(-first, end - n) > _FARTHEST for (first, end), n in zip(source, bounds, strict=True)):
        raise VolumeError(
            f"The patch would come from {source} (z, y, x) of a volume of {' x '.join(map(str, bounds))} voxels, which "
            "is too far away. Check where it lies, the voxel size, and the sigma and unit of the elastic displacement."
        )
    part = _continued_box(source, (bounds[0], bounds[1], bounds[2]), mode)
    if part.n_voxels * math.prod(shape[3:]) > _MAX_VOXELS:
        raise VolumeError(
            f"The patch comes from {' x '.join(map(str, part.shape))} voxels of the volume (z, y, x), which are too "
            "many at once. Where voxels are long along z, rotate about z alone, as the preset 'anisotropic stack' "
            "does, or take a smaller patch."
        )
    return part


def _where_it_lies(array: npt.NDArray[Any], part: Box) -> Box:
    """Return the part, or all of an array that can be used where it lies, so that nothing is copied."""
    is_ready = array.ndim == 3 and array.flags.c_contiguous and array.size <= _MAX_VOXELS
    return Box.whole(_spatial(array)) if is_ready else part


def _continued_box(box: Box, bounds: Shape, mode: Mode) -> Box:
    """Return what of a volume stands for a box that may leave it; two voxels or more along every axis that has them."""
    return Box(*(_continued(a, b, n, mode) for (a, b), n in zip(box, bounds, strict=True)))


def _continued(first: int, end: int, size: int, mode: Mode) -> Interval:
    if mode != "reflect":
        low, high = (min(max(at, 0), size - 1) for at in (first, end - 1))
        pieces = [(low, high + 1)]
    elif first < -size or end > 2 * size:
        pieces = [(0, size)]
    else:
        before, after = min(end, 0), max(first, size)
        pieces = [(max(first, 0), min(end, size)), (-before, -first), (2 * size - end, 2 * size - after)]
    kept = [piece for piece in pieces if piece[0] < piece[1]]
    low, high = min(a for a, _ in kept), max(b for _, b in kept)
    if high - low < 2 <= size:
        low = min(low, size - 2)
        high = low + 2
    return low, high


def _is_taken(dtype: np.dtype[Any]) -> bool:
    return dtype.name in _TYPES and dtype.isnative


def _flattenable(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if not _is_taken(voxels.dtype):
        voxels = voxels.astype(np.float32)
    return _channels_first(voxels)


def _channels_first(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    moved = voxels[np.newaxis] if voxels.ndim == 3 else np.moveaxis(voxels, -1, 0)
    return np.ascontiguousarray(moved)


def _at_least_two(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Repeat an axis of one voxel, so that there is a next voxel to look at."""
    for axis in (1, 2, 3):
        if voxels.shape[axis] == 1:
            voxels = np.repeat(voxels, 2, axis)
    return voxels


def _channels_last(out: npt.NDArray[Any], image: Readable) -> npt.NDArray[Any]:
    return out[0] if len(image.shape) == 3 else np.ascontiguousarray(np.moveaxis(out, 0, -1))


def _spatial(image: Readable) -> Shape:
    z, y, x = image.shape[:3]
    return z, y, x


def _origin(box: Box) -> Shape:
    (z, _), (y, _), (x, _) = box
    return z, y, x

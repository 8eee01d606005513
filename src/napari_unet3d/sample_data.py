"""A synthetic neuron volume with its exact mask: made from a seed, not downloaded.

Neurites are trees of tubes, drawn in micrometres (z, y, x) and then seen through a microscope: blur,
haze, a camera. Debris of the same brightness lies between them, so that no threshold finds the neuron.
Voxel i lies at i times the voxel size. No napari here: layers are plain tuples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_unet3d.core.annotation.meanings import COMPLETE

Floats = npt.NDArray[np.float32]
LayerData = tuple[npt.NDArray[Any], dict[str, Any], str]

VOXEL_SIZE = (0.18, 0.1, 0.1)
UNIT = "um"
_STEP = 0.05  # between the balls along a tube; well under the thinnest radius, so a tube has no waists
_BLUR = (0.24, 0.1, 0.1)  # standard deviation of the point spread function, in an expanded tissue
_DEBRIS_PER_NEURITE = 1.4  # voxels of debris for each voxel of neurite
_DEBRIS_OVERLAP = 0.03  # at most this share of a piece lies in a neurite
_DEBRIS_TRIALS = 400
_NEURITE_LENGTH = 0.04  # um of neurite in a cubic um


@dataclass(frozen=True)
class Sample:
    """A volume and its mask.

    Attributes
    ----------
    image
        (z, y, x) uint16, camera counts.
    mask
        (z, y, x) uint8, 1 where the centre of a voxel lies inside a neurite, else 0.
    voxel_size
        Size of a voxel (z, y, x) in `unit`.
    unit
        Unit of `voxel_size`.
    """

    image: npt.NDArray[np.uint16]
    mask: npt.NDArray[np.uint8]
    voxel_size: tuple[float, float, float]
    unit: str


@dataclass(frozen=True)
class Balls:
    """Balls whose union is a shape.

    Attributes
    ----------
    centres
        (n, 3) float64, (z, y, x) in um.
    radii
        (n,) float64 in um.
    brightness
        (n,) float64, above 0: photons of a voxel deep inside.
    """

    centres: npt.NDArray[np.float64]
    radii: npt.NDArray[np.float64]
    brightness: npt.NDArray[np.float64]


def synthetic_neurons(shape: tuple[int, int, int] = (96, 192, 192), *, seed: int = 0) -> Sample:
    """Return a made-up volume of branching neurites among debris, and its exact mask.

    Parameters
    ----------
    shape
        Voxels along (z, y, x).
    seed
        The same seed and shape give the same bytes, with one version of NumPy and SciPy.

    Raises
    ------
    ValueError
        If `shape` is not three positive sizes.

    Examples
    --------
    >>> sample = synthetic_neurons((24, 48, 48), seed=1)
    >>> sample.image.shape, sample.voxel_size, sample.unit
    ((24, 48, 48), (0.18, 0.1, 0.1), 'um')
    """
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"a shape of three sizes (z, y, x) of at least 1 voxel is needed, not {shape}")
    rng = np.random.default_rng(seed)
    extent = np.multiply(shape, VOXEL_SIZE)
    neurites = np.zeros(shape, np.float32)
    for branch in _neurites(rng, extent):
        paint(neurites, branch, VOXEL_SIZE)
    mask = neurites > 0
    debris = _paint_debris(rng, mask, extent)
    image = _photograph(rng, np.maximum(neurites, debris))
    return Sample(image, mask.astype(np.uint8), VOXEL_SIZE, UNIT)


def neuron_layers() -> list[LayerData]:
    """Return the volume and its mask as layers for napari: data, keywords and kind of each."""
    sample = synthetic_neurons()
    space = {"scale": sample.voxel_size, "units": (sample.unit,) * 3, "axis_labels": ("z", "y", "x")}
    low, high = np.percentile(sample.image, (1, 99.8))
    limits = {"contrast_limits": (float(low), float(high))}
    return [
        (sample.image, {"name": "neurons", **space, **limits}, "image"),
        (sample.mask, {"name": "neurons, true mask", **space, "metadata": COMPLETE}, "labels"),
    ]


def paint(canvas: Floats, balls: Balls, voxel_size: Sequence[float]) -> None:
    """Paint balls into `canvas` (z, y, x), in place: a voxel takes the brightest ball its centre is in.

    Parameters
    ----------
    canvas
        (z, y, x) float32, at least 0; changed.
    balls
        What to paint; balls may lie partly or wholly outside.
    voxel_size
        Size of a voxel (z, y, x) in um.
    """
    reach = np.ceil(balls.radii[:, None] / voxel_size).astype(int)
    # One window for balls of like radius: a window for the largest would be mostly empty.
    for window in np.unique(reach, axis=0):
        members = np.flatnonzero((reach == window).all(axis=1))
        at_once = max(1, 2_000_000 // int(np.prod(2 * window + 1)))
        for start in range(0, len(members), at_once):
            _paint_alike(canvas, balls, members[start : start + at_once], window, voxel_size)


def _paint_alike(
    canvas: Floats,
    balls: Balls,
    members: npt.NDArray[np.intp],
    window: npt.NDArray[np.int_],
    voxel_size: Sequence[float],
) -> None:
    flat: npt.NDArray[np.int_] = np.zeros((len(members), 1, 1, 1), int)
    squared: npt.NDArray[np.float64] = np.zeros((len(members), 1, 1, 1))
    is_inside: npt.NDArray[np.bool_] = np.ones((len(members), 1, 1, 1), bool)
    for axis in range(3):
        centre = balls.centres[members, axis, None]
        index = np.rint(centre / voxel_size[axis]).astype(int) + np.arange(-window[axis], window[axis] + 1)
        along = [len(members), 1, 1, 1]
        along[axis + 1] = -1
        squared = squared + np.square(index * voxel_size[axis] - centre).reshape(along)
        is_inside = is_inside & ((index >= 0) & (index < canvas.shape[axis])).reshape(along)
        flat = flat * canvas.shape[axis] + index.reshape(along)
    is_inside = is_inside & (squared <= np.square(balls.radii[members]).reshape(-1, 1, 1, 1))
    brightness = np.broadcast_to(balls.brightness[members].reshape(-1, 1, 1, 1), is_inside.shape)
    np.maximum.at(canvas.reshape(-1), flat[is_inside], brightness[is_inside].astype(np.float32))


def _neurites(rng: np.random.Generator, extent: npt.NDArray[np.float64]) -> list[Balls]:
    """Return the branches of trees that cross a volume of `extent` um."""
    wanted = _NEURITE_LENGTH * math.prod(extent)
    branches: list[Balls] = []
    length = 0.0
    while length < wanted:
        if not branches or rng.random() < 0.4:
            start = rng.random(3) * extent
            face = int(rng.integers(3))
            start[face] = rng.choice([0.0, extent[face]])
            heading = rng.random(3) * extent - start
            thickness = rng.uniform(0.3, 0.42)
        else:
            parent = branches[int(rng.integers(len(branches)))]
            at = int(rng.integers(len(parent.radii)))
            start = parent.centres[at]
            heading = _sideways(rng, start - parent.centres[max(at - 1, 0)])
            thickness = float(np.clip(parent.radii[at] * rng.uniform(0.6, 0.9), 0.24, 0.42))
        branch = _neurite(rng, start, heading, thickness, extent)
        branches.append(branch)
        length += _STEP * len(branch.radii)
    return branches


def _sideways(rng: np.random.Generator, tangent: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return a direction some 45 to 75 degrees off a tangent."""
    tangent = tangent / max(float(np.linalg.norm(tangent)), 1e-9)
    across = rng.standard_normal(3)
    across -= tangent * (across @ tangent)
    return tangent + across / np.linalg.norm(across) * rng.uniform(1.0, 3.7)


def _neurite(
    rng: np.random.Generator,
    start: npt.NDArray[np.float64],
    heading: npt.NDArray[np.float64],
    thickness: float,
    extent: npt.NDArray[np.float64],
) -> Balls:
    """Return one tapered branch with varicosities, cut where it leaves the volume."""
    n = int(rng.uniform(8, 25) / _STEP)
    bends = ndimage.gaussian_filter1d(rng.standard_normal((n, 3)), 0.8 / _STEP, axis=0, mode="nearest")
    tangents = heading / max(float(np.linalg.norm(heading)), 1e-9) + 0.035 * np.cumsum(bends, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    centres = start + _STEP * np.cumsum(tangents, axis=0)
    has_left = ((centres < -thickness) | (centres > extent + thickness)).any(axis=1)
    n_kept = max(1, int(np.argmax(has_left))) if has_left.any() else n

    along = np.arange(n) * _STEP
    radii = thickness * np.linspace(1.0, 0.7, n)
    for middle in np.cumsum(rng.exponential(4.5, size=10)):
        width, swelling = rng.uniform(0.25, 0.5), rng.uniform(0.2, 0.7)
        radii = radii + thickness * swelling * np.exp(-0.5 * np.square((along - middle) / width))
    radii = np.clip(radii, 0.18, 0.55)
    waves = ndimage.gaussian_filter1d(rng.standard_normal(n), 1.0 / _STEP)
    brightness = rng.uniform(40, 75) * np.exp(2.0 * waves)
    return Balls(centres[:n_kept], radii[:n_kept], brightness[:n_kept])


def _paint_debris(rng: np.random.Generator, mask: npt.NDArray[np.bool_], extent: npt.NDArray[np.float64]) -> Floats:
    """Return (z, y, x) float32: lumps and sheets as bright as neurites, and more of them."""
    canvas = np.zeros(mask.shape, np.float32)
    wanted = _DEBRIS_PER_NEURITE * np.count_nonzero(mask)
    # A volume of a few voxels can be full of neurites: then no piece finds room.
    for _ in range(_DEBRIS_TRIALS):
        if np.count_nonzero(canvas) >= wanted:
            break
        centre = rng.random(3) * extent
        piece = np.zeros_like(canvas)
        paint(piece, _sheet(rng, centre) if rng.random() < 0.5 else _lump(rng, centre), VOXEL_SIZE)
        if np.count_nonzero(piece[mask]) <= _DEBRIS_OVERLAP * np.count_nonzero(piece):
            np.maximum(canvas, piece, out=canvas)
    return canvas


def _lump(rng: np.random.Generator, centre: npt.NDArray[np.float64]) -> Balls:
    """Return an autofluorescent granule: a heap of balls, wider than a varicosity."""
    n = int(rng.integers(2, 6))
    radii = rng.uniform(0.8, 1.3, n)
    centres = centre + rng.normal(0, 0.5, (n, 3))
    return Balls(centres, radii, rng.uniform(40, 90) * rng.uniform(0.7, 1.2, n))


def _sheet(rng: np.random.Generator, centre: npt.NDArray[np.float64]) -> Balls:
    """Return a crumpled flake, as thick as a neurite: it looks like one in a single slice."""
    half = rng.uniform(1.5, 2.6, 2)
    u, v = np.meshgrid(*(np.arange(-h, h, 0.12) for h in half), indexing="ij")
    is_part = np.square(u / half[0]) + np.square(v / half[1]) <= 1
    u, v = u[is_part], v[is_part]
    phase, pitch = rng.uniform(0, 2 * math.pi, 2), rng.uniform(0.8, 1.6, 2)
    height = 0.35 * (np.sin(pitch[0] * u + phase[0]) + np.sin(pitch[1] * v + phase[1]))
    frame, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    centres = centre + np.column_stack([u, v, height]) @ frame.T
    radii = np.full(len(u), rng.uniform(0.3, 0.45))
    return Balls(centres, radii, np.full(len(u), rng.uniform(45, 95)))


def _photograph(rng: np.random.Generator, photons: Floats) -> npt.NDArray[np.uint16]:
    """Return what a camera counts, (z, y, x) uint16: blur, haze, shot noise, gain, offset, read noise."""
    sigma = np.divide(_BLUR, VOXEL_SIZE)
    seen = ndimage.gaussian_filter(photons, sigma, truncate=3.0)
    seen += _haze(rng, photons.shape)
    counts = rng.poisson(seen).astype(np.float32)
    counts *= np.float32(rng.uniform(2.5, 5.0))
    counts += np.float32(rng.uniform(90, 600))
    counts += 4.0 * rng.standard_normal(counts.shape, np.float32)
    return np.asarray(np.clip(np.rint(counts), 0, 65535), np.uint16)


def _haze(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Return dim light from out of focus, (z, y, x) float32 in photons, which changes over about 8 um."""
    nodes = [max(2, round(n * size / 8) + 1) for n, size in zip(shape, VOXEL_SIZE, strict=True)]
    coarse = rng.uniform(3, 14, nodes).astype(np.float32)
    zoom = [n / k for n, k in zip(shape, nodes, strict=True)]
    return np.asarray(ndimage.zoom(coarse, zoom, order=1, mode="nearest", grid_mode=True), np.float32)

"""What the judge of learning sets: an image, what somebody has painted in it, and another image with its truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_unet3d import read_volume
from napari_unet3d.core.annotation.meanings import Meanings

Labels = npt.NDArray[np.uint8]
Shape = tuple[int, int, int]
# In what is painted; the classes follow from 1 on.
UNPAINTED = 0
# In what is true, where nobody knows or where it does not count.
UNKNOWN = 255
# Rows at each side of a painted slice of axons that are not scored, because axons were not drawn to the border: in the
# first three rows along y, 12 of 155 voxels as bright as an axon are painted as one; in the fourth, 29 of 48.
_RIM = 3
# Voxels between what is learnt from and what is scored in one volume: farther than most networks see.
GAP = 20


@dataclass(frozen=True, eq=False)
class Task:
    """A task.

    Attributes
    ----------
    name, classes
        What is to be found; the first class is the background.
    image, painted
        (z, y, x) any type, and uint8 with `UNPAINTED` and classes from 1 on.
    voxel_size
        (z, y, x), in micrometres.
    other, truth
        What is scored: (z, y, x) any type, and uint8 classes from 0 on with `UNKNOWN`.
    full
        What is true in all of the image, (z, y, x) uint8 classes from 0 on, or None where nobody knows.
    """

    name: str
    classes: tuple[str, ...]
    image: npt.NDArray[Any]
    painted: Labels
    voxel_size: tuple[float, float, float]
    other: npt.NDArray[Any]
    truth: Labels
    full: Labels | None = None

    @property
    def meanings(self) -> Meanings:
        """Return what the painted values mean."""
        return Meanings.painted(self.classes)


def axons(data: Path, seed: int) -> Task:
    """Two of three painted slices of axons; the third is scored, another one per seed."""
    folder = data / "trailmap" / "sparse"
    image, labels = (_read(folder / name) for name in ("volume.tif", "labels.tif"))
    # 4 is the edge of an axon, which nobody is asked for.
    painted = np.where(labels < 3, labels, UNPAINTED).astype(np.uint8)
    planes = [int(z) for z in np.flatnonzero(painted.any(axis=(1, 2)))]
    held = planes[-1 - seed % len(planes)]
    truth = np.full(labels.shape, UNKNOWN, np.uint8)
    inner = (held, slice(_RIM, -_RIM), slice(_RIM, -_RIM))
    truth[inner] = np.where(painted[inner] > 0, painted[inner] - 1, UNKNOWN)
    painted[held] = UNPAINTED
    return Task("axons", ("background", "axon"), image, painted, (1.0, 1.0, 1.0), image, truth)


def membranes(data: Path, seed: int) -> Task:
    """Windows of three planes of fly-brain EM; the last 30 planes are scored."""
    image, bodies = (_read(data / "em" / name) for name in ("image.tif", "bodies.tif"))
    truth = boundary_of(bodies)
    painted = np.zeros((30, *truth.shape[1:]), np.uint8)
    rng = np.random.default_rng(seed)
    for z in (5, 15, 25):
        y, x = (int(at) for at in rng.integers(0, 120, 2))
        window = slice(y, y + 130), slice(x, x + 130)
        painted[z][window] = paint(truth[z], 1)[window]
    outermost = outermost_of(truth.shape)
    painted[outermost[:30]] = UNPAINTED
    scored = np.where(outermost, UNKNOWN, truth)[-30:]
    return Task("membranes", ("inside", "membrane"), image[:30], painted, (0.01,) * 3, image[-30:], scored, truth[:30])


def nuclei(data: Path, seed: int) -> Task:
    """Three painted slices of one half of plant nuclei; the other half is scored."""
    file = data / "ovule_mini" / "1135_mini.h5"
    image, cells = (_read(file, name) for name in ("/raw", "/label"))
    truth = (cells > 0).astype(np.uint8)
    middle = truth.shape[2] // 2
    painted = np.zeros((*truth.shape[:2], middle), np.uint8)
    for z in np.random.default_rng(seed).permutation([15, 32, 50, 67, 84])[:3]:
        painted[z] = paint(truth[z, :, :middle], 1)
    start = middle + GAP
    size = (0.284, 0.127, 0.127)
    names = ("background", "nucleus")
    learnt, scored = (..., slice(middle)), (..., slice(start, None))
    return Task("nuclei", names, image[learnt], painted, size, image[scored], truth[scored], truth[learnt])


def boundaries(data: Path, seed: int) -> Task:
    """One half of an ovule, annotated everywhere but on its outer faces; the other half is scored."""
    file = data / "ovule" / "sample_ovule.h5"
    image, cells = (_read(file, name) for name in ("/raw", "/label"))
    truth = np.where(outermost_of(cells.shape), UNKNOWN, boundary_of(cells)).astype(np.uint8)
    if seed % 2:
        image, truth = image[..., ::-1], truth[..., ::-1]
    middle = truth.shape[2] // 2
    start = middle + GAP
    return Task(
        "boundaries",
        ("inside", "boundary"),
        np.ascontiguousarray(image[..., :middle]),
        np.where(truth == UNKNOWN, UNPAINTED, truth + 1).astype(np.uint8)[..., :middle],
        (0.235, 0.15, 0.15),
        np.ascontiguousarray(image[..., start:]),
        truth[..., start:],
    )


def tubes(_: Path, seed: int) -> Task:
    """Three painted slices of bent tubes; another sample of the same kind is scored."""
    image, truth = _tubes(2 * seed, 14)
    other, its_truth = _tubes(2 * seed + 1, 14)
    return _painted_in_slices(
        "tubes", ("background", "tube"), camera(image, seed), truth, camera(other, seed + 1), its_truth
    )


def spots(_: Path, seed: int) -> Task:
    """Three painted slices of crowded vesicles; scored is a sample with a quarter of them, from another camera."""
    return _vesicles("spots", seed, gain=2.6, offset=900, read_noise=5.0, photons=80)


def one_camera(_: Path, seed: int) -> Task:
    """The same vesicles as `spots`, but one camera has recorded both samples."""
    return _vesicles("one_camera", seed)


TASKS: dict[str, Callable[[Path, int], Task]] = {
    task.__name__: task for task in (axons, membranes, nuclei, boundaries, tubes, spots, one_camera)
}


def boundary_of(cells: npt.NDArray[Any]) -> Labels:
    """Return 1 where a voxel touches one of another cell with a face, and 0 elsewhere.

    In the outermost voxels (`outermost_of`), a boundary with a cell beyond the volume is missing.
    """
    found = np.zeros(cells.shape, bool)
    for axis in range(3):
        differs = np.diff(cells, axis=axis) != 0
        for ends in ((0, 1), (1, 0)):
            found |= np.pad(differs, [ends if i == axis else (0, 0) for i in range(3)])
    return found.astype(np.uint8)


def outermost_of(shape: Shape) -> npt.NDArray[np.bool_]:
    """Return where a volume of a shape ends, (z, y, x) bool: its first and last voxel along each axis."""
    is_outermost = np.ones(shape, bool)
    is_outermost[1:-1, 1:-1, 1:-1] = False
    return is_outermost


def paint(truth: Labels, edge: int, around: int = 12) -> Labels:
    """Return a plane as people paint it: objects, and the background around them, but not the edges between.

    Parameters
    ----------
    truth
        (y, x), 1 in objects.
    edge
        Pixels of the background next to an object that are left out.
    around
        How far from objects background is painted, in pixels.

    Returns
    -------
    array
        (y, x) uint8: `UNPAINTED`, 1 for background, 2 for objects.
    """
    is_object = truth > 0
    distance = ndimage.distance_transform_edt(~is_object) if is_object.any() else np.full(truth.shape, np.inf)
    painted = np.where((distance > edge) & (distance <= around), 1, UNPAINTED).astype(np.uint8)
    painted[is_object] = 2
    return painted


def camera(
    signal: npt.NDArray[np.floating[Any]],
    seed: int,
    *,
    gain: float = 1.0,
    offset: float = 200.0,
    read_noise: float = 4.0,
    photons: float = 120.0,
) -> npt.NDArray[np.uint16]:
    """Return light as a camera gives it: shot noise, read noise, gain and offset.

    Parameters
    ----------
    signal
        (z, y, x), 1 where it is bright.
    seed
        Of the noise.
    gain, offset, read_noise
        Counts per photon, and counts.
    photons
        Where the signal is 1.
    """
    rng = np.random.default_rng([seed, 7])
    counts = gain * (rng.poisson(signal * photons) + rng.normal(0, read_noise, signal.shape)) + offset
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)


_SIDES: Shape = (72, 128, 128)


def _painted_in_slices(
    name: str, classes: tuple[str, ...], image: Any, truth: Labels, other: Any, its_truth: Labels
) -> Task:
    painted = np.zeros(truth.shape, np.uint8)
    for z in (14, 36, 58):
        painted[z] = paint(truth[z], 1)
    return Task(name, classes, image, painted, (0.2, 0.2, 0.2), other, its_truth, truth)


def _vesicles(name: str, seed: int, **other_camera: float) -> Task:
    image, truth = _spots(2 * seed, 260)
    other, its_truth = _spots(2 * seed + 1, 65)
    recorded = camera(other, seed + 1, **other_camera)
    return _painted_in_slices(name, ("background", "vesicle"), camera(image, seed), truth, recorded, its_truth)


def _tubes(seed: int, n: int) -> tuple[npt.NDArray[np.float64], Labels]:
    """Return tubes that wander through a volume with haze, blurred along z, and where they are."""
    rng = np.random.default_rng([seed, 1])
    seeds = np.zeros(_SIDES, bool)
    for _ in range(n):
        at, heading = rng.uniform(0, 1, 3) * _SIDES, rng.normal(size=3)
        for _ in range(220):
            heading += rng.normal(0, 0.18, 3)
            heading /= np.linalg.norm(heading)
            at = at + heading
            if not all(0 <= a < n for a, n in zip(at, _SIDES, strict=True)):
                break
            seeds[tuple(int(a) for a in at)] = True
    truth = ndimage.distance_transform_edt(~seeds) <= 1.8
    brightness = ndimage.gaussian_filter(rng.normal(size=_SIDES), 8)
    brightness = 0.6 + 0.25 * brightness / brightness.std()
    light = ndimage.gaussian_filter(truth * np.clip(brightness, 0.15, 2), (1.8, 0.9, 0.9))
    return light + _haze(rng), truth.astype(np.uint8)


def _spots(seed: int, n: int) -> tuple[npt.NDArray[np.float64], Labels]:
    """Return hollow vesicles of several sizes among dim debris, and where they are."""
    rng = np.random.default_rng([seed, 2])
    truth, light = np.zeros(_SIDES, bool), np.zeros(_SIDES)
    grid = np.indices(_SIDES, np.float32)
    for number in range(n + n // 2):
        centre, radius = rng.uniform(0, 1, 3) * _SIDES, rng.uniform(3, 6)
        box = tuple(slice(max(0, int(c - 9)), int(c + 10)) for c in centre)
        distance = np.sqrt(sum((grid[i][box] - centre[i]) ** 2 for i in range(3)))
        if number < n:
            truth[box] |= distance <= radius
            light[box] = np.maximum(
                light[box], np.where(distance <= radius, 0.35 + 0.65 * (distance > radius - 1.5), 0)
            )
        else:
            # Of the same brightness but solid and small: brightness alone does not tell.
            light[box] = np.maximum(light[box], 0.9 * (distance <= 1.6))
    return ndimage.gaussian_filter(light, (1.6, 0.8, 0.8)) + _haze(rng), truth.astype(np.uint8)


def _haze(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    haze = ndimage.gaussian_filter(rng.normal(size=_SIDES), (10, 20, 20))
    return np.asarray(0.15 + 0.05 * haze / haze.std()).clip(0.02)


def _read(path: Path, dataset: str | None = None) -> npt.NDArray[Any]:
    return np.asarray(read_volume(path, dataset=dataset).data[:, :, :])

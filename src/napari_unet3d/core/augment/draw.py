"""Augmentation: first a sample is drawn, then it is applied, to the image and its labels alike.

A `Sample` holds every number that was drawn, so it replays to the same bytes, in this program and from its JSON. A part
of the choices draws its numbers from a stream of its own: changing one part leaves the others as they were.
"""

from __future__ import annotations

import itertools
import math
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from napari_unet3d.core.augment.choices import MOST_LINES, AugmentSpec, Part
from napari_unet3d.core.augment.deformation import Deformation, Floats
from napari_unet3d.core.augment.intensity import Intensity
from napari_unet3d.core.augment.resample import resample, resample_labels
from napari_unet3d.core.boxes import AXES, Box, Shape
from napari_unet3d.core.normalize import Scaling, WithoutEdges
from napari_unet3d.core.tiles.plan import Readable

# The number of each part's stream; never given to another part, so that a seed keeps its meaning.
_STREAMS = {
    "rotation": 1,
    "scale": 2,
    "flips": 3,
    "quarter_turns": 4,
    "shear": 5,
    "elastic": 6,
    "shifted_slices": 7,
    "blur": 8,
    "low_resolution": 9,
    "gamma": 10,
    "gain": 11,
    "offset": 12,
    "shot_noise": 13,
    "noise": 14,
    "missing_slices": 15,
    "occlusion": 16,
}
_POSITION, _NOISE = 0, 17
# Voxels differ in size by less than this are of one size.
_SAME_SIZE = 1e-3
_VoxelSize = tuple[float, float, float]
_Lost = Annotated[int, Field(ge=0)]
_Halo = Annotated[tuple[_Lost, _Lost, _Lost], BeforeValidator(lambda n: (n, n, n) if type(n) is int else n)]


class PatchFrame(BaseModel):
    """The patch that is cut out: the shape that goes into the network, and the part that comes out.

    Attributes
    ----------
    shape
        (z, y, x) in voxels: the image of a patch.
    halo
        Voxels (z, y, x) on each side that the network consumes; the labels of a patch are smaller by that. One number
        stands for all axes.
    voxel_size
        (z, y, x), in one unit.

    Examples
    --------
    >>> PatchFrame(shape=(220, 220, 220), halo=44).output.shape
    (132, 132, 132)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: Shape
    halo: _Halo = (0, 0, 0)
    voxel_size: _VoxelSize = (1.0, 1.0, 1.0)

    @model_validator(mode="after")
    def _something_is_left(self) -> PatchFrame:
        if any(n <= 2 * lost for n, lost in zip(self.shape, self.halo, strict=True)):
            raise ValueError(f"nothing is left of {self.shape} voxels without {self.halo} on each side")
        if not all(size > 0 for size in self.voxel_size):
            raise ValueError(f"a voxel size is positive, not {self.voxel_size}")
        return self

    @property
    def output(self) -> Box:
        """Return the box of the patch that the labels fill, in its voxels."""
        return Box(*((lost, n - lost) for n, lost in zip(self.shape, self.halo, strict=True)))


class Sample(BaseModel):
    """One augmentation of one patch, with all that was drawn for it.

    Attributes
    ----------
    seed
        The seed it was drawn with.
    frame
        The patch that is cut out.
    corner
        (z, y, x): where the patch lies in the volume, before it is deformed.
    deformation
        Where its voxels come from.
    intensity
        How its intensities change.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    frame: PatchFrame
    corner: tuple[int, int, int]
    deformation: Deformation
    intensity: Intensity

    @model_validator(mode="after")
    def _one_shape(self) -> Sample:
        if self.frame.shape != self.deformation.shape:
            raise ValueError(f"the frame has {self.frame.shape} voxels and the deformation {self.deformation.shape}")
        return self

    @cached_property
    def folded(self) -> float:
        """Return the share of the patch in which the displacement folds the volume over itself."""
        return self.deformation.folded()

    @property
    def place(self) -> Box:
        """Return the box of the volume that the patch stands for, as if it were not deformed."""
        return Box.whole(self.frame.shape).shifted(self.corner)


def draw_corner(frame: PatchFrame, volume: Shape, seed: int) -> tuple[int, int, int]:
    """Return where a patch is cut: its output lies in the volume, or around it where the volume is the smaller one."""
    rng = _stream(seed, _POSITION)
    corner = []
    for n, (start, stop) in zip(volume, frame.output, strict=True):
        room = n - (stop - start)
        at = int(rng.integers(0, room + 1)) if room > 0 else room // 2
        corner.append(at - start)
    return corner[0], corner[1], corner[2]


def draw_sample(spec: AugmentSpec, frame: PatchFrame, corner: Shape, seed: int) -> Sample:
    """Draw a random augmentation.

    Parameters
    ----------
    spec
        The augmentation choices.
    frame, corner
        The patch that is cut out, and its first voxel (z, y, x) in the volume.
    seed
        Not negative; the same one gives the same sample.
    """
    centre = [at + (n - 1) / 2 for at, n in zip(corner, frame.shape, strict=True)]
    deformation = Deformation(
        shape=frame.shape,
        centre=(centre[0], centre[1], centre[2]),
        matrix=_draw_matrix(spec, frame, seed),
        nodes=_draw_nodes(spec, frame, seed),
        shifts=_draw_shifts(spec, frame, seed),
    )
    intensity = _draw_intensity(spec, frame, seed)
    return Sample(seed=seed, frame=frame, corner=corner, deformation=deformation, intensity=intensity)


def augment_image(
    sample: Sample, image: Readable, box: Box | None = None, *, scaling: Scaling | None = None, threads: int = 1
) -> npt.NDArray[np.float32]:
    """Return a box of the augmented image.

    Parameters
    ----------
    sample
        The drawn augmentation.
    image
        The volume, (z, y, x) or (z, y, x, c); only the part that is needed is read.
    box
        In voxels of the patch; None is all of it.
    scaling
        Scaling to the network's units; None leaves intensities as they are.
    threads
        Number of threads.

    Returns
    -------
    array
        (z, y, x) or (z, y, x, c) float32.
    """
    shape = sample.frame.shape
    box = Box.whole(shape) if box is None else box
    if scaling is not None and scaling.read_as:
        image = WithoutEdges(image, scaling)
    values = resample(image, sample.deformation, sample.intensity.needs(box, shape), threads=threads)
    channels = [values] if values.ndim == 3 else [np.ascontiguousarray(part) for part in np.moveaxis(values, -1, 0)]
    done = [
        sample.intensity.apply(
            part,
            box,
            shape,
            scaling=(0.0, 1.0) if scaling is None else (scaling.offset[channel], scaling.scale[channel]),
            channel=channel,
            threads=threads,
        )
        for channel, part in enumerate(channels)
    ]
    return done[0] if values.ndim == 3 else np.stack(done, axis=-1)


def augment_labels(
    sample: Sample, labels: Readable, box: Box | None = None, *, threads: int = 1, **continued: Any
) -> npt.NDArray[Any]:
    """Return a box of the augmented labels or voxel weights, of their type; None is the part that the network gives.

    `continued` is passed to `resample_labels`: how labels go on beyond their border.
    """
    box = sample.frame.output if box is None else box
    return resample_labels(labels, sample.deformation, box, threads=threads, **continued)


def _stream(seed: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, number])


def _drawn(spec: AugmentSpec, name: str, seed: int) -> tuple[Any, np.random.Generator] | None:
    """Return a part and its stream of random numbers if it is done this time."""
    part: Part = getattr(spec, name)
    rng = _stream(seed, _STREAMS[name])
    return (part, rng) if rng.random() < part.probability else None


def _draw_matrix(spec: AugmentSpec, frame: PatchFrame, seed: int) -> Floats:
    """Return the matrix from voxels of the patch to voxels of the volume."""
    size = np.asarray(frame.voxel_size)
    physical = np.eye(3)
    if found := _drawn(spec, "rotation", seed):
        physical = _rotation(*found) @ physical
    if found := _drawn(spec, "shear", seed):
        part, rng = found
        physical = physical @ (np.eye(3) + np.triu(np.tan(np.radians(rng.uniform(-1, 1, (3, 3)) * part.degrees)), 1))
    if found := _drawn(spec, "scale", seed):
        part, rng = found
        low, high = part.factor
        factors = rng.uniform(low, high, 3)
        physical = physical @ np.diag(1 / (np.repeat(factors[:1], 3) if part.isotropic else factors))
    matrix = physical * size / size[:, None]
    # Whole permutations, so that what is only turned and flipped is not interpolated.
    if found := _drawn(spec, "quarter_turns", seed):
        matrix = matrix @ _quarter_turn(*found, size)
    if found := _drawn(spec, "flips", seed):
        part, rng = found
        is_flipped = rng.random(3) < 0.5
        matrix = matrix @ np.diag(
            [-1 if axis in part.axes and flip else 1 for axis, flip in zip(AXES, is_flipped, strict=True)]
        )
    return np.asarray(matrix, np.float64)


def _rotation(part: Any, rng: np.random.Generator) -> Floats:
    from scipy.spatial.transform import Rotation

    if part.kind == "any":
        # Four normal numbers point evenly in all directions, and so does the quaternion.
        return np.asarray(Rotation.from_quat(rng.standard_normal(4)).as_matrix())
    axis = rng.standard_normal(3) if part.kind == "within" else np.array([1.0, 0.0, 0.0])
    angle = np.radians(rng.uniform(-part.degrees, part.degrees))
    return np.asarray(Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle).as_matrix())


def _quarter_turn(part: Any, rng: np.random.Generator, size: Floats) -> Floats:
    """Return a rotation that only permutes axes, among all that leave voxels their size."""
    turns = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            turn = np.zeros((3, 3))
            turn[range(3), order] = signs
            keeps_size = np.allclose(size[list(order)], size, rtol=_SAME_SIZE, atol=0)
            if np.linalg.det(turn) > 0 and keeps_size and (part.kind == "any" or turn[0, 0] == 1):
                turns.append(turn)
    return turns[int(rng.integers(len(turns)))]


def _draw_nodes(spec: AugmentSpec, frame: PatchFrame, seed: int) -> Floats | None:
    if (found := _drawn(spec, "elastic", seed)) is None:
        return None
    part, rng = found
    size = np.asarray(frame.voxel_size)
    # One voxel of the unit, in voxels of each axis.
    in_voxels = {"voxels": np.ones(3), "finest voxels": size.min() / size, "physical": 1 / size}[part.unit]
    moves = np.array([axis in part.axes for axis in AXES])
    if part.lines is not None:
        nodes = rng.standard_normal((part.lines,) * 3 + (3,))
    else:
        spacing = part.spacing * in_voxels
        lines = [_n_lines(n, gap) for n, gap in zip(frame.shape, spacing, strict=True)]
        nodes = rng.standard_normal((*lines, 3))
        for axis, n in enumerate(frame.shape):
            nodes = _squeezed(nodes, axis, (n - 1) / spacing[axis])
    return np.asarray(nodes * part.sigma * in_voxels * moves)


def _n_lines(n: int, gap: float) -> int:
    """Return how many lines, so far apart, it takes to reach from the first to the last of `n` voxels."""
    return 1 + min(max(1, math.ceil((n - 1) / gap)), MOST_LINES - 1)


def _squeezed(nodes: Floats, axis: int, length: float) -> Floats:
    """Return as many nodes, evenly on the first `length` gaps between the lines along an axis; linear in between."""
    last = nodes.shape[axis] - 1
    at = np.linspace(0, min(length, last), last + 1)
    before = np.minimum(at.astype(int), last - 1)
    part = np.expand_dims(at - before, tuple(range(1, nodes.ndim - axis)))
    return np.asarray(np.take(nodes, before, axis) * (1 - part) + np.take(nodes, before + 1, axis) * part)


def _draw_shifts(spec: AugmentSpec, frame: PatchFrame, seed: int) -> tuple[tuple[int, int, int], ...]:
    if (found := _drawn(spec, "shifted_slices", seed)) is None:
        return ()
    part, rng = found
    planes = _draw_planes(part.number, frame, rng)
    by = rng.integers(-part.voxels, part.voxels + 1, (len(planes), 2))
    return tuple((z, int(y), int(x)) for z, (y, x) in zip(planes, by, strict=True))


def _draw_planes(number: tuple[int, int], frame: PatchFrame, rng: np.random.Generator) -> list[int]:
    """Return planes of the output, in order; elsewhere nobody would learn from them."""
    first, end = frame.output.z
    n = min(int(rng.integers(number[0], number[1] + 1)), end - first)
    return sorted(int(z) for z in rng.choice(end - first, n, replace=False) + first)


def _draw_intensity(spec: AugmentSpec, frame: PatchFrame, seed: int) -> Intensity:
    size = np.asarray(frame.voxel_size)
    drawn: dict[str, Any] = {}
    if found := _drawn(spec, "blur", seed):
        part, rng = found
        drawn["blur"] = tuple((rng.uniform(*part.sigma) * size.min() / size).tolist())
    if found := _drawn(spec, "low_resolution", seed):
        part, rng = found
        factor = float(rng.uniform(*part.factor))
        drawn["slice_thickness"] = tuple(factor if axis == part.axis else 1.0 for axis in AXES)
    for name, field in (("gamma", "exponent"), ("gain", "factor")):
        if found := _drawn(spec, name, seed):
            part, rng = found
            drawn[name] = float(np.exp(rng.uniform(*np.log(getattr(part, field)))))
    for name, field in (("offset", "value"), ("noise", "sigma"), ("shot_noise", "sigma")):
        if found := _drawn(spec, name, seed):
            part, rng = found
            drawn[name] = float(rng.uniform(*getattr(part, field)))
    if found := _drawn(spec, "missing_slices", seed):
        part, rng = found
        drawn["missing"] = tuple(_draw_planes(part.number, frame, rng))
    if found := _drawn(spec, "occlusion", seed):
        part, rng = found
        n = int(rng.integers(part.number[0], part.number[1] + 1))
        drawn["occlusions"] = tuple(_draw_cube(part.side, frame, rng) for _ in range(n))
        drawn["occlusion_value"] = part.value
    first, second = _stream(seed, _NOISE).integers(0, 2**32, 2)
    return Intensity(**drawn, noise_seed=(int(first), int(second)))


def _draw_cube(side: tuple[int, int], frame: PatchFrame, rng: np.random.Generator) -> Box:
    length = int(rng.integers(side[0], side[1] + 1))
    sides = [min(length, n) for n in frame.shape]
    starts = [int(rng.integers(0, n - a + 1)) for n, a in zip(frame.shape, sides, strict=True)]
    return Box(*((start, start + a) for start, a in zip(starts, sides, strict=True)))

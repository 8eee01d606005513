"""How fast is one augmented sample, a 220 image with its 132 mask, against the original algorithm and other libraries?

    python benchmarks/augment.py [--rounds 7] [--only "torch, 2 threads" ..]

Each contestant turns, scales and displaces the same float32 image by linear interpolation, and its mask by the nearest
voxel. Ours begins with the nodes of the displacement. Those that take a dense field or coordinates are given them,
ready made, which is in their favour. Before anything is timed the images must agree with SciPy's on the same
coordinates, where those lie in the volume; the original, TorchIO and batchgeneratorsv2 make fields of their own.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from contest import THREADS, contestants, ratio_line, serve, take_turns

SIZE, HALO, LINES, SIGMA, SCALE = 220, 44, 5, 20.0, 1.05
SHAPE, INNER = (SIZE,) * 3, (slice(HALO, SIZE - HALO),) * 3
TOLERANCE = 1e-4
Work = Callable[[], tuple[Any, Any]]


def volume() -> tuple[Any, Any]:
    """Return smooth noise in 0 .. 1 and a mask of it."""
    from scipy.ndimage import gaussian_filter

    image = gaussian_filter(np.random.default_rng(0).random(SHAPE, np.float32), 1.5)
    image = (image - image.min()) / np.ptp(image)
    return image, (image > 0.6).astype(np.uint8)


def map_of(is_turned: bool) -> Any:
    """Return the map that all are given."""
    from scipy.spatial.transform import Rotation

    from napari_unet3d.core.augment.deformation import Deformation

    nodes = np.random.default_rng(1).normal(0, SIGMA, (LINES, LINES, LINES, 3))
    matrix = Rotation.random(random_state=3).as_matrix() / SCALE if is_turned else np.eye(3)
    return Deformation(shape=SHAPE, centre=((SIZE - 1) / 2,) * 3, matrix=matrix, nodes=nodes)


def coordinates(is_turned: bool) -> Any:
    """Return (3, z, y, x) float32: where all voxels come from."""
    points = np.stack(np.meshgrid(*(np.arange(SIZE),) * 3, indexing="ij"), -1).reshape(SIZE, -1, 3).astype(float)
    deformation = map_of(is_turned)
    places = np.concatenate([deformation.places(plane) for plane in points])
    return np.ascontiguousarray(places.T.reshape(3, *SHAPE), np.float32)


def ours(threads: int) -> Work:
    """Everything from the nodes on: filtered, mapped, interpolated."""
    from napari_unet3d.core.augment.deformation import Deformation
    from napari_unet3d.core.augment.resample import resample, resample_labels
    from napari_unet3d.core.boxes import Box

    (image, mask), choices = volume(), map_of(True).model_dump()
    box = Box(*((HALO, SIZE - HALO),) * 3)

    def work() -> tuple[Any, Any]:
        deformation = Deformation(**choices)
        return resample(image, deformation, threads=threads), resample_labels(mask, deformation, box, threads=threads)

    return work


def original(is_of_2020: bool) -> Work:
    """The algorithm of 2020: radial basis functions on every tenth voxel, linear between, two interpolations.

    With what SciPy had then (`Rbf`, `RegularGridInterpolator`, float64), or with the fastest that it has now.
    """
    from scipy.interpolate import Rbf, RBFInterpolator, RegularGridInterpolator
    from scipy.ndimage import affine_transform, map_coordinates, zoom

    (image, mask), matrix = volume(), map_of(True).matrix
    lines = np.linspace(0, SIZE - 1, LINES)
    nodes = np.array(list(itertools.product(lines, repeat=3)))
    moves = np.asarray(map_of(True).nodes).reshape(-1, 3)
    coarse = np.linspace(0, SIZE - 1, SIZE // 10)
    places = np.array(list(itertools.product(coarse, repeat=3)))
    offset = (SIZE - 1) / 2 - matrix @ np.full(3, (SIZE - 1) / 2)

    def then(axis: int) -> Any:
        field = Rbf(*nodes.T, moves[:, axis])(*places.T).reshape((len(coarse),) * 3)
        return RegularGridInterpolator((coarse,) * 3, field)(np.stack(np.indices(SHAPE), -1))

    def now(axis: int) -> Any:
        field = RBFInterpolator(nodes, moves[:, axis])(places).reshape((len(coarse),) * 3)
        return zoom(field, SIZE / len(coarse), order=1).astype(np.float32)

    def work() -> tuple[Any, Any]:
        at = np.indices(SHAPE, float if is_of_2020 else np.float32)
        for axis in range(3):
            at[axis] += then(axis) if is_of_2020 else now(axis)
        bent = map_coordinates(image, at, order=1, mode="reflect")
        bent_mask = map_coordinates(mask, at, order=0, mode="reflect")
        turned = affine_transform(bent, matrix, offset, order=1, mode="reflect")
        return turned, affine_transform(bent_mask, matrix, offset, order=0, mode="reflect")[INNER]

    return work


def scipy_alone() -> Work:
    """Only the interpolations, with coordinates in hand."""
    from scipy.ndimage import map_coordinates

    (image, mask), at = volume(), coordinates(True)
    inner = np.ascontiguousarray(at[(slice(None), *INNER)])
    return lambda: (
        map_coordinates(image, at, order=1, mode="reflect"),
        map_coordinates(mask, inner, order=0, mode="reflect"),
    )


def dipy(is_field_ready: bool) -> Work:
    """`warp_3d`, with a dense displacement in hand, or made from the nodes by the cubic `zoom` of SciPy."""
    from dipy.align.vector_fields import warp_3d, warp_3d_nn
    from scipy.ndimage import zoom

    (image, mask), deformation = volume(), map_of(True)
    grid = np.indices(SHAPE, np.float32)
    nodes, matrix = np.asarray(deformation.nodes, np.float32), (deformation.matrix - np.eye(3)).astype(np.float32)
    mask = mask.astype(np.int32)

    def made() -> Any:
        field = np.tensordot(grid - (SIZE - 1) / 2, matrix.T, (0, 0))
        for axis in range(3):
            field[..., axis] += zoom(nodes[..., axis], SIZE / LINES, order=3, mode="nearest")
        return field.astype(np.float32)

    def inner_of(field: Any) -> Any:
        # Its output begins at voxel 0, so the mask's field leads there from the corner of the box.
        return np.ascontiguousarray(field[INNER] + np.float32(HALO))

    ready = np.ascontiguousarray(np.moveaxis(coordinates(True) - grid, 0, -1))
    inner = inner_of(ready)
    if is_field_ready:
        return lambda: (warp_3d(image, ready), warp_3d_nn(mask, inner))

    def work() -> tuple[Any, Any]:
        field = made()
        return warp_3d(image, field), warp_3d_nn(mask, inner_of(field))

    return work


def elasticdeform() -> Work:
    """`deform_grid` with the nodes; it has no rotation in 3D, so it only bends."""
    from elasticdeform import deform_grid

    (image, mask), nodes = volume(), np.moveaxis(np.asarray(map_of(False).nodes), -1, 0)
    return lambda: tuple(deform_grid([image, mask], nodes, order=[1, 0], mode="mirror"))


def simpleitk() -> Work:
    """`Resample` with a dense displacement in hand."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(THREADS)
    image, mask = map(sitk.GetImageFromArray, volume())
    field = np.moveaxis(coordinates(True) - np.indices(SHAPE, np.float32), 0, -1)[..., ::-1]
    transform = sitk.DisplacementFieldTransform(
        sitk.Cast(sitk.GetImageFromArray(np.ascontiguousarray(field), isVector=True), sitk.sitkVectorFloat64)
    )
    inner = sitk.Image((132,) * 3, sitk.sitkUInt8)
    inner.SetOrigin((float(HALO),) * 3)
    return lambda: (
        sitk.GetArrayFromImage(sitk.Resample(image, image, transform, sitk.sitkLinear)),
        sitk.GetArrayFromImage(sitk.Resample(mask, inner, transform, sitk.sitkNearestNeighbor)),
    )


def torch(threads: int) -> Work:
    """`grid_sample` with a grid in hand, its depth split into the batch, which is what it shares among threads."""
    import torch as library
    from torch.nn.functional import grid_sample

    library.set_num_threads(threads)
    at = np.moveaxis(coordinates(True), 0, -1)[..., ::-1]
    grid = library.from_numpy(np.ascontiguousarray((2 * at + 1) / SIZE - 1, np.float32))
    image, mask = (library.from_numpy(part.astype(np.float32))[None, None] for part in volume())
    # As many parts as threads, or a plane each: whichever is faster.
    options: dict[str, Any] = {"padding_mode": "reflection", "align_corners": False}

    def sampled(part: Any, places: Any, n: int, mode: str) -> Any:
        batch = places.reshape(n, places.shape[0] // n, *places.shape[1:])
        return grid_sample(part.expand(n, -1, -1, -1, -1), batch, mode=mode, **options).reshape(places.shape[:3])

    def work(n: int) -> tuple[Any, Any]:
        with library.no_grad():
            inner = grid[INNER]
            return (
                sampled(image, grid, n, "bilinear").numpy(),
                sampled(mask, inner, min(n, 132), "nearest").numpy().astype(np.uint8),
            )

    def seconds(n: int) -> float:
        work(n)
        begun = time.perf_counter()
        work(n)
        return time.perf_counter() - begun

    best = min((1, threads, 4, 44), key=seconds)
    return lambda: work(best)


def batchgenerators() -> Work:
    """`SpatialTransform` with rotation, scale and its own elastic field, always."""
    import torch as library
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

    library.set_num_threads(THREADS)
    image, mask = (library.from_numpy(part)[None] for part in volume())
    transform = SpatialTransform(
        SHAPE, patch_center_dist_from_border=0, random_crop=False, p_elastic_deform=1, p_rotation=1, p_scaling=1
    )
    segmentation = mask.to(library.int16)

    def work() -> tuple[Any, Any]:
        done = transform(image=image, segmentation=segmentation)
        return done["image"][0].numpy(), done["segmentation"][0].numpy()[INNER]

    return work


def torchio() -> Work:
    """`RandomElasticDeformation` after `RandomAffine`, in SimpleITK."""
    import torch as library
    import torchio as tio

    library.set_num_threads(THREADS)
    image, mask = (library.from_numpy(part)[None] for part in volume())
    subject = tio.Subject(image=tio.ScalarImage(tensor=image), mask=tio.LabelMap(tensor=mask))
    transform = tio.Compose(
        [
            tio.RandomAffine(scales=(0.9, 1.1), degrees=180, isotropic=True),
            tio.RandomElasticDeformation(num_control_points=LINES + 2, max_displacement=20, locked_borders=0),
        ]
    )

    def work() -> tuple[Any, Any]:
        done = transform(subject)
        return done.image.data[0].numpy(), done.mask.data[0].numpy()[INNER]

    return work


# Name: the work, the ratio to reach against ours with two threads (or one, where it has one), what it must agree with.
CONTESTANTS: dict[str, tuple[Callable[[], Work], float, str | None]] = {
    "ours, 2 threads": (lambda: ours(2), 0, "turned"),
    "ours, 1 thread": (lambda: ours(1), 0, "turned"),
    "the original, as in 2020": (lambda: original(True), 100, None),
    "the original, SciPy of today": (lambda: original(False), 0, None),
    "SciPy, interpolation alone": (scipy_alone, 0, "turned"),
    "dipy, field from the nodes": (lambda: dipy(False), 10, None),
    "dipy, field ready": (lambda: dipy(True), 10, "turned"),
    "elasticdeform": (elasticdeform, 40, "bent"),
    "SimpleITK": (simpleitk, 0, "turned"),
    "torch, 2 threads": (lambda: torch(2), 1.5, "turned"),
    "torch, 1 thread": (lambda: torch(1), 1.5, "turned"),
    "batchgeneratorsv2": (batchgenerators, 0, None),
    "TorchIO": (torchio, 0, None),
}


def agreement(name: str, image: Any) -> str:
    """Return how far an image is from SciPy's, of what comes from within the volume; exit where it is too far."""
    from scipy.ndimage import map_coordinates

    expected = CONTESTANTS[name][2]
    if expected is None:
        return "a field of its own"
    at = coordinates(expected == "turned")
    is_inside = ((at >= 1) & (at <= SIZE - 2)).all(axis=0)
    reference = map_coordinates(volume()[0].astype(float), at, order=1)
    difference = float(np.abs(np.asarray(image) - reference)[is_inside].max())
    if not difference <= TOLERANCE:
        raise SystemExit(f"{name} differs from SciPy by {difference:.2g} of the range.")
    return f"differs from SciPy by {difference:.0e} of the range"


def prepare(name: str) -> tuple[Callable[[], Any], str]:
    """Return the work of a contestant, done once and compared."""
    work = CONTESTANTS[name][0]()
    begun = time.perf_counter()
    image, _ = work()
    first = time.perf_counter() - begun
    work()
    return work, f"{agreement(name, image)}; the first time {first:.2f} s"


def limits() -> str:
    """Return how near ours is to what the machine can do: the bytes that must move, and the loads that must be made."""
    a, b = np.random.default_rng(0).random(SHAPE, np.float32), np.empty(SHAPE, np.float32)

    def seconds(call: Callable[[], Any]) -> float:
        times = []
        for _ in range(9):
            begun = time.perf_counter()
            call()
            times.append(time.perf_counter() - begun)
        return min(times)

    copy = seconds(lambda: np.copyto(b, a))
    work = ours(1)
    work()
    once = seconds(work)
    voxels = SIZE**3 + 132**3
    return (
        f"one thread: {once / voxels * 1e9:.1f} ns a voxel; copying the image, which reads and writes each voxel once, "
        f"takes {copy * 1e3:.1f} ms, {once / copy:.0f} times less"
    )


def main() -> None:
    """Print a line a peer, slowest agreement first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--worker")
    choices = parser.parse_args()
    if choices.worker:
        serve(lambda: prepare(choices.worker))
        return
    names = [name for name in CONTESTANTS if not choices.only or name in choices.only or name.startswith("ours")]
    with contestants(names) as entered:
        for contestant in entered:
            print(f"{contestant.name}: {contestant.note}", flush=True)
        seconds = take_turns(entered, choices.rounds)
    for name in names:
        if not name.startswith("ours"):
            mine = "ours, 1 thread" if "1 thread" in name else "ours, 2 threads"
            print(ratio_line(f"220 image, 132 mask, {mine}", seconds[mine], seconds[name], name, CONTESTANTS[name][1]))
    print(limits())


if __name__ == "__main__":
    main()

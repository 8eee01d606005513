"""From store to store against Dask's `map_overlap`, with the same network computed in the same way.

    python benchmarks/overlap.py [--size 300] [--rounds 3] [--memory 2GiB]

Both read an OME-Zarr and write labels to a Zarr with files of the same size; ours also keeps a ledger and makes smaller
copies. The peer is what one writes with Dask: chunks of 100 voxels, extended by the halo of the network, one at a time
because the network uses all cores, and the tile computed by the same predictor. Labels must agree in chunks that start
on the grid of the poolings, away from the border, where Dask mirrors the last voxel too; elsewhere the poolings meet
another phase, and the share that differs is what such chunks get wrong.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import networks
import numpy as np
import numpy.typing as npt
import zarr
from contest import contestants, ratio_line, serve, take_turns
from scale import make_volume

from napari_unet3d.core.normalize import Normalization
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.network.model import Model

TARGET = 1.0
CHUNK = 100
SPEC = NetworkSpec(filters=4)
SCALE = 1 / 3000
# Voxels whose two logits are equal but for rounding.
TOLERANCE = 1e-4


def model() -> Model:
    """Return the network, with weights that are random and the same for both."""
    bare = networks.random_model(SPEC, seed=6)
    return Model(bare.card.model_copy(update={"normalization": Normalization(kind="fixed", scale=SCALE)}), bare.weights)


def segment(image: Path, target: Path, memory: str) -> None:
    """Segment as the command does."""
    from napari_unet3d import PredictSpec, read_volume, segment_to
    from napari_unet3d.cli.choices import parse_bytes

    spec = PredictSpec(device="cpu", memory_bytes=parse_bytes(memory))
    segment_to(target, read_volume(image), model(), spec=spec, overwrite=True)


def segment_by_overlap(image: Path, target: Path, compute: Any) -> None:
    """Segment with Dask."""
    import dask
    import dask.array as da

    halo = SPEC.geometry.halo

    def block(voxels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
        scaled = voxels.astype(np.float32) * np.float32(SCALE)
        return np.asarray(compute(scaled[..., np.newaxis], "labels"), np.uint8)

    volume = da.from_zarr(str(image)).rechunk(CHUNK)
    extended = da.overlap.overlap(volume, depth=halo, boundary="reflect")
    labels = extended.map_blocks(block, dtype=np.uint8, chunks=volume.chunks)
    shutil.rmtree(target, ignore_errors=True)
    with dask.config.set(scheduler="threads", num_workers=1):
        labels.to_zarr(str(target))


def prepare(name: str, size: int, memory: str, folder: Path) -> tuple[Callable[[], Any], str]:
    """Return the segmentation of the volume, after a small one has warmed the library up."""
    image, target = folder / f"{size}.zarr", folder / f"{name}.zarr"
    if name == "ours":
        work: Callable[[Path, Path], None] = partial(segment, memory=memory)
    else:
        from napari_unet3d.network.machine.devices import select_device
        from napari_unet3d.network.predictor import predictor_of

        work = partial(segment_by_overlap, compute=predictor_of(model(), select_device("cpu")))
    work(folder / f"{CHUNK}.zarr", target)
    return lambda: work(image, target), ""


def labels_of(path: Path) -> npt.NDArray[np.uint8]:
    """Return all labels that were written."""
    found = zarr.open(path, mode="r")
    return np.asarray(found["0"][:] if isinstance(found, zarr.Group) else found[:])


def check_agreement(ours: npt.NDArray[np.uint8], theirs: npt.NDArray[np.uint8]) -> str:
    """Return how far the labels agree; exit where they must and do not."""
    geometry = SPEC.geometry
    inside = tuple(slice(lost, n - lost) for lost, n in zip(geometry.halo, ours.shape, strict=True))
    aligned = np.zeros(ours.shape, bool)
    for starts in itertools.product(*(range(0, n, CHUNK) for n in ours.shape)):
        if not any(start % step for start, step in zip(starts, geometry.alignment, strict=True)):
            aligned[tuple(slice(start, start + CHUNK) for start in starts)] = True
    differ, aligned = (ours != theirs)[inside], aligned[inside]
    wrong = float(differ[aligned].mean())
    if wrong > TOLERANCE:
        raise SystemExit(f"The labels do not agree: {100 * wrong:.3g} % differ in chunks that start on the grid.")
    return (
        f"{100 * ours.mean():.0f} % foreground; away from the border {100 * wrong:.2g} % differ in chunks of the peer "
        f"that start on the grid, {100 * differ[~aligned].mean():.2g} % in the others"
    )


def main() -> None:
    """Compare, or be one of those compared."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=300, help="a multiple of 100")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(partial(prepare, options.worker, options.size, options.memory, options.folder))
        return
    with tempfile.TemporaryDirectory() as folder:
        for size in {CHUNK, options.size}:
            make_volume(Path(folder) / f"{size}.zarr", size)
        arguments = ["--size", str(options.size), "--memory", options.memory, "--folder", folder]
        with contestants(["ours", "map_overlap"], *arguments) as entered:
            seconds = take_turns(entered, rounds=options.rounds)
        ours, theirs = (labels_of(Path(folder) / f"{name}.zarr") for name in seconds)
    agreement = check_agreement(ours, theirs)
    (_, mine), (peer, others) = seconds.items()
    print(ratio_line(f"store to store {options.size}", mine, others, peer, TARGET))
    print(agreement)


if __name__ == "__main__":
    main()

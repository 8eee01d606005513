"""A network that gives what it is given: the pipeline without TensorFlow, to the voxel."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.normalize import Scaling
from napari_unet3d.core.tiles.plan import TilePlan, plan_tiles
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import OutOfMemoryError
from napari_unet3d.tasks.segment.predict import Sinks, predict
from napari_unet3d.tasks.specs import PredictSpec

AS_IT_IS = Scaling((0.0,), (1.0,))


class Identity:
    """Crops what is consumed, and has no room for more than `room` voxels once `patience` tiles are done."""

    def __init__(self, network: NetworkSpec, *, room: int | None = None, patience: int = 0) -> None:
        self._halo, self._room, self._patience = network.geometry.halo, room, patience
        self.n_calls = 0

    def __call__(self, voxels: npt.NDArray[np.float32], what: str) -> npt.NDArray[np.generic]:
        if self._room is not None and voxels.size > self._room and self.n_calls >= self._patience:
            raise OutOfMemoryError("no memory left")
        self.n_calls += 1
        inner = voxels[(*(slice(lost, -lost) for lost in self._halo), 0)]
        if what == "labels":
            return inner.astype(np.uint8)
        return np.stack([1 - inner / 255, inner / 255], axis=-1).astype(np.float32)


class Counting:
    """A result that counts how often each voxel is written."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.values = np.full(shape, 255, np.uint8)
        self.written = np.zeros(shape, int)
        self.shape, self.dtype = tuple(shape), self.values.dtype

    def __setitem__(self, box, values) -> None:
        self.values[box] = values
        self.written[box] += 1

    def __getitem__(self, box):
        return self.values[box]


def numbered(shape: Sequence[int], seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return a volume in which neighbours differ, with values below 200."""
    return np.random.default_rng(seed).integers(0, 200, shape).astype(np.uint8)


def plan_of(volume, network: NetworkSpec, spec: PredictSpec) -> TilePlan:
    """Return the plan for a volume and an identity network in place of one."""
    return plan_tiles(
        volume.shape[:3], network, memory=spec.memory_bytes, region=spec.region, tile_shape=spec.tile_shape
    )


def pipeline(volume, predictor: Identity, network: NetworkSpec, spec: PredictSpec, sinks: Sinks, **choices):
    """Return the events of a segmentation by an identity network."""
    plan = plan_of(volume, network, spec)
    return predict(volume, predictor, spec, sinks, plan=plan, scaling=AS_IT_IS, **choices)


def pipeline_threads() -> list[threading.Thread]:
    """Return the threads of pipelines that are alive."""
    return [t for t in threading.enumerate() if t.name.startswith(("unet3d-reader", "unet3d-writer"))]


def segment_once() -> None:
    """Segment a little volume: for a fresh interpreter, which must not have imported TensorFlow afterwards."""
    volume = numbered((20, 21, 22))
    sink = np.zeros(volume.shape, np.uint8)
    spec = PredictSpec(tile_shape=(48, 48, 48), region=Box((2, 20), (0, 21), (5, 22)))
    part = sink[spec.region.slices]
    network = NetworkSpec(blocks=1, filters=2)
    list(pipeline(volume, Identity(network), network, spec, Sinks(part)))
    np.testing.assert_array_equal(part, volume[spec.region.slices])

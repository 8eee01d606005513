"""A block of a segmentation as a task: any process that sees the files can compute it, and knows nothing of the others.

A block is what one tile writes, and whole files of the result, so that processes never write to the same file. What is
the same for all blocks is found before: the plan, the scaling, how frequent the classes are.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_unet3d import atomic
from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.normalize import Scaling
from napari_unet3d.core.tiles.plan import Readable, TilePlan, plan_tiles
from napari_unet3d.core.tiles.where import Where
from napari_unet3d.errors import EngineError, Unet3dError
from napari_unet3d.network.machine.device import Precision
from napari_unet3d.tasks.driving import drive
from napari_unet3d.tasks.events import Event
from napari_unet3d.tasks.on_disk import OnDisk
from napari_unet3d.tasks.segment.measuring import Measured
from napari_unet3d.tasks.segment.output_place import one_class
from napari_unet3d.tasks.segment.predict import Predictor, Sinks, What, predict_tiles
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes.outputs.base import Output, OutputSpec
from napari_unet3d.volumes.outputs.creating import open_output

if TYPE_CHECKING:
    from napari_unet3d.network.machine.device import Device

_PACKAGES = ("napari-unet3d", "tensorflow", "keras", "numpy", "zarr")


@dataclass(frozen=True)
class BlockSource:
    """What a worker reads.

    Attributes
    ----------
    image
        The volume.
    model
        The model folder.
    weights_sha256
        Of its weights.
    """

    image: OnDisk
    model: Path
    weights_sha256: str


@dataclass(frozen=True)
class BlockRun:
    """What is the same for all blocks of a run.

    Attributes
    ----------
    key
        Tells it from other runs, so that a worker opens it once.
    source
        What is read.
    spec
        The choices for the run.
    measured
        What was found for the whole volume.
    shape
        (z, y, x) of the volume.
    input_shape
        Of all tiles.
    found, store
        What is written to, and where it lies until it is complete.
    only_class
        Of the probabilities, those of this class alone are kept; None keeps them all.
    """

    key: str
    source: BlockSource
    spec: PredictSpec
    measured: Measured
    shape: Shape
    input_shape: Shape
    found: OutputSpec
    store: Path
    only_class: int | None = None

    @contextmanager
    def permit(self) -> Iterator[None]:
        """Let workers write in the block; one that is still at a block of a run that was stopped writes no more."""
        self._permit.write_text(self.key)
        try:
            yield
        finally:
            atomic.remove(self._permit)

    def check_permit(self) -> None:
        """Refuse to write for a run that was stopped: another one may be writing there by now.

        Raises
        ------
        EngineError
            If it was stopped.
        """
        try:
            if self._permit.read_text() == self.key:
                return
        except OSError:
            pass
        raise EngineError("The run was stopped meanwhile.")

    @property
    def _permit(self) -> Path:
        return self.store.with_name("permit.txt")


@dataclass(frozen=True)
class Workers:
    """What is common to all workers of a run.

    Attributes
    ----------
    memory
        Bytes that each may use.
    computes_in
        The type of the numbers that they multiply; the same for all, so that it does not show which one computed what.
    """

    memory: int
    computes_in: str


class BlockComputer(Protocol):
    """Whoever computes the blocks of a run, somewhere else."""

    def look(self, source: BlockSource, nonce: Path, precision: Precision = "float32") -> Workers:
        """Return what the workers have in common, after it was seen that all can do the work.

        Parameters
        ----------
        source
            What they will read.
        nonce
            A file that they must see, where they will write.
        precision
            As in `PredictSpec`.

        Raises
        ------
        EngineError
            If there is no worker, or one has other versions, does not see the files, or computes otherwise.
        """

    def compute(
        self, run: BlockRun, plan: TilePlan, blocks: Sequence[Shape], keep: Any
    ) -> Generator[Event, None, None]:
        """Compute blocks, given by their places in the grid of tiles.

        Parameters
        ----------
        run, plan
            The run, and its tiles.
        blocks
            What is missing.
        keep
            Called with the input shape and the box, in voxels of the result, of each block that is on the disk.

        Raises
        ------
        BlocksFailedError
            If some could not be computed; all others are done.
        EngineError
            If there is nobody left to compute them.
        """


def versions() -> dict[str, str]:
    """Return what must be the same wherever blocks of one run are computed."""
    found = {"Python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def look_around(
    source: BlockSource, nonce: Path, text: str, device: str, precision: Precision = "float32"
) -> dict[str, Any]:
    """Return what a worker is and sees: its versions, its memory, how it computes, and what it cannot do, or nothing.

    Parameters
    ----------
    source
        What it will read.
    nonce, text
        A file that it must see, where it will write, and what that holds.
    device, precision
        As in `PredictSpec`.
    """
    from napari_unet3d.network.machine.devices import select_device, usable_memory
    from napari_unet3d.network.store import read_card

    problem, memory, is_gpu, computes_in = "", 0, False, ""
    try:
        if not nonce.is_file() or nonce.read_text() != text:
            problem = f"it does not see {nonce.parent}"
        elif read_card(source.model)[1] != source.weights_sha256:
            problem = f"the model in {source.model} has other weights there"
        else:
            source.image.read()
            chosen = select_device(device, precision)
            memory, is_gpu, computes_in = usable_memory(chosen), chosen.is_gpu, chosen.computes_in
    except (Unet3dError, OSError) as error:
        problem = str(error)
    found = {"memory": memory, "is_gpu": is_gpu, "computes_in": computes_in, "problem": problem}
    return {"versions": versions(), **found}


def compute_block(run: BlockRun, index: Shape) -> Box:
    """Compute a block and bring it onto the disk; return where it lies, in voxels of the result.

    Parameters
    ----------
    run
        What it belongs to.
    index
        Its place (z, y, x) in the grid of tiles.

    Raises
    ------
    Unet3dError
        If it cannot be read, computed or written.
    """
    opened = _open(run)
    box = opened.plan.tile(*index).write
    within = box.shifted(_negative(opened.plan.region))
    spec = run.spec.model_copy(update={"region": box})
    plan = _plan_block(opened.plan, box)
    part = _Part(opened.output, within, opened.writing, run)
    sinks = Sinks(one_class(part, run.only_class, opened.plan.spec.classes))
    # A worker may have several threads: one reads while another computes.
    drive(
        predict_tiles(
            opened.voxels,
            _InTurn(opened.predictor, opened.computing),
            spec,
            sinks,
            plan=plan,
            scaling=Scaling(*run.measured.scaling),
            device=opened.device.label,
            where=opened.where,
        )
    )
    with opened.writing:
        opened.output.sync()
    return within


def _plan_block(plan: TilePlan, box: Box) -> TilePlan:
    """Return the plan for one block: the same tile, over nothing but what it writes."""
    return plan_tiles(
        plan.volume_shape,
        plan.spec,
        region=box,
        tile_shape=plan.input_shape,
        bytes_per_value=plan.bytes_per_value,
        reading_bytes=plan.reading_bytes,
    )


@dataclass(frozen=True, eq=False)
class _Opened:
    """What a worker holds of a run."""

    plan: TilePlan
    voxels: Readable
    predictor: Predictor
    device: Device
    output: Output
    where: Where
    computing: threading.Lock
    writing: threading.Lock


_opened: dict[str, _Opened] = {}
_opening = threading.Lock()


def _open(run: BlockRun) -> _Opened:
    """Return what is needed for any block of a run, opened once; what belongs to another run is let go."""
    with _opening:
        if run.key not in _opened:
            _opened.clear()
            _opened[run.key] = _open_now(run)
        return _opened[run.key]


def _open_now(run: BlockRun) -> _Opened:
    from napari_unet3d.network.machine.devices import select_device
    from napari_unet3d.network.predictor import predictor_of
    from napari_unet3d.tasks.chosen_model import load_chosen
    from napari_unet3d.tasks.segment.segmenting import plan_prediction

    model = load_chosen(run.source.model, run.source.weights_sha256)
    volume = run.source.image.read()
    if volume.shape != run.shape:
        raise EngineError(f"The volume has the shape {volume.shape} here, and {run.shape} where the run was begun.")
    device = select_device(run.spec.device, run.spec.precision)
    output = open_output(run.found, run.store, goes_on=True, is_shared=True)
    spec = run.spec.model_copy(update={"tile_shape": run.input_shape})
    plan = plan_prediction(run.shape, model, spec, device, volume=volume.data, sink=output)
    predictor = predictor_of(run.measured.suit(model), device)
    return _Opened(plan, volume.data, predictor, device, output, run.measured.where, threading.Lock(), threading.Lock())


class _InTurn:
    """A predictor that computes one tile at a time."""

    def __init__(self, predictor: Predictor, lock: threading.Lock) -> None:
        self._predictor, self._lock = predictor, lock

    def __call__(self, voxels: npt.NDArray[np.float32], what: What) -> npt.NDArray[Any]:
        with self._lock:
            return self._predictor(voxels, what)


class _Part:
    """A box of an output, written to as if it were all."""

    def __init__(self, output: Output, box: Box, lock: threading.Lock, run: BlockRun) -> None:
        self._output, self._box, self._lock, self._run = output, box, lock, run
        self.shape = (*box.shape, *output.shape[3:])
        self.dtype = output.dtype

    def __getitem__(self, part: Any) -> npt.NDArray[Any]:
        with self._lock:
            return self._output[self._within(part)]

    def __setitem__(self, part: Any, values: npt.NDArray[Any]) -> None:
        with self._lock:
            self._run.check_permit()
            self._output[self._within(part)] = values

    def _within(self, part: tuple[slice, ...]) -> tuple[slice, ...]:
        return tuple(
            slice(inner.start + start, inner.stop + start) for inner, (start, _) in zip(part, self._box, strict=True)
        )


def _negative(region: Box) -> Shape:
    z, y, x = (-start for start, _ in region)
    return z, y, x

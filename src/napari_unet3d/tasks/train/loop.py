"""Training, as a task: an explicit loop that yields what happened after every step.

Every step is a safe point to stop: whoever closes the generator gets a checkpoint and the last model in the run folder,
and a run that goes on from there ends with the same bytes as one that was never stopped.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from napari_unet3d.errors import OutputError, shown
from napari_unet3d.tasks.events import Event, Note, Progress
from napari_unet3d.tasks.train.annotation import Annotation, TrainingPair
from napari_unet3d.tasks.train.check_images import check_images
from napari_unet3d.tasks.train.data import read_training_data
from napari_unet3d.tasks.train.kept.keeper import Keeper
from napari_unet3d.tasks.train.kept.resuming import find_run
from napari_unet3d.tasks.train.kept.run_folder import LabelsRecord, RunFolder, RunRecord
from napari_unet3d.tasks.train.live import LivePreview, Watcher
from napari_unet3d.tasks.train.spec import TrainSpec
from napari_unet3d.tasks.train.training import Training, TrainResult

if TYPE_CHECKING:
    from napari_unet3d.network.model import Model


def train(
    spec: TrainSpec,
    pairs: Annotation | Sequence[TrainingPair],
    folder: RunFolder | None = None,
    *,
    start: Model | None = None,
    resume: bool = False,
    force: bool = False,
    live: LivePreview | None = None,
    threads: int = 1,
) -> Generator[Event, None, TrainResult]:
    """Train a network; a generator whose every event is a safe point to stop.

    Parameters
    ----------
    spec
        The choices for the run.
    pairs
        Images with their annotation.
    folder
        The open run folder; None keeps everything in memory.
    start
        A model to start from: its classes go on where they have the same names, others start from fresh weights.
    resume
        Go on with the run in the folder.
    force
        Go on even if the choices or the data differ.
    live
        The position in view, which is segmented now and then while the network learns.
    threads
        Number of threads that make patches.

    Raises
    ------
    SpecError, VolumeError
        If the annotation cannot be used: with what is wrong, and the values found.
    TrainingError
        If the loss is no longer a finite number, or the folder belongs to another run.
    OutOfMemoryError
        If the device has no room for the smallest patch that was tried.
    """
    from napari_unet3d.network.machine.devices import select_device

    device = select_device(spec.device)
    yield Progress("reading the annotation", 0, 1)
    data = read_training_data(pairs, spec)
    record = RunRecord(
        spec=spec,
        data=data.fingerprints,
        start=None if start is None else start.fingerprint(),
        held_out=tuple(f"{part.pair}: {part.box}" for part in data.boxes),
        labels=tuple(LabelsRecord.of(pair) for pair in data.pairs),
    )
    found, watcher = None, None
    if live is not None:
        seen = data.volumes[live.pair]
        watcher = Watcher(live, seen.image, seen.scaling, spec.network, spec.head)
    if folder is not None and resume:
        found = find_run(folder, record, force=force)
    elif folder is not None and folder.has_run:
        raise OutputError(
            f"{shown(folder.path)} holds a run already; go on with it (--resume), or choose another folder."
        )
    # Not before it is certain that this run holds these out.
    yield from map(Note, data.notes)
    yield from data.boxes
    yield from check_images(data.volumes, spec.patch)
    keeper = Keeper(folder, record, spec.head)
    run = Training(spec, device, data, keeper, start=start, threads=threads, found=found, watcher=watcher)
    return (yield from run.steps())

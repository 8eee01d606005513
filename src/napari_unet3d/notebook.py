"""What a notebook or a script calls: a volume becomes labels, annotation becomes a model, in one line each.

The same tasks as in the window and the shell; here they run in this process, with a bar that shows how far they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet3d.core.boxes import Box
from napari_unet3d.errors import VolumeError
from napari_unet3d.tasks.driving import drive
from napari_unet3d.tasks.events import Event, Note, Progress, Started, StepDone, TileDone
from napari_unet3d.tasks.segment.predict import PredictResult, Sinks
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.words import duration

if TYPE_CHECKING:
    from napari_unet3d.network.model import Model
    from napari_unet3d.tasks.train.annotation import TrainingPair
    from napari_unet3d.tasks.train.spec import TrainSpec
    from napari_unet3d.tasks.train.training import TrainResult
    from napari_unet3d.volumes import Volume

OnEvent = Callable[[Event], object]


def segment(
    volume: Volume | Any,
    model: Model,
    *,
    spec: PredictSpec | None = None,
    progress: bool = False,
    on_event: OnEvent | None = None,
) -> Volume:
    """Segment a volume whose result fits into memory.

    Parameters
    ----------
    volume
        From `read_volume` or `Volume.from_array`; or an array (z, y, x) or (z, y, x, c) of any real type.
    model
        From `load_model`.
    spec
        The choices for the run. None gives labels of the whole volume, with the memory and the device at hand.
    progress
        Show a progress bar and notes.
    on_event
        Called with every event.

    Returns
    -------
    Volume
        (z, y, x) uint8 class indices, uint32 instances, or (z, y, x, classes) float32 probabilities, with the voxel
        size of the volume and the position of the region that was segmented.

    Raises
    ------
    Unet3dError
        One of its children, if the volume does not suit the model or nothing fits the memory.

    Examples
    --------
    >>> import napari_unet3d as unet3d
    >>> model = unet3d.load_model("neuron.unet3d")  # doctest: +SKIP
    >>> labels = unet3d.segment(unet3d.read_volume("stack.tif"), model, progress=True)  # doctest: +SKIP
    >>> labels.data, labels.voxel_size  # doctest: +SKIP
    """
    from napari_unet3d.tasks.segment.segmenting import segment_into

    source, chosen = _as_volume(volume), spec or PredictSpec()
    region = chosen.region or Box.whole(source.shape)
    classes = (model.spec.classes,) if chosen.output == "probabilities" else ()
    result = np.zeros((*region.shape, *classes), chosen.dtype)
    with _telling(progress, on_event) as tell:
        drive(segment_into(source.data, model, chosen, Sinks(result)), tell)
    return source.part(result, region)


def segment_to(
    path: str | os.PathLike[str],
    volume: Volume | Any,
    model: Model,
    *,
    spec: PredictSpec | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = False,
    on_event: OnEvent | None = None,
) -> PredictResult:
    """Segment a volume of any size into a file, which appears whole or not at all.

    Parameters
    ----------
    path
        File for the result, `.tif`, `.ome.tif` or `.zarr`; it carries the voxel size and the position.
    volume, model, spec, progress, on_event
        As for `segment`.
    overwrite
        Replace an existing file, once the new result is complete.
    resume
        Go on with a run that was stopped or killed, if there is one.

    Raises
    ------
    OutputError
        If the result exists or cannot be written, or a run was stopped that is neither to go on nor to begin again.
    Unet3dError
        As `segment`.
    """
    from napari_unet3d.tasks.segment.files import predict_file

    run = predict_file(_as_volume(volume), model, spec or PredictSpec(), path, overwrite=overwrite, resume=resume)
    with _telling(progress, on_event) as tell:
        return drive(run, tell)


def train(
    pairs: Sequence[TrainingPair],
    spec: TrainSpec | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    start: Model | None = None,
    resume: bool = False,
    progress: bool = False,
    on_event: OnEvent | None = None,
) -> TrainResult:
    """Train a network on what is painted.

    Parameters
    ----------
    pairs
        Images with their annotation.
    spec
        The choices for the run. None takes what suits the annotation, see `choose_spec`.
    folder
        The run folder with models, history and checkpoint, so that a run can go on. None keeps everything in memory.
    start
        A model to start from.
    resume
        Go on with the run in the folder.
    progress
        Show a progress bar and notes.
    on_event
        Called with every event.

    Raises
    ------
    SpecError, VolumeError
        If the annotation cannot be used.
    TrainingError
        If the loss is no longer a finite number, or the folder belongs to another run.
    """
    from napari_unet3d.tasks.train.annotation import read_annotation
    from napari_unet3d.tasks.train.choosing import choose_spec
    from napari_unet3d.tasks.train.kept.run_folder import RunFolder
    from napari_unet3d.tasks.train.loop import train as learn

    annotation = read_annotation(pairs)
    chosen = spec or choose_spec(annotation.painted, card=None if start is None else start.card)
    with nullcontext() if folder is None else RunFolder(folder) as kept, _telling(progress, on_event) as tell:
        return drive(learn(chosen, annotation, kept, start=start, resume=resume), tell)


def _as_volume(volume: Any) -> Volume:
    from napari_unet3d.volumes import Volume

    if isinstance(volume, Volume):
        return volume
    shape = getattr(volume, "shape", ())
    if len(shape) not in (3, 4):
        found = shape or type(volume).__name__
        raise VolumeError(f"A volume is an array (z, y, x) or (z, y, x, c); {found} was passed.")
    return Volume(volume)


@contextmanager
def _telling(progress: bool, on_event: OnEvent | None) -> Iterator[OnEvent | None]:
    """Give what hears of every event: the caller, and a bar where one is wanted."""
    if not progress:
        yield on_event
        return
    with _Bar() as bar:

        def tell(event: Event) -> None:
            bar.tell(event)
            if on_event is not None:
                on_event(event)

        yield tell


class _Bar:
    """A bar in a terminal or under a cell; what should be known stands above it."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}")
        )
        self._part = self._bar.add_task("preparing", total=None, left="")

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def tell(self, event: Event) -> None:
        """Show what an event says."""
        match event:
            case Started():
                self._bar.reset(self._part, total=event.total, description="working", left="")
            case TileDone(done=done, seconds_left=left) | StepDone(step=done, seconds_left=left):
                self._bar.update(self._part, completed=done, left=f"{duration(left)} left")
            case Progress():
                self._bar.update(self._part, description=event.what, completed=event.done, total=event.total, left="")
            case Note():
                self._bar.console.print(event.text, markup=False, highlight=False)

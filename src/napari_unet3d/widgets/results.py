"""What takes the result of a run: an array, or a file that is shown while it is written."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Box
from napari_unet3d.errors import EngineError, OutputError, Unet3dError
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes import Output, create_output, read_volume
from napari_unet3d.volumes.arrays import LazyArray, box_shape
from napari_unet3d.widgets.layers import LayerVolume

if TYPE_CHECKING:
    from napari_unet3d.network.model import ModelCard


@dataclass(frozen=True)
class Choices:
    """What the user wants segmented, and how.

    Attributes
    ----------
    model
        The model folder.
    card
        What is known of it.
    spec
        The choices for the run.
    shown_class
        With probabilities, the class whose probability becomes the layer.
    path
        Where the result is written, `.zarr` or `.tif`; None keeps it in memory.
    is_view
        The region is what was in view, which moves on.
    weights_sha256
        Which weights the model had when it was chosen.
    """

    model: Path
    card: ModelCard
    spec: PredictSpec
    shown_class: int = 1
    path: Path | None = None
    is_view: bool = False
    weights_sha256: str = ""

    def goes_on_with(self, other: Choices) -> bool:
        """Return whether a run that was begun with `other` goes on: only memory and what is in view may differ."""
        free: dict[str, Any] = {"memory_bytes": None}
        if self.is_view and other.is_view:
            free["region"] = None
        ours, theirs = (replace(choices, spec=choices.spec.model_copy(update=free)) for choices in (self, other))
        return ours == theirs

    def region(self, shape: tuple[int, int, int]) -> Box:
        """Return what is segmented of a volume of `shape`, in its voxels."""
        return self.spec.region or Box.whole(shape)

    @property
    def has_instances(self) -> bool:
        """Return whether objects get numbers."""
        return self.spec.cleanup is not None and self.spec.cleanup.instances


@dataclass(frozen=True, eq=False)
class Result:
    """Where a result goes.

    Attributes
    ----------
    sink
        What the run writes to.
    shown
        What the layer shows.
    output
        The file that is being written, or None.
    """

    sink: Any
    shown: Any
    output: Output | None = None
    _lock: Lock = field(default_factory=Lock, repr=False)

    def commit(self) -> None:
        """Put a file in its place, now that it is complete.

        Raises
        ------
        OutputError
            If that cannot be done.
        """
        if self.output is not None:
            # A TIFF of one slice is read as an image, which is no volume; and one slice is small.
            slice_alone = self.output[:, :, :] if self.output.shape[0] == 1 else None
            with self._lock:
                path = self.output.commit()
            self.shown.committed = read_volume(path, axes="zyx").data if slice_alone is None else slice_alone

    def discard(self) -> None:
        """Remove a file that was begun and not finished; one that is being finished stays."""
        if self.output is not None:
            with self._lock:
                self.output.discard()


class Commit:
    """Puts a file in its place in a thread of its own, and remembers how that went.

    Parameters
    ----------
    result
        What is complete.

    Attributes
    ----------
    error
        Why it failed, or None.
    """

    def __init__(self, result: Result) -> None:
        self.error: Unet3dError | None = None
        self._result = result
        self._thread = Thread(target=self._commit, name="unet3d-commit")
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Return whether the file is there, or never will be."""
        return not self._thread.is_alive()

    def _commit(self) -> None:
        try:
            self._result.commit()
        except Unet3dError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - a run that never ends would leave its button disabled
            reason = f"The result could not be finished: {type(error).__name__}: {error}"
            self.error = EngineError(reason, traceback.format_exc())


def make_result(chosen: LayerVolume, choices: Choices) -> Result:
    """Return what takes the result of a run over a volume.

    Raises
    ------
    OutputError
        If a file cannot be written there, or exists.
    """
    spec, region = choices.spec, choices.region(chosen.shape)
    is_image = spec.output == "probabilities"
    if choices.path is None:
        array: npt.NDArray[Any] = np.zeros(region.shape, spec.dtype)
        return Result(_OneClass(array, choices) if is_image else array, array)
    output = create_output(
        choices.path,
        region.shape,
        spec.dtype,
        voxel_size=chosen.volume.voxel_size,
        unit=chosen.volume.unit,
        translate=[float(n) for n in chosen.space.moved([first for first, _ in region]).translate],
        kind="image" if is_image else "labels",
        class_names=() if is_image or choices.has_instances else choices.card.class_names,
    )
    return Result(_OneClass(output, choices) if is_image else output, _BeingWritten(output), output)


class _OneClass:
    """Takes the probabilities of all classes, and keeps those of one."""

    def __init__(self, array: Any, choices: Choices) -> None:
        self.array = array
        self._class = choices.shown_class
        self.shape = (*array.shape, choices.card.network.classes)
        self.dtype = array.dtype

    def __setitem__(self, box: tuple[slice, ...], values: npt.NDArray[Any]) -> None:
        # Boxes are whole along the axis of classes: the worker cuts them along z.
        self.array[box[:3]] = values[..., self._class]


class _BeingWritten(LazyArray):
    """An output as a layer's data, while it is being written, and after.

    Attributes
    ----------
    committed
        The finished file, once it is there.
    """

    def __init__(self, output: Output) -> None:
        super().__init__(output.shape, output.dtype)
        self._output = output
        self.committed: Any = None

    def read(self, box: tuple[slice, ...]) -> npt.NDArray[Any]:
        if self.committed is not None:
            return np.asarray(self.committed[box])
        try:
            return self._output[box]
        except ValueError:  # it is being put in its place, or was given up
            return np.zeros(box_shape(box), self.dtype)


def check_room(choices: Choices, shape: tuple[int, int, int], free_bytes: int) -> None:
    """Raise an OutputError if a result in memory would not leave the computation room.

    Parameters
    ----------
    choices
        What is wanted.
    shape
        Shape (z, y, x) of the volume.
    free_bytes
        Free memory of this machine.
    """
    each = np.dtype(choices.spec.dtype).itemsize + (choices.spec.cleanup is not None)
    needed = choices.region(shape).n_voxels * each
    if choices.path is None and needed > free_bytes // 2:
        raise OutputError(
            f"The result takes {needed / 2**30:,.1f} GiB of memory, and {free_bytes / 2**30:,.1f} GiB are free. Write "
            "it to a file (More), or segment a region."
        )

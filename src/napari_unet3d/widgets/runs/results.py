"""What takes the result of a run: an array, or a file that the worker writes and the window looks at meanwhile."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.objects.clean_up import evident_classes
from napari_unet3d.errors import OutputError, shown
from napari_unet3d.tasks.jobs.places import ImageCalibration, with_calibration
from napari_unet3d.tasks.jobs.segment import RESULT, SCRATCH
from napari_unet3d.tasks.segment.output_place import Writing, describe_output, place_bytes
from napari_unet3d.tasks.segment.shares import share_memory
from napari_unet3d.tasks.segment.work.ledger import Asked, look_at_begun, n_voxels_done, work_paths
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes.outputs.creating import check_place
from napari_unet3d.volumes.outputs.watching import BeingWritten
from napari_unet3d.widgets.host.files import file_name, last_folder
from napari_unet3d.widgets.layers.volumes import LayerVolume
from napari_unet3d.widgets.layers.writers import check_apart_from

if TYPE_CHECKING:
    from napari_unet3d.network.machine.device import Device
    from napari_unet3d.network.model import ModelCard


# A result of more bytes than this goes into a file, unless somebody says otherwise.
LARGE_BYTES = 1 << 30


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
    cluster
        The address of the cluster that computes it, or its scheduler's file; None computes it here.
    """

    model: Path
    card: ModelCard
    spec: PredictSpec
    shown_class: int = 1
    path: Path | None = None
    is_view: bool = False
    weights_sha256: str = ""
    cluster: str | None = None

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
    def only_class(self) -> int | None:
        """Return the class whose probability is kept; None where it is labels."""
        return self.shown_class if self.spec.output == "probabilities" else None

    @property
    def shows_classes(self) -> bool:
        """Return whether the layer holds class indices, neither probabilities nor numbers of objects."""
        return self.spec.output != "probabilities" and not self.has_instances

    @property
    def has_instances(self) -> bool:
        """Return whether objects get numbers."""
        return self.spec.cleanup is not None and self.spec.cleanup.instances


@dataclass(frozen=True, eq=False)
class Result:
    """Where a result goes.

    Attributes
    ----------
    shown
        What the layer shows.
    arrays
        What the run writes to in this process, by name; nothing where it writes a file.
    path
        The file that the worker writes, or None.
    """

    shown: Any
    arrays: Mapping[str, npt.NDArray[Any]]
    path: Path | None = None

    @property
    def n_voxels_done(self) -> int:
        """Return how many voxels of a file that is not complete are on the disk."""
        return 0 if self.path is None else n_voxels_done(self.path)

    def finish(self) -> None:
        """Show a file in its place, now that the worker has put it there."""
        if self.path is not None:
            self.shown.finish()

    def give_up(self) -> None:
        """Show nothing of a file that is not complete any more, so that another run may begin it."""
        if self.path is not None:
            self.shown.give_up()


def make_result(chosen: LayerVolume, choices: Choices) -> Result:
    """Return what takes the result of a run over a volume; a file that exists is replaced when it is complete.

    Raises
    ------
    OutputError
        If a file cannot be written there.
    """
    spec, region = choices.spec, choices.region(chosen.shape)
    if choices.path is None:
        arrays = {RESULT: np.zeros(region.shape, spec.dtype)}
        if spec.cleanup is not None:
            arrays[SCRATCH] = np.zeros(region.shape, np.uint8)
        return Result(arrays[RESULT], arrays)
    volume = with_calibration(chosen.volume, calibration_of(chosen))
    found = describe_output(volume, spec, choices.card, choices.path, overwrite=True, only_class=choices.only_class)
    result, evidence = work_paths(found.target)
    if spec.cleanup is None:
        return Result(BeingWritten(found, result), {}, found.target)
    # The result is made at the end; what it is made from tells the classes meanwhile.
    return Result(BeingWritten(found, evidence, evident_classes), {}, found.target)


def calibration_of(chosen: LayerVolume) -> ImageCalibration:
    """Return what the window knows of the voxels of a volume, which a person may have typed."""
    z, y, x = (float(n) for n in chosen.space.translate)
    volume = chosen.volume
    return ImageCalibration(voxel_size=volume.voxel_size, translate=(z, y, x), unit=volume.unit)


def beside_bytes(chosen: LayerVolume, choices: Choices, device: Device) -> int:
    """Return what of the memory of a run the worker takes to read the volume and to write the result, in bytes."""
    memory = choices.spec.memory_bytes
    if device.is_gpu or not memory:
        return 0
    # What lies only in the window is read and written there.
    source = None if chosen.on_disk is None else chosen.volume.data
    shape = choices.region(chosen.shape).shape
    writing = 0 if choices.path is None else place_bytes(choices.path, shape, choices.spec)
    return share_memory(source, Writing(writing), memory)


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
    needed = result_bytes(choices, shape)
    if choices.path is None and needed > free_bytes // 2:
        raise OutputError(
            f"The result takes {needed / 2**30:,.1f} GiB of memory, and {free_bytes / 2**30:,.1f} GiB are free. Save "
            "it to a file, or segment a region."
        )


def result_bytes(choices: Choices, shape: tuple[int, int, int]) -> int:
    """Return the memory that a result takes, with the evidence of clean-up, for a volume of `shape` (z, y, x)."""
    each = np.dtype(choices.spec.dtype).itemsize + (choices.spec.cleanup is not None)
    return choices.region(shape).n_voxels * each


def propose_path(chosen: LayerVolume, choices: Choices) -> Path | None:
    """Return a file for a result that is large, beside the image if that can be, which does not exist; None otherwise.

    Parameters
    ----------
    chosen
        The volume.
    choices
        How it is segmented.
    """
    if result_bytes(choices, chosen.shape) <= LARGE_BYTES:
        return None
    folders = [last_folder()]
    if chosen.on_disk is not None:
        folders.insert(0, Path(chosen.on_disk.path).parent)
    folder = next((folder for folder in folders if os.access(folder, os.W_OK)), folders[-1])
    name = f"{file_name(chosen.volume.name)} segmented"
    names = (f"{name}{'' if n == 1 else f' {n}'}.zarr" for n in count(1))
    return next(folder / free for free in names if not os.path.lexists(folder / free))


def check_cluster(chosen: LayerVolume, choices: Choices) -> None:
    """Check before Start that a cluster can segment it: its workers read and write files.

    Raises
    ------
    OutputError
        If it cannot; the message says what to do.
    """
    if choices.cluster is None:
        return
    if chosen.file is None:
        raise OutputError("The workers of a cluster read files: choose an image that lies on a disk that they see.")
    if choices.path is None or choices.path.suffix.lower() != ".zarr":
        raise OutputError("The workers of a cluster write one .zarr: choose it with Save to...")


@dataclass(frozen=True)
class BegunFile:
    """What a run that was stopped or killed has left beside the file of a result.

    Attributes
    ----------
    share
        Which share of its region is done.
    can_go_on
        Whether it had the same choices.
    """

    share: float = 0.0
    can_go_on: bool = False

    @property
    def sentence(self) -> str:
        """Return what there is to say of one that cannot go on, or nothing."""
        if not self.share or self.can_go_on:
            return ""
        return f"A run into this file that was stopped ({self.share:.0%} done) had other choices; Start begins again."


def find_begun(chosen: LayerVolume, choices: Choices) -> BegunFile:
    """Return what was begun of the file that the result of a volume goes to."""
    if choices.path is None:
        return BegunFile()
    known = calibration_of(chosen).known
    asked = Asked(choices.spec, choices.only_class, choices.weights_sha256, chosen.shape, known)
    begun = look_at_begun(choices.path.absolute(), asked)
    return BegunFile() if begun is None else BegunFile(begun.share, not begun.changes)


def check_path(chosen: LayerVolume, choices: Choices) -> str:
    """Check the file of a result before Start, and return what there is to say of it.

    Raises
    ------
    OutputError
        If a result cannot be written there.
    """
    if choices.path is None:
        return ""
    check_apart_from(chosen, choices.path)
    check_place(choices.path, overwrite=True)
    if os.path.lexists(choices.path):
        return f"{shown(choices.path.name)} exists; Start asks before it is replaced."
    return ""

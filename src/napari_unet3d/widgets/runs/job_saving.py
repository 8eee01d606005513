"""Saving what Start would do as a file, for `napari-unet3d run`: here tonight, or on a cluster.

What lies only in the window, such as what was painted, is written beside it, and so is the model, which may be trained
on meanwhile.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet3d.errors import OutputError, shown
from napari_unet3d.network.store import SUFFIX
from napari_unet3d.tasks.jobs.files import JobFile, write_job
from napari_unet3d.tasks.jobs.segment import SegmentJob
from napari_unet3d.tasks.jobs.train import TrainJob
from napari_unet3d.tasks.on_disk import OnDisk
from napari_unet3d.widgets.layers.volumes import LayerVolume, labels_like
from napari_unet3d.widgets.layers.writers import write_volume
from napari_unet3d.widgets.runs.results import calibration_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtWidgets import QWidget

    from napari_unet3d.tasks.specs import PredictSpec
    from napari_unet3d.tasks.train.spec import TrainSpec
    from napari_unet3d.widgets.runs.pairs import Pair
    from napari_unet3d.widgets.runs.results import Choices

_SUFFIX = ".json"


def ask_where(parent: QWidget, name: str) -> Path | None:
    """Ask for the file of a job; None if the user thinks better of it."""
    from qtpy.QtWidgets import QFileDialog

    path, _ = QFileDialog.getSaveFileName(parent, "Save as a job", f"{name}{_SUFFIX}", f"Job (*{_SUFFIX})")
    if not path:
        return None
    return Path(path) if path.lower().endswith(_SUFFIX) else Path(path + _SUFFIX)


def save_segment_job(path: Path, chosen: LayerVolume, choices: Choices, spec: PredictSpec) -> str:
    """Write what Segment would do, replacing the file, and return a sentence on it.

    Parameters
    ----------
    path
        The file, `.json`.
    chosen
        The volume.
    choices
        The model, and where the result goes.
    spec
        How; without the memory of this machine.

    Raises
    ------
    OutputError
        If something cannot be written there.
    """
    beside = _Beside(path)
    job = SegmentJob(
        model=beside.model(choices.model),
        weights_sha256=choices.weights_sha256 or None,
        spec=spec,
        image=beside.place(chosen, "image"),
    )
    calibration = None if chosen.on_disk is None else calibration_of(chosen)
    return beside.write(JobFile(job=job, output=choices.path, calibration=calibration))


def save_train_job(path: Path, pairs: Sequence[Pair], spec: TrainSpec, start: Path | None) -> str:
    """Write what Train would do, replacing the file, and return a sentence on it.

    Parameters
    ----------
    path
        The file, `.json`; the run folder lies beside it, under its name.
    pairs
        What is learnt from.
    spec
        How; on whichever device there is then.
    start
        The model folder to start from.

    Raises
    ------
    Unet3dError
        If something cannot be written there, or the labels do not lie on the voxels of their image.
    """
    beside = _Beside(path)
    places = [
        pair.place().model_copy(
            update={
                "image": beside.place(pair.image, "image"),
                "labels": beside.place(labels_like(pair.labels, pair.image), "labels"),
            }
        )
        for pair in pairs
    ]
    folder = beside.path.with_suffix("")
    model = None if start is None else beside.model(start)
    return beside.write(
        JobFile(job=TrainJob(spec=spec.changed(device="auto"), pairs=tuple(places), folder=folder, start=model))
    )


class _Beside:
    """Writes what has no file of its own beside a job, once each."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._written: dict[int, OnDisk] = {}
        self._n: Counter[str] = Counter()
        self._names: list[str] = []

    def place(self, found: LayerVolume, what: str) -> OnDisk:
        """Return where a volume lies, after it was written if it lay nowhere."""
        if found.on_disk is not None:
            return found.on_disk
        if id(found.source) not in self._written:
            self._n[what] += 1
            number = f"-{self._n[what]}" if self._n[what] > 1 else ""
            target = self.path.with_name(f"{self.path.stem}-{what}{number}.ome.tif")
            self._written[id(found.source)] = OnDisk(path=write_volume(str(target), found))
        return self._written[id(found.source)]

    def model(self, path: Path) -> Path:
        """Return where the model lies, after it was copied."""
        target = self.path.with_name(f"{self.path.stem}-model{SUFFIX}")
        if path.resolve() == target:
            return target
        try:
            shutil.copytree(path, target, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise OutputError(f"The model {shown(path)} cannot be copied to {shown(target)}: {error}.") from error
        self._names.append(target.name)
        return target

    def write(self, file: JobFile) -> str:
        """Write the job, and return a sentence on what there is."""
        path = write_job(file, self.path, overwrite=True)
        names = [*self._names, *(Path(place.path).name for place in self._written.values())]
        beside = f", with {' and '.join(names)}" if names else ""
        return f"Saved{beside}: {shown(path)}"

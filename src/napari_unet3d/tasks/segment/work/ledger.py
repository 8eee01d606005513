"""What a segmentation has done, kept beside its result: a run that was stopped or killed goes on from there.

Beside `labels.zarr` lies the folder `labels.zarr.unfinished`, until the result is complete. It holds what is written so
far, how the run was begun (`run.json`), and a line for each tile that is done (`done.txt`). A line is written after the
voxels have reached the disk, so what the ledger says is there survives the process and a power cut.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, ValidationError

from napari_unet3d import atomic
from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.normalize import sample_voxels
from napari_unet3d.core.tiles.coverage import Coverage, DoneTiles
from napari_unet3d.core.tiles.plan import Readable, TilePlan
from napari_unet3d.errors import OutputError, shown
from napari_unet3d.small_files import read_small
from napari_unet3d.tasks.run_lock import LOCK_FILE, RunLock
from napari_unet3d.tasks.segment.measuring import Measured
from napari_unet3d.tasks.specs import HOW, PredictSpec, Spec, differences
from napari_unet3d.volumes.space.calibration import Calibration

SUFFIX = ".unfinished"
_HEAD, _DONE = "run.json", "done.txt"
# Enough to tell two volumes apart, and read in a second.
_PRINTED_VOXELS = 1 << 20
_Positive = Annotated[int, Field(gt=0)]


class VolumePrint(Spec):
    """What tells a volume from others: its voxels, of which a sample is looked at, and where they lie in space."""

    shape: tuple[int, ...]
    dtype: str
    sample_sha256: str
    voxel_size: tuple[float, float, float]
    unit: str
    translate: tuple[float, float, float]


class LedgerHead(Spec):
    """How a run was begun.

    Attributes
    ----------
    software
        The version that began it.
    spec
        The choices for the run.
    model
        `Model.fingerprint`.
    volume
        What is segmented.
    measured
        What was found for the whole volume.
    input_shape
        Input shape (z, y, x) of its tiles, by whose grid the result is stored.
    only_class
        Of the probabilities, those of this class alone are kept; None keeps them all.
    weights_sha256
        Of the file of the weights, where it is known: to be compared without reading a model.
    """

    format: Literal["napari-unet3d segmentation"] = "napari-unet3d segmentation"
    format_version: Literal[1] = 1
    software: str
    spec: PredictSpec
    model: str
    volume: VolumePrint
    measured: Measured
    input_shape: tuple[_Positive, _Positive, _Positive]
    only_class: int | None = None
    weights_sha256: str | None = None

    def changes(self, spec: PredictSpec, model: str, volume: VolumePrint, only_class: int | None = None) -> list[str]:
        """Return in what a run that would go on differs, as parts of a sentence."""
        found = differences(self.spec, spec, but=HOW)
        if only_class != self.only_class:
            found.append("other classes have their probabilities kept")
        if model != self.model:
            found.append("the model has changed")
        if volume != self.volume:
            names = differences(self.volume, volume, but=("sample_sha256",))
            found.append(f"the volume has changed ({'; '.join(names) or 'other voxels'})")
        return found


def print_volume(
    voxels: Readable,
    voxel_size: tuple[float, float, float],
    unit: str,
    translate: tuple[float, float, float],
) -> VolumePrint:
    """Return what tells a volume from others; reads a sample of it.

    Parameters
    ----------
    voxels
        (z, y, x) or (z, y, x, c).
    voxel_size, unit, translate
        As in `Volume`.
    """
    sample = np.ascontiguousarray(sample_voxels(voxels, _PRINTED_VOXELS))
    return VolumePrint(
        shape=tuple(voxels.shape),
        dtype=sample.dtype.name,
        sample_sha256=hashlib.sha256(sample.data).hexdigest(),
        voxel_size=voxel_size,
        unit=unit,
        translate=translate,
    )


class Ledger:
    """The folder of a run that is not finished; a context manager that holds it for this process alone.

    At the end of the block a folder in which nothing is done is removed, and so is one whose run was finished.

    Parameters
    ----------
    target
        Where the result will be.

    Raises
    ------
    OutputError
        If a run is using it, or the folder cannot be made.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = folder_of(target)
        self._lock = RunLock(self.folder, OutputError)
        self._file: int | None = None
        self._done: dict[Shape, list[Box]] = {}
        self._covered: Coverage | None = None

    def __enter__(self) -> Self:
        with atomic.writing(self.target, 0):
            self.folder.mkdir(exist_ok=True)
            self._lock.take()
            self._done, end = _read_done(self.folder / _DONE)
            if (done := self.folder / _DONE).exists():
                # The last line may be cut off, where a process or the power went.
                os.truncate(done, end)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        # Somebody may have removed or moved the folder meanwhile.
        with suppress(OSError):
            if not self._done:
                self.clear()
        self._lock.release()
        with suppress(OSError):  # it is not empty
            self.folder.rmdir()

    @property
    def result(self) -> Path:
        """Return where the result lies until it is complete."""
        return work_paths(self.target)[0]

    @property
    def evidence(self) -> Path:
        """Return where clean-up keeps its evidence."""
        return work_paths(self.target)[1]

    @property
    def done(self) -> tuple[DoneTiles, ...]:
        """Return the tiles that are done."""
        return tuple(DoneTiles(shape, tuple(boxes)) for shape, boxes in self._done.items())

    def covers(self, plan: TilePlan, box: Box) -> bool:
        """Return whether all of a box is done, in voxels of the volume; `plan` is one over the same region."""
        if self._covered is None:
            self._covered = Coverage()
            for tiles in self.done:
                self._covered.mark_all(plan, tiles)
        return self._covered.covers(box)

    def __len__(self) -> int:
        return sum(map(len, self._done.values()))

    def head(self) -> LedgerHead:
        """Return how the run was begun.

        Raises
        ------
        OutputError
            If that cannot be read any more.
        """
        try:
            return LedgerHead.model_validate_json(read_small(self.folder / _HEAD))
        except (OSError, ValidationError) as error:
            raise OutputError(
                f"{shown(self.folder)} does not say any more how its run was begun. Begin again (--overwrite)."
            ) from error

    def check(self, spec: PredictSpec, model: str, volume: VolumePrint, only_class: int | None = None) -> LedgerHead:
        """Return how the run was begun, if it may go on.

        Raises
        ------
        OutputError
            If something differs; the sentence says what.
        """
        head = self.head()
        if changes := head.changes(spec, model, volume, only_class):
            raise OutputError(
                f"The run in {shown(self.folder)} was begun differently: {'; '.join(changes)}. "
                "Go on as it was begun, or begin again (--overwrite)."
            )
        return head

    def begin(self, head: LedgerHead) -> None:
        """Write down how the run begins; what was there before is removed."""
        self.clear()
        atomic.write_text(self.folder / _HEAD, head.model_dump_json(indent=2) + "\n")

    def record(self, input_shape: Shape, box: Box) -> None:
        """Write down that a tile is done; its voxels are on the disk already.

        Parameters
        ----------
        input_shape
            Of the tile.
        box
            What it wrote, in voxels of the result.
        """
        numbers = " ".join(str(number) for number in (*input_shape, *(n for interval in box for n in interval)))
        with atomic.writing(self.target, 0):
            if self._file is None:
                self._file = os.open(self.folder / _DONE, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
                atomic.sync_folder(self.folder)
            os.write(self._file, _line(numbers))
            os.fsync(self._file)
        self._done.setdefault(input_shape, []).append(box)
        self._covered = None

    def clear(self) -> None:
        """Remove all that was done; the folder is still held."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._done, self._covered = {}, None
        # First what says that something is done.
        for name in (_DONE, *(entry.name for entry in self.folder.iterdir() if entry.name not in (_DONE, LOCK_FILE))):
            atomic.remove(self.folder / name)


def folder_of(target: Path) -> Path:
    """Return where the work for a result lies until it is complete."""
    return target.with_name(f"{target.name}{SUFFIX}")


def boxes_done(target: Path) -> list[Box]:
    """Return what of a result that is not complete is done, in its voxels, by what lies beside it."""
    return [box for boxes in _read_done(folder_of(target) / _DONE)[0].values() for box in boxes]


def n_done(target: Path) -> int:
    """Return how many tiles of a result that is not complete are done."""
    return len(boxes_done(target))


def n_voxels_done(target: Path) -> int:
    """Return how many voxels of a result that is not complete are done."""
    return sum(box.n_voxels for box in boxes_done(target))


@dataclass(frozen=True)
class Begun:
    """What a run that was stopped or killed has left beside its result.

    Attributes
    ----------
    share
        Which share of its region is done, in [0, 1].
    changes
        In what the run differs from the one that is asked for, as parts of a sentence.
    """

    share: float
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What is asked for, as far as it is known without reading the volume and the model.

    Attributes
    ----------
    spec, only_class
        As in `LedgerHead`.
    weights_sha256
        Of the model; empty where it is not known.
    shape
        (z, y, x) of the volume.
    calibration
        Of the volume.
    """

    spec: PredictSpec
    only_class: int | None
    weights_sha256: str
    shape: Shape
    calibration: Calibration

    def changes(self, head: LedgerHead) -> list[str]:
        """Return in what a run that was begun differs, as parts of a sentence."""
        known, volume = self.calibration, head.volume
        found = head.changes(self.spec, head.model, volume, self.only_class)
        if self.weights_sha256 and head.weights_sha256 not in (None, self.weights_sha256):
            found.append("the model has changed")
        ours = (self.shape, known.voxel_size, known.unit, known.translate)
        if ours != (tuple(volume.shape[:3]), volume.voxel_size, volume.unit, volume.translate):
            found.append("the volume has changed")
        return found


def look_at_begun(target: Path, asked: Asked) -> Begun | None:
    """Return what was begun of a result; None where nothing is done. Asked again and again it reads nothing again."""
    try:
        found = os.stat(folder_of(target) / _DONE)
    except OSError:
        return None
    voxels, head = _read_begun(target, found.st_mtime_ns, found.st_size)
    if not voxels:
        return None
    z, y, x = asked.shape if head is None else head.volume.shape[:3]
    region = (asked.spec if head is None else head.spec).region or Box.whole((z, y, x))
    changes = ("it was begun by another version",) if head is None else tuple(asked.changes(head))
    # Tiles of a later, smaller plan may have written some voxels once more.
    return Begun(min(1.0, voxels / region.n_voxels), changes)


@lru_cache(maxsize=8)
def _read_begun(target: Path, modified: int, size: int) -> tuple[int, LedgerHead | None]:
    voxels = n_voxels_done(target)
    try:
        return voxels, LedgerHead.model_validate_json(read_small(folder_of(target) / _HEAD))
    except (OSError, ValidationError):
        return voxels, None


def is_in_use(target: Path) -> bool:
    """Return whether a run is writing a result now."""
    folder = folder_of(target)
    if not (folder / LOCK_FILE).exists():
        return False
    lock = RunLock(folder, OutputError)
    try:
        lock.take()
    except (OutputError, OSError):
        return True
    lock.release()
    return False


def work_paths(target: Path) -> tuple[Path, Path]:
    """Return where a result lies until it is complete, and where clean-up keeps its evidence meanwhile."""
    folder = folder_of(target)
    return folder / f"result{target.suffix.lower()}", folder / "evidence.zarr"


def discard_work(target: Path) -> None:
    """Remove what a run that was stopped has done; what a run is using stays."""
    if folder_of(target).is_dir():
        with suppress(OutputError), Ledger(target) as ledger:
            ledger.clear()


def list_unfinished(folder: Path) -> list[tuple[Path, int]]:
    """Return the results in a folder that are not complete, each with how many of its tiles are done."""
    targets = sorted(found.with_name(found.name.removesuffix(SUFFIX)) for found in folder.glob(f"*{SUFFIX}"))
    return [(target, n) for target in targets if (n := n_done(target))]


def _line(numbers: str) -> bytes:
    return f"{numbers} {zlib.crc32(numbers.encode()):08x}\n".encode()


def _read_done(path: Path) -> tuple[dict[Shape, list[Box]], int]:
    """Return what is recorded, and where the last whole line ends."""
    found: dict[Shape, list[Box]] = {}
    end = 0
    content = path.read_bytes() if path.exists() else b""
    for line in content.splitlines(keepends=True):
        text = line.decode("ascii", "replace").rpartition(" ")[0]
        numbers = text.split()
        if line != _line(text) or len(numbers) != 9:
            break
        z, y, x, *ends = map(int, numbers)
        found.setdefault((z, y, x), []).append(Box((ends[0], ends[1]), (ends[2], ends[3]), (ends[4], ends[5])))
        end += len(line)
    return found, end

"""The job of segmenting a volume."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.objects.table import ObjectTable
from napari_unet3d.core.tiles.coverage import DoneTiles
from napari_unet3d.errors import SpecError, VolumeError
from napari_unet3d.tasks.chosen_model import load_chosen
from napari_unet3d.tasks.events import Event, Note
from napari_unet3d.tasks.jobs.base import Arrays, FileJob, FileOptions
from napari_unet3d.tasks.jobs.places import IMAGE, ImageCalibration, open_image, open_readable, with_calibration
from napari_unet3d.tasks.on_disk import OnDisk
from napari_unet3d.tasks.segment.blocks import BlockComputer, BlockSource
from napari_unet3d.tasks.segment.files import FileRun, predict_file, segment_file
from napari_unet3d.tasks.segment.object_files import write_table
from napari_unet3d.tasks.segment.output_place import one_class
from napari_unet3d.tasks.segment.predict import PredictResult, Sinks
from napari_unet3d.tasks.segment.segmenting import segment_into
from napari_unet3d.tasks.specs import PathOnDisk, PredictSpec, Spec
from napari_unet3d.volumes import Volume
from napari_unet3d.volumes.space.calibration import UNCALIBRATED

if TYPE_CHECKING:
    from napari_unet3d.network.model import Model

RESULT, SCRATCH = "result", "scratch"


class SegmentResult(Spec):
    """What a segmentation took; see `PredictResult`."""

    kind: Literal["segment"] = "segment"
    input_shape: Shape
    seconds: float
    flops_per_second: float


class SegmentJob(FileJob):
    """Segment a volume.

    Reads the array `image`, unless `image` says where it lies on disk; writes the file `output`, or else the array
    `result` and, if it is there, `scratch`, where clean-up keeps its evidence, as `Sinks` describes them.

    Attributes
    ----------
    model
        The model folder.
    spec
        The choices for the run.
    image
        The volume on disk; None takes the array.
    focus
        The box in view, in voxels of the volume; its tiles come first.
    done
        Tiles that an earlier, stopped run has left in the arrays.
    weights_sha256
        SHA-256 of the weights that the model must have; None takes any.
    only_class
        Keep the probabilities of this class alone, (z, y, x); None keeps those of all classes.
    output
        The file of the result; None writes to the arrays. What is done of it is kept in a `Ledger`.
    calibration
        Of the image, instead of what its file says.
    overwrite, resume
        Replace what is there; go on with a run that was stopped.
    table
        A CSV file for what is known of each numbered object, which is replaced; None writes none.
    cluster
        The address of the Dask cluster that computes it, or the JSON file that its scheduler has written; None computes
        it where the job is done.
    """

    kind: Literal["segment"] = "segment"
    model: PathOnDisk
    weights_sha256: str | None = None
    spec: PredictSpec = PredictSpec()
    image: OnDisk | None = None
    focus: Box | None = None
    done: tuple[DoneTiles, ...] = ()
    only_class: int | None = None
    output: PathOnDisk | None = None
    calibration: ImageCalibration | None = None
    overwrite: bool = False
    resume: bool = False
    table: PathOnDisk | None = None
    cluster: str | None = None

    @model_validator(mode="after")
    def _cluster_writes_files(self) -> SegmentJob:
        if self.cluster is not None and (self.image is None or self.output is None):
            raise ValueError("a cluster reads and writes files: image and output")
        return self

    def perform(self, arrays: Arrays, computer: BlockComputer | None = None) -> Generator[Event, None, SegmentResult]:
        """Segment it; see `segment_file` and `segment_into`."""
        model = load_chosen(self.model, self.weights_sha256)
        run = self._into_arrays(model, arrays) if self.output is None else self._into_file(model, arrays, computer)
        result = yield from run
        return SegmentResult(
            input_shape=result.plan.input_shape, seconds=result.seconds, flops_per_second=result.flops_per_second
        )

    def _into_arrays(self, model: Model, arrays: Arrays) -> Generator[Event, None, PredictResult]:
        volume = open_readable(self.image, IMAGE, arrays)
        if volume is None:
            raise VolumeError("There is no image to segment.")
        result = one_class(arrays[RESULT], self.only_class, model.spec.classes)
        table = None if self.table is None else ObjectTable(model.spec.classes)
        sinks = Sinks(result, arrays.get(SCRATCH), table=table)
        found = yield from segment_into(volume, model, self.spec, sinks, focus=self.focus, done=self.done)
        if self.table is not None and table is not None:
            region = self.spec.region or Box.whole((volume.shape[0], volume.shape[1], volume.shape[2]))
            known = UNCALIBRATED if self.calibration is None else self.calibration.known
            placed = known.moved([start for start, _ in region])
            write_table(self.table, table, placed, model.card.class_names, overwrite=True)
        return found

    def _into_file(
        self, model: Model, arrays: Arrays, computer: BlockComputer | None
    ) -> Generator[Event, None, PredictResult]:
        from napari_unet3d.network.store import read_card

        if self.output is None or (self.cluster is not None and computer is None):
            raise ValueError("there is no file, or nobody reaches the cluster")
        if self.image is not None:
            volume = open_image(self.image, self.calibration)
        elif (data := arrays.get(IMAGE)) is not None:
            volume = with_calibration(Volume(data), self.calibration)
        else:
            raise VolumeError("There is no image to segment.")
        model.check_channels(volume.n_channels)
        run = FileRun(
            self.output,
            overwrite=self.overwrite,
            resume=self.resume,
            table=self.table,
            only_class=self.only_class,
            focus=self.focus,
            weights_sha256=read_card(self.model)[1],
        )
        return segment_file(volume, model, self.spec, run, source=self._source(), computer=computer)

    def _source(self) -> BlockSource | None:
        from napari_unet3d.network.store import read_card

        return None if self.image is None else BlockSource(self.image, self.model, read_card(self.model)[1])

    @property
    def is_on_disk(self) -> bool:
        """Return whether its image lies on disk."""
        return self.image is not None

    def run(self, output: Path, options: FileOptions) -> Generator[Event, None, PredictResult]:
        """Segment it into a file; see `predict_file`."""
        if options.force:
            raise SpecError("A segmentation that was begun differently does not go on: --force is for training.")
        if self.image is None:
            raise VolumeError("The job does not say where its image lies.")
        image = open_image(self.image, options.calibration)
        model = load_chosen(self.model, self.weights_sha256)
        yield from map(Note, dict.fromkeys(image.notes))
        run = predict_file(
            image,
            model,
            self.spec,
            output,
            overwrite=options.overwrite,
            resume=options.resume,
            source=self._source(),
            computer=options.computer,
        )
        return (yield from run)

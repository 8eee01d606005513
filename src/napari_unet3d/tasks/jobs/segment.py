"""The job of segmenting a volume."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Literal

from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.tiles.coverage import DoneTiles
from napari_unet3d.errors import SpecError, VolumeError
from napari_unet3d.tasks.chosen_model import load_chosen
from napari_unet3d.tasks.events import Event, Note
from napari_unet3d.tasks.jobs.base import Arrays, FileJob, FileOptions
from napari_unet3d.tasks.jobs.places import IMAGE, open_image, open_readable
from napari_unet3d.tasks.on_disk import OnDisk
from napari_unet3d.tasks.segment.blocks import BlockSource
from napari_unet3d.tasks.segment.files import predict_file, segment_to
from napari_unet3d.tasks.segment.output_place import OutputPlace, one_class
from napari_unet3d.tasks.segment.predict import PredictResult, Sinks
from napari_unet3d.tasks.segment.segmenting import segment_into
from napari_unet3d.tasks.specs import PathOnDisk, PredictSpec, Spec

RESULT, SCRATCH = "result", "scratch"


class SegmentResult(Spec):
    """What a segmentation took; see `PredictResult`."""

    kind: Literal["segment"] = "segment"
    input_shape: Shape
    seconds: float
    flops_per_second: float


class SegmentJob(FileJob):
    """Segment a volume.

    Reads the array `image`, unless `image` says where it lies on disk; writes the file of `output`, or else the array
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
        Tiles that an earlier, stopped run has left in the arrays or in the file.
    weights_sha256
        SHA-256 of the weights that the model must have; None takes any.
    output
        Where the job writes its result; None writes to the arrays.
    only_class
        Keep the probabilities of this class alone, (z, y, x); None keeps those of all classes.
    """

    kind: Literal["segment"] = "segment"
    model: PathOnDisk
    weights_sha256: str | None = None
    spec: PredictSpec = PredictSpec()
    image: OnDisk | None = None
    focus: Box | None = None
    done: tuple[DoneTiles, ...] = ()
    output: OutputPlace | None = None
    only_class: int | None = None

    def perform(self, arrays: Arrays) -> Generator[Event, None, SegmentResult]:
        """Segment it; see `segment_to` and `segment_into`."""
        model = load_chosen(self.model, self.weights_sha256)
        volume = open_readable(self.image, IMAGE, arrays)
        if volume is None:
            raise VolumeError("There is no image to segment.")
        if self.output is not None:
            run = segment_to(
                volume,
                model,
                self.spec,
                self.output,
                only_class=self.only_class,
                focus=self.focus,
                done=self.done,
            )
        else:
            sinks = Sinks(one_class(arrays[RESULT], self.only_class, model.spec.classes), arrays.get(SCRATCH))
            run = segment_into(volume, model, self.spec, sinks, focus=self.focus, done=self.done)
        result = yield from run
        return SegmentResult(
            input_shape=result.plan.input_shape, seconds=result.seconds, flops_per_second=result.flops_per_second
        )

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
        from napari_unet3d.network.store import read_card

        image = open_image(self.image, options.calibration)
        model = load_chosen(self.model, self.weights_sha256)
        yield from map(Note, dict.fromkeys(image.notes))
        source = BlockSource(self.image, self.model, read_card(self.model)[1])
        run = predict_file(
            image,
            model,
            self.spec,
            output,
            overwrite=options.overwrite,
            resume=options.resume,
            source=source,
            computer=options.computer,
        )
        return (yield from run)

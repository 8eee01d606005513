"""The command `train`: from what was typed to a run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from napari_unet3d.cli.choices import three
from napari_unet3d.cli.reading import Axes, Channel, SamePlace, Series, Timepoint, read_image, read_labels
from napari_unet3d.cli.terminal import say_notes
from napari_unet3d.errors import SpecError, TrainingError

if TYPE_CHECKING:
    from napari_unet3d.core.annotation.meanings import Meanings
    from napari_unet3d.core.normalize import Normalization
    from napari_unet3d.tasks.events import Event
    from napari_unet3d.tasks.train.annotation import Annotation
    from napari_unet3d.tasks.train.choosing import TrainChoices
    from napari_unet3d.tasks.train.kept.run_folder import RunFolder, RunRecord
    from napari_unet3d.tasks.train.spec import TrainSpec
    from napari_unet3d.tasks.train.training import TrainResult
    from napari_unet3d.volumes import Volume

_NETWORK = ("blocks", "flat_levels", "filters", "dropout", "batch_normalization")


def train(
    image: Annotated[
        list[str], typer.Option("--image", metavar="IMAGE", help="A volume to learn from; pass it once for each pair.")
    ],
    labels: Annotated[
        list[str], typer.Option("--labels", metavar="LABELS", help="The annotation of that volume; once for each pair.")
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="RUN", help="The folder of the run: models, history, checkpoint.")
    ],
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="0=ignore,1=background,2=axon",
            help="What the values mean; * stands for every other value. By default a complete mask of 0 and 1.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="A kind of microscopy, or 'as the original'; an unknown name lists them."),
    ] = None,
    choices: Annotated[
        Path | None,
        typer.Option("--augment", metavar="FILE.json", help="Augmentation choices for the patches, as JSON."),
    ] = None,
    blocks: Annotated[
        int | None,
        typer.Option(min=0, max=5, help="Number of downsample blocks, by default what suits the annotation."),
    ] = None,
    flat_levels: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=6,
            help="Number of top levels that leave z alone, for painted or thick slices; by default what suits.",
        ),
    ] = None,
    filters: Annotated[int | None, typer.Option(min=1, max=256, help="Channels after the first convolution.")] = None,
    dropout: Annotated[
        float | None, typer.Option(min=0, max=1, help="Dropout in the bottleneck, by default 0.2.")
    ] = None,
    batch_normalization: Annotated[
        bool | None,
        typer.Option("--batch-normalization/--no-batch-normalization", help="Normalize after every convolution."),
    ] = None,
    patch: Annotated[
        str | None, typer.Option(metavar="N or Z,Y,X", help="Size of the patch that goes into the network, in voxels.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Patches per step, by default 1.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Largest number of steps, by default 1000.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed for weights, dropout and patches.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Highest learning rate; it rises to this value and then decays.")
    ] = None,
    schedule: Annotated[
        Literal["cosine", "constant"] | None, typer.Option(help="Course of the learning rate after the warm-up.")
    ] = None,
    warm_up: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of the steps in which the learning rate rises, from 0 to 1."),
    ] = None,
    optimizer: Annotated[
        Literal["muon", "adam"] | None, typer.Option(help="What makes steps of gradients, by default muon.")
    ] = None,
    clip_norm: Annotated[float | None, typer.Option(help="Scale gradients down to this norm.")] = None,
    averaging: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the averaged weights that a step keeps; 0: no average.")
    ] = None,
    class_weights: Annotated[
        str | None,
        typer.Option(metavar="W0,W1,..|none", help="Weight of a voxel in the cross-entropy, for each class."),
    ] = None,
    cross_entropy_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the cross-entropy in the loss; the rest is soft Dice.")
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="auto|none|Z0:Z1,Y0:Y1,X0:X1",
            help="The part to hold out; 2@Z0:Z1,.. is a box of the second image; separate several with a semicolon.",
        ),
    ] = None,
    validate_every: Annotated[int | None, typer.Option(min=1, help="Steps between scores and checkpoints.")] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many scores without a better one.")
    ] = None,
    normalization: Annotated[
        str | None,
        typer.Option(
            metavar="none|percentiles|zscore|background",
            help="How intensities are scaled, by default background. With options: percentiles:low=0,high=100.",
        ),
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", metavar="MODEL", help="A model to start from; its network is kept.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="The device that computes: auto, cpu, gpu, gpu:1, ..")] = None,
    axes: Axes = None,
    series: Series = None,
    channel: Channel = None,
    timepoint: Timepoint = None,
    same_place: SamePlace = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Resume even if choices or data have changed, or parts of the run are lost."),
    ] = False,
) -> None:
    """Train a network on what is painted. Ctrl-C stops it and keeps everything; --resume goes on."""
    from napari_unet3d.cli.training_report import follow_training

    read = [
        (read_image(one, axes, series, channel, timepoint), read_labels(painted, axes, timepoint))
        for one, painted in _pairs(image, labels)
    ]
    begun = training_run(
        read,
        output,
        same_place=same_place,
        classes=classes,
        start=start,
        resume=resume,
        force=force,
        typed={
            "preset": preset,
            "augment": choices,
            "blocks": blocks,
            "flat_levels": flat_levels,
            "filters": filters,
            "dropout": dropout,
            "batch_normalization": batch_normalization,
            "patch": patch,
            "batch": batch,
            "steps": steps,
            "seed": seed,
            "learning_rate": learning_rate,
            "schedule": schedule,
            "warm_up": warm_up,
            "optimizer": optimizer,
            "clip_norm": clip_norm,
            "averaging": averaging,
            "cross_entropy_share": cross_entropy_share,
            "class_weights": class_weights,
            "validation": validation,
            "validate_every": validate_every,
            "patience": patience,
            "normalization": normalization,
            "device": device,
        },
    )
    follow_training(begun, output)


def _pairs(images: Sequence[str], labels: Sequence[str]) -> list[tuple[str, str]]:
    if len(images) != len(labels):
        raise SpecError(f"--image was passed {len(images)} times and --labels {len(labels)} times; they are pairs.")
    return list(zip(images, labels, strict=True))


def training_run(
    volumes: Sequence[tuple[Volume, Volume]],
    output: Path,
    *,
    same_place: bool,
    classes: str | None,
    start: Path | None,
    resume: bool,
    force: bool,
    typed: dict[str, Any],
) -> Generator[Event, None, TrainResult]:
    """Return the run that was asked for: what is painted is read once, the rest is chosen to suit it."""
    from napari_unet3d.network.store import load_model
    from napari_unet3d.tasks.segment.files import notes_on_numbers
    from napari_unet3d.tasks.train.annotation import read_annotation
    from napari_unet3d.tasks.train.files import train_files, training_pair
    from napari_unet3d.tasks.train.kept.run_folder import RunFolder

    for image, painted in volumes:
        # Labels whose voxel size is not known have that of their image.
        theirs = painted.notes if painted.calibration.has_unit else notes_on_numbers(painted)
        say_notes(tuple(dict.fromkeys((*image.notes, *theirs))))
    record = _read_record(RunFolder(output), force=force) if resume else None
    meanings, is_assumed = _meanings(classes, record, len(volumes))
    annotation = read_annotation(
        [training_pair(*pair, meant, same_place=same_place) for pair, meant in zip(volumes, meanings, strict=True)],
        is_assumed=is_assumed,
    )
    if is_assumed:
        say_notes(("Taken for a complete mask: 0 is background, 1 is object. If not, say what they mean: --classes.",))
    model = None if start is None else load_model(start)
    spec = _spec(typed, annotation, None if record is None else record.spec, None if model is None else model.card)
    return train_files(spec, annotation, output, start=model, resume=resume, force=force)


def _meanings(classes: str | None, record: RunRecord | None, n: int) -> tuple[Sequence[Meanings], bool]:
    """Return what the values of each pair mean, as typed or from the run that goes on, and whether it is assumed."""
    from napari_unet3d.core.annotation.meanings import meanings_from
    from napari_unet3d.tasks.train.annotation import ASSUMED

    if classes is not None:
        return [meanings_from(classes)] * n, False
    if record is not None and len(record.labels) == n:
        return [labels.meanings for labels in record.labels], False
    return [ASSUMED] * n, True


def _read_record(folder: RunFolder, *, force: bool) -> RunRecord | None:
    """Return what a run was begun with; None if that is lost and it is forced to go on with what was typed."""
    try:
        return folder.record()
    except TrainingError:
        if force and folder.has_run:
            return None
        raise


def _spec(typed: dict[str, Any], annotation: Annotation, base: TrainSpec | None, card: Any) -> TrainSpec:
    """Return the choices: what was typed, then what the run was begun with, then what suits the annotation."""
    from pydantic import ValidationError

    from napari_unet3d.tasks.specs import why_invalid
    from napari_unet3d.tasks.train.choosing import choose_spec

    shapes = [pair.image.shape[:3] for pair in annotation.pairs]
    try:
        choices = train_choices(typed, shapes)
        if card is not None and base is None and choices.network:
            raise SpecError(
                "--from keeps the network of its model; --blocks, --flat-levels, --filters, --dropout and "
                "--batch-normalization contradict it."
            )
        return choose_spec(annotation.painted, choices, card=card, base=base)
    except ValidationError as error:
        first = error.errors()[0]
        where = ", ".join(f"--{part}".replace("_", "-") for part in first["loc"][:1] if isinstance(part, str))
        reason = why_invalid(error)
        raise SpecError(f"{where}: {reason}." if where else f"{reason[0].upper()}{reason[1:]}.") from error


def train_choices(typed: dict[str, Any], shapes: Sequence[tuple[int, ...]]) -> TrainChoices:
    """Return what was chosen, from what was typed; `shapes` are those of the images."""
    from napari_unet3d.tasks.augment.files import read_choices
    from napari_unet3d.tasks.train.choosing import TrainChoices

    given = {name: value for name, value in typed.items() if value is not None}
    preset = given.pop("preset", None)
    network = {name: given.pop(name) for name in _NETWORK if name in given}
    read: dict[str, Callable[[Any], Any]] = {
        "augment": read_choices,
        "patch": lambda text: three(text, "--patch", lowest=1),
        "class_weights": lambda text: None if text == "none" else _numbers(text, "--class-weights"),
        "normalization": _normalization,
        "validation": lambda text: _validation(text, shapes),
    }
    given |= {name: read[name](given[name]) for name in read if name in given}
    return TrainChoices(preset, network, given)


def _validation(text: str, shapes: Sequence[tuple[int, ...]]) -> Any:
    from napari_unet3d.core.boxes import Box
    from napari_unet3d.tasks.train.spec import HeldOutBox

    if text in ("auto", "none"):
        return text
    found = []
    for part in text.split(";"):
        number, at, box = part.rpartition("@")
        if at and number not in map(str, range(1, len(shapes) + 1)):
            raise SpecError(f"--validation {part!r}: there is no image {number!r}; there are {len(shapes)}.")
        pair = int(number) - 1 if at else 0
        z, y, x = shapes[pair][:3]
        found.append(HeldOutBox(pair=pair, box=Box.parse(box, (z, y, x))))
    return tuple(found)


def _normalization(text: str) -> Normalization:
    """Return what `percentiles` or `percentiles:low=0,high=100` says."""
    from pydantic import ValidationError

    from napari_unet3d.core.normalize import Normalization
    from napari_unet3d.tasks.specs import why_invalid

    kind, _, rest = text.partition(":")
    parameters: dict[str, Any] = dict(part.partition("=")[::2] for part in rest.split(",") if part)
    try:
        # Where nobody says, the data do.
        spread = {"spread": None} if kind == "background" else {}
        return Normalization(**(spread | parameters | {"kind": kind}))
    except ValidationError as error:
        raise SpecError(f"--normalization {text!r}: {why_invalid(error)}.") from error


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise SpecError(f"{option} {text!r} is not a list of numbers. Example: 1,5.") from None

"""The command `train`: from what was typed to a run."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from napari_unet3d.cli.choices import three
from napari_unet3d.cli.reading import Axes, Channel, SamePlace, Series, Timepoint, read_image, read_labels
from napari_unet3d.cli.terminal import say_notes
from napari_unet3d.errors import SpecError, TrainingError

if TYPE_CHECKING:
    from napari_unet3d.tasks.events import Event
    from napari_unet3d.tasks.run_folder import RunFolder
    from napari_unet3d.tasks.train import TrainResult
    from napari_unet3d.tasks.train_spec import TrainSpec
    from napari_unet3d.tasks.training_data import TrainingPair
    from napari_unet3d.volumes import Volume

_NETWORK = ("blocks", "filters", "dropout", "batch_normalization")


def train(
    image: Annotated[list[str], typer.Option("--image", metavar="IMAGE", help="A volume; once for each pair.")],
    labels: Annotated[list[str], typer.Option("--labels", metavar="LABELS", help="What is painted in it, likewise.")],
    output: Annotated[
        Path, typer.Option("--output", metavar="RUN", help="The folder of the run: models, history, checkpoint.")
    ],
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="0=ignore,1=background,2=axon",
            help="What the values mean; * is every other one. By default a complete mask of 0 and 1.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="A kind of microscopy, or 'as the original'; an unknown name lists them."),
    ] = None,
    choices: Annotated[
        Path | None, typer.Option("--augment", metavar="FILE.json", help="What may be done to patches, as JSON.")
    ] = None,
    blocks: Annotated[int | None, typer.Option(min=0, max=5, help="Downsample blocks, by default 2.")] = None,
    filters: Annotated[int | None, typer.Option(min=1, max=256, help="Channels after the first convolution.")] = None,
    dropout: Annotated[float | None, typer.Option(min=0, max=0.9, help="In the bottleneck, by default 0.2.")] = None,
    batch_normalization: Annotated[
        bool | None, typer.Option("--batch-normalization/--no-batch-normalization", help="After every convolution.")
    ] = None,
    patch: Annotated[
        str | None, typer.Option(metavar="N or Z,Y,X", help="What goes into the network at a time.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Patches per step, by default 1.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="At most, by default 1000.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed for weights, dropout and patches.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest; it warms up to it and decays.")] = None,
    class_weights: Annotated[
        str | None, typer.Option(metavar="W0,W1,..", help="Weight of a voxel by its class, in the cross-entropy.")
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="auto|none|Z0:Z1,Y0:Y1,X0:X1",
            help="What is held out; 2@Z0:Z1,.. is a box of the second image, and ; parts several.",
        ),
    ] = None,
    validate_every: Annotated[int | None, typer.Option(min=1, help="Steps between scores and checkpoints.")] = None,
    patience: Annotated[int | None, typer.Option(min=1, help="Scores without a better one that end the run.")] = None,
    normalization: Annotated[
        Literal["none", "percentiles", "zscore", "background"] | None,
        typer.Option(help="From intensities to the network's units, by default background."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", metavar="MODEL", help="A model to start from; its network is kept.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, gpu, gpu:1, ..")] = None,
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
    """Train a network on what is painted. Ctrl-C stops it and keeps all; --resume goes on."""
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
            "filters": filters,
            "dropout": dropout,
            "batch_normalization": batch_normalization,
            "patch": patch,
            "batch": batch,
            "steps": steps,
            "seed": seed,
            "learning_rate": learning_rate,
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
    """Return the run that was asked for."""
    from napari_unet3d.core.annotation import add_counts
    from napari_unet3d.network.store import load_model
    from napari_unet3d.tasks.files import notes_on_numbers
    from napari_unet3d.tasks.recipes import guessed_meanings, meanings_from
    from napari_unet3d.tasks.run_folder import RunFolder
    from napari_unet3d.tasks.train_files import train_files, training_pair, values_of

    for image, painted in volumes:
        # Labels whose voxel size is not known have that of their image.
        theirs = painted.notes if painted.calibration.has_unit else notes_on_numbers(painted)
        say_notes(tuple(dict.fromkeys((*image.notes, *theirs))))
    if classes is None:
        counts: dict[int, int] = {}
        for _, painted in volumes:
            counts = add_counts(counts, values_of(painted))
        meanings = guessed_meanings(counts)
    else:
        meanings = meanings_from(classes)
    pairs = [training_pair(image, painted, meanings, same_place=same_place) for image, painted in volumes]
    model = None if start is None else load_model(start)
    known = _known(RunFolder(output), force=force) if resume else None
    spec = _spec(typed, pairs, known, None if model is None else model.card)
    return train_files(spec, pairs, output, start=model, resume=resume, force=force)


def _known(folder: RunFolder, *, force: bool) -> TrainSpec | None:
    """Return what a run was begun with; None if that is lost and it is forced to go on with what was typed."""
    try:
        return folder.record().spec
    except TrainingError:
        if force and folder.has_run:
            return None
        raise


def _spec(typed: dict[str, Any], pairs: Sequence[TrainingPair], known: TrainSpec | None, card: Any) -> TrainSpec:
    """Return the choices: what was typed, then what the run was begun with, then what suits the annotation."""
    from pydantic import ValidationError

    from napari_unet3d.core.architecture import NetworkSpec
    from napari_unet3d.core.normalize import Normalization
    from napari_unet3d.tasks.augment_files import read_choices
    from napari_unet3d.tasks.recipes import FINE_TUNING_RATE, recipe
    from napari_unet3d.tasks.train_spec import TrainSpec
    from napari_unet3d.tasks.training_data import targets_of

    given = {name: value for name, value in typed.items() if value is not None}
    preset, augment = given.pop("preset", None), given.pop("augment", None)
    network = {name: given.pop(name) for name in _NETWORK if name in given}
    channels = pairs[0].image.shape[3] if len(pairs[0].image.shape) == 4 else 1
    names = pairs[0].meanings.class_names
    base: dict[str, Any]
    try:
        if known is not None:
            base = {name: getattr(known, name) for name in TrainSpec.model_fields}
            base["network"] = NetworkSpec(**(known.network.model_dump() | network | {"channels": channels}))
        else:
            if card is not None:
                if network:
                    raise SpecError(
                        "--from keeps the network of its model; --blocks, --filters, --dropout and "
                        "--batch-normalization contradict it."
                    )
                network = card.network.model_dump()
            chosen = NetworkSpec(**(network | {"classes": len(names), "channels": channels}))
            targets = [targets_of(pair) for pair in pairs]
            base = recipe(preset, chosen, targets, pairs[0].voxel_size) | {"network": chosen}
            if card is not None:
                base |= {"normalization": card.normalization, "learning_rate": FINE_TUNING_RATE}
        base["class_names"] = names
        if augment is not None:
            base["augment"] = read_choices(augment)
        if "patch" in given:
            given["patch"] = three(given["patch"], "--patch", lowest=1)
        if "class_weights" in given:
            given["class_weights"] = _numbers(given["class_weights"], "--class-weights")
        if "normalization" in given:
            given["normalization"] = Normalization(kind=given["normalization"])
        if "validation" in given:
            given["validation"] = _validation(given["validation"], pairs)
        return TrainSpec(**(base | given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ", ".join(f"--{part}".replace("_", "-") for part in first["loc"][:1] if isinstance(part, str))
        reason = first["msg"].removeprefix("Value error, ")
        raise SpecError(f"{where}: {reason}." if where else f"{reason[0].upper()}{reason[1:]}.") from error


def _validation(text: str, pairs: Sequence[TrainingPair]) -> Any:
    from napari_unet3d.core.boxes import Box
    from napari_unet3d.tasks.train_spec import HeldOutBox

    if text in ("auto", "none"):
        return text
    found = []
    for part in text.split(";"):
        number, at, box = part.rpartition("@")
        if at and number not in map(str, range(1, len(pairs) + 1)):
            raise SpecError(f"--validation {part!r}: there is no image {number!r}; there are {len(pairs)}.")
        pair = int(number) - 1 if at else 0
        z, y, x = pairs[pair].image.shape[:3]
        found.append(HeldOutBox(pair=pair, box=Box.parse(box, (z, y, x))))
    return tuple(found)


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise SpecError(f"{option} {text!r} is not a list of numbers; 1,5 would be.") from None

"""The command `augment`: one augmented patch, as training makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_unet3d.cli.options import Blocks, FlatLevels
from napari_unet3d.cli.reading import Axes, Channel, SamePlace, Series, Timepoint, read_image, read_labels
from napari_unet3d.cli.report import augment_text, finish
from napari_unet3d.cli.terminal import say, say_notes


def augment(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The volume, as for predict.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            metavar="OUT",
            help="File for the patch: .tif, .ome.tif or .zarr; its labels and record are written beside it.",
        ),
    ],
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="LABELS", help="Labels of the same box, to be deformed like the image."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=(1 << 63) - 1,
            help="Random seed of the patch, by default 0; training takes the seeds in their order.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Augmentation preset, by default what suits the voxel size; an unknown name lists them."),
    ] = None,
    choices: Annotated[
        Path | None,
        typer.Option("--spec", metavar="FILE.json", help="Augmentation choices as JSON, instead of a preset."),
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(metavar="RECORD.json", help="Make the patch of a record again.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="N or Z,Y,X",
            help="Size of the patch that goes into the network, in voxels; by default 220.",
        ),
    ] = None,
    blocks: Blocks = 2,
    flat_levels: FlatLevels = 0,
    at: Annotated[
        str | None,
        typer.Option(metavar="Z,Y,X", help="First voxel of the patch; by default drawn at random."),
    ] = None,
    normalization: Annotated[
        Literal["none", "percentiles", "zscore", "background"],
        typer.Option(help="How intensities are scaled to the network's units, which gain and noise are given in."),
    ] = "background",
    axes: Axes = None,
    series: Series = None,
    channel: Channel = None,
    timepoint: Timepoint = None,
    same_place: SamePlace = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files if they exist.")] = False,
) -> None:
    """Write one augmented patch, its labels and the record of what was done, as training does it to its patches."""
    from napari_unet3d.cli.choices import augment_request
    from napari_unet3d.core.unet.layers import levels_of
    from napari_unet3d.core.unet.spec import NetworkSpec
    from napari_unet3d.tasks.augment.files import augment_files
    from napari_unet3d.volumes.space.places import in_one_place

    volume = read_image(image, axes, series, channel, timepoint)
    mask = None if labels is None else read_labels(labels, axes, timepoint)
    if mask is not None:
        volume, mask = in_one_place(volume, mask, same_place=same_place)
        say_notes(mask.notes)
    request = augment_request(
        volume,
        preset=preset,
        choices=choices,
        replay=replay,
        seed=seed,
        size=size,
        geometry=NetworkSpec(levels=levels_of(blocks, flat=flat_levels)).geometry,
        at=at,
        normalization=normalization,
    )
    say_notes(volume.notes)
    result = finish(augment_files(volume, mask, request, output, overwrite=overwrite), output)
    say(augment_text(output, result))

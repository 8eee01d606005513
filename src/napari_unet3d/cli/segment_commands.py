"""The commands `plan` and `predict`: how a volume would be segmented, and its segmentation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_unet3d.cli.choices import open_cluster, predict_spec
from napari_unet3d.cli.options import (
    AsJson,
    BlockSeconds,
    Cluster,
    DeviceName,
    Mask,
    Memory,
    ModelPath,
    PrecisionName,
    Region,
    SkipBelow,
    VolumePath,
    Workers,
)
from napari_unet3d.cli.reading import Axes, Channel, Series, Timepoint, read_image
from napari_unet3d.cli.report import follow, plan_facts, plan_text
from napari_unet3d.cli.terminal import say, say_notes


def plan(
    volume: VolumePath,
    model: ModelPath,
    memory: Memory = None,
    region: Region = None,
    skip_below: SkipBelow = None,
    mask: Mask = None,
    axes: Axes = None,
    series: Series = None,
    channel: Channel = None,
    timepoint: Timepoint = None,
    device: DeviceName = "auto",
    precision: PrecisionName = "float32",
    as_json: AsJson = False,
) -> None:
    """Show how a volume would be cut into tiles, and what that costs."""
    from napari_unet3d.core.tiles.where import Cells, Where
    from napari_unet3d.network.machine.devices import select_device
    from napari_unet3d.network.store import load_model
    from napari_unet3d.tasks.driving import drive
    from napari_unet3d.tasks.segment.looking import look_where
    from napari_unet3d.tasks.segment.segmenting import plan_prediction
    from napari_unet3d.tasks.speeds import known_speed

    image = read_image(volume, axes, series, channel, timepoint)
    loaded = load_model(model)
    loaded.check_channels(image.n_channels)
    spec = predict_spec(
        image.shape,
        region=region,
        memory=memory,
        device=device,
        precision=precision,
        skip_below=skip_below,
        mask=mask,
    )
    chosen = select_device(device, precision)
    tiles = plan_prediction(image.shape, loaded, spec, chosen, volume=image.data)
    speed = known_speed(chosen.label, loaded.spec, tiles.tile_flops)
    where = Where([Cells.unpack(packed) for packed in drive(look_where(image.data, spec, tiles))])
    skipped = where.n_skipped(tiles)
    if as_json:
        say(json.dumps(plan_facts(tiles, speed, skipped), indent=2))
        return
    say_notes(image.notes)
    say(plan_text(tiles, speed, chosen.label, skipped))


def predict(
    volume: VolumePath,
    model: ModelPath,
    output: Annotated[
        Path, typer.Option("--output", metavar="OUT", help="File for the result: .tif, .ome.tif or .zarr.")
    ],
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probabilities of all classes.")
    ] = False,
    clean_up: Annotated[
        bool, typer.Option("--clean-up", help="Apply a hysteresis threshold, then remove small components.")
    ] = False,
    high: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Clean-up: keep an object only if some voxel is above this probability, by default 0.98.",
        ),
    ] = None,
    low: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Clean-up: grow it to all connected voxels above this probability, by default 0.2."
        ),
    ] = None,
    min_voxels: Annotated[
        int | None, typer.Option(min=0, help="Clean-up: remove components with fewer voxels, by default 2000.")
    ] = None,
    connectivity: Annotated[
        int | None,
        typer.Option(help="Clean-up, instances: number of neighbours of a voxel, 6, 18 or 26; by default 6."),
    ] = None,
    instances: Annotated[bool, typer.Option("--instances", help="Number the connected components.")] = False,
    table: Annotated[
        Path | None,
        typer.Option(
            "--table",
            metavar="OBJECTS.csv",
            help="Instances: write a table with the class, volume, centroid and box of each component.",
        ),
    ] = None,
    region: Region = None,
    memory: Memory = None,
    tile: Annotated[
        str | None,
        typer.Option(
            metavar="N or Z,Y,X",
            help="Size of the tile that goes into the network, in voxels; by default what fits best.",
        ),
    ] = None,
    first_result: Annotated[
        float | None,
        typer.Option(
            "--first-result",
            metavar="SECONDS",
            help="Take smaller tiles, so that the first is there after so many seconds, for at most 15 % more work.",
        ),
    ] = None,
    prior: Annotated[
        str,
        typer.Option(
            metavar="volume|training|A,B,..",
            help="How frequent each class is: as a sample of the volume shows, as in what the model has learnt, "
            "or one share for each class.",
        ),
    ] = "volume",
    skip_below: SkipBelow = None,
    mask: Mask = None,
    emphasis: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS=N,..", help="Find more of a class: each 1 doubles its odds. Below 0 it finds less."
        ),
    ] = None,
    device: DeviceName = "auto",
    precision: PrecisionName = "float32",
    axes: Axes = None,
    series: Series = None,
    channel: Channel = None,
    timepoint: Timepoint = None,
    nonfinite: Annotated[
        Literal["refuse", "background"],
        typer.Option(help="Refuse a volume with NaN or infinity, or read such voxels as background."),
    ] = "refuse",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the output if it exists; do not go on with a stopped run.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was stopped or killed, if there is one.")
    ] = False,
    workers: Workers = None,
    cluster: Cluster = None,
    block_seconds: BlockSeconds = None,
) -> None:
    """Segment a volume. The result appears whole or not at all; what is done is kept if the run is stopped."""
    from napari_unet3d.network.store import load_model, read_card
    from napari_unet3d.tasks.on_disk import OnDisk
    from napari_unet3d.tasks.segment.blocks import BlockSource
    from napari_unet3d.tasks.segment.files import predict_file

    image = read_image(volume, axes, series, channel, timepoint)
    loaded = load_model(model)
    spec = predict_spec(
        image.shape,
        probabilities=probabilities,
        clean_up=clean_up,
        high=high,
        low=low,
        min_voxels=min_voxels,
        connectivity=connectivity,
        instances=instances,
        region=region,
        memory=memory,
        tile=tile,
        prior=prior,
        emphasis=emphasis,
        skip_below=skip_below,
        mask=mask,
        class_names=loaded.card.class_names,
        device=device,
        precision=precision,
        nonfinite=nonfinite,
        first_result=first_result,
    )
    say_notes(image.notes)
    place = OnDisk(path=volume, axes=axes, dataset=series, channel=channel, timepoint=timepoint)
    with open_cluster(workers, cluster, block_seconds, device) as computer:
        source = None if computer is None else BlockSource(place, model.absolute(), read_card(model)[1])
        again = {"overwrite": overwrite, "resume": resume}
        begun = predict_file(image, loaded, spec, output, table=table, source=source, computer=computer, **again)
        follow(begun, output)

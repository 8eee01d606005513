"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
VolumePath = Annotated[
    str,
    typer.Argument(
        metavar="VOLUME",
        help="A TIFF, a folder of slices, a sample folder with image/, file.h5:/dataset, or a Zarr.",
    ),
]
ModelPath = Annotated[Path, typer.Option("--model", metavar="MODEL", help="A model folder (.unet3d).")]
Memory = Annotated[
    str | None,
    typer.Option(
        help="Memory for tiles, reading and writing, such as 8GiB; by default most of what is free. "
        "The program itself takes up to 0.7 GiB more."
    ),
]
DeviceName = Annotated[str, typer.Option(help="The device that computes: auto, cpu, gpu, gpu:1, ..")]
PrecisionName = Annotated[
    Literal["float32", "bfloat16"],
    typer.Option(
        "--precision",
        help="float32 is exact. bfloat16 takes half the time where the device multiplies it itself, and changes "
        "a few labels at edges.",
    ),
]
Region = Annotated[str | None, typer.Option(metavar="Z0:Z1,Y0:Y1,X0:X1", help="The part to segment, in voxels.")]
Blocks = Annotated[int, typer.Option(min=0, max=5, help="Number of downsample blocks; there is one more pooling.")]
FlatLevels = Annotated[
    int,
    typer.Option(
        min=0, max=6, help="Number of top levels that leave z alone (kernel 1x3x3, pooling 1x2x2), for thick slices."
    ),
]
SkipBelow = Annotated[
    float | None,
    typer.Option(
        "--skip-below",
        metavar="VALUE",
        help="Look only where the volume has voxels of at least this intensity, and up to 32 voxels beside them.",
    ),
]
Mask = Annotated[
    str | None,
    typer.Option(
        "--mask", metavar="MASK", help="Look only where this volume is not 0; it may have fewer voxels than the other."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, metavar="N", help="Compute with N processes on this machine, one for each GPU."),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS or FILE",
        help="Compute on a Dask cluster: the address of its scheduler, or the JSON file that it has written.",
    ),
]
BlockSeconds = Annotated[
    float | None,
    typer.Option(
        "--block-seconds", min=1, metavar="S", help="Workers: how long a block may take before it is tried elsewhere."
    ),
]

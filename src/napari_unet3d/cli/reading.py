"""Reading the volumes that a command is given: which image of a file, which axes, channel and point in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from napari_unet3d.errors import AxesError

if TYPE_CHECKING:
    from napari_unet3d.volumes import Volume

Axes = Annotated[str | None, typer.Option(help="The axes as they lie in the file, such as zyx, zyxc or tczyx.")]
Series = Annotated[
    str | None,
    typer.Option(
        metavar="N or NAME",
        help="The image of a TIFF (counted from 0), array of an HDF5 file or Zarr, or slices, such as 'DAPI_*.tif'. "
        "It may also stand behind a colon in the path.",
    ),
]
Channel = Annotated[int | None, typer.Option(min=0, help="The channel, counted from 0; by default all channels.")]
Timepoint = Annotated[int | None, typer.Option(min=0, help="The point in time, counted from 0.")]
SamePlace = Annotated[
    bool,
    typer.Option("--same-place", help="Place the labels at the first voxel of their image, whatever the files say."),
]


def read_image(path: str, axes: str | None, series: str | None, channel: int | None, timepoint: int | None) -> Volume:
    """Return the image that a command is given."""
    from napari_unet3d.volumes import read_volume

    return read_volume(path, axes=axes, dataset=series, channel=channel, timepoint=timepoint)


def read_labels(path: str, axes: str | None, timepoint: int | None) -> Volume:
    """Return the labels of an image; where their own axes do not suffice, those given for the image hold."""
    from napari_unet3d.volumes import read_volume

    try:
        return read_volume(path, kind="labels")
    except AxesError:
        choices = [(axes, timepoint), (None, timepoint), (axes and axes.replace("c", ""), timepoint), (axes, None)]
        for letters, time in choices:
            if letters is None and time is None:
                continue
            try:
                return read_volume(path, axes=letters, timepoint=time, kind="labels")
            except AxesError:
                continue
        raise

"""Commands for models: the import of those of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_unet3d.cli.terminal import say
from napari_unet3d.errors import shown


def import_model(
    file: Annotated[Path, typer.Argument(metavar="FILE.h5", help="A network file of ExLLSM, saved by Keras 2.")],
    output: Annotated[Path, typer.Option("--output", metavar="MODEL", help="The model folder to write (.unet3d).")],
    normalization: Annotated[
        Literal["none", "percentiles", "zscore", "background"],
        typer.Option(help="How to scale intensities for this network; the file does not say."),
    ] = "none",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model if it exists.")] = False,
) -> None:
    """Import the published ExLLSM weights as a model folder; only arrays are read."""
    from napari_unet3d.core.normalize import Normalization
    from napari_unet3d.core.unet.costs import n_parameters
    from napari_unet3d.network.exchange.exllsm import import_exllsm
    from napari_unet3d.network.store import save_model

    model = import_exllsm(file, normalization=Normalization(kind=normalization))
    path = save_model(model, output, overwrite=overwrite)
    spec = model.spec
    say(
        f"{shown(path)}: {spec.shape_text}, {spec.filters} filters, {spec.classes} classes, "
        f"{n_parameters(spec):,} parameters."
    )

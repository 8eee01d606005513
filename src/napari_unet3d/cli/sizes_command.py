"""The command `sizes`: which inputs fit a network, and what they cost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_unet3d.cli.options import AsJson, Blocks, FlatLevels
from napari_unet3d.cli.terminal import say
from napari_unet3d.words import amount, per_axis, times

if TYPE_CHECKING:
    from napari_unet3d.core.unet.geometry import Geometry
    from napari_unet3d.core.unet.spec import NetworkSpec

Filters = Annotated[int, typer.Option(min=1, max=256, help="Channels after the first convolution.")]
Classes = Annotated[int, typer.Option(min=2, max=127, help="Number of classes, including the background.")]
Channels = Annotated[int, typer.Option(min=1, max=64, help="Number of channels of the image.")]


def sizes(
    blocks: Blocks = 2,
    flat_levels: FlatLevels = 0,
    filters: Filters = 8,
    classes: Classes = 2,
    channels: Channels = 1,
    maximum: Annotated[int, typer.Option("--max", max=4096, help="Largest input size, in voxels.")] = 512,
    as_json: AsJson = False,
) -> None:
    """List the input sizes that fit a network, what comes out, and what a cube of that size costs."""
    from napari_unet3d.core.unet.layers import levels_of
    from napari_unet3d.core.unet.spec import NetworkSpec

    spec = NetworkSpec(levels=levels_of(blocks, flat=flat_levels), filters=filters, classes=classes, channels=channels)
    rows = [_row(spec, n) for n in spec.geometry.valid_cubes(maximum)]
    say(json.dumps(_facts(spec, rows), indent=2) if as_json else "\n".join(_lines(spec, rows, maximum)))


def _row(spec: NetworkSpec, size: int) -> dict[str, Any]:
    from napari_unet3d.core.unet.costs import flops, peak_bytes

    cube = (size, size, size)
    return {
        "input": size,
        "output": spec.geometry.output_shape(cube),
        "gflops": round(flops(cube, spec) / 1e9, 3),
        "memory_bytes": peak_bytes(cube, spec),
    }


def _facts(spec: NetworkSpec, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return all of it for programs; what has axes is (z, y, x)."""
    from napari_unet3d.core.unet.costs import n_parameters

    return {
        "blocks": spec.blocks,
        **spec.model_dump(mode="json", include={"levels", "filters", "classes", "channels"}),
        "parameters": n_parameters(spec),
        "halo": spec.geometry.halo,
        "alignment": spec.geometry.alignment,
        "smallest": spec.geometry.smallest,
        "sizes": rows,
    }


def _lines(spec: NetworkSpec, rows: list[dict[str, Any]], maximum: int) -> list[str]:
    from napari_unet3d.core.unet.costs import n_parameters

    geometry = spec.geometry
    lines = [
        f"A network with {spec.shape_text}, {spec.filters} filters, {spec.classes} classes: "
        f"{n_parameters(spec):,} parameters.",
        f"It consumes a halo of {per_axis(geometry.halo)} voxels on each side; "
        f"tiles start at multiples of {per_axis(geometry.alignment)}.",
        *_sizes_of_axes(geometry),
        "",
    ]
    if not rows:
        return [*lines, f"No cube up to {maximum} fits; the smallest input is {times(geometry.smallest)} (z, y, x)."]
    halo, outputs = times(dict.fromkeys(geometry.halo)), [times(dict.fromkeys(row["output"])) for row in rows]
    if len(set(geometry.halo)) > 1:
        halo, outputs = times(geometry.halo), [times(row["output"]) for row in rows]
    wide, wider = max(7, *map(len, outputs)), max(5, len(halo))
    lines.append(f"{'input':>6} {'output':>{wide}} {'halo':>{wider}} {'GFLOP':>10} {'memory':>9}")
    for row, output in zip(rows, outputs, strict=True):
        memory = amount(int(row["memory_bytes"]))
        lines.append(f"{row['input']:>6} {output:>{wide}} {halo:>{wider}} {row['gflops']:>10,.1f} {memory:>9}")
    return lines


def _sizes_of_axes(geometry: Geometry) -> list[str]:
    """Return which sizes fit along each axis, where the axes differ."""
    from napari_unet3d.core.boxes import AXES

    if len(set(geometry.smallest)) == len(set(geometry.alignment)) == 1:
        return []
    axes: dict[str, list[str]] = {}
    for name, least, step in zip(AXES, geometry.smallest, geometry.alignment, strict=True):
        axes.setdefault(f"{least}, {least + step}, {least + 2 * step}, ..", []).append(name)
    return [f"Along {' and '.join(names)} these sizes fit: {sizes}" for sizes, names in axes.items()]

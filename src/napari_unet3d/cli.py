"""The command line: the same jobs as the window, for scripts, servers and people who type.

Each command imports what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from napari_unet3d.errors import SpecError, Unet3dError

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_unet3d.core.tiling import TilePlan
    from napari_unet3d.tasks.events import Event
    from napari_unet3d.tasks.predict import PredictResult
    from napari_unet3d.tasks.specs import PredictSpec

EXIT_BAD_INPUT = 3
EXIT_STOPPED = 130
_DEBUG_FLAG = "--debug"
_UNITS = {"": 1, "k": 1, "m": 2, "g": 3, "t": 4}

app = typer.Typer(
    help="3D U-Net segmentation of volumes of any size, in exact tiles.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Blocks = Annotated[int, typer.Option(min=0, max=5, help="Downsample blocks of the network; poolings are one more.")]
Filters = Annotated[int, typer.Option(min=1, max=256, help="Channels after the first convolution.")]
Classes = Annotated[int, typer.Option(min=2, max=127, help="Classes, with the background.")]
Channels = Annotated[int, typer.Option(min=1, max=64, help="Channels of the image.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
VolumePath = Annotated[
    str,
    typer.Argument(
        metavar="VOLUME",
        help="A TIFF, a folder of slices, a sample folder with image/, file.h5:/dataset, or a Zarr.",
    ),
]
ModelPath = Annotated[Path, typer.Option("--model", metavar="MODEL", help="A model folder (.unet3d).")]
Axes = Annotated[str | None, typer.Option(help="The axes as they lie in the file, such as zyx or zyxc.")]
Memory = Annotated[
    str | None, typer.Option(help="What the run may use beyond the program itself, such as 8GiB. [default: from what is free]")
]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, gpu, gpu:1, ..")]
Region = Annotated[str | None, typer.Option(metavar="Z0:Z1,Y0:Y1,X0:X1", help="The part to segment, in voxels.")]


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option(_DEBUG_FLAG, help="Show the trace of an error.")] = False,
) -> None:
    """3D U-Net segmentation of volumes of any size, in exact tiles."""


@app.command()
def info(as_json: AsJson = False) -> None:
    """Show versions, devices and memory, and what TensorFlow will use and why."""
    from napari_unet3d.network.environment import describe

    facts = describe()
    if as_json:
        _print(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        lines = value if isinstance(value, list) else [value]
        for i, line in enumerate(lines):
            _print(f"{name if not i else '':<16} {line}")


@app.command()
def sizes(
    blocks: Blocks = 2,
    filters: Filters = 8,
    classes: Classes = 2,
    channels: Channels = 1,
    maximum: Annotated[int, typer.Option("--max", help="Largest input size, in voxels.")] = 512,
    as_json: AsJson = False,
) -> None:
    """List the input sizes that fit a network, what comes out, and what a cube of that size costs."""
    from napari_unet3d.core import geometry
    from napari_unet3d.core.architecture import NetworkSpec

    spec = NetworkSpec(blocks=blocks, filters=filters, classes=classes, channels=channels)
    rows = [
        {
            "input": n,
            "output": geometry.output_size(n, blocks=blocks),
            "gflops": round(geometry.flops((n, n, n), spec) / 1e9, 3),
            "memory_bytes": geometry.peak_bytes((n, n, n), spec),
        }
        for n in geometry.valid_sizes(maximum, blocks=blocks)
    ]
    halo, step, parameters = geometry.halo(blocks), geometry.alignment(blocks), geometry.n_parameters(spec)
    if as_json:
        choices = spec.model_dump(include={"blocks", "filters", "classes", "channels"})
        _print(json.dumps({**choices, "parameters": parameters, "halo": halo, "alignment": step, "sizes": rows}, indent=2))
        return
    _print(
        f"A network with {blocks} blocks, {filters} filters, {classes} classes: {parameters:,} parameters.\n"
        f"It consumes a halo of {halo} voxels a side; tiles start at multiples of {step}.\n"
    )
    if not rows:
        _print(f"No size up to {maximum} fits; the smallest is {geometry.smallest_size(blocks)}.")
        return
    _print(f"{'input':>6} {'output':>7} {'halo':>5} {'GFLOP':>10} {'memory':>9}")
    for row in rows:
        memory = _gib(int(row["memory_bytes"]))
        _print(f"{row['input']:>6} {row['output']:>7} {halo:>5} {row['gflops']:>10,.1f} {memory:>9}")


@app.command()
def plan(
    volume: VolumePath,
    model: ModelPath,
    memory: Memory = None,
    region: Region = None,
    axes: Axes = None,
    device: DeviceName = "auto",
    as_json: AsJson = False,
) -> None:
    """Show how a volume would be cut into tiles, and what that costs."""
    from napari_unet3d.network.devices import select_device
    from napari_unet3d.network.store import load_model
    from napari_unet3d.tasks.predict import plan_prediction
    from napari_unet3d.tasks.speeds import known_speed
    from napari_unet3d.volumes import read_volume

    image = read_volume(volume, axes=axes)
    loaded = load_model(model)
    loaded.check_channels(image.n_channels)
    spec = _predict_spec(image.shape, region=region, memory=memory, device=device)
    chosen = select_device(device)
    tiles = plan_prediction(image.shape, loaded, spec, chosen)
    speed = known_speed(chosen.label, loaded.spec)
    if as_json:
        _print(json.dumps(_plan_facts(tiles, speed), indent=2))
        return
    _notes(image.notes)
    _print(_plan_text(tiles, speed, chosen.label))


@app.command()
def predict(
    volume: VolumePath,
    model: ModelPath,
    output: Annotated[Path, typer.Option("--output", metavar="OUT", help="Where the result goes: .tif, .ome.tif or .zarr.")],
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Write the probabilities of all classes.")] = False,
    clean_up: Annotated[
        bool, typer.Option("--clean-up", help="Hysteresis threshold, then removal of small components.")
    ] = False,
    high: Annotated[float, typer.Option(min=0, max=1, help="Clean-up: a component needs a voxel above this.")] = 0.98,
    low: Annotated[float, typer.Option(min=0, max=1, help="Clean-up: components are voxels above this.")] = 0.2,
    min_voxels: Annotated[int, typer.Option(min=0, help="Clean-up: smaller components are removed.")] = 2000,
    connectivity: Annotated[int, typer.Option(help="Clean-up, instances: neighbours of a voxel: 6, 18 or 26.")] = 6,
    instances: Annotated[bool, typer.Option("--instances", help="Number the connected components.")] = False,
    region: Region = None,
    memory: Memory = None,
    device: DeviceName = "auto",
    axes: Axes = None,
    nonfinite: Annotated[
        Literal["refuse", "background"], typer.Option(help="What NaN and infinity in the volume give.")
    ] = "refuse",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
) -> None:
    """Segment a volume. The result appears whole or not at all."""
    from napari_unet3d.network.store import load_model
    from napari_unet3d.tasks.files import predict_file
    from napari_unet3d.volumes import read_volume

    image = read_volume(volume, axes=axes)
    loaded = load_model(model)
    cleanup: dict[str, Any] | None = None
    if clean_up:
        cleanup = {"high": high, "low": low, "min_voxels": min_voxels}
    elif instances:
        # The components of what is more probably an object than not, none of them removed.
        cleanup = {"high": 0.5, "low": 0.5, "min_voxels": 0}
    if cleanup is not None:
        cleanup |= {"connectivity": connectivity, "instances": instances}
    spec = _predict_spec(
        image.shape,
        output="probabilities" if probabilities else "labels",
        region=region,
        memory=memory,
        device=device,
        cleanup=cleanup,
        nonfinite=nonfinite,
    )
    _notes(image.notes)
    begun = predict_file(image, loaded, spec, output, overwrite=overwrite)
    _follow(begun, output)


@app.command()
def import_model(
    file: Annotated[Path, typer.Argument(metavar="FILE.h5", help="A network of the ExLLSM lineage, saved by Keras 2.")],
    output: Annotated[Path, typer.Option("--output", metavar="MODEL", help="The model folder to write (.unet3d).")],
    normalization: Annotated[
        Literal["none", "percentiles", "zscore", "background"],
        typer.Option(help="How intensities are to be scaled for it; the file does not say."),
    ] = "none",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is there.")] = False,
) -> None:
    """Import the published ExLLSM weights as a model folder; only arrays are read."""
    from napari_unet3d.core.geometry import n_parameters
    from napari_unet3d.core.normalize import Normalization
    from napari_unet3d.network.exllsm import import_exllsm
    from napari_unet3d.network.store import save_model

    model = import_exllsm(file, normalization=Normalization(kind=normalization))
    path = save_model(model, output, overwrite=overwrite)
    spec = model.spec
    _print(
        f"{path}: {spec.blocks} blocks, {spec.filters} filters, {spec.classes} classes, {n_parameters(spec):,} parameters."
    )


@app.command()
def demo(
    output: Annotated[
        Path, typer.Option("--output", metavar="FOLDER", help="Where the results are written when there is no display.")
    ] = Path("demo-output"),
    display: Annotated[
        bool | None, typer.Option("--display/--no-display", help="Open napari. [default: if there is a display]")
    ] = None,
) -> None:
    """Segment a sample volume: in napari, or into files where there is no display."""
    from napari_unet3d.tasks.demo import run_demo

    result = run_demo(output)
    _print(result.summary)
    if display if display is not None else _has_display():
        from napari_unet3d.widgets.demo_viewer import show_demo

        show_demo(result)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit with 0 done, 2 usage, 3 bad input, 130 stopped."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Accepted anywhere, because it is typed after a command has failed.
    debug = _DEBUG_FLAG in words
    words = [word for word in words if word != _DEBUG_FLAG]
    try:
        app(words, prog_name="napari-unet3d")
    except Unet3dError as error:
        if debug:
            raise
        _print(f"error: {error}", to_error=True)
        sys.exit(EXIT_BAD_INPUT)


def _follow(events: Generator[Event, None, PredictResult], output: Path) -> None:
    """Run a segmentation to its end with a progress bar; Ctrl-C ends it and leaves nothing half-written."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from napari_unet3d.tasks.events import Note, Started, TileDone
    from napari_unet3d.tasks.events import Progress as PartDone

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console) as bar:
            part = bar.add_task("preparing", total=None)
            while True:
                event = next(events)
                match event:
                    case Started():
                        shape = " x ".join(map(str, event.input_shape))
                        bar.console.print(
                            f"{_counted(event.total, 'tile')} of {shape} voxels, {_gib(event.peak_bytes)}, on {event.device}",
                            highlight=False,
                        )
                        bar.update(part, description="segmenting", total=event.total)
                    case TileDone() | PartDone():
                        what = event.what if isinstance(event, PartDone) else "segmenting"
                        bar.update(part, description=what, completed=event.done, total=event.total)
                    case Note():
                        bar.console.print(f"note: {event.text}", highlight=False)
    except StopIteration as stop:
        result: PredictResult = stop.value
    except KeyboardInterrupt:
        events.close()
        _print("Stopped. Nothing was written; the same command starts again.", to_error=True)
        sys.exit(EXIT_STOPPED)
    speed = f"{result.flops_per_second / 1e9:.0f} GFLOP/s"
    _print(f"{output}: {_shape(result.plan.region.shape)}, {result.seconds:.1f} s, {speed}")


def _predict_spec(shape: tuple[int, int, int], **choices: Any) -> PredictSpec:
    """Return the spec of a run from what was typed."""
    from pydantic import ValidationError

    from napari_unet3d.core.boxes import Box
    from napari_unet3d.tasks.specs import PredictSpec

    region, memory = choices.pop("region"), choices.pop("memory")
    try:
        return PredictSpec(
            region=None if region is None else Box.parse(region, shape),
            memory_bytes=None if memory is None else parse_bytes(memory),
            **choices,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = " ".join(str(part) for part in first["loc"])
        raise SpecError(f"{where or 'The choices'}: {first['msg']} (passed: {first['input']!r}).") from error


def parse_bytes(text: str) -> int:
    """Return the bytes that `8GiB`, `8GB`, `8G` or `8000000000` mean; GiB and G are powers of 1024.

    Examples
    --------
    >>> parse_bytes("1GiB"), parse_bytes("1.5 GB"), parse_bytes("4096")
    (1073741824, 1500000000, 4096)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?\s*", text.lower())
    if found is None or float(found[1]) == 0:
        raise SpecError(f"{text!r} is not an amount of memory; 8GiB or 500MB would be.")
    base = 1000 if found[3] == "b" else 1024
    return int(float(found[1]) * base ** _UNITS[found[2]])


def _plan_facts(tiles: TilePlan, speed: float | None) -> dict[str, Any]:
    return {
        "shape": list(tiles.volume_shape),
        "region": str(tiles.region),
        "tiles": len(tiles),
        "tiles_zyx": list(tiles.counts),
        "input": list(tiles.input_shape),
        "output": list(tiles.output_shape),
        "gflops": round(tiles.flops / 1e9, 3),
        "gflops_over_ideal": round(tiles.flops_over_ideal, 4),
        "memory_bytes": tiles.peak_bytes,
        "seconds": None if speed is None else round(tiles.seconds(speed), 1),
    }


def _plan_text(tiles: TilePlan, speed: float | None, device: str) -> str:
    seconds = "not known before the first run here" if speed is None else f"about {tiles.seconds(speed):,.0f} s"
    return (
        f"volume   {_shape(tiles.region.shape)} voxels (z, y, x)\n"
        f"tiles    {len(tiles):,} ({_shape(tiles.counts)}) of {_shape(tiles.input_shape)}, each writing "
        f"{_shape(tiles.stride)}\n"
        f"work     {tiles.flops / 1e9:,.0f} GFLOP, {tiles.flops_over_ideal:.2f} times one pass over the whole\n"
        f"memory   {_gib(tiles.peak_bytes)}\n"
        f"time     {seconds}, on {device}"
    )


def _has_display() -> bool:
    import os

    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _notes(notes: tuple[str, ...]) -> None:
    for text in notes:
        _print(f"note: {text}", to_error=True)


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB"


def _print(text: str, *, to_error: bool = False) -> None:
    typer.echo(text, err=to_error)

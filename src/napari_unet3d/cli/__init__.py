"""The command line: the same jobs as the window, for scripts, servers and people who type.

Each command imports what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from napari_unet3d import __version__
from napari_unet3d.cli.choices import has_display, predict_spec
from napari_unet3d.cli.reading import Axes, Channel, SamePlace, Series, Timepoint, read_image, read_labels
from napari_unet3d.cli.report import EXIT_STOPPED, augment_text, finish, follow, gib, left_facts, plan_facts, plan_text
from napari_unet3d.cli.run_command import run
from napari_unet3d.cli.terminal import say, say_error, say_for_libraries, say_notes, say_unforeseen
from napari_unet3d.cli.train_command import train
from napari_unet3d.errors import SpecError, Unet3dError, shown, visible
from napari_unet3d.stopping import ignore_signals, interrupt_on_signals, is_interrupt

EXIT_UNFORESEEN, EXIT_BAD_INPUT = 1, 3
_DEBUG_FLAG = "--debug"


class _Commands(TyperGroup):
    """The commands; what typer says of their words is printed as text, and their errors are left to `main`."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (EOFError, OSError) as error:
            # Typer takes the first for Ctrl-D, and is silent about a pipe.
            raise _UnforeseenError from error
        except (KeyboardInterrupt, SystemError) as error:
            if not is_interrupt(error):
                raise
            raise _StoppedError from error
        except Exception as error:
            if isinstance(message := getattr(error, "message", None), str) and hasattr(error, "format_message"):
                error.message = visible(message)  # type: ignore[attr-defined]
            raise


class _UnforeseenError(Exception):
    """Holds an error that typer would take for something else."""


class _StoppedError(Exception):
    """Ctrl-C before there is anything to keep."""


app = typer.Typer(
    cls=_Commands,
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
Memory = Annotated[
    str | None,
    typer.Option(help="What the run may use beyond the program itself, such as 8GiB; by default most of what is free."),
]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, gpu, gpu:1, ..")]
Region = Annotated[str | None, typer.Option(metavar="Z0:Z1,Y0:Y1,X0:X1", help="The part to segment, in voxels.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        say(__version__)
        raise typer.Exit


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option(_DEBUG_FLAG, help="Show the trace of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """3D U-Net segmentation of volumes of any size, in exact tiles."""


@app.command()
def info(as_json: AsJson = False) -> None:
    """Show versions, devices and memory, and what TensorFlow will use and why."""
    from napari_unet3d.network.environment import describe

    facts = describe() | left_facts(Path.cwd())
    if as_json:
        say(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        lines = value if isinstance(value, list) else [value]
        for i, line in enumerate(lines):
            say(f"{name if not i else '':<16} {line}")


@app.command()
def sizes(
    blocks: Blocks = 2,
    filters: Filters = 8,
    classes: Classes = 2,
    channels: Channels = 1,
    maximum: Annotated[int, typer.Option("--max", max=4096, help="Largest input size, in voxels.")] = 512,
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
        say(
            json.dumps(
                {**choices, "parameters": parameters, "halo": halo, "alignment": step, "sizes": rows},
                indent=2,
            )
        )
        return
    say(
        f"A network with {blocks} blocks, {filters} filters, {classes} classes: {parameters:,} parameters.\n"
        f"It consumes a halo of {halo} voxels a side; tiles start at multiples of {step}.\n"
    )
    if not rows:
        say(f"No size up to {maximum} fits; the smallest is {geometry.smallest_size(blocks)}.")
        return
    say(f"{'input':>6} {'output':>7} {'halo':>5} {'GFLOP':>10} {'memory':>9}")
    for row in rows:
        memory = gib(int(row["memory_bytes"]))
        say(f"{row['input']:>6} {row['output']:>7} {halo:>5} {row['gflops']:>10,.1f} {memory:>9}")


@app.command()
def plan(
    volume: VolumePath,
    model: ModelPath,
    memory: Memory = None,
    region: Region = None,
    axes: Axes = None,
    series: Series = None,
    channel: Channel = None,
    timepoint: Timepoint = None,
    device: DeviceName = "auto",
    as_json: AsJson = False,
) -> None:
    """Show how a volume would be cut into tiles, and what that costs."""
    from napari_unet3d.network.devices import select_device
    from napari_unet3d.network.store import load_model
    from napari_unet3d.tasks.predict import plan_prediction
    from napari_unet3d.tasks.speeds import known_speed

    image = read_image(volume, axes, series, channel, timepoint)
    loaded = load_model(model)
    loaded.check_channels(image.n_channels)
    spec = predict_spec(image.shape, region=region, memory=memory, device=device)
    chosen = select_device(device)
    tiles = plan_prediction(image.shape, loaded, spec, chosen, volume=image.data)
    speed = known_speed(chosen.label, loaded.spec)
    if as_json:
        say(json.dumps(plan_facts(tiles, speed), indent=2))
        return
    say_notes(image.notes)
    say(plan_text(tiles, speed, chosen.label))


@app.command()
def predict(
    volume: VolumePath,
    model: ModelPath,
    output: Annotated[
        Path, typer.Option("--output", metavar="OUT", help="Where the result goes: .tif, .ome.tif or .zarr.")
    ],
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probabilities of all classes.")
    ] = False,
    clean_up: Annotated[
        bool, typer.Option("--clean-up", help="Hysteresis threshold, then removal of small components.")
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
        typer.Option(min=0, max=1, help="Clean-up: grow it to all connected voxels above this one, by default 0.2."),
    ] = None,
    min_voxels: Annotated[
        int | None, typer.Option(min=0, help="Clean-up: components with fewer are removed, by default 2000.")
    ] = None,
    connectivity: Annotated[int, typer.Option(help="Clean-up, instances: neighbours of a voxel: 6, 18 or 26.")] = 6,
    instances: Annotated[bool, typer.Option("--instances", help="Number the connected components.")] = False,
    region: Region = None,
    memory: Memory = None,
    device: DeviceName = "auto",
    axes: Axes = None,
    series: Series = None,
    channel: Channel = None,
    timepoint: Timepoint = None,
    nonfinite: Annotated[
        Literal["refuse", "background"],
        typer.Option(help="NaN and infinity: refuse, or let the network read background."),
    ] = "refuse",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
) -> None:
    """Segment a volume. The result appears whole or not at all."""
    from napari_unet3d.network.store import load_model
    from napari_unet3d.tasks.files import predict_file

    image = read_image(volume, axes, series, channel, timepoint)
    loaded = load_model(model)
    thresholds = {"high": high, "low": low, "min_voxels": min_voxels}
    given = {name: value for name, value in thresholds.items() if value is not None}
    cleanup: dict[str, Any] | None = None
    if clean_up:
        cleanup = given
    elif given:
        raise SpecError("--high, --low and --min-voxels belong to --clean-up, which was not passed.")
    elif instances:
        # The components of what is more probably an object than not, none of them removed.
        cleanup = {"high": 0.5, "low": 0.5, "min_voxels": 0}
    if cleanup is not None:
        cleanup |= {"connectivity": connectivity, "instances": instances}
    spec = predict_spec(
        image.shape,
        output="probabilities" if probabilities else "labels",
        region=region,
        memory=memory,
        device=device,
        cleanup=cleanup,
        nonfinite=nonfinite,
    )
    say_notes(image.notes)
    begun = predict_file(image, loaded, spec, output, overwrite=overwrite)
    follow(begun, output)


@app.command()
def augment(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The volume, as for predict.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            metavar="OUT",
            help="Where the patch goes: .tif, .ome.tif or .zarr; its labels and record beside it.",
        ),
    ],
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="LABELS", help="Labels of the same box, deformed alike.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=(1 << 63) - 1, help="Which patch, by default 0; training takes them in the order of their seeds."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="What may be done, by default what suits the voxel size; an unknown name lists the presets."),
    ] = None,
    choices: Annotated[
        Path | None, typer.Option("--spec", metavar="FILE.json", help="What may be done, as JSON, instead of a preset.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(metavar="RECORD.json", help="Make the patch of a record once more.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--input", metavar="N or Z,Y,X", help="What goes into the network, by default 220."),
    ] = None,
    blocks: Blocks = 2,
    at: Annotated[
        str | None,
        typer.Option(metavar="Z,Y,X", help="First voxel of the patch; by default drawn from all places."),
    ] = None,
    normalization: Annotated[
        Literal["none", "percentiles", "zscore", "background"],
        typer.Option(help="From intensities to the network's units, in which gain and noise are meant."),
    ] = "background",
    axes: Axes = None,
    series: Series = None,
    channel: Channel = None,
    timepoint: Timepoint = None,
    same_place: SamePlace = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Write one augmented patch, its labels and the record of what was done, as training does it to its patches."""
    from napari_unet3d.cli.choices import augment_request
    from napari_unet3d.tasks.augment_files import augment_files
    from napari_unet3d.volumes.places import in_one_place

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
        blocks=blocks,
        at=at,
        normalization=normalization,
    )
    say_notes(volume.notes)
    result = finish(augment_files(volume, mask, request, output, overwrite=overwrite), output)
    say(augment_text(output, result))


app.command()(train)
app.command()(run)


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
    say(
        f"{shown(path)}: {spec.blocks} blocks, {spec.filters} filters, {spec.classes} classes, "
        f"{n_parameters(spec):,} parameters."
    )


@app.command()
def demo(
    output: Annotated[
        Path,
        typer.Option("--output", metavar="FOLDER", help="Where the results are written when there is no display."),
    ] = Path("demo-output"),
    display: Annotated[
        bool | None,
        typer.Option("--display/--no-display", help="Open napari; by default if there is a display."),
    ] = None,
) -> None:
    """Open napari with a sample volume and a model, or segment it into files where there is no display."""
    if has_display() if display is None else display:
        from napari_unet3d.widgets.demo_viewer import show_demo

        show_demo()
        return
    from napari_unet3d.tasks.demo import run_demo

    say(run_demo(output).summary)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit with 0 done, 1 unexpected error, 2 usage, 3 bad input, 4 not all done, 130 stopped."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Accepted anywhere, because it is typed after a command has failed.
    debug = _DEBUG_FLAG in words
    words = [word for word in words if word != _DEBUG_FLAG]
    # What a job scheduler or a closed terminal sends ends a run as Ctrl-C does: with nothing half-written.
    interrupt_on_signals()
    say_for_libraries()
    try:
        app(words, prog_name="napari-unet3d")
    except Unet3dError as error:
        say_error(error, with_trace=debug)
        sys.exit(EXIT_BAD_INPUT)
    except (KeyboardInterrupt, _StoppedError):
        say("Stopped.", to_error=True)
        sys.exit(EXIT_STOPPED)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it is, the user gets a line and not a trace
        inner = error.__cause__ if isinstance(error, _UnforeseenError) else None
        say_unforeseen(inner or error, with_trace=debug)
        sys.exit(EXIT_UNFORESEEN)
    finally:
        if arguments is None:
            ignore_signals()

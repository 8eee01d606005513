"""The command line: the same jobs as the window, for scripts, servers and people who type.

Each command imports what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from napari_unet3d.cli.augment_command import augment
from napari_unet3d.cli.choices import has_display
from napari_unet3d.cli.info_command import info
from napari_unet3d.cli.model_commands import import_model
from napari_unet3d.cli.report import EXIT_NOT_ALL, EXIT_STOPPED
from napari_unet3d.cli.run_command import run
from napari_unet3d.cli.segment_commands import plan, predict
from napari_unet3d.cli.sizes_command import sizes
from napari_unet3d.cli.terminal import say, say_error, say_for_libraries, say_unforeseen
from napari_unet3d.cli.train_command import train
from napari_unet3d.errors import BlocksFailedError, Unet3dError, visible
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


def _show_version(wanted: bool) -> None:
    if wanted:
        from napari_unet3d import __version__

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


for _command in (info, sizes, plan, predict, augment, train, run, import_model):
    app.command()(_command)


@app.command()
def demo(
    output: Annotated[
        Path,
        typer.Option("--output", metavar="FOLDER", help="Folder for the results if there is no display."),
    ] = Path("demo-output"),
    display: Annotated[
        bool | None,
        typer.Option(
            "--display/--no-display",
            help="Open napari, or write files; by default depends on whether there is a display.",
        ),
    ] = None,
) -> None:
    """Open napari with a sample volume and a model, or segment it into files where there is no display."""
    if has_display() if display is None else display:
        from napari_unet3d.widgets.plugin.demo_viewer import show_demo

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
    except BlocksFailedError as error:
        for failure in error.failures:
            say(f"failed: {failure}", to_error=True)
        say_error(error, with_trace=debug)
        sys.exit(EXIT_NOT_ALL)
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

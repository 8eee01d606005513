"""What the command line says: tables, progress, figures with their units."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_unet3d.core.tiling import TilePlan
    from napari_unet3d.tasks.augment import AugmentResult
    from napari_unet3d.tasks.events import Event
    from napari_unet3d.tasks.predict import PredictResult

EXIT_STOPPED = 130


def say(text: str, *, to_error: bool = False) -> None:
    """Print a line, to standard error if it is no result."""
    typer.echo(text, err=to_error)


def say_notes(notes: tuple[str, ...]) -> None:
    """Print what the user should know of the input."""
    for text in notes:
        say(f"note: {text}", to_error=True)


def follow(events: Generator[Event, None, PredictResult], output: Path) -> None:
    """Run a segmentation to its end with a progress bar; Ctrl-C ends it and leaves nothing half-written."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from napari_unet3d.tasks.events import Note, Started, TileDone
    from napari_unet3d.tasks.events import Progress as PartDone

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            part = bar.add_task("preparing", total=None)
            while True:
                event = next(events)
                match event:
                    case Started():
                        tiles = f"{_counted(event.total, 'tile')} of {_shape(event.input_shape)} voxels"
                        text = f"{tiles}, {gib(event.peak_bytes)}, on {event.device}"
                        bar.console.print(text, highlight=False)
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
        say("Stopped. Nothing was written; the same command starts again.", to_error=True)
        sys.exit(EXIT_STOPPED)
    speed = f"{result.flops_per_second / 1e9:.0f} GFLOP/s"
    say(f"{output}: {_shape(result.plan.region.shape)}, {result.seconds:.1f} s, {speed}")


def finish(events: Generator[Event, None, Any]) -> Any:
    """Run short work to its end and return its result; notes are printed, Ctrl-C leaves nothing half-written."""
    from napari_unet3d.tasks.events import Note

    try:
        while True:
            if isinstance(event := next(events), Note):
                say(f"note: {event.text}", to_error=True)
    except StopIteration as stop:
        return stop.value
    except KeyboardInterrupt:
        events.close()
        say("Stopped. Nothing was written; the same command starts again.", to_error=True)
        sys.exit(EXIT_STOPPED)


def augment_text(output: Path, result: AugmentResult) -> str:
    """Return what was written, and what of it may look wrong."""
    sample, (share,) = result.samples[0], result.folded
    folded = (
        f"\nnote: the displacement folds {share:.1%} of the patch over itself; a smaller sigma would not"
        if share
        else ""
    )
    return (
        f"{output}: {_shape(sample.frame.shape)} at {','.join(map(str, sample.corner))}, seed {sample.seed}, "
        f"{result.seconds:.2f} s and {result.preparing_seconds:.1f} s to prepare{folded}"
    )


def plan_facts(tiles: TilePlan, speed: float | None) -> dict[str, Any]:
    """Return a plan for programs; `speed` in operations a second."""
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


def plan_text(tiles: TilePlan, speed: float | None, device: str) -> str:
    """Return a plan for people; `speed` in operations a second."""
    seconds = "not known before the first run here" if speed is None else f"about {tiles.seconds(speed):,.0f} s"
    return (
        f"volume   {_shape(tiles.region.shape)} voxels (z, y, x)\n"
        f"tiles    {len(tiles):,} ({_shape(tiles.counts)}) of {_shape(tiles.input_shape)}, each writing "
        f"{_shape(tuple(map(min, tiles.stride, tiles.region.shape)) if len(tiles) > 1 else tiles.region.shape)}\n"
        f"work     {tiles.flops / 1e9:,.0f} GFLOP, {tiles.flops_over_ideal:.2f} times one pass over the whole\n"
        f"memory   {gib(tiles.peak_bytes)}\n"
        f"time     {seconds}, on {device}"
    )


def gib(n_bytes: int) -> str:
    """Return an amount of memory with its unit."""
    return f"{n_bytes / 2**30:.2f} GiB"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"

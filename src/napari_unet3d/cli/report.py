"""What the command line says: tables, progress, figures with their units."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet3d.cli.terminal import Screen, say
from napari_unet3d.errors import shown
from napari_unet3d.stopping import interrupt_once, is_interrupt
from napari_unet3d.words import amount, times

if TYPE_CHECKING:
    from napari_unet3d.core.tiles.plan import TilePlan
    from napari_unet3d.tasks.augment.patches import AugmentResult
    from napari_unet3d.tasks.events import Event
    from napari_unet3d.tasks.segment.predict import PredictResult

EXIT_NOT_ALL, EXIT_STOPPED = 4, 130


def follow(events: Generator[Event, None, PredictResult], output: Path) -> None:
    """Run a segmentation to its end with a progress bar; what is done when it ends before that is kept, and said."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from napari_unet3d.tasks.driving import drive
    from napari_unet3d.tasks.events import Note, Started, TileDone
    from napari_unet3d.tasks.events import Progress as PartDone

    what = TextColumn("{task.description}", markup=False)
    columns = what, BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    begun = time.perf_counter()
    with stop_cleanly(events, output), Screen(*columns) as screen:
        part = screen.bar.add_task("preparing", total=None)

        def tell(event: Event) -> None:
            match event:
                case Started():
                    tiles = f"{_counted(event.total, 'tile')} of {times(event.input_shape)} voxels"
                    screen.say(f"{tiles}, {amount(event.peak_bytes)} and the program, on {event.device}")
                    screen.bar.update(part, description="segmenting", total=event.total)
                case TileDone() | PartDone():
                    now = event.what if isinstance(event, PartDone) else "segmenting"
                    screen.bar.update(part, description=now, completed=event.done, total=event.total)
                case Note():
                    screen.say(f"note: {event.text}")

        try:
            found = drive(events, tell)
        except Exception:
            if kept := kept_text(output):
                screen.say(kept)
            raise
    # Of tiles that others have computed the speed is not known.
    speed = f", {found.flops_per_second / 1e9:.0f} GFLOP/s" if found.flops_per_second else ""
    say(f"{shown(output)}: {times(found.plan.region.shape)}, {time.perf_counter() - begun:.1f} s{speed}")


def finish(events: Generator[Event, None, Any], output: Path) -> Any:
    """Run short work to its end and return its result; notes are printed, Ctrl-C leaves nothing half-written."""
    from napari_unet3d.tasks.driving import drive
    from napari_unet3d.tasks.events import Note

    def tell(event: Event) -> None:
        if isinstance(event, Note):
            say(f"note: {event.text}", to_error=True)

    with stop_cleanly(events, output):
        return drive(events, tell)


@contextmanager
def stop_cleanly(events: Generator[Event, None, Any], output: Path) -> Iterator[None]:
    """Let Ctrl-C, or what a job scheduler sends, end some work, and say what of it is kept.

    Parameters
    ----------
    events
        The work.
    output
        Where its result goes; a result that is complete when the signal comes stays there.
    """
    before = _identity(output)
    with interrupt_once():
        try:
            yield
        except (KeyboardInterrupt, SystemError) as error:
            if not is_interrupt(error):
                raise
            events.close()
            if _identity(output) not in (None, before):
                say(f"Stopped. The result was complete: {shown(output)}", to_error=True)
            else:
                nothing = "Nothing was written; run the same command to start again."
                say(f"Stopped. {kept_text(output) or nothing}", to_error=True)
            sys.exit(EXIT_STOPPED)


def kept_text(output: Path) -> str:
    """Return how to go on with a segmentation of which something is done; nothing if nothing is."""
    from napari_unet3d.tasks.segment.work.ledger import folder_of, n_done

    try:
        n = n_done(output)
    except OSError:
        return ""
    kept = f"{_counted(n, 'finished tile')} in {shown(folder_of(output))}"
    return f"Kept: {kept}. The same command with --resume goes on from there." if n else ""


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def augment_text(output: Path, result: AugmentResult) -> str:
    """Return what was written, and what of it may look wrong."""
    sample, (share,) = result.samples[0], result.folded
    folded = (
        f"\nnote: the displacement folds {share:.1%} of the patch over itself; use a smaller sigma" if share else ""
    )
    return (
        f"{shown(output)}: {times(sample.frame.shape)} at {','.join(map(str, sample.corner))}, seed {sample.seed}, "
        f"{result.seconds:.2f} s and {result.preparing_seconds:.1f} s to prepare{folded}"
    )


def plan_facts(tiles: TilePlan, speed: float | None, skipped: int = 0) -> dict[str, Any]:
    """Return a plan for programs; `speed` in operations per second, `skipped` tiles are not computed."""
    return {
        "shape": list(tiles.volume_shape),
        "region": str(tiles.region),
        "tiles": len(tiles),
        "tiles_skipped": skipped,
        "tiles_zyx": list(tiles.counts),
        "input": list(tiles.input_shape),
        "output": list(tiles.output_shape),
        "gflops": round(tiles.flops / 1e9, 3),
        "gflops_over_ideal": round(tiles.flops_over_ideal, 4),
        "memory_bytes": tiles.peak_bytes,
        "seconds": None if speed is None else round(_seconds(tiles, speed, skipped), 1),
    }


def _seconds(tiles: TilePlan, speed: float, skipped: int) -> float:
    return tiles.seconds(speed) * (len(tiles) - skipped) / len(tiles)


def plan_text(tiles: TilePlan, speed: float | None, device: str, skipped: int = 0) -> str:
    """Return a plan for people; `speed` in operations per second, `skipped` tiles are not computed."""
    from napari_unet3d.network.machine.devices import PROGRAM_BYTES as program

    known = speed and f"about {_seconds(tiles, speed, skipped):,.0f} s"
    seconds = known or "not known before the first run here"
    saved = f"skipped  {skipped:,} tiles without anything to look at: {skipped / len(tiles):.0%} less work\n"
    return (
        f"volume   {times(tiles.region.shape)} voxels (z, y, x)\n"
        f"tiles    {len(tiles):,} ({times(tiles.counts)}) of {times(tiles.input_shape)}, each writing "
        f"{times(tuple(map(min, tiles.stride, tiles.region.shape)) if len(tiles) > 1 else tiles.region.shape)}\n"
        f"{saved if skipped else ''}"
        f"work     {tiles.flops / 1e9:,.0f} GFLOP, {tiles.flops_over_ideal:.2f} times one pass over the whole\n"
        f"memory   {amount(tiles.peak_bytes)}, and up to {amount(program)} for the program\n"
        f"time     {seconds}, on {device}"
    )


def left_facts(folder: Path) -> dict[str, str]:
    """Return what runs that ended in mid-work have left in a folder, by name, as text; nothing if there is nothing."""
    from napari_unet3d.atomic import count_left
    from napari_unet3d.tasks.segment.work.ledger import list_unfinished

    try:
        n, n_bytes = count_left(folder)
        unfinished = list_unfinished(folder)
    except OSError:  # it may not be read
        return {}
    facts = {}
    if n:
        what = _counted(n, "unfinished file")
        facts["left here"] = (
            f"{what} of runs that were killed, {amount(n_bytes)}; the next run that writes here removes them"
        )
    if unfinished:
        names = ", ".join(f"{shown(target.name)} ({_counted(n, 'tile')} done)" for target, n in unfinished)
        facts["unfinished here"] = f"{names}; predict --resume goes on"
    return facts


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"

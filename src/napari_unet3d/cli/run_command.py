"""The command `run`: a job that the window has saved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_unet3d.cli.choices import open_cluster
from napari_unet3d.cli.options import BlockSeconds, Cluster, Workers
from napari_unet3d.cli.report import augment_text, finish, follow
from napari_unet3d.cli.terminal import say


def run(
    job: Annotated[Path, typer.Argument(metavar="JOB.json", help="A job file, written with Save as a job.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="OUT", help="File for the result; by default where the job says, or beside it."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Resume even if choices or data have changed, or parts of the run are lost."),
    ] = False,
    workers: Workers = None,
    cluster: Cluster = None,
    block_seconds: BlockSeconds = None,
) -> None:
    """Run a job saved in the window: segment, train or augment, with the same bytes."""
    from napari_unet3d.cli.training_report import follow_training
    from napari_unet3d.tasks.jobs.files import output_of, read_job, run_job
    from napari_unet3d.tasks.jobs.segment import SegmentJob

    saved = read_job(job)
    target = output_of(saved, job) if output is None else output
    device = saved.job.spec.device if isinstance(saved.job, SegmentJob) else "auto"
    with open_cluster(workers, cluster, block_seconds, device) as computer:
        begun = run_job(saved, target, overwrite=overwrite, resume=resume, force=force, computer=computer)
        match saved.job.kind:
            case "segment":
                follow(begun, target)
            case "train":
                follow_training(begun, target)
            case "augment":
                say(augment_text(target, finish(begun, target)))

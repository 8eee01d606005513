"""What a plan, a model and a run say to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet3d.core.tiles.plan import TilePlan
from napari_unet3d.errors import shown
from napari_unet3d.network.machine.devices import Device
from napari_unet3d.tasks.segment.files import voxel_size_difference
from napari_unet3d.tasks.speeds import known_speed
from napari_unet3d.tasks.train.metrics import metric_texts
from napari_unet3d.volumes import Volume
from napari_unet3d.volumes.space.calibration import UNKNOWN_UNIT
from napari_unet3d.words import amount, duration, times

if TYPE_CHECKING:
    from napari_unet3d.network.model import ModelCard
    from napari_unet3d.widgets.runs.results import Choices
    from napari_unet3d.widgets.runs.segmentation import Segmentation


def describe_plan(plan: TilePlan, device: Device) -> str:
    """Return what a run will do: tiles, memory, time, and what of that is not needed for the result."""
    n = len(plan)
    tiles = f"{n:,} tile{'s' if n > 1 else ''} of {times(plan.input_shape)} voxels"
    speed = known_speed(device.label, plan.spec, plan.tile_flops)
    time = "time not known before the first run" if speed is None else f"about {duration(plan.seconds(speed))}"
    extra = plan.flops_over_ideal - 1
    cost = f", {extra:.0%} more work than in one piece" if extra >= 0.005 else ""
    return f"{tiles}, {amount(plan.peak_bytes)}, {time} on {device.label}{cost}."


def describe_cluster(choices: Choices) -> str:
    """Return who will do a run that is handed to a cluster."""
    return f"The workers of {shown(choices.cluster or '')} segment it; their memory decides on the tiles."


def describe_progress(run: Segmentation) -> str:
    """Return how far a run is."""
    what = "slabs" if run.phase == "cleaning up" else "tiles"
    match run.state:
        case "queued":
            return f"Waiting. Runs ahead: {run.n_before}." if run.n_before else "Starting the worker .."
        case "running":
            left = "" if run.seconds_left is None else f", {duration(run.seconds_left)} left"
            if run.phase == "a first look":
                return f"First a look at what is in view{left}"
            return f"{run.phase.capitalize()}: {run.n_done:,} of {run.n_tiles:,} {what}{left}"
        case "stopping":
            return "Stopping after this tile. Stop now ends the worker and loses the tile."
        case "stopped":
            return f"Stopped: {run.share:.0%} of the region is done and kept {_kept(run)}."
        case "failed":
            return f"Not finished: {run.share:.0%} is done and kept {_kept(run)}. {run.error}"
        case "done":
            where = "" if run.choices.path is None else f" It is saved in {shown(run.choices.path)}"
            return f"Done: '{run.layer.name}'.{where}"


def _kept(run: Segmentation) -> str:
    path = run.choices.path
    return f"in '{run.layer.name}'" if path is None else f"beside {shown(path.name)}"


def describe_card(card: ModelCard) -> str:
    """Return what is known of a model, in a few lines."""
    network = card.network
    names = ", ".join(card.class_names)
    size = (
        "voxel size not known" if card.voxel_size is None else f"voxels {times(card.voxel_size)} {card.unit} (z, y, x)"
    )
    lines = [f"{network.classes} classes: {names}", f"{size}; {network.shape_text}, {network.filters} filters"]
    trained = card.training.get("data")
    if trained:
        lines.append(f"trained on {trained}")
    return "\n".join([*lines, *metric_texts(card.metrics)])


def voxel_size_warning(volume: Volume, card: ModelCard) -> str:
    """Return what is wrong with the size of the voxels for a model, as a sentence, or an empty text."""
    if card.voxel_size is not None and volume.unit == UNKNOWN_UNIT != card.unit:
        return (
            f"The voxel size of the image is not known; the model was trained on {times(card.voxel_size)} "
            f"{card.unit} (z, y, x). Set the voxel size in the tab Data."
        )
    return voxel_size_difference(volume, card) or ""

"""What the tab Sizes says of the chosen image and the tile to draw, derived from facts: no Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass

from napari_unet3d.core.boxes import Shape
from napari_unet3d.core.tiles.plan import TilePlan, plan_tiles
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import Unet3dError
from napari_unet3d.widgets.panels.sizes.text import Machine, misfits, sizes_typed
from napari_unet3d.words import times


@dataclass(frozen=True)
class Asked:
    """What was asked for: a size that was typed, a row that was selected, and what is drawn already.

    Attributes
    ----------
    typed
        The text.
    selected
        The size of the row; None where none is.
    is_drawn, leaves_volume
        A tile is drawn; a part of it lies outside of the volume.
    """

    typed: str = ""
    selected: int | None = None
    is_drawn: bool = False
    leaves_volume: bool = False


@dataclass(frozen=True)
class SizesState:
    """What is said of the chosen image, and which tile can be drawn.

    Attributes
    ----------
    plan
        The tiles of the image; None where there are none.
    problem
        Why there are none, as a sentence.
    wanted
        The input shape that Show draws, and where it comes from; None where there is none.
    hint
        What Show does, or what it needs.
    can_show, can_hide
        What can be pressed.
    """

    plan: TilePlan | None = None
    problem: str = ""
    wanted: tuple[Shape, str] | None = None
    hint: str = ""
    can_show: bool = False
    can_hide: bool = False


def resolve(volume: Shape | None, problem: str, network: NetworkSpec, machine: Machine, asked: Asked) -> SizesState:
    """Return what is shown.

    Parameters
    ----------
    volume
        Shape (z, y, x) of the chosen image; None where there is no volume.
    problem
        Why there is none, or nothing.
    network, machine
        What is asked about.
    asked
        What was typed, selected and drawn.
    """
    plan = None
    if volume is not None:
        try:
            plan, problem = _plan(volume, network, machine)
        except Unet3dError as error:
            problem = str(error)
    wanted = _wanted(network, asked, plan)
    can_show = volume is not None and wanted is not None
    return SizesState(plan, problem, wanted, _hint(volume is not None, wanted, asked), can_show, asked.is_drawn)


def _plan(volume: Shape, network: NetworkSpec, machine: Machine) -> tuple[TilePlan | None, str]:
    if machine.memory is None:
        return None, machine.whose
    return plan_tiles(volume, network, memory=machine.memory, bytes_per_value=machine.bytes_per_value), ""


def _wanted(network: NetworkSpec, asked: Asked, plan: TilePlan | None) -> tuple[Shape, str] | None:
    typed = sizes_typed(asked.typed)
    if typed is not None and not misfits(typed, network):
        return typed, "the size typed"
    if (selected := asked.selected) is not None:
        return (selected, selected, selected), "the selected row"
    return None if plan is None else (plan.input_shape, "a tile of the plan")


def _hint(has_volume: bool, wanted: tuple[Shape, str] | None, asked: Asked) -> str:
    if not has_volume:
        return "There is no volume to draw on."
    if wanted is None:
        return "Select a row, or type a size that fits."
    shape, source = wanted
    sentences = [f"Draws {source}: {times(shape)} voxels."]
    if asked.is_drawn:
        sentences.append("Orange goes in, green comes out.")
        if asked.leaves_volume:
            sentences.append("Where orange leaves the volume, the volume is continued by reflection.")
    return " ".join(sentences)

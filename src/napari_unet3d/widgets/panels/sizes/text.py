"""What input sizes and the tiles of an image say to a person, and what is known of the machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from napari_unet3d.core.boxes import AXES, Shape
from napari_unet3d.core.tiles.plan import TilePlan, plan_tiles
from napari_unet3d.core.unet.costs import n_parameters
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.tasks.speeds import known_speed
from napari_unet3d.widgets.runs.session import Session
from napari_unet3d.words import amount, duration, per_axis, times

LARGEST_SIZE = 512
HOW_TO_TRY = "Type one size in voxels, such as 220, or three for z, y and x, such as 100 220 220."
_SIZES = re.compile(r"\s*([0-9]{1,5})(?:[\s,;x*\u00d7]+([0-9]{1,5})[\s,;x*\u00d7]+([0-9]{1,5}))?\s*")
# More than this share of work beyond the ideal is said.
_NOTICED = 1.005


@dataclass(frozen=True)
class Machine:
    """What this machine can hold, and how fast it runs one network.

    Attributes
    ----------
    memory
        Bytes that a run may use; None if they are not known yet.
    whose
        Whose memory that is, to follow the amount; or a sentence that says why it is not known.
    bytes_per_value
        4 for float32, 2 for mixed precision.
    speed
        Operations per second; None before the first run.
    """

    memory: int | None
    whose: str
    bytes_per_value: int = 4
    speed: float | None = None


def machine_of(session: Session, network: NetworkSpec) -> Machine:
    """Return what is known of the machine; nothing is waited for."""
    device = session.device()
    allowed = session.preferences.memory_bytes
    memory = None if device is None else session.memory(device)
    if allowed is not None:
        limit, whose = allowed, "that the preferences allow"
    elif device is None:
        limit, whose = None, session.problem or "Asking the worker which devices there are .."
    elif memory is None:
        limit, whose = None, f"Asking {device.label} how much memory is free .."
    else:
        limit, whose = memory.usable, f"that a run may use on {device.label}"
    if device is None:
        return Machine(limit, whose)
    return Machine(limit, whose, device.bytes_per_value, known_speed(device.label, network))


@dataclass(frozen=True)
class Cost:
    """What one tile takes.

    Attributes
    ----------
    tile
        The plan of a volume that is one tile: what it takes is what a run with such tiles takes.
    flops
        Its operations.
    memory
        Bytes at the worst moment, beyond the program itself.
    """

    tile: TilePlan
    flops: int
    memory: int

    def seconds(self, speed: float) -> float:
        """Return the time for one tile at that many operations per second."""
        return self.flops / speed


def cost_of(shape: Shape, network: NetworkSpec, machine: Machine) -> Cost:
    """Return what one tile of an input `shape` that fits takes."""
    outputs = network.geometry.output_shape(shape)
    tile = plan_tiles(outputs, network, tile_shape=shape, bytes_per_value=machine.bytes_per_value)
    return Cost(tile, tile.flops, tile.peak_bytes)


def cubes(network: NetworkSpec, machine: Machine) -> tuple[Cost, ...]:
    """Return what the cubes up to `LARGEST_SIZE` that fit a network take, from small to large."""
    return _cubes(network, Machine(None, "", machine.bytes_per_value))


@lru_cache(maxsize=64)
def _cubes(network: NetworkSpec, machine: Machine) -> tuple[Cost, ...]:
    return tuple(cost_of((n, n, n), network, machine) for n in network.geometry.valid_cubes(LARGEST_SIZE))


def sizes_typed(text: str) -> Shape | None:
    """Return the (z, y, x) shape that was typed, or None if it is none.

    Examples
    --------
    >>> sizes_typed("130"), sizes_typed("100 x 220 x 220"), sizes_typed("12.5")
    ((130, 130, 130), (100, 220, 220), None)
    """
    match = _SIZES.fullmatch(text)
    if match is None:
        return None
    z, y, x = (int(part or match[1]) for part in match.groups())
    return z, y, x


def misfits(shape: Sequence[int], network: NetworkSpec) -> list[str]:
    """Return a sentence for every size that does not fit: along which axes, why, and what fits instead."""
    found: dict[str, list[str]] = {}
    for axis, n in enumerate(shape):
        reason = network.geometry.why_not(n, axis)
        if reason is not None:
            nearest = " and ".join(f"{near:,}" for near in network.geometry.nearest_sizes(n, axis))
            sentence = f"{n:,}{{}} does not fit: {reason}. Nearest that fit: {nearest}."
            found.setdefault(sentence, []).append(AXES[axis])
    return [
        sentence.format("" if len(axes) == len(AXES) else f" along {' and '.join(axes)}")
        for sentence, axes in found.items()
    ]


def describe_network(network: NetworkSpec) -> str:
    """Return the parameters of a network, what it loses, and where its tiles lie."""
    channels = "" if network.channels == 1 else f", {network.channels} channels"
    return (
        f"{n_parameters(network):,} parameters{channels}, halo {per_axis(network.geometry.halo)} voxels on each side, "
        f"tiles start at multiples of {per_axis(network.geometry.alignment)}"
    )


def describe_try(text: str, network: NetworkSpec, machine: Machine) -> str:
    """Return whether a size that was typed fits, and what it costs; empty if nothing was typed."""
    if not text.strip():
        return ""
    shape = sizes_typed(text)
    if shape is None:
        return HOW_TO_TRY
    if sentences := misfits(shape, network):
        return "\n".join(sentences)
    cost = cost_of(shape, network, machine)
    time = "" if machine.speed is None else f" and about {duration(cost.seconds(machine.speed))} per tile"
    return (
        f"{times(shape)} fits: {times(cost.tile.output_shape)} voxels come out.\n"
        f"It takes {amount(cost.memory)}{time}. {_verdict(cost, machine)}"
    )


def _verdict(cost: Cost, machine: Machine) -> str:
    if machine.memory is None:
        return machine.whose
    answer = "This machine can hold it" if cost.memory <= machine.memory else "Too much for this machine"
    return f"{answer}: {amount(machine.memory)} may be used."


def describe_sizes(network: NetworkSpec, machine: Machine) -> str:
    """Return how the table of sizes is read."""
    costs = cubes(network, machine)
    if not costs:
        smallest = per_axis(network.geometry.smallest)
        return f"No cube up to {LARGEST_SIZE} voxels fits; the smallest input is {smallest}."
    when = " Times are known after the first run here." if machine.speed is None else ""
    if machine.memory is None:
        return machine.whose + when
    there = f"{amount(machine.memory)} {machine.whose}"
    if costs[0].memory > machine.memory:
        return f"Not even the smallest fits into the {there}. Fewer filters or blocks need less."
    if costs[-1].memory <= machine.memory:
        return f"All of them fit into the {there}.{when}"
    return f"Grey: more than the {there}.{when}"


def plan_lines(plan: TilePlan, machine: Machine) -> dict[str, str]:
    """Return what the tiles of an image are and cost, by caption."""
    n = len(plan)
    ratio = plan.flops_over_ideal
    return {
        "tiles": "1, the whole in one piece" if n == 1 else f"{n:,}, that is {times(plan.counts)} along z, y, x",
        "each reads": f"{times(plan.input_shape)} voxels",
        "each returns": f"{times(plan.output_shape)} voxels",
        "memory": amount(plan.peak_bytes)
        + ("" if machine.memory is None else f" of the {amount(machine.memory)} that may be used"),
        "time": "known after the first run here"
        if machine.speed is None
        else f"about {duration(plan.seconds(machine.speed))}",
        "work": "as little as in one piece"
        if ratio < _NOTICED
        else f"{ratio:.2f} times that of one piece, as borders are computed twice",
    }

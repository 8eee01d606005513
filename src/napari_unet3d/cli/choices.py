"""From the words that were typed to the values that a run takes."""

from __future__ import annotations

import os
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from napari_unet3d.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_unet3d.core.unet.geometry import Geometry
    from napari_unet3d.tasks.augment.patches import AugmentRequest
    from napari_unet3d.tasks.segment.blocks import BlockComputer
    from napari_unet3d.tasks.specs import PredictSpec
    from napari_unet3d.volumes import Volume

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_MOST_BYTES = 1 << 62
# Voxels along an axis, wherever.
_LONGEST = 1 << 62


def predict_spec(
    shape: tuple[int, int, int],
    *,
    region: str | None = None,
    memory: str | None = None,
    tile: str | None = None,
    probabilities: bool = False,
    prior: str = "volume",
    emphasis: str | None = None,
    skip_below: float | None = None,
    mask: str | None = None,
    class_names: Sequence[str] = (),
    device: str = "auto",
    precision: str = "float32",
    nonfinite: str = "refuse",
    first_result: float | None = None,
    **cleaning: Any,
) -> PredictSpec:
    """Return the spec of a run from what was typed; `cleaning` is as for `cleanup_choices`."""
    from pydantic import ValidationError

    from napari_unet3d.core.boxes import Box
    from napari_unet3d.tasks.specs import PredictSpec, why_invalid

    choices: dict[str, Any] = {
        "output": "probabilities" if probabilities else "labels",
        "region": None if region is None else Box.parse(region, shape),
        "memory_bytes": None if memory is None else parse_bytes(memory),
        "tile_shape": None if tile is None else three(tile, "--tile", lowest=1),
        "cleanup": cleanup_choices(**cleaning),
        "prior": prior if prior in ("volume", "training") else shares(prior),
        "emphasis": () if emphasis is None else doublings(emphasis, class_names),
        "skip_below": skip_below,
        "mask": mask,
        "device": device,
        "precision": precision,
        "nonfinite": nonfinite,
        "first_result": first_result,
    }
    try:
        return PredictSpec(**choices)
    except ValidationError as error:
        first = error.errors()[0]
        reason = why_invalid(error)
        where = ", ".join(f"--{part}".replace("_", "-") for part in first["loc"] if isinstance(part, str))
        if first["type"] == "string_pattern_mismatch":
            reason = f"{first['input']!r} is none of auto, cpu, gpu, gpu:1, .."
        raise SpecError(f"{where}: {reason}." if where else f"{reason[0].upper()}{reason[1:]}.") from error


def shares(text: str) -> tuple[float, ...]:
    """Return the shares of classes that were typed, `0.9,0.1`."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise SpecError(
            f"--prior {text!r}: it is volume, training, or one share for each class, for example 0.9,0.1."
        ) from None


def doublings(text: str, class_names: Sequence[str]) -> tuple[float, ...]:
    """Return how many times the odds of each class are doubled, from `axon=1,soma=-0.5`."""
    found = dict.fromkeys(class_names, 0.0)
    for part in text.split(","):
        name, _, number = part.rpartition("=")
        if name not in found:
            raise SpecError(f"--emphasis {part!r}: there is no class {name!r}; there is {', '.join(class_names)}.")
        try:
            found[name] = float(number)
        except ValueError:
            raise SpecError(f"--emphasis {part!r}: {number!r} is no number.") from None
    return tuple(found.values())


def cleanup_choices(
    *,
    clean_up: bool = False,
    instances: bool = False,
    high: float | None = None,
    low: float | None = None,
    min_voxels: int | None = None,
    connectivity: int | None = None,
) -> dict[str, Any] | None:
    """Return what is done to labels from what was typed; None is nothing."""
    thresholds = {"high": high, "low": low, "min_voxels": min_voxels}
    given: dict[str, Any] = {name: value for name, value in thresholds.items() if value is not None}
    if given and not clean_up:
        raise SpecError("--high, --low and --min-voxels belong to --clean-up, which was not passed.")
    if not clean_up and not instances:
        if connectivity is not None:
            raise SpecError("--connectivity belongs to --clean-up and --instances; neither was passed.")
        return None
    if not clean_up:
        # The components of what is more probably an object than not, none of them removed.
        given = {"high": 0.5, "low": 0.5, "min_voxels": 0}
    return given | {"connectivity": 6 if connectivity is None else connectivity, "instances": instances}


def augment_request(
    volume: Volume,
    *,
    preset: str | None,
    choices: Path | None,
    replay: Path | None,
    seed: int | None,
    size: str | None,
    geometry: Geometry,
    at: str | None,
    normalization: Any,
) -> AugmentRequest:
    """Return which patch is wanted from what was typed."""
    from napari_unet3d.core.augment.draw import PatchFrame
    from napari_unet3d.core.augment.presets import preset as preset_named
    from napari_unet3d.core.augment.presets import suggested_preset
    from napari_unet3d.core.boxes import Box
    from napari_unet3d.core.normalize import Normalization
    from napari_unet3d.tasks.augment.files import read_choices, read_record
    from napari_unet3d.tasks.augment.patches import AugmentRequest
    from napari_unet3d.words import times

    if sum(given is not None for given in (preset, choices, replay)) > 1:
        raise SpecError("--preset, --spec and --replay exclude each other; pass one of them.")
    if replay is not None:
        record = read_record(replay)
        if at is not None or seed is not None or size is not None:
            raise SpecError("--replay makes the patch of a record again, which already holds --seed, --input and --at.")
        ours, theirs = (tuple(volume.data.shape), volume.dtype.name), (record.shape, record.dtype)
        if ours != theirs:
            raise SpecError(
                f"{volume.name or 'The image'} has {times(ours[0])} voxels, {ours[1]}; the record was made from "
                f"{times(theirs[0])}, {theirs[1]}."
            )
        return AugmentRequest(frame=record.sample.frame, scaling=record.scaling, replay=record.sample)
    shape = three(size or "220", "--input", lowest=1)
    geometry.output_shape(shape)
    frame = PatchFrame(shape=shape, halo=geometry.halo, voxel_size=volume.voxel_size)
    corner = None if at is None else three(at, "--at")
    whole = Box.whole(volume.shape)
    if corner is not None and not frame.output.shifted(corner).intersection(whole).n_voxels:
        raise SpecError(
            f"--at {at}: what the network gives would be {frame.output.shifted(corner)} (z, y, x), which lies outside "
            f"of the volume, {whole}."
        )
    return AugmentRequest(
        augment=read_choices(choices)
        if choices is not None
        else preset_named(preset or suggested_preset(volume.voxel_size)),
        frame=frame,
        seeds=(seed or 0,),
        corner=corner,
        normalization=Normalization(kind=normalization),
    )


def three(text: str, option: str, *, lowest: int | None = None) -> tuple[int, int, int]:
    """Return `z,y,x`, or one number for all three, from the text of an option."""
    parts = [part.strip() for part in text.split(",")]
    try:
        numbers = [int(part) for part in parts]
    except ValueError:
        numbers = []
    is_size = len(numbers) in (1, 3) and max(map(abs, numbers)) <= _LONGEST
    if not is_size or (lowest is not None and min(numbers) < lowest):
        raise SpecError(f"{option} {_cut(text)!r} is neither a size nor z,y,x. Examples: 220 or 100,220,220.")
    z, y, x = numbers if len(numbers) == 3 else numbers * 3
    return z, y, x


def parse_bytes(text: str) -> int:
    """Return the bytes that `8GiB`, `8GB`, `8G` or `8000000000` mean; GiB and G are powers of 1024.

    Examples
    --------
    >>> parse_bytes("1GiB"), parse_bytes("1.5 GB"), parse_bytes("4096")
    (1073741824, 1500000000, 4096)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?\s*", text.lower())
    if found is None:
        raise SpecError(f"{text!r} is not an amount of memory. Examples: 8GiB or 500MB.")
    base = 1000 if found[3] == "b" else 1024
    # Not through floats, which do not hold every whole number; Python does not read whole numbers that are very long.
    is_whole = "." not in found[1] and len(found[1]) < len(str(_MOST_BYTES)) + 1
    number = int(found[1]) if is_whole else float(found[1])
    wanted = number * base ** _POWERS[found[2]]
    if wanted > _MOST_BYTES:
        raise SpecError(f"{_cut(text)!r} is more memory than any machine has. Examples: 8GiB or 500MB.")
    n_bytes = int(wanted)
    if n_bytes < 1:
        raise SpecError(f"{text!r} is less than a byte of memory. Examples: 8GiB or 500MB.")
    return n_bytes


def _cut(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}.."


def open_cluster(
    workers: int | None, cluster: str | None, block_seconds: float | None, device: str
) -> AbstractContextManager[BlockComputer | None]:
    """Return what computes the blocks of a run, to be opened with `with`; it gives None where this process does it."""
    if workers is not None and cluster is not None:
        raise SpecError("--workers starts processes here and --cluster uses others; pass one of them.")
    if workers is None and cluster is None:
        if block_seconds is not None:
            raise SpecError("--block-seconds belongs to --workers or --cluster; neither was passed.")
        return nullcontext()
    from napari_unet3d.engine.cluster.computer import open_computer

    return open_computer(workers=workers, cluster=cluster, device=device, seconds=block_seconds)


def has_display() -> bool:
    """Return whether a window can be opened here."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

"""Choices for a training run that suit the annotation, where nobody has made them; what they rest on is in the docs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from napari_unet3d.core.annotation import Meanings
from napari_unet3d.core.architecture import NetworkSpec
from napari_unet3d.core.augmentation import PRESETS, suggested_preset
from napari_unet3d.core.geometry import Shape, alignment, smallest_size
from napari_unet3d.core.normalize import Normalization
from napari_unet3d.core.targets import Targets
from napari_unet3d.errors import SpecError

AS_THE_ORIGINAL = "as the original"
# What is known already is not to be forgotten in the first steps.
FINE_TUNING_RATE = 5e-4
# Voxels of the output of a patch along each axis: enough around a voxel, and many steps a minute without a GPU.
_CUBE_OUTPUT, _SLICE_OUTPUT = 44, 84


def names_of_recipes() -> tuple[str, ...]:
    """Return the presets that a run can be trained with."""
    return tuple(name for name in PRESETS if name != "nothing")


def recipe(
    preset: str | None, network: NetworkSpec, targets: Sequence[Targets], voxel_size: Sequence[float]
) -> dict[str, Any]:
    """Return choices for a `TrainSpec`, by name.

    Parameters
    ----------
    preset
        A kind of microscopy, or "as the original"; None looks at the voxels and the annotation.
    network
        The network.
    targets
        What is annotated.
    voxel_size
        (z, y, x).

    Raises
    ------
    SpecError
        If there is no such preset.
    """
    if preset is not None and preset not in names_of_recipes():
        raise SpecError(f"There is no preset {preset!r}; there are {', '.join(map(repr, names_of_recipes()))}.")
    is_slicewise = any(painted.is_slicewise(0) for painted in targets)
    if preset == AS_THE_ORIGINAL:
        # Weighted cross-entropy and Dice, a constant learning rate, nothing averaged or clipped, the whole range.
        return {
            "augment": PRESETS[preset],
            "patch": _patch(network, is_slicewise=False),
            "class_weights": (1.0, *(5.0,) * (network.classes - 1)),
            "cross_entropy_share": 0.7,
            "learning_rate": 1e-3,
            "schedule": "constant",
            "warm_up": 0.0,
            "averaging": 0.0,
            "clip_norm": 1e9,
            "normalization": Normalization(kind="percentiles", low=0, high=100),
        }
    if preset is None:
        # Turned about z, a painted plane stays in the plane; and so does the resolution of thick slices.
        preset = "anisotropic stack" if is_slicewise else suggested_preset(voxel_size)
    # Who paints slices paints around objects and leaves their edges out: there is more background than is painted.
    weights = (2.0 if is_slicewise else 1.0, *(1.0,) * (network.classes - 1))
    patch = _patch(network, is_slicewise)
    return {"augment": PRESETS[preset], "patch": patch, "class_weights": weights, "learning_rate": 4e-3}


def _patch(network: NetworkSpec, is_slicewise: bool) -> Shape:
    """Return what goes into the network: around a painted plane thin, otherwise a cube."""
    least, step = smallest_size(network.blocks), alignment(network.blocks)

    def giving(output: int) -> int:
        return least + -(-max(0, output - 4) // step) * step

    if is_slicewise:
        return least, giving(_SLICE_OUTPUT), giving(_SLICE_OUTPUT)
    return (giving(_CUBE_OUTPUT),) * 3


def meanings_from(text: str) -> Meanings:
    """Return what `0=ignore,1=background,2=axon,4=ignore` says; `*` is every value that is not named.

    Raises
    ------
    SpecError
        If it is not of that form, or has fewer than two classes.

    Examples
    --------
    >>> meanings = meanings_from("0=ignore,1=background,2=axon,4=ignore")
    >>> meanings.class_names, meanings.classes
    (('background', 'axon'), {0: None, 1: 0, 2: 1, 4: None})
    """
    pairs = [part.partition("=") for part in text.split(",")]
    try:
        named = [(None if value.strip() == "*" else int(value), name.strip()) for value, _, name in pairs]
    except ValueError:
        named = []
    if not named or not all(name for _, name in named):
        raise SpecError(
            f"{text!r} does not say what values mean; 0=ignore,1=background,2=axon would (* is every other value)."
        )
    names = list(dict.fromkeys(name for _, name in named if name != "ignore"))
    # The first class is the background, wherever it stands.
    names.sort(key=lambda name: name != "background")
    if len(names) < 2:
        raise SpecError(f"{text!r} names {len(names)} class; a network tells at least two apart.")
    index = {name: None if name == "ignore" else names.index(name) for _, name in named}
    return Meanings(
        class_names=tuple(names),
        classes={value: index[name] for value, name in named if value is not None},
        rest=next((index[name] for value, name in named if value is None), None),
    )


def guessed_meanings(counts: dict[int, int]) -> Meanings:
    """Return what values mean where nobody says: 0 and 1 are a complete mask of one object, all else is asked.

    Raises
    ------
    SpecError
        With the values and their counts.
    """
    if set(counts) == {0, 1}:
        return Meanings.indices(("background", "object"))
    shown = ", ".join(f"{value} ({n:,} voxels)" for value, n in list(counts.items())[:32])
    raise SpecError(
        f"The labels hold {shown}. Say what they mean, for example --classes 0=ignore,1=background,2=object."
    )

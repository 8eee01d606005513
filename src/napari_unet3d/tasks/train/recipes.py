"""Choices for a training run that suit the annotation, where nobody has made them; what they rest on is in the docs."""

from __future__ import annotations

from typing import Any

from napari_unet3d.core.augment.presets import PRESETS, is_anisotropic, suggested_preset
from napari_unet3d.core.boxes import Shape
from napari_unet3d.core.normalize import Normalization
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import SpecError
from napari_unet3d.tasks.train.annotation import Painted

AS_THE_ORIGINAL = "as the original"
# What is known already is not to be forgotten in the first steps.
FINE_TUNING_RATE = 5e-4
# A class with a smaller share of what is painted weighs more than the background, and none more than ten times as much.
_COMMON_IN_SLICES, _COMMON_IN_VOLUMES, _LARGEST_WEIGHT = 0.05, 0.2, 10.0
# Voxels of the output of a patch along each axis: enough around a voxel, and many steps per minute without a GPU.
_SLICE_OUTPUT, _CUBE_OUTPUT, _ORIGINAL_OUTPUT = 44, 28, 44


def advised_network(preset: str | None, painted: Painted) -> tuple[NetworkSpec, str]:
    """Return the network that suits the annotation, and why, as the rest of a sentence.

    Around painted slices, context along z costs much and teaches little: one level that leaves z alone makes a step
    cost 0.4 of what it did. More blocks see farther, and need more annotation and time than a first model has.

    Parameters
    ----------
    preset
        As for `recipe`.
    painted
        What is annotated, in what voxels.
    """
    if preset == AS_THE_ORIGINAL:
        return NetworkSpec(blocks=2), "as the original had"
    if painted.is_slicewise:
        return NetworkSpec().changed(blocks=1, flat_levels=1), "because single slices are painted"
    if is_anisotropic(painted.voxel_size):
        return NetworkSpec().changed(blocks=1, flat_levels=1), "because slices are thicker than their pixels"
    return NetworkSpec(blocks=1), "because all of a volume is annotated"


def names_of_recipes() -> tuple[str, ...]:
    """Return the presets that a run can be trained with."""
    return tuple(name for name in PRESETS if name != "nothing")


def recipe(preset: str | None, network: NetworkSpec, painted: Painted) -> dict[str, Any]:
    """Return choices for a `TrainSpec`, by name.

    Parameters
    ----------
    preset
        A kind of microscopy, or "as the original"; None looks at the voxels and the annotation.
    network
        The network.
    painted
        What is annotated, in what voxels.

    Raises
    ------
    SpecError
        If there is no such preset.
    """
    if preset is not None and preset not in names_of_recipes():
        raise SpecError(f"There is no preset {preset!r}; choose one of {', '.join(map(repr, names_of_recipes()))}.")
    is_slicewise = painted.is_slicewise
    if preset == AS_THE_ORIGINAL:
        # Weighted cross-entropy and Dice, a constant learning rate, nothing averaged or clipped, the whole range.
        return {
            "augment": PRESETS[preset],
            "patch": network.geometry.input_shape_for((_ORIGINAL_OUTPUT,) * 3),
            "class_weights": (1.0, *(5.0,) * (network.classes - 1)),
            "cross_entropy_share": 0.7,
            "optimizer": "adam",
            "learning_rate": 1e-3,
            "schedule": "constant",
            "warm_up": 0.0,
            "averaging": 0.0,
            "clip_norm": 1e9,
            "normalization": Normalization(kind="percentiles", low=0, high=100),
        }
    if preset is None:
        # Turned about z, a painted plane stays in the plane; and so does the resolution of thick slices.
        preset = "anisotropic stack" if is_slicewise else suggested_preset(painted.voxel_size)
    patch, weights = _patch(network, painted), _weights(painted)
    return {
        "augment": PRESETS[preset],
        "patch": patch,
        "class_weights": weights,
        "optimizer": "muon",
        "learning_rate": 4e-3,
    }


def _weights(painted: Painted) -> tuple[float, ...]:
    """Return the weight of each class: the rarer a class is, the more, so that it is found in the first minute.

    In slices, people paint around objects and leave out the edges. Objects are then rarer in the volume than in what is
    painted, so a class must be rarer than in a volume before it weighs more. The model knows the weights, and takes
    them back when it is used (`core.heads.prior`).
    """
    total = max(1, sum(painted.voxels))
    common = _COMMON_IN_SLICES if painted.is_slicewise else _COMMON_IN_VOLUMES
    weights = [1.0]
    for n in painted.voxels[1:]:
        rarity = (common / max(n / total, 1e-6)) ** 0.5
        weights.append(float(f"{min(max(rarity, 1.0), _LARGEST_WEIGHT):.2g}"))
    return tuple(weights)


def _patch(network: NetworkSpec, painted: Painted) -> Shape:
    """Return what goes into the network: around a painted plane thin, otherwise no deeper than what is annotated."""
    geometry = network.geometry
    if painted.is_slicewise:
        _, y, x = geometry.input_shape_for((1, _SLICE_OUTPUT, _SLICE_OUTPUT))
        return geometry.smallest[0], y, x
    return geometry.input_shape_for((min(_CUBE_OUTPUT, painted.depth or _CUBE_OUTPUT), _CUBE_OUTPUT, _CUBE_OUTPUT))

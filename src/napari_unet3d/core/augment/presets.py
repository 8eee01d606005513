"""Choices of augmentation that suit kinds of microscopy, by name."""

from __future__ import annotations

from collections.abc import Sequence

from napari_unet3d.core.augment.choices import (
    AugmentSpec,
    Blur,
    Elastic,
    Flips,
    Gain,
    Gamma,
    LowResolution,
    MissingSlices,
    Noise,
    Occlusion,
    Offset,
    QuarterTurns,
    Rotation,
    Scale,
    ShiftedSlices,
    ShotNoise,
)
from napari_unet3d.errors import SpecError

# Voxels that are longer along z than this are anisotropic.
_ANISOTROPIC = 2.0


# Some of the patches are as the microscope recorded them but for flips and quarter turns: what is interpolated has less
# noise and less sharp edges than what the network is used on.
PRESETS: dict[str, AugmentSpec] = {
    "nothing": AugmentSpec(),
    # The notebook of 2020: its field on the 5 lines that its cube of 220 voxels had, its rotation, scale and cube.
    "as the original": AugmentSpec(
        rotation=Rotation(probability=1),
        scale=Scale(probability=1),
        elastic=Elastic(probability=1, spacing=54.75, sigma=20, unit="voxels"),
        occlusion=Occlusion(probability=1),
    ),
    "isotropic light microscopy": AugmentSpec(
        rotation=Rotation(probability=0.25),
        scale=Scale(probability=0.25),
        flips=Flips(probability=1),
        quarter_turns=QuarterTurns(probability=1),
        elastic=Elastic(probability=0.15),
        blur=Blur(probability=0.3),
        gamma=Gamma(probability=0.3),
        gain=Gain(probability=0.5),
        offset=Offset(probability=0.5),
        shot_noise=ShotNoise(probability=0.4),
        noise=Noise(probability=0.4),
        occlusion=Occlusion(probability=0.1, side=(8, 24)),
    ),
    # Bent finely, for little is painted where single slices are; docs/how-to/train.md has what other numbers gave.
    "anisotropic stack": AugmentSpec(
        rotation=Rotation(probability=0.5, kind="about z"),
        scale=Scale(probability=0.5),
        flips=Flips(probability=1),
        quarter_turns=QuarterTurns(probability=1, kind="about z"),
        elastic=Elastic(probability=0.35, spacing=21, sigma=6, axes=("y", "x")),
        blur=Blur(probability=0.3),
        low_resolution=LowResolution(probability=0.2),
        gamma=Gamma(probability=0.3),
        gain=Gain(probability=0.5),
        offset=Offset(probability=0.5),
        shot_noise=ShotNoise(probability=0.4),
        noise=Noise(probability=0.4),
    ),
    "electron microscopy": AugmentSpec(
        flips=Flips(probability=1),
        quarter_turns=QuarterTurns(probability=1, kind="about z"),
        scale=Scale(probability=0.25),
        elastic=Elastic(probability=0.15, axes=("y", "x")),
        shifted_slices=ShiftedSlices(probability=0.3),
        blur=Blur(probability=0.2),
        gamma=Gamma(probability=0.3),
        gain=Gain(probability=0.5, factor=(0.8, 1.25)),
        offset=Offset(probability=0.5),
        noise=Noise(probability=0.4),
        missing_slices=MissingSlices(probability=0.2),
    ),
}


def suggested_preset(voxel_size: Sequence[float]) -> str:
    """Return the name of the preset that suits voxels of a size (z, y, x): only cubes look alike when they are turned.

    Examples
    --------
    >>> suggested_preset((0.18, 0.1, 0.1)), suggested_preset((4, 0.5, 0.5))
    ('isotropic light microscopy', 'anisotropic stack')
    """
    return "anisotropic stack" if is_anisotropic(voxel_size) else "isotropic light microscopy"


def is_anisotropic(voxel_size: Sequence[float]) -> bool:
    """Return whether voxels (z, y, x) are much longer along z."""
    return voxel_size[0] > _ANISOTROPIC * max(voxel_size[1:])


def preset(name: str) -> AugmentSpec:
    """Return the choices of a preset.

    Raises
    ------
    SpecError
        If there is none of this name.
    """
    if name not in PRESETS:
        raise SpecError(f"There is no augmentation preset {name!r}; choose one of {', '.join(map(repr, PRESETS))}.")
    return PRESETS[name]

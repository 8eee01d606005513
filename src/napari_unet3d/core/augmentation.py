"""What may be done to a patch, how often and how strongly: the choices, and presets for kinds of microscopy.

Lengths along the axes are voxels unless it is said; intensities are in the network's units, in which the background is
near 0 and what is bright near 1. No random number is drawn here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from napari_unet3d.errors import SpecError

Axis = Literal["z", "y", "x"]
# Voxels that are longer along z than this are anisotropic.
_ANISOTROPIC = 2.0


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"a range goes from low to high, not from {pair[0]:g} to {pair[1]:g}")
    return pair


_Number = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=1)]
Range = Annotated[tuple[_Number, _Number], AfterValidator(_ordered)]
PositiveRange = Annotated[tuple[_Positive, _Positive], AfterValidator(_ordered)]
StrengthRange = Annotated[tuple[_NotNegative, _NotNegative], AfterValidator(_ordered)]
CountRange = Annotated[tuple[_Count, _Count], AfterValidator(_ordered)]


class Part(BaseModel):
    """One thing that may be done to a patch.

    Attributes
    ----------
    probability
        In which share of the patches it is done.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    probability: float = Field(default=0.0, ge=0, le=1)


class Rotation(Part):
    """A rotation in physical space, about the middle of the patch.

    Attributes
    ----------
    kind
        `any`: uniform over all rotations. `within`: about any axis, by up to `degrees` either way. `about z`: by up to
        `degrees` either way; for data whose resolution along z is poor.
    degrees
        In 0 .. 180.
    """

    kind: Literal["any", "within", "about z"] = "any"
    degrees: float = Field(default=180.0, ge=0, le=180)


class Scale(Part):
    """A magnification, drawn evenly; above 1 things become larger.

    Attributes
    ----------
    factor
        Range of the factor.
    isotropic
        One factor for all axes, or one for each.
    """

    factor: PositiveRange = (0.9, 1.1)
    isotropic: bool = True


class Flips(Part):
    """Mirror images; each of the axes is flipped in half of the patches.

    Attributes
    ----------
    axes
        Those that may be flipped.
    """

    axes: tuple[Axis, ...] = ("z", "y", "x")


class QuarterTurns(Part):
    """Turns by 0, 90, 180 or 270 degrees, which interpolate nothing; between axes with voxels of one size alone.

    Attributes
    ----------
    kind
        `any`: all 24 positions of a cube. `about z`: the four in the plane.
    """

    kind: Literal["any", "about z"] = "any"


class Shear(Part):
    """A shear in physical space, between every two axes.

    Attributes
    ----------
    degrees
        The largest angle either way.
    """

    degrees: float = Field(default=5.0, ge=0, le=45)


class Elastic(Part):
    """Displacements drawn from a normal distribution on a grid, smooth in between.

    Attributes
    ----------
    lines
        Grid lines an axis; the first and the last lie on the border of the patch.
    sigma
        Standard deviation of the displacement along each axis.
    unit
        Of `sigma`. `voxels`: of each axis. `finest voxels`: of the axis with the smallest, the same length along all
        axes. `physical`: the unit of the voxel size.
    axes
        Along which anything moves.
    """

    lines: int = Field(default=5, ge=2, le=64)
    sigma: float = Field(default=8.0, ge=0, allow_inf_nan=False)
    unit: Literal["voxels", "finest voxels", "physical"] = "finest voxels"
    axes: tuple[Axis, ...] = ("z", "y", "x")


class Gain(Part):
    """A factor on the intensities, its logarithm drawn evenly.

    Attributes
    ----------
    factor
        Range of the factor.
    """

    factor: PositiveRange = (0.7, 1.4)


class Offset(Part):
    """A number added to the intensities.

    Attributes
    ----------
    value
        Range of the number.
    """

    value: Range = (-0.1, 0.1)


class Gamma(Part):
    """A power of the intensities above 0, the logarithm of the exponent drawn evenly; above 1 dim becomes dimmer.

    Attributes
    ----------
    exponent
        Range of the exponent.
    """

    exponent: PositiveRange = (0.8, 1.25)


class Noise(Part):
    """Gaussian noise, as of a camera's electronics.

    Attributes
    ----------
    sigma
        Range of the standard deviation.
    """

    sigma: StrengthRange = (0.0, 0.1)


class ShotNoise(Part):
    """Noise whose variance grows with the signal, as of counted photons (their normal approximation).

    Attributes
    ----------
    sigma
        Range of the standard deviation where the intensity is 1; 0.1 is that of 100 photons.
    """

    sigma: StrengthRange = (0.0, 0.1)


class Blur(Part):
    """A Gaussian blur, round in physical space.

    Attributes
    ----------
    sigma
        Range of the standard deviation, in the finest voxels.
    """

    sigma: StrengthRange = (0.0, 1.0)


class LowResolution(Part):
    """Fewer, thicker slices: averages along an axis, and linear interpolation between them.

    Attributes
    ----------
    axis
        Along which.
    factor
        Range of the thickness, in voxels.
    """

    axis: Axis = "z"
    factor: Annotated[PositiveRange, AfterValidator(lambda pair: (max(1.0, pair[0]), max(1.0, pair[1])))] = (1.0, 2.0)


class Occlusion(Part):
    """Cubes in which the image is one value; the labels stay as they are.

    Attributes
    ----------
    side
        Range of the side, in voxels.
    number
        Range of how many.
    value
        What the image is there.
    """

    side: CountRange = (40, 50)
    number: CountRange = (1, 1)
    value: _Number = 0.0


class MissingSlices(Part):
    """Slices along z in which the image is 0; the labels stay as they are.

    Attributes
    ----------
    number
        Range of how many.
    """

    number: CountRange = (1, 2)


class ShiftedSlices(Part):
    """Slices along z that are shifted in the plane by whole voxels, image and labels alike.

    Attributes
    ----------
    number
        Range of how many.
    voxels
        The largest shift along y and x.
    """

    number: CountRange = (1, 3)
    voxels: int = Field(default=5, ge=1, le=256)


class AugmentSpec(BaseModel):
    """All that may be done to a patch; by default nothing.

    It happens in the order in which it stands here: first where voxels come from, in one interpolation for all of it,
    then what the instrument does to intensities, then faults.

    Examples
    --------
    >>> AugmentSpec().rotation.probability, PRESETS["as the original"].rotation.kind
    (0.0, 'any')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rotation: Rotation = Rotation()
    scale: Scale = Scale()
    flips: Flips = Flips()
    quarter_turns: QuarterTurns = QuarterTurns()
    shear: Shear = Shear()
    elastic: Elastic = Elastic()
    shifted_slices: ShiftedSlices = ShiftedSlices()
    blur: Blur = Blur()
    low_resolution: LowResolution = LowResolution()
    gamma: Gamma = Gamma()
    gain: Gain = Gain()
    offset: Offset = Offset()
    shot_noise: ShotNoise = ShotNoise()
    noise: Noise = Noise()
    missing_slices: MissingSlices = MissingSlices()
    occlusion: Occlusion = Occlusion()

    @property
    def parts(self) -> dict[str, Part]:
        """Return all parts by name, in their order."""
        return {name: getattr(self, name) for name in type(self).model_fields}


PRESETS: dict[str, AugmentSpec] = {
    "nothing": AugmentSpec(),
    # The notebook of 2020: its field on 5 lines in voxels of each axis, its rotation, scale and cube.
    "as the original": AugmentSpec(
        rotation=Rotation(probability=1),
        scale=Scale(probability=1),
        elastic=Elastic(probability=1, lines=5, sigma=20, unit="voxels"),
        occlusion=Occlusion(probability=1),
    ),
    "isotropic light microscopy": AugmentSpec(
        rotation=Rotation(probability=1),
        scale=Scale(probability=1),
        flips=Flips(probability=1),
        elastic=Elastic(probability=0.7, lines=5, sigma=6),
        blur=Blur(probability=0.3),
        gamma=Gamma(probability=0.3),
        gain=Gain(probability=0.5),
        offset=Offset(probability=0.5),
        shot_noise=ShotNoise(probability=0.4),
        noise=Noise(probability=0.4),
        occlusion=Occlusion(probability=0.1, side=(8, 24)),
    ),
    "anisotropic stack": AugmentSpec(
        rotation=Rotation(probability=1, kind="about z"),
        scale=Scale(probability=1),
        flips=Flips(probability=1),
        elastic=Elastic(probability=0.7, lines=5, sigma=6, axes=("y", "x")),
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
        scale=Scale(probability=0.5),
        elastic=Elastic(probability=0.7, lines=6, sigma=5, axes=("y", "x")),
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
    is_anisotropic = voxel_size[0] > _ANISOTROPIC * max(voxel_size[1:])
    return "anisotropic stack" if is_anisotropic else "isotropic light microscopy"


def preset(name: str) -> AugmentSpec:
    """Return the choices of a preset.

    Raises
    ------
    SpecError
        If there is none of this name.
    """
    if name not in PRESETS:
        raise SpecError(f"There is no augmentation preset {name!r}; there are {', '.join(map(repr, PRESETS))}.")
    return PRESETS[name]

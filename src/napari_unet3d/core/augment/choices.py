"""What may be done to a patch, how often and how strongly; `presets` has some for kinds of microscopy.

Lengths along the axes are in voxels unless stated otherwise. Intensities are in the network's units: the background is
near 0, bright voxels are near 1. No random number is drawn here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Axis = Literal["z", "y", "x"]
# Of the grid of an elastic displacement, along an axis.
MOST_LINES = 64


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
    """One kind of change to a patch.

    Attributes
    ----------
    probability
        Share of the patches in which it is done, from 0 to 1.
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
        Largest angle, from 0 to 180 degrees.
    """

    kind: Literal["any", "within", "about z"] = "any"
    degrees: float = Field(default=180.0, ge=0, le=180)


class Scale(Part):
    """A magnification, drawn evenly; above 1, objects become larger.

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
    """Mirror images; each axis is flipped in half of the patches.

    Attributes
    ----------
    axes
        The axes that may be flipped.
    """

    axes: tuple[Axis, ...] = ("z", "y", "x")


class QuarterTurns(Part):
    """Turns by 0, 90, 180 or 270 degrees, without interpolation; only between axes with the same voxel size.

    Attributes
    ----------
    kind
        `any`: all 24 positions of a cube. `about z`: the four in the plane.
    """

    kind: Literal["any", "about z"] = "any"


class Shear(Part):
    """A shear in physical space, between each pair of axes.

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
    spacing
        Between the lines of the grid, along all axes. A thin or small patch is bent as little as its part of a large
        one.
    lines
        Lines of the grid along each axis in place of a spacing, the first and the last on the border of the patch: the
        smaller the patch, the more it is bent. Earlier versions had them; None goes by `spacing`.
    sigma
        Standard deviation of the displacement of each line, along each axis.
    unit
        Unit of `sigma` and `spacing`. `voxels`: voxels of each axis. `finest voxels`: voxels of the axis with the
        smallest ones, so the same length along all axes. `physical`: the unit of the voxel size.
    axes
        The axes along which voxels move.
    """

    spacing: float = Field(default=48.0, gt=0, allow_inf_nan=False)
    lines: int | None = Field(default=None, ge=2, le=MOST_LINES)
    sigma: float = Field(default=4.0, ge=0, allow_inf_nan=False)
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
    """A power of the intensities above 0, the logarithm of its exponent drawn evenly; above 1, dim becomes dimmer.

    Attributes
    ----------
    exponent
        Range of the exponent.
    """

    exponent: PositiveRange = (0.8, 1.25)


class Noise(Part):
    """Gaussian noise, as from the electronics of a camera.

    Attributes
    ----------
    sigma
        Range of the standard deviation.
    """

    sigma: StrengthRange = (0.0, 0.1)


class ShotNoise(Part):
    """Noise whose variance grows with the signal, as with counted photons (in normal approximation).

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
        The axis of the slices.
    factor
        Range of the thickness, in voxels.
    """

    axis: Axis = "z"
    factor: Annotated[PositiveRange, AfterValidator(lambda pair: (max(1.0, pair[0]), max(1.0, pair[1])))] = (1.0, 2.0)


class Occlusion(Part):
    """Cubes in which the image has one value; the labels stay as they are.

    Attributes
    ----------
    side
        Range of the side, in voxels.
    number
        Range of the number of cubes.
    value
        Value of the image in the cubes.
    """

    side: CountRange = (40, 50)
    number: CountRange = (1, 1)
    value: _Number = 0.0


class MissingSlices(Part):
    """Slices along z in which the image is 0; the labels stay as they are.

    Attributes
    ----------
    number
        Range of the number of slices.
    """

    number: CountRange = (1, 2)


class ShiftedSlices(Part):
    """Slices along z that are shifted in the plane by whole voxels, image and labels alike.

    Attributes
    ----------
    number
        Range of the number of slices.
    voxels
        The largest shift along y and x.
    """

    number: CountRange = (1, 3)
    voxels: int = Field(default=5, ge=1, le=256)


class AugmentSpec(BaseModel):
    """All changes that may be made to a patch; by default none.

    They are made in the order in which they stand here: first the geometry, in one interpolation, then what the
    instrument does to intensities, then faults.

    Examples
    --------
    >>> from napari_unet3d.core.augment.presets import PRESETS
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

"""The choices that define a network; its layers and sizes follow from them.

A valid-convolution 3D U-Net in the manner of Cicek et al. 2016 (arXiv 1606.06650), with the block names and the channel
counts of the ExLLSM network for single neurons.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from napari_unet3d.core.unet.geometry import Geometry
from napari_unet3d.core.unet.layers import Kernel, Layer, Level, as_tuple, lay_out, levels_of, n_flat

MAX_BLOCKS = 5
Levels = Annotated[tuple[Level, ...], BeforeValidator(as_tuple), Field(min_length=1, max_length=MAX_BLOCKS + 1)]


class NetworkSpec(BaseModel):
    """The choices that define a network, and nothing else.

    Attributes
    ----------
    levels
        The levels from the top down, each with its kernel and its pooling. ``blocks=2`` is short for an isotropic
        network with two downsample blocks, which has three levels.
    bottleneck
        Kernel (z, y, x) of the two convolutions below the last pooling.
    filters
        Channels after the first convolution; doubled by every level on the way down.
    classes
        Channels of the logits.
    channels
        Channels of the input image.
    dropout
        Share of the bottleneck's values set to zero while training.
    batch_normalization
        Normalize after every convolution with a kernel, in place of its bias. The statistics are frozen when the
        network is used, so tiles stay exact.

    Examples
    --------
    >>> NetworkSpec() == NetworkSpec(blocks=2), NetworkSpec(blocks=1).blocks
    (True, 1)
    >>> NetworkSpec(levels=levels_of(2, flat=1)).geometry.halo
    (20, 44, 44)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    levels: Levels = levels_of(2)
    bottleneck: Kernel = (3, 3, 3)
    filters: int = Field(default=8, ge=1, le=256)
    classes: int = Field(default=2, ge=2, le=127)
    channels: int = Field(default=1, ge=1, le=64)
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    batch_normalization: bool = False

    def __init__(self, *, blocks: int | None = None, **choices: Any) -> None:
        # Spelled out, so that type checkers and editors know of the short form.
        super().__init__(**choices if blocks is None else {"blocks": blocks, **choices})

    @model_validator(mode="before")
    @classmethod
    def _long_form(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or "blocks" not in data:
            return data
        rest = {name: value for name, value in data.items() if name != "blocks"}
        blocks = data["blocks"]
        if type(blocks) is not int or not 0 <= blocks <= MAX_BLOCKS:
            raise ValueError(f"blocks must be a whole number from 0 to {MAX_BLOCKS}, not {blocks!r:.40}")
        if "levels" in rest:
            raise ValueError("levels say how many blocks there are; give one of the two")
        return {"levels": levels_of(blocks), **rest}

    def changed(self, *, blocks: int | None = None, flat_levels: int | None = None, **changes: Any) -> NetworkSpec:
        """Return the same choices but for some, checked like any.

        Parameters
        ----------
        blocks, flat_levels
            Short for levels: how many downsample blocks, and how many levels from the top leave z alone.
        changes
            Fields by name; `levels` say more than the short forms.

        Examples
        --------
        >>> NetworkSpec(filters=4).changed(blocks=1, flat_levels=1).geometry.alignment
        (2, 4, 4)
        """
        levels = self.levels
        if (blocks, flat_levels) != (None, None):
            deep = self.blocks if blocks is None else blocks
            if not 0 <= deep <= MAX_BLOCKS:
                raise ValueError(f"blocks must be a whole number from 0 to {MAX_BLOCKS}, not {deep}")
            levels = levels_of(deep, flat=n_flat(self.levels) if flat_levels is None else flat_levels)
        kept = {name: getattr(self, name) for name in NetworkSpec.model_fields}
        return NetworkSpec(**(kept | {"levels": levels} | changes))

    @property
    def short_form(self) -> dict[str, Any]:
        """Return the levels as `changed` takes them, in short where they are of that form."""
        flat = n_flat(self.levels)
        if self.levels == levels_of(self.blocks, flat=flat) and self.bottleneck == (3, 3, 3):
            return {"blocks": self.blocks, "flat_levels": flat}
        return {"levels": self.levels, "bottleneck": self.bottleneck}

    @property
    def blocks(self) -> int:
        """Return the number of downsample blocks, as the authors count: poolings less one."""
        return len(self.levels) - 1

    @property
    def is_isotropic(self) -> bool:
        """Return whether all axes are treated alike, so that `blocks` says all about the levels."""
        return self.levels == levels_of(self.blocks) and self.bottleneck == (3, 3, 3)

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all arrays by name, in the order of the layers."""
        return {name: shape for layer in self.layers for name, shape in layer.weight_shapes.items()}

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Return the layers in the order in which they run."""
        return _layers(self)

    @property
    def geometry(self) -> Geometry:
        """Return what sizes go in and come out, (z, y, x)."""
        return _geometry(self.levels, self.bottleneck)

    @property
    def shape_text(self) -> str:
        """Return the levels in words.

        Examples
        --------
        >>> NetworkSpec().shape_text, NetworkSpec(levels=levels_of(2, flat=1)).shape_text
        ('2 blocks', '2 blocks (pooling 1x2x2, 2x2x2, 2x2x2)')
        """
        noun = "block" if self.blocks == 1 else "blocks"
        if self.is_isotropic:
            return f"{self.blocks} {noun}"
        poolings = ", ".join("x".join(map(str, level.pool)) for level in self.levels)
        return f"{self.blocks} {noun} (pooling {poolings})"


# Not kept in the spec: a copy with changes would have the layers of the old one.
@lru_cache(maxsize=256)
def _layers(spec: NetworkSpec) -> tuple[Layer, ...]:
    return lay_out(
        spec.levels,
        spec.bottleneck,
        filters=spec.filters,
        classes=spec.classes,
        channels=spec.channels,
        batch_normalization=spec.batch_normalization,
    )


@lru_cache(maxsize=256)
def _geometry(levels: tuple[Level, ...], bottleneck: tuple[int, int, int]) -> Geometry:
    layers = lay_out(levels, bottleneck, filters=1, classes=2, channels=1, batch_normalization=False)
    return Geometry(layers, len(levels) - 1)

"""The operations of a network, one after the other: the one description that everything else reads.

`network.unet` builds Keras layers from it, `geometry` and `costs` compute sizes and prices from it, and the exchange
formats name arrays by it. All that has an axis is (z, y, x).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from napari_unet3d.core.boxes import Shape

LayerKind = Literal["conv", "pool", "crop", "upsample", "concatenate", "project"]

# What batch normalization keeps of every channel, in the order of Keras.
NORMALIZING = ("gamma", "beta", "moving_mean", "moving_variance")


def as_tuple(value: object) -> object:
    """Return a list as a tuple, which is what JSON cannot tell apart; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


Kernel = Annotated[tuple[Literal[1, 3], Literal[1, 3], Literal[1, 3]], BeforeValidator(as_tuple)]
Factor = Annotated[tuple[Literal[1, 2], Literal[1, 2], Literal[1, 2]], BeforeValidator(as_tuple)]


class Level(BaseModel):
    """One level of the network: two convolutions on the way down, two on the way up, and the pooling between.

    Attributes
    ----------
    kernel
        Voxels (z, y, x) under the kernel of its convolutions; 1 leaves an axis alone.
    pool
        Factor (z, y, x) by which its pooling shrinks the volume; 1 leaves an axis alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kernel: Kernel = (3, 3, 3)
    pool: Factor = (2, 2, 2)

    @model_validator(mode="after")
    def _shrinks(self) -> Level:
        if self.pool == (1, 1, 1):
            raise ValueError("a level must pool along one axis at least")
        return self


def levels_of(blocks: int, *, flat: int = 0) -> tuple[Level, ...]:
    """Return the levels of a network with `blocks` downsample blocks.

    Parameters
    ----------
    blocks
        Downsample blocks; there is one level, and one pooling, more.
    flat
        How many levels from the top leave z alone: for slices that are thicker than their pixels.

    Examples
    --------
    >>> [level.pool for level in levels_of(2, flat=1)]
    [(1, 2, 2), (2, 2, 2), (2, 2, 2)]
    """
    return tuple(Level(kernel=(1, 3, 3), pool=(1, 2, 2)) if number < flat else Level() for number in range(blocks + 1))


def n_flat(levels: Sequence[Level]) -> int:
    """Return how many levels from the top leave z alone.

    Examples
    --------
    >>> n_flat(levels_of(3, flat=2)), n_flat(levels_of(3))
    (2, 0)
    """
    flat = levels_of(0, flat=1)[0]
    return next((number for number, level in enumerate(levels) if level != flat), len(levels))


@dataclass(frozen=True)
class Layer:
    """One operation of the network.

    Attributes
    ----------
    block
        Name of the block, as the authors call it: `input`, `downsample`, `downsample_1`, ..
    name
        Name of the layer in the Keras graph and of its arrays in a model file.
    kind
        `conv` is valid, `upsample` a transposed convolution whose stride is its kernel, `crop` sets the skip of
        `level` aside, `project` makes the logits.
    level
        Poolings above this layer.
    channels_in, channels_out
        Channels that go in and come out.
    kernel
        Voxels (z, y, x) under the kernel of a layer with weights; (1, 1, 1) for others.
    factor
        Factor by which a `pool` shrinks and an `upsample` enlarges each axis; (1, 1, 1) for others.
    crop
        Voxels (z, y, x) that a `crop` takes away on each side; (0, 0, 0) for others.
    is_normalized
        Whether batch normalization follows; there is no bias then.
    """

    block: str
    name: str
    kind: LayerKind
    level: int
    channels_in: int
    channels_out: int
    kernel: Shape = (1, 1, 1)
    factor: Shape = (1, 1, 1)
    crop: Shape = (0, 0, 0)
    is_normalized: bool = False

    @property
    def has_weights(self) -> bool:
        """Return whether the layer has weights to learn."""
        return self.kind in ("conv", "upsample", "project")

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the arrays by name, kernel first; empty for layers without weights.

        Kernels are (z, y, x, in, out); of an upsampling layer (z, y, x, out, in), as Keras has them.
        """
        if not self.has_weights:
            return {}
        channels = (self.channels_in, self.channels_out)
        kernel = (*self.kernel, *(reversed(channels) if self.kind == "upsample" else channels))
        if self.is_normalized:
            names = [f"{self.name}_normalize/{part}" for part in NORMALIZING]
        else:
            names = [f"{self.name}/bias"]
        return {f"{self.name}/kernel": kernel, **dict.fromkeys(names, (self.channels_out,))}

    @property
    def n_parameters(self) -> int:
        """Return the number of weights and biases, and of what normalizes."""
        return sum(math.prod(shape) for shape in self.weight_shapes.values())

    def size_after(self, size: int, axis: int) -> int:
        """Return the size along an axis after this layer, for `size` voxels before it.

        A pooling rounds down; whether it may is for `Geometry` to say.
        """
        if self.kind == "pool":
            return size // self.factor[axis]
        if self.kind == "upsample":
            return size * self.factor[axis]
        return size - self.loss[axis]

    @property
    def loss(self) -> Shape:
        """Return the voxels (z, y, x) that a valid convolution or a crop takes away, both sides together."""
        if self.kind == "conv":
            z, y, x = (n - 1 for n in self.kernel)
        else:
            z, y, x = (2 * n for n in self.crop)
        return z, y, x


class _Builder:
    """Lays one layer on the other, and keeps how many channels there are."""

    def __init__(self, channels: int, is_normalized: bool) -> None:
        self.layers: list[Layer] = []
        self.channels = channels
        self._is_normalized = is_normalized

    def add(
        self,
        block: str,
        kind: LayerKind,
        level: int,
        channels: int,
        *,
        name: str = "",
        kernel: Shape = (1, 1, 1),
        factor: Shape = (1, 1, 1),
    ) -> None:
        is_normalized = self._is_normalized and kind == "conv"
        name = f"{block}_{name or kind}"
        self.layers.append(
            Layer(block, name, kind, level, self.channels, channels, kernel, factor, is_normalized=is_normalized)
        )
        self.channels = channels

    def convolve(self, block: str, level: int, kernel: Shape, *widths: int) -> None:
        for number, width in enumerate(widths, start=1):
            self.add(block, "conv", level, width, name=f"conv_{number}", kernel=kernel)


def lay_out(
    levels: Sequence[Level],
    bottleneck: Shape,
    *,
    filters: int,
    classes: int,
    channels: int,
    batch_normalization: bool,
) -> tuple[Layer, ...]:
    """Return the layers of a network in the order in which they run.

    Parameters
    ----------
    levels
        From the top down.
    bottleneck
        Kernel (z, y, x) of the convolutions below the last pooling.
    filters, classes, channels, batch_normalization
        See `NetworkSpec`.
    """
    built = _Builder(channels, batch_normalization)
    bottom = len(levels)
    for number, level in enumerate(levels):
        block = "input" if number == 0 else _numbered("downsample", number - 1)
        width = filters if number == 0 else built.channels
        built.convolve(block, number, level.kernel, width, filters << (number + 1))
        built.add(block, "crop", number, built.channels)
        built.add(block, "pool", number, built.channels, factor=level.pool)
    built.convolve("bottleneck", bottom, bottleneck, built.channels, 2 * built.channels)
    _upsample(built, "bottleneck", bottom, levels)
    for number in reversed(range(bottom)):
        block = "output" if number == 0 else _numbered("upsample", bottom - 1 - number)
        skip = filters << (number + 1)
        built.add(block, "concatenate", number, built.channels + skip)
        built.convolve(block, number, levels[number].kernel, skip, skip)
        if number:
            _upsample(built, block, number, levels)
    built.add("output", "project", 0, classes, name="logits")
    return _cropped(built.layers)


def _upsample(built: _Builder, block: str, level: int, levels: Sequence[Level]) -> None:
    factor = levels[level - 1].pool
    built.add(block, "upsample", level, built.channels, kernel=factor, factor=factor)


def _cropped(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the layers with the crops of the skips: each loses what the layers below it consume."""
    found = list(layers)
    for start, layer in enumerate(layers):
        if layer.kind == "crop":
            joins = (at for at in range(start, len(layers)) if layers[at].kind == "concatenate")
            stop = next(at for at in joins if layers[at].level == layer.level)
            z, y, x = (loss_along(layers[start + 1 : stop], axis) // 2 for axis in range(3))
            found[start] = replace(layer, crop=(z, y, x))
    return tuple(found)


def loss_along(layers: Sequence[Layer], axis: int) -> int:
    """Return how many voxels of the first layer's input the convolutions take away along an axis, both sides together.

    Crops are not counted: what they take is beside the way.
    """
    lost, scale = 0, 1
    for layer in layers:
        if layer.kind == "conv":
            lost += layer.loss[axis] * scale
        elif layer.kind == "pool":
            scale *= layer.factor[axis]
        elif layer.kind == "upsample":
            scale //= layer.factor[axis]
    return lost


def _numbered(name: str, index: int) -> str:
    return f"{name}_{index}" if index else name

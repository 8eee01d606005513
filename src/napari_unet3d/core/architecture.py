"""Which layers a network has: the one description that sizes and costs are derived from.

A valid-convolution 3D U-Net in the manner of Cicek et al. 2016 (arXiv 1606.06650), with the
block names and the channel counts of the ExLLSM network for single neurons.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

# What batch normalization keeps of every channel, in the order of Keras.
NORMALIZING = ("gamma", "beta", "moving_mean", "moving_variance")

LayerKind = Literal["conv", "pool", "crop", "upsample", "concatenate", "project"]


class NetworkSpec(BaseModel):
    """The choices that define a network, and nothing else.

    Attributes
    ----------
    blocks
        Downsample blocks between the input block and the bottleneck. There are `blocks + 1` poolings.
    filters
        Channels after the first convolution; doubled by every block on the way down.
    classes
        Channels of the logits.
    channels
        Channels of the input image.
    dropout
        Share of the bottleneck's values set to zero while training.
    batch_normalization
        After every 3x3x3 convolution, in place of its bias. What is learnt of the data is frozen when the network is
        used, so tiles stay exact.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    blocks: int = Field(default=2, ge=0, le=5)
    filters: int = Field(default=8, ge=1, le=256)
    classes: int = Field(default=2, ge=2, le=127)
    channels: int = Field(default=1, ge=1, le=64)
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    batch_normalization: bool = False

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all arrays by name, in the order of the layers."""
        return {name: shape for layer in self.layers for name, shape in layer.weight_shapes.items()}

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Return the layers in the order in which they run."""
        return _layers(self)


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
        `conv` is 3x3x3 and valid, `upsample` a 2x2x2 transposed convolution with stride 2,
        `crop` sets the skip of `level` aside, `project` is 1x1x1.
    level
        Poolings above this layer.
    channels_in, channels_out
        Channels that go in and come out.
    is_normalized
        Batch normalization follows, and there is no bias.
    """

    block: str
    name: str
    kind: LayerKind
    level: int
    channels_in: int
    channels_out: int
    is_normalized: bool = False

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the arrays by name, kernel first; empty for layers without weights.

        Kernels are (z, y, x, in, out); of an upsampling layer (z, y, x, out, in), as Keras has them.
        """
        if not self.kernel_voxels:
            return {}
        side = {"conv": 3, "upsample": 2, "project": 1}[self.kind]
        channels = (self.channels_in, self.channels_out)
        kernel = (side, side, side, *(reversed(channels) if self.kind == "upsample" else channels))
        if self.is_normalized:
            names = [f"{self.name}_normalize/{part}" for part in NORMALIZING]
        else:
            names = [f"{self.name}/bias"]
        return {f"{self.name}/kernel": kernel, **dict.fromkeys(names, (self.channels_out,))}

    @property
    def kernel_voxels(self) -> int:
        """Return the voxels under the kernel; 0 for layers without weights."""
        return {"conv": 27, "upsample": 8, "project": 1}.get(self.kind, 0)

    @property
    def n_parameters(self) -> int:
        """Return the number of weights and biases, and of what normalizes."""
        return sum(math.prod(shape) for shape in self.weight_shapes.values())


# Not kept in the spec: a copy with changes would have the layers of the old one.
@lru_cache(maxsize=256)
def _layers(spec: NetworkSpec) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    channels = spec.channels

    def add(block: str, kind: LayerKind, level: int, out: int, name: str = "") -> None:
        nonlocal channels
        is_normalized = spec.batch_normalization and kind == "conv"
        layers.append(Layer(block, f"{block}_{name or kind}", kind, level, channels, out, is_normalized))
        channels = out

    def convolve(block: str, level: int, *widths: int) -> None:
        for number, width in enumerate(widths, start=1):
            add(block, "conv", level, width, f"conv_{number}")

    bottom = spec.blocks + 1
    for level in range(bottom):
        block = "input" if level == 0 else _numbered("downsample", level - 1)
        width = spec.filters if level == 0 else channels
        convolve(block, level, width, spec.filters << (level + 1))
        add(block, "crop", level, channels)
        add(block, "pool", level, channels)
    convolve("bottleneck", bottom, channels, 2 * channels)
    add("bottleneck", "upsample", bottom, channels)
    for level in reversed(range(bottom)):
        block = "output" if level == 0 else _numbered("upsample", spec.blocks - level)
        skip = spec.filters << (level + 1)
        add(block, "concatenate", level, channels + skip)
        convolve(block, level, skip, skip)
        if level:
            add(block, "upsample", level, skip)
    add("output", "project", 0, spec.classes, "logits")
    return tuple(layers)


def _numbered(name: str, index: int) -> str:
    return f"{name}_{index}" if index else name

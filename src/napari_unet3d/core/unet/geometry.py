"""Size arithmetic of a 3D U-Net with valid convolutions.

Which input sizes survive every pooling, and what comes out. Sizes are voxels along one axis, shapes are (z, y, x), and
axes are judged by themselves; no arrays of voxels, files or Keras here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from napari_unet3d.core.boxes import AXES, Shape
from napari_unet3d.core.unet.layers import Layer, loss_along
from napari_unet3d.errors import SizeError

# Along one axis, in voxels; beyond that a patch is a mistake, and what is computed with it would not fit a memory.
LONGEST_PATCH = 4096
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


class Geometry:
    """Which sizes go into a network, and which come out of it.

    Parameters
    ----------
    layers
        The operations of the network; their channels do not matter.
    blocks
        Number of downsample blocks, for messages.

    Attributes
    ----------
    halo
        Voxels (z, y, x) on each side that the network consumes.
    alignment
        Voxels (z, y, x) by which an input may be shifted so that every pooling meets the same phase.
    reach
        Largest distance in voxels (z, y, x) at which an input voxel may change an output voxel. It is more than the
        halo, because an output voxel sees what its poolings take together.
    smallest
        The smallest input shape that fits.

    Examples
    --------
    >>> from napari_unet3d.core.unet.spec import NetworkSpec
    >>> geometry = NetworkSpec(blocks=2).geometry
    >>> geometry.halo, geometry.alignment, geometry.reach, geometry.smallest
    ((44, 44, 44), (8, 8, 8), (51, 51, 51), (92, 92, 92))
    """

    def __init__(self, layers: Sequence[Layer], blocks: int) -> None:
        self._axes = z, y, x = tuple(_Axis(tuple(layers), axis) for axis in range(3))
        self._blocks = blocks
        self._lengths: tuple[dict[int, tuple[int, ...]], ...] = ({}, {}, {})
        self.halo: Shape = (z.halo, y.halo, x.halo)
        self.alignment: Shape = (z.step, y.step, x.step)
        self.reach: Shape = (z.halo + z.step - 1, y.halo + y.step - 1, x.halo + x.step - 1)
        self.smallest: Shape = (z.smallest, y.smallest, x.smallest)

    def why_not(self, size: int, axis: int) -> str | None:
        """Return why an input `size` along an axis (0 is z) does not fit, as half a sentence, or None where it fits.

        Examples
        --------
        >>> from napari_unet3d.core.unet.spec import NetworkSpec
        >>> NetworkSpec().geometry.why_not(130, 0), NetworkSpec().geometry.why_not(220, 0)
        ('the second pooling meets 59 voxels, which is odd', None)
        """
        return self._axes[axis].why_not(size)

    def output_size(self, size: int, axis: int) -> int:
        """Return the output size for an input `size` along an axis, in voxels.

        Raises
        ------
        SizeError
            If a pooling does not divide the size, or nothing is left. The message names the nearest sizes that fit.
        """
        reason = self.why_not(size, axis)
        if reason is not None:
            near = " and ".join(str(n) for n in self.nearest_sizes(size, axis))
            raise SizeError(
                f"An input of {size} voxels along {AXES[axis]} does not fit a network with {self._blocks} blocks: "
                f"{reason}. The nearest sizes that fit are {near}."
            )
        return size - 2 * self.halo[axis]

    def output_shape(self, shape: Sequence[int]) -> Shape:
        """Return the output shape for an input `shape`, each axis judged by itself.

        Raises
        ------
        SizeError
            If an axis does not fit.

        Examples
        --------
        The author's cubes, and the network of Cicek et al. 2016 (arXiv 1606.06650) with its three poolings:

        >>> from napari_unet3d.core.unet.spec import NetworkSpec
        >>> NetworkSpec().geometry.output_shape((220, 132, 116))
        (132, 44, 28)
        """
        z, y, x = (self.output_size(n, axis) for axis, n in enumerate(shape))
        return z, y, x

    def valid_sizes(self, maximum: int, axis: int) -> list[int]:
        """Return all input sizes up to `maximum` that fit along an axis, in voxels.

        Examples
        --------
        >>> from napari_unet3d.core.unet.spec import NetworkSpec
        >>> NetworkSpec().geometry.valid_sizes(116, axis=2)
        [92, 100, 108, 116]
        """
        return list(range(self.smallest[axis], maximum + 1, self.alignment[axis]))

    def valid_cubes(self, maximum: int) -> list[int]:
        """Return all sizes up to `maximum` that fit along every axis."""
        along_y, along_x = (set(self.valid_sizes(maximum, axis)) for axis in (1, 2))
        return [n for n in self.valid_sizes(maximum, 0) if n in along_y and n in along_x]

    def nearest_sizes(self, size: int, axis: int) -> list[int]:
        """Return the sizes that fit just below and just above `size` (one or two of them)."""
        smallest, step = self.smallest[axis], self.alignment[axis]
        if size < smallest:
            return [smallest]
        below = smallest + (size - smallest) // step * step
        return [below] if below == size else [below, below + step]

    def input_size_for(self, output: int, axis: int) -> int:
        """Return the smallest input size whose output has at least `output` voxels along an axis.

        Examples
        --------
        >>> from napari_unet3d.core.unet.spec import NetworkSpec
        >>> NetworkSpec().geometry.input_size_for(132, 0), NetworkSpec().geometry.input_size_for(133, 0)
        (220, 228)
        """
        smallest, step = self.smallest[axis], self.alignment[axis]
        missing = output - (smallest - 2 * self.halo[axis])
        return smallest + max(0, -(-missing // step)) * step

    def input_shape_for(self, outputs: Sequence[int]) -> Shape:
        """Return the smallest input shape whose output has at least `outputs` voxels (z, y, x)."""
        z, y, x = (self.input_size_for(n, axis) for axis, n in enumerate(outputs))
        return z, y, x

    def lengths(self, size: int, axis: int) -> tuple[int, ...]:
        """Return the size along an axis after every layer, in their order, for an input `size` that fits.

        Raises
        ------
        SizeError
            If it does not fit.
        """
        known = self._lengths[axis]
        if size not in known:
            self.output_size(size, axis)
            known[size] = self._axes[axis].lengths(size)
        return known[size]


@dataclass(frozen=True)
class _Axis:
    """The layers along one axis."""

    layers: tuple[Layer, ...]
    axis: int

    @cached_property
    def halo(self) -> int:
        return loss_along(self.layers, self.axis) // 2

    @cached_property
    def poolings(self) -> tuple[int, ...]:
        return tuple(layer.factor[self.axis] for layer in self.layers if layer.kind == "pool")

    @cached_property
    def step(self) -> int:
        return math.prod(self.poolings)

    @cached_property
    def smallest(self) -> int:
        first = 2 * self.halo + 1
        return next(n for n in range(first, first + self.step) if self.why_not(n) is None)

    def why_not(self, size: int) -> str | None:
        for number, (voxels, factor) in enumerate(self._poolings_met(size)):
            if voxels <= 0:
                return f"nothing is left before the {_ORDINALS[number]} pooling"
            if voxels % factor:
                return f"the {_ORDINALS[number]} pooling meets {voxels} voxels, which is odd"
        if size <= 2 * self.halo:
            return f"its convolutions consume {2 * self.halo} voxels, so nothing is left"
        return None

    def _poolings_met(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield what every pooling meets, and its factor."""
        for layer in self.layers:
            if layer.kind == "pool":
                yield size, layer.factor[self.axis]
            elif layer.kind == "upsample":
                return
            if layer.kind != "crop":
                size = layer.size_after(size, self.axis)

    def lengths(self, size: int) -> tuple[int, ...]:
        lengths, current = [], size
        for layer in self.layers:
            after = layer.size_after(current, self.axis)
            lengths.append(after)
            if layer.kind != "crop":
                current = after
        return tuple(lengths)

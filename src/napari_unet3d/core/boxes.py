"""Boxes of voxels: where something lies in a volume."""

from __future__ import annotations

import math
from typing import NamedTuple

from napari_unet3d.errors import SpecError

Shape = tuple[int, int, int]
Interval = tuple[int, int]
AXES = ("z", "y", "x")


class Box(NamedTuple):
    """A box of voxels: a half-open interval (start, stop) along every axis.

    Examples
    --------
    >>> box = Box((0, 4), (2, 8), (0, 5))
    >>> box.shape, box.n_voxels
    ((4, 6, 5), 120)
    """

    z: Interval
    y: Interval
    x: Interval

    @classmethod
    def whole(cls, shape: Shape) -> Box:
        """Return the box that covers a volume of `shape`."""
        return cls(*((0, n) for n in shape))

    @classmethod
    def parse(cls, text: str, shape: Shape) -> Box:
        """Read `z0:z1,y0:y1,x0:x1`; an empty start or stop is the volume's end.

        Raises
        ------
        SpecError
            If the text is not of that form, or the box is empty or leaves the volume.

        Examples
        --------
        >>> Box.parse("10:20,:,30:", (64, 64, 64))
        Box(z=(10, 20), y=(0, 64), x=(30, 64))
        """
        parts = text.split(",")
        if len(parts) != 3 or any(part.count(":") != 1 for part in parts):
            raise SpecError(
                f"The region {text!r} must have the form z0:z1,y0:y1,x0:x1, for example 0:64,100:200,: for a volume "
                f"of {' x '.join(map(str, shape))} voxels."
            )
        intervals = []
        for part, n, axis in zip(parts, shape, AXES, strict=True):
            first, last = part.split(":")
            try:
                start, stop = int(first or 0), int(last or n)
            except ValueError:
                raise SpecError(
                    f"The region {text!r} has {part!r} along {axis}, which are not whole numbers."
                ) from None
            if not 0 <= start < stop <= n:
                raise SpecError(
                    f"The region {text!r} is empty or leaves the volume along {axis}: {start}:{stop} of 0:{n} voxels."
                )
            intervals.append((start, stop))
        return cls(*intervals)

    @property
    def shape(self) -> Shape:
        """Return the (z, y, x) shape in voxels."""
        z, y, x = (stop - start for start, stop in self)
        return z, y, x

    @property
    def n_voxels(self) -> int:
        """Return the number of voxels; 0 for an empty box."""
        return math.prod(max(0, n) for n in self.shape)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Return the box as an index."""
        z, y, x = (slice(start, stop) for start, stop in self)
        return z, y, x

    def intersection(self, other: Box) -> Box:
        """Return what both boxes cover; an axis where they do not meet is empty."""
        return Box(*((max(a, c), max(a, c, min(b, d))) for (a, b), (c, d) in zip(self, other, strict=True)))

    def shifted(self, by: Shape) -> Box:
        """Return the box moved by (z, y, x) voxels."""
        return Box(*((start + n, stop + n) for (start, stop), n in zip(self, by, strict=True)))

    def grown(self, by: Shape) -> Box:
        """Return the box with (z, y, x) voxels more on each side; fewer where they are negative.

        Examples
        --------
        >>> Box((4, 8), (4, 8), (4, 8)).grown((0, 2, -1))
        Box(z=(4, 8), y=(2, 10), x=(5, 7))
        """
        return Box(*((start - n, stop + n) for (start, stop), n in zip(self, by, strict=True)))

    def __str__(self) -> str:
        return ",".join(f"{start}:{stop}" for start, stop in self)

"""How good are the tile plans, against fixed cubes of 220 voxels?

    python benchmarks/plans.py

Operations of a plan over those of one pass over the whole volume, for the memory of a laptop and of a workstation.
Pure arithmetic; nothing is timed but the planning itself.
"""

from __future__ import annotations

import math
import statistics
import time

from napari_unet3d.core.tiles.plan import plan_tiles
from napari_unet3d.core.unet.costs import flops
from napari_unet3d.core.unet.spec import NetworkSpec

SPEC = NetworkSpec()
NAIVE_INPUT, NAIVE_OUTPUT = 220, 132
GIBIBYTES = (4, 16)
SHAPES = (
    (64, 64, 64),
    (100, 100, 100),
    (128, 128, 128),
    (200, 200, 200),
    (256, 256, 256),
    (300, 300, 300),
    # A cut-out of the data that TRAILMAP was trained on.
    (303, 303, 303),
    (512, 512, 512),
    (700, 700, 700),
    (1000, 1000, 1000),
    (1024, 1024, 1024),
    (2000, 2000, 2000),
    (1, 1000, 1000),
    (5, 512, 512),
    (30, 2048, 2048),
    (60, 1024, 1024),
    (120, 600, 800),
    (64, 2304, 2304),
    (250, 1100, 1100),
    # A light-sheet volume.
    (1000, 2000, 2000),
)


def main() -> None:
    """Print one line a shape and memory, then the medians."""
    naive_flops = flops((NAIVE_INPUT,) * 3, SPEC)
    print("volume          GiB  tiles  input shape      over ideal  220 cubes: tiles, over ideal  fewer operations")
    factors: dict[int, list[float]] = {gibibytes: [] for gibibytes in GIBIBYTES}
    ideals: dict[int, list[float]] = {gibibytes: [] for gibibytes in GIBIBYTES}
    begun = time.perf_counter()
    for shape in SHAPES:
        for gibibytes in GIBIBYTES:
            plan = plan_tiles(shape, SPEC, memory=gibibytes << 30)
            n_naive = math.prod(-(-n // NAIVE_OUTPUT) for n in shape)
            factor = n_naive * naive_flops / plan.flops
            factors[gibibytes].append(factor)
            ideals[gibibytes].append(plan.flops_over_ideal)
            print(
                f"{_times(shape):15s} {gibibytes:3d} {len(plan):6d}  {_times(plan.input_shape):15s} "
                f"{plan.flops_over_ideal:10.2f} {n_naive:17d}, {factor * plan.flops_over_ideal:10.2f} {factor:16.2f}x"
            )
    seconds = (time.perf_counter() - begun) / (len(SHAPES) * len(GIBIBYTES))
    for gibibytes in GIBIBYTES:
        print(
            f"plans with {gibibytes} GiB: {statistics.median(factors[gibibytes]):.2f}x fewer operations than 220 cubes "
            f"({min(factors[gibibytes]):.2f} to {max(factors[gibibytes]):.2f}); "
            f"{statistics.median(ideals[gibibytes]):.2f}x one pass (at most {max(ideals[gibibytes]):.2f})"
        )
    print(f"planning: {1000 * seconds:.1f} ms a volume on average")


def _times(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))


if __name__ == "__main__":
    main()

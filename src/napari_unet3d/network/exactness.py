"""Do tiles of two shapes give the same bytes on a device? A check of a second or two.

The network is of the kind that is asked for, as wide and deep as the time allows, with random weights. What is found is
true of one kind of processor, one type of numbers and one version of TensorFlow; `conditions` names them.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Shape
from napari_unet3d.core.unet.costs import flops, peak_bytes
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import OutOfMemoryError
from napari_unet3d.network.machine import runtime
from napari_unet3d.network.machine.device import Device
from napari_unet3d.network.predictor import compile_forward

# For both shapes together: about a second on two cores.
_FLOPS = 140e9
# How many steps of the poolings the larger shape is longer along x than the smallest, in order of preference. Rows of
# different lengths are what showed the differences that are known; shapes that are nearly alike showed none.
_STEPS = (16, 8)
_MOST_BLOCKS = 2
_CPU_NAMES = Path("/proc/cpuinfo")
_SETTINGS = ("TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


@dataclass(frozen=True)
class Check:
    """What is computed: a network, an input, and the part of it that is computed again by itself.

    Attributes
    ----------
    spec
        The network.
    whole, part
        Shapes (z, y, x) of the two inputs.
    start
        Where the part begins in the whole.
    """

    spec: NetworkSpec
    whole: Shape
    part: Shape
    start: Shape


def plan_check(spec: NetworkSpec, memory: int, *, bytes_per_value: int = 4) -> Check | None:
    """Return the check for networks like `spec`; None where none fits the memory.

    Parameters
    ----------
    spec
        The network that is used.
    memory
        Bytes that it may take.
    bytes_per_value
        4 for float32, 2 for mixed precision.

    Examples
    --------
    >>> check = plan_check(NetworkSpec(blocks=3, filters=32), 4 << 30)
    >>> check.spec.blocks, check.spec.filters, check.whole, check.part
    (2, 16, (92, 108, 156), (92, 92, 124))
    """
    for smaller in _smaller(spec):
        (_, step_y, step_x), (z, y, x) = smaller.geometry.alignment, smaller.geometry.smallest
        for n in _STEPS:
            whole = (z, y + n // 4 * step_y, x + n * step_x)
            part = (z, y, x + n // 2 * step_x)
            is_short = flops(whole, smaller) + flops(part, smaller) <= _FLOPS
            if is_short and peak_bytes(whole, smaller, bytes_per_value=bytes_per_value) <= memory:
                return Check(smaller, whole, part, (0, n // 4 * step_y, n // 2 * step_x))
    return None


def _smaller(spec: NetworkSpec) -> Iterator[NetworkSpec]:
    """Yield networks of the same kind that cost less and less."""
    filters = spec.filters
    while filters:
        changes = {"levels": spec.levels[: _MOST_BLOCKS + 1], "filters": filters, "batch_normalization": False}
        yield spec.model_copy(update=changes)
        filters //= 2


def tile_difference(check: Check, device: Device, *, reserve: int = 0) -> float | None:
    """Return by how much probabilities differ between the shapes of a check; 0.0 where all bytes are the same.

    Parameters
    ----------
    check
        From `plan_check`.
    device
        Where it runs.
    reserve
        Bytes that the run takes, so that the check uses a part of them and nothing else.

    Returns
    -------
    float or None
        None where the device had no memory left for it, or could not compute it.
    """
    tf = runtime.load_tensorflow()
    rng = np.random.default_rng(0)
    image = rng.normal(size=(*check.whole, check.spec.channels)).astype(np.float32)
    weights = {name: _random(rng, name, shape) for name, shape in check.spec.weight_shapes.items()}

    def probabilities(voxels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        z, y, x = voxels.shape[:3]
        return compile_forward(check.spec, weights, (z, y, x), "probabilities", device)(voxels)

    def of_part(values: npt.NDArray[np.float32], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        return values[tuple(slice(a, a + n) for a, n in zip(check.start, shape[:3], strict=True))]

    try:
        runtime.reserve(device, reserve)
        alone = probabilities(of_part(image, check.part))
        within = of_part(probabilities(image), alone.shape)
    except (OutOfMemoryError, tf.errors.OpError):
        return None
    return float(np.abs(alone - within).max())


def _random(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    width = float((2 / np.prod(shape[:-1])) ** 0.5) if name.endswith("kernel") else 0.1
    return rng.normal(0, width, shape).astype(np.float32)


def conditions(device: Device) -> str:
    """Return what a difference depends on besides the network: processor, numbers, settings and TensorFlow."""
    environment = {**runtime.ENVIRONMENT, **os.environ}
    settings = [f"{name}={environment[name]}" for name in _SETTINGS if name in environment]
    processor = device.label if device.is_gpu else f"{_processor()}, {device.label}"
    tensorflow = f"TensorFlow {importlib.metadata.version('tensorflow')}"
    return " | ".join([processor, device.computes_in, tensorflow, *settings])


def _processor() -> str:
    try:
        lines = _CPU_NAMES.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

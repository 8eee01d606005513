"""What a network runs on, as a value; `devices` finds out which there are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from napari_unet3d.errors import DeviceError

# What a prediction is asked to be computed in: `float32` is exact on a CPU, `bfloat16` is faster where a device has it.
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Device:
    """Something a network runs on.

    Attributes
    ----------
    name
        `cpu`, `gpu:0`, `gpu:1`, ..
    label
        What a person calls it.
    mixed_precision
        Whether convolutions run in float16 unless bfloat16 is asked for; on a CPU never.
    has_bfloat16
        Whether it multiplies bfloat16 numbers itself, and so faster than float32. Sums stay float32.
    precision
        What a prediction on it is asked to be computed in.
    """

    name: str
    label: str
    mixed_precision: bool = False
    has_bfloat16: bool = False
    precision: Precision = "float32"

    def in_precision(self, precision: Precision) -> Device:
        """Return the same device, to compute a prediction in `precision`; its label says so.

        Raises
        ------
        DeviceError
            If it would be slower than in float32.
        """
        if precision == self.precision:
            return self
        if precision == "bfloat16" and not self.has_bfloat16:
            raise DeviceError(
                f"Device {self.name} ({self.label}) has no instructions for bfloat16 and would only be slower with it. "
                "Choose exact (float32), or a CPU with AVX512_BF16 or AMX or an NVIDIA GPU from compute capability 8.0."
            )
        return replace(self, precision=precision, label=f"{self.label}, {precision}")

    @property
    def is_gpu(self) -> bool:
        """Return whether it is a GPU."""
        return self.name.startswith("gpu")

    @property
    def index(self) -> int:
        """Return its number among the devices of its kind."""
        return int(self.name.partition(":")[2] or 0)

    @property
    def tensorflow_name(self) -> str:
        """Return what TensorFlow calls it."""
        return f"/{'GPU' if self.is_gpu else 'CPU'}:{self.index}"

    @property
    def computes_in(self) -> str:
        """Return the type of the numbers that a prediction multiplies: `float32`, `bfloat16`, or `float16`."""
        if self.precision == "bfloat16":
            return "bfloat16"
        return "float16" if self.mixed_precision else "float32"

    @property
    def trains_in_bfloat16(self) -> bool:
        """Return whether the convolutions of a training step run in bfloat16, which takes a third less time."""
        return self.has_bfloat16 and not self.is_gpu

    @property
    def training_policy(self) -> str:
        """Return what Keras calls the number types of a training step."""
        if self.mixed_precision:
            return "mixed_float16"
        return "mixed_bfloat16" if self.trains_in_bfloat16 else "float32"

    @property
    def bytes_per_value(self) -> int:
        """Return the bytes of one value of an activation of a prediction."""
        return 4 if self.computes_in == "float32" else 2

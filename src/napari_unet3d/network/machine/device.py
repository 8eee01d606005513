"""What a network runs on, as a value; `devices` finds out which there are."""

from __future__ import annotations

from dataclasses import dataclass


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
        Whether convolutions run in float16; on a CPU never.
    trains_in_bfloat16
        Whether the convolutions of a training step run in bfloat16: a CPU with such instructions takes a third less
        time for it. Its weights, its sums and its models stay float32, and so does all that is predicted.
    """

    name: str
    label: str
    mixed_precision: bool = False
    trains_in_bfloat16: bool = False

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
    def training_policy(self) -> str:
        """Return what Keras calls the number types of a training step."""
        if self.mixed_precision:
            return "mixed_float16"
        return "mixed_bfloat16" if self.trains_in_bfloat16 else "float32"

    @property
    def bytes_per_value(self) -> int:
        """Return the bytes of one value of an activation."""
        return 2 if self.mixed_precision else 4

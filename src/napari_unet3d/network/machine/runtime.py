"""TensorFlow, set up in one place: the environment before its import, its memory, and its errors by one name."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from napari_unet3d.errors import DeviceError, OutOfMemoryError
from napari_unet3d.network.machine.device import Device

ENVIRONMENT = {
    # TensorFlow leaves oneDNN off on CPUs without AVX-512; with it these networks are 3 to 9 times faster.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    # Its notes on missing GPUs read like errors; what matters is said by `napari-unet3d info`.
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "KERAS_BACKEND": "tensorflow",
}
_RESERVE_UNIT = 1 << 20


@cache
def load_tensorflow() -> Any:
    """Import TensorFlow in the right environment and return it.

    A variable that the user has set is left as it is.

    Raises
    ------
    DeviceError
        If TensorFlow cannot be imported; the message says how to install it.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        with _standard_error_withheld():
            import tensorflow as tf
    except ImportError as error:
        raise DeviceError(
            f"TensorFlow cannot be imported ({error}). Installing it again may help: "
            "pip install --force-reinstall tensorflow"
        ) from error
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            # Somebody in this process has used the GPU already; its setting stands.
            break
    return tf


@contextmanager
def _standard_error_withheld() -> Iterator[None]:
    """Keep what native code prints to standard error back, and show it if the block fails.

    TensorFlow reports missing CUDA drivers while it is imported, before its log level counts.
    """
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # a program without standard error, as pythonw is
        yield
        return
    with tempfile.TemporaryFile() as withheld:
        os.dup2(withheld.fileno(), 2)
        try:
            yield
        except BaseException:
            withheld.seek(0)
            os.write(saved, withheld.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def one_dnn_note() -> str:
    """Return whether oneDNN is used on the CPU, and why, as one sentence."""
    value = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "")
    if value == "0":
        return (
            "oneDNN is off, because TF_ENABLE_ONEDNN_OPTS is 0; the CPU is 3 to 9 times "
            "slower without it, and tiles differ from one pass in the last digits."
        )
    if "tensorflow" in sys.modules and not load_tensorflow.cache_info().currsize:
        return "TensorFlow was imported by something else before; whether it uses oneDNN is not known."
    return "oneDNN is on for the CPU."


def reserve(device: Device, n_bytes: int) -> None:
    """Make TensorFlow's allocator take its memory as one piece, before it is cut up.

    Otherwise it grows by pieces that do not fit what comes later, and takes up to twice as much. The pages are
    not touched, so nothing is used before it is needed. Windows counts them as used, so there it is left out, and so
    it is on a GPU.

    Parameters
    ----------
    device
        Where it is.
    n_bytes
        What will be needed.
    """
    tf = load_tensorflow()
    if os.name != "nt" and not device.is_gpu:
        with out_of_memory_named(tf, device), tf.device(device.tensorflow_name):
            tf.raw_ops.Empty(shape=[-(-n_bytes // _RESERVE_UNIT), _RESERVE_UNIT], dtype=tf.uint8, init=False)


@contextmanager
def out_of_memory_named(tf: Any, device: Device) -> Iterator[None]:
    """Turn what TensorFlow raises when a device is full into an OutOfMemoryError."""
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise OutOfMemoryError(f"{device.label} has no memory left for an input of this size.") from error
    except (tf.errors.InternalError, tf.errors.UnknownError, tf.errors.NotFoundError) as error:
        # What cuDNN and the CUDA driver say when there is no memory left reaches us under these names.
        if not any(sign in str(error).lower() for sign in ("out of memory", "no algorithm worked")):
            raise
        raise OutOfMemoryError(f"{device.label} has no memory left for an input of this size.") from error

"""The loops of resampling: compiled, or plain where this machine's numba or LLVM cannot make them.

What is written with `lanes` is close to the compiler, so a version or a processor that nobody has tried may refuse it.
"""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

# What numba, llvmlite and LLVM raise where they cannot make the loops, beside what numba itself defines.
_REFUSALS = (ImportError, NotImplementedError, RuntimeError, TypeError, AttributeError)
_loops: ModuleType | None = None


def resample_linear(*arguments: Any) -> None:
    """Fill planes by trilinear interpolation; see `kernels.resample.resample_linear`."""
    _run("resample_linear", arguments)


def resample_nearest(*arguments: Any) -> None:
    """Fill planes with the nearest voxels; see `kernels.resample.resample_nearest`."""
    _run("resample_nearest", arguments)


def _run(name: str, arguments: tuple[Any, ...]) -> None:
    global _loops
    if _loops is None:
        try:
            from napari_unet3d.core.augment.kernels import resample

            getattr(resample, name)(*arguments)
        except _refusals() as error:
            from napari_unet3d.core.augment.kernels import plain

            warnings.warn(
                f"The fast loops of augmentation cannot be compiled here, so slow ones are used: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
            _loops = plain
        else:
            return
    getattr(_loops, name)(*arguments)


def _refusals() -> tuple[type[Exception], ...]:
    try:
        from numba.core.errors import NumbaError
    except ImportError:
        return _REFUSALS
    return (*_REFUSALS, NumbaError)

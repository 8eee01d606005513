"""Creating a volume on disk: which format it has, and whether it can be written there.

The suffix decides the format: `.tif` (which ImageJ opens where the numbers allow it), `.ome.tif`, `.zarr`
(OME-Zarr 0.5).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_unet3d import atomic
from napari_unet3d.errors import OutputError, shown
from napari_unet3d.volumes.outputs.base import DTYPES, Kind, Output, OutputSpec
from napari_unet3d.volumes.space.calibration import normalize_unit


def create_output(
    path: str | os.PathLike[str],
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    *,
    voxel_size: Sequence[float],
    unit: str,
    translate: Sequence[float] = (0.0, 0.0, 0.0),
    kind: Kind = "labels",
    class_names: Sequence[str] = (),
    overwrite: bool = False,
) -> Output:
    """Create a volume on disk and return it, ready to be written box by box.

    Parameters
    ----------
    path
        The path of the volume. `.tif` or `.tiff`: a TIFF for ImageJ if `dtype` is uint8, uint16 or float32, else
        an OME-TIFF. `.ome.tif`: an OME-TIFF. `.zarr`: OME-Zarr 0.5, the array is "0".
    shape
        (z, y, x) or (z, y, x, c), in voxels.
    dtype
        uint8, uint16, uint32, int8, int16, int32 or float32.
    voxel_size, unit, translate
        As in `Volume`.
    kind
        "labels" for class indices or instances, "image" for intensities and probabilities.
    class_names
        The name of each label from 0 on; kept by OME-Zarr.
    overwrite
        Replace an existing file or zarr at `commit`; the old one is kept until then.

    Raises
    ------
    OutputError
        If it cannot be written there: the name, the folder, the disk, or a target that exists.
    """
    return open_output(
        output_spec(
            path,
            shape,
            dtype,
            voxel_size=voxel_size,
            unit=unit,
            translate=translate,
            kind=kind,
            class_names=class_names,
            overwrite=overwrite,
        )
    )


def open_output(
    spec: OutputSpec, unfinished: Path | None = None, *, goes_on: bool = False, is_shared: bool = False
) -> Output:
    """Begin a volume, or go on with one that was begun; see `Output`.

    Raises
    ------
    OutputError
        If it cannot be written, or what shall be gone on with is not there.
    """
    if spec.target.suffix.lower() == ".zarr":
        from napari_unet3d.volumes.outputs.zarr import ZarrOutput

        return ZarrOutput(spec, unfinished, goes_on=goes_on, is_shared=is_shared)
    from napari_unet3d.volumes.outputs.tiff import TiffOutput

    return TiffOutput(spec, unfinished, goes_on=goes_on, is_shared=is_shared)


def writing_bytes(path: str | os.PathLike[str], shape: tuple[int, ...], dtype: npt.DTypeLike) -> int:
    """Return what `Output.writing_bytes` will be, before there is an output."""
    if Path(path).suffix.lower() != ".zarr":
        return 0
    from napari_unet3d.volumes.outputs import zarr

    return zarr.writing_bytes(shape, np.dtype(dtype))


def output_spec(
    path: str | os.PathLike[str],
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    *,
    voxel_size: Sequence[float],
    unit: str,
    translate: Sequence[float] = (0.0, 0.0, 0.0),
    kind: Kind = "labels",
    class_names: Sequence[str] = (),
    overwrite: bool = False,
) -> OutputSpec:
    """Return what is to be written, after it was checked that it can be written there; see `create_output`.

    Raises
    ------
    OutputError
        As `create_output`.
    """
    target = Path(os.path.abspath(path))
    sizes = tuple(int(size) for size in shape)
    number_type = np.dtype(dtype).newbyteorder("=")
    z, y, x = (float(size) for size in voxel_size)
    if len(sizes) not in (3, 4) or min(sizes) < 1:
        raise ValueError(f"the shape of an output is (z, y, x) or (z, y, x, c), each at least 1, not {sizes}")
    if not all(math.isfinite(size) and size > 0 for size in (z, y, x)):
        raise ValueError(f"a voxel size is finite and positive, not {tuple(voxel_size)}")
    if kind not in ("labels", "image") or (kind == "labels" and (number_type.kind == "f" or len(sizes) == 4)):
        raise ValueError(f"{kind=} does not go with {number_type} of shape {sizes}: labels are (z, y, x) integers")
    if number_type.name not in DTYPES:
        raise OutputError(f"{shown(path)} cannot hold {number_type}; the types that work are {', '.join(DTYPES)}.")
    check_place(target, overwrite=overwrite, tidies=True)
    name, factor = normalize_unit(unit)
    oz, oy, ox = (float(offset) * factor for offset in translate)
    return OutputSpec(
        target,
        sizes,
        number_type,
        (z * factor, y * factor, x * factor),
        name,
        (oz, oy, ox),
        kind,
        tuple(class_names),
        overwrite,
    )


def check_place(target: Path, *, overwrite: bool, tidies: bool = False) -> None:
    """Check whether a volume can be written somewhere: the name, the folder, and what is there.

    Parameters
    ----------
    target
        The absolute path.
    overwrite
        Whether what is there may be replaced.
    tidies
        Whether what runs that were killed have left there is removed.

    Raises
    ------
    OutputError
        If it cannot.
    """
    suffix = target.suffix.lower()
    name = shown(target)
    if suffix not in (".tif", ".tiff", ".zarr"):
        raise OutputError(
            f"{name}: {suffix or 'no suffix'} is not a format that can be written; "
            "end the name in .tif, .ome.tif or .zarr."
        )
    if not os.path.isdir(target.parent):
        raise OutputError(f"The folder {shown(target.parent)} does not exist; create it, or choose another one.")
    if tidies:
        with atomic.writing(target, 0):
            atomic.tidy(target)
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise OutputError(atomic.exists_already(target))
    with atomic.writing(target, 0):
        is_other_folder = (
            os.path.isdir(target) and not target.is_symlink() and not (suffix == ".zarr" and _is_zarr(target))
        )
    if is_other_folder:
        # Overwriting removes all that a folder holds: only what was a zarr may go that way.
        raise OutputError(f"{name} is a folder but not a Zarr, so it is not overwritten; choose another name.")


def _is_zarr(folder: Path) -> bool:
    markers = ("zarr.json", ".zgroup", ".zarray")
    return any((folder / marker).is_file() for marker in markers) or not any(folder.iterdir())

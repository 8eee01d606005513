"""Import of the published ExLLSM networks, whole Keras 2 models in HDF5.

Only arrays are read, each through a plain path inside the file: no link is followed, no configuration is
interpreted, and the architecture is recognised by the shapes alone.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from napari_unet3d.core.normalize import Normalization
from napari_unet3d.core.unet.costs import n_parameters
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import ModelError, shown
from napari_unet3d.network.model import Model, ModelCard

if TYPE_CHECKING:
    import h5py

ROOT = "model_weights"
_MOST_BLOCKS = 1000
_MOST_BYTES = 1 << 30
# What HDF5's library and h5py raise, depending on the byte that is wrong.
_DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, SystemError, MemoryError)


def import_exllsm(
    path: str | os.PathLike[str],
    *,
    normalization: Normalization | None = None,
    class_names: tuple[str, ...] | None = None,
) -> Model:
    """Read a network of the ExLLSM lineage from a Keras 2 `.h5` file.

    Parameters
    ----------
    path
        A whole model, or its weights, as saved by Keras 2.
    normalization
        How intensities are scaled for the network; the file does not say. None leaves them as they are.
    class_names
        One name per class. None: `background`, `object`, or `class 2`, ..

    Raises
    ------
    ModelError
        If the file is not HDF5, holds links or another architecture, or an array that is not plain numbers.
    """
    import h5py

    file_path = Path(path)
    if not os.path.isfile(file_path):
        raise ModelError(f"There is no file {shown(file_path)}.")
    if not h5py.is_hdf5(file_path):
        raise ModelError(f"{shown(file_path)} is not an HDF5 file.")
    try:
        with h5py.File(file_path, "r") as file:
            blocks = _arrays_by_block(_member(file, ROOT, file_path), file_path)
            spec = _recognise(blocks, file_path)
            weights = _named(spec, blocks, file_path)
    except _DAMAGED as error:
        raise ModelError(f"{shown(file_path)} cannot be read, it may be cut off or damaged: {error}.") from error
    names = class_names or ("background", "object", *(f"class {i}" for i in range(2, spec.classes)))[: spec.classes]
    card = ModelCard(
        network=spec,
        class_names=names,
        normalization=normalization or Normalization(),
        training={"imported from": file_path.name},
    )
    return Model(card, weights)


def _arrays_by_block(group: Any, path: Path) -> dict[str, list[h5py.Dataset]]:
    """Return the arrays of every block, not read yet, in the order of its attribute `weight_names`."""
    if not hasattr(group, "keys") or len(group) > _MOST_BLOCKS:
        raise ModelError(f"{shown(path)} is not a Keras model of this lineage: {ROOT} is no group of a few blocks.")
    blocks: dict[str, list[Any]] = {}
    for block in group:
        member = _member(group, block, path)
        names = [n.decode() if isinstance(n, bytes) else str(n) for n in member.attrs.get("weight_names", [])]
        if names:
            blocks[block] = [_plain(member, name, path) for name in names]
    return blocks


def _member(group: Any, name: str, path: Path) -> Any:
    """Return a member of a group without ever following a link."""
    import h5py

    if not isinstance(group, h5py.Group) or name in ("", ".", ".."):
        raise ModelError(f"{shown(path)} is not a Keras model: {name!r} is not where it should be.")
    link = group.get(name, getlink=True)
    if link is None:
        raise ModelError(
            f"{shown(path)} is not a Keras model of this lineage: it holds no {group.name.rstrip('/')}/{name}."
        )
    if not isinstance(link, h5py.HardLink):
        where = getattr(link, "filename", "the same file")
        raise ModelError(
            f"{shown(path)} is refused: {group.name.rstrip('/')}/{name} is a link to {link.path} in {where}, and links "
            "are not followed."
        )
    return group[name]


def _plain(group: Any, name: str, path: Path) -> h5py.Dataset:
    """Return an array of plain numbers, all of which lie in the file itself."""
    import h5py

    member = group
    for part in name.split("/"):
        member = _member(member, part, path)
    if not isinstance(member, h5py.Dataset):
        raise ModelError(f"{shown(path)} is refused: {member.name} is not an array.")
    if member.external or member.is_virtual:
        raise ModelError(f"{shown(path)} is refused: the numbers of {member.name} lie in another file.")
    if member.dtype.kind != "f":
        raise ModelError(f"{shown(path)} is refused: {member.name} holds {member.dtype}, not floating point numbers.")
    if member.ndim not in (1, 5):
        raise ModelError(f"{shown(path)} is refused: {member.name} of shape {member.shape} is not a kernel or a bias.")
    if member.id.get_create_plist().get_nfilters():
        # Keras compresses nothing, and what a chunk inflates to is not known before.
        raise ModelError(
            f"{shown(path)} is refused: {member.name} is compressed. `h5repack -f NONE` writes a file that can be read."
        )
    if member.id.get_storage_size() < member.size * member.dtype.itemsize:
        raise ModelError(f"{shown(path)} is refused: the numbers of {member.name} were never written.")
    return member


def _recognise(blocks: dict[str, list[Any]], path: Path) -> NetworkSpec:
    try:
        first, last = blocks["input_block"][0], blocks["output_block"][-1]
        return NetworkSpec(
            blocks=sum(name.startswith("downsample_block") for name in blocks),
            filters=int(first.shape[-1]),
            channels=int(first.shape[-2]),
            classes=int(last.shape[0]),
        )
    except (KeyError, IndexError, ValidationError) as error:
        found = ", ".join(blocks) or "none"
        raise ModelError(
            f"{shown(path)} is not a 3D U-Net of this lineage: its blocks are {found}; expected are input_block, "
            "downsample_block .., bottleneck_block, upsample_block .., output_block."
        ) from error


def _named(spec: NetworkSpec, blocks: dict[str, list[Any]], path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Return the arrays under our names, read after their shapes were compared with the network's."""
    if 4 * n_parameters(spec) > _MOST_BYTES:
        raise ModelError(f"{shown(path)} holds a network of {n_parameters(spec):,} parameters; so many are refused.")
    remaining = dict(blocks)
    weights: dict[str, npt.NDArray[np.float32]] = {}
    for block in dict.fromkeys(layer.block for layer in spec.layers):
        theirs = block.replace("sample", "sample_block", 1) if "sample" in block else f"{block}_block"
        expected = {
            name: shape for layer in spec.layers if layer.block == block for name, shape in layer.weight_shapes.items()
        }
        found = remaining.pop(theirs, [])
        if [a.shape for a in found] != list(expected.values()):
            raise ModelError(
                f"{shown(path)} is another architecture: {theirs} has arrays of {[a.shape for a in found]}; expected "
                f"are {list(expected.values())}."
            )
        for name, array in zip(expected, found, strict=True):
            weights[name] = np.asarray(array[()], np.float32)
    if remaining:
        raise ModelError(f"{shown(path)} is another architecture: it also has {', '.join(remaining)}.")
    return weights

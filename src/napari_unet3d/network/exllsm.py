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

from napari_unet3d.core.architecture import NetworkSpec
from napari_unet3d.core.normalize import Normalization
from napari_unet3d.errors import ModelError
from napari_unet3d.network.model import Model, ModelCard

if TYPE_CHECKING:
    import h5py

ROOT = "model_weights"


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
        How intensities reach the network; the file does not say. None: as they are.
    class_names
        One a class. None: `background`, `object`, or `class 2`, ..

    Raises
    ------
    ModelError
        If the file is not HDF5, holds links or another architecture, or an array that is not plain numbers.
    """
    import h5py

    file_path = Path(path)
    if not file_path.is_file():
        raise ModelError(f"There is no file {file_path}.")
    if not h5py.is_hdf5(file_path):
        raise ModelError(f"{file_path} is not an HDF5 file.")
    try:
        with h5py.File(file_path, "r") as file:
            blocks = _arrays_by_block(_member(file, ROOT, file_path), file_path)
    except OSError as error:
        raise ModelError(f"{file_path} cannot be read: {error}.") from error
    spec = _recognise(blocks, file_path)
    names = class_names or ("background", "object", *(f"class {i}" for i in range(2, spec.classes)))[: spec.classes]
    card = ModelCard(
        network=spec,
        class_names=names,
        normalization=normalization or Normalization(),
        training={"imported from": file_path.name},
    )
    return Model(card, _named(spec, blocks, file_path))


def _arrays_by_block(group: Any, path: Path) -> dict[str, list[h5py.Dataset]]:
    """Return the arrays of every block, in the order of its attribute `weight_names`."""
    blocks: dict[str, list[Any]] = {}
    for block in group:
        member = _member(group, block, path)
        names = [n.decode() if isinstance(n, bytes) else str(n) for n in member.attrs.get("weight_names", [])]
        if names:
            blocks[block] = [_read_plain(member, name, path) for name in names]
    return blocks


def _member(group: Any, name: str, path: Path) -> Any:
    """Return a member of a group without ever following a link."""
    import h5py

    if not isinstance(group, h5py.Group) or name in ("", ".", ".."):
        raise ModelError(f"{path} is not a Keras model: {name!r} is not where it should be.")
    link = group.get(name, getlink=True)
    if link is None:
        raise ModelError(f"{path} is not a Keras model of this lineage: it holds no {group.name.rstrip('/')}/{name}.")
    if not isinstance(link, h5py.HardLink):
        where = getattr(link, "filename", "the same file")
        raise ModelError(
            f"{path} is refused: {group.name.rstrip('/')}/{name} is a link to {link.path} in {where}, and links are "
            "not followed."
        )
    return group[name]


def _read_plain(group: Any, name: str, path: Path) -> npt.NDArray[np.float32]:
    import h5py

    member = group
    for part in name.split("/"):
        member = _member(member, part, path)
    if not isinstance(member, h5py.Dataset):
        raise ModelError(f"{path} is refused: {member.name} is not an array.")
    if member.external or member.is_virtual:
        raise ModelError(f"{path} is refused: the numbers of {member.name} lie in another file.")
    if member.dtype.kind != "f":
        raise ModelError(f"{path} is refused: {member.name} holds {member.dtype}, not floating point numbers.")
    if member.ndim not in (1, 5) or member.size * member.dtype.itemsize > 1 << 30:
        raise ModelError(f"{path} is refused: {member.name} of shape {member.shape} is not a kernel or a bias.")
    return np.asarray(member[()], np.float32)


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
            f"{path} is not a 3D U-Net of this lineage: its blocks are {found}; expected are input_block, "
            "downsample_block .., bottleneck_block, upsample_block .., output_block."
        ) from error


def _named(spec: NetworkSpec, blocks: dict[str, list[Any]], path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Return the arrays under our names, after their shapes were compared with the network's."""
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
                f"{path} is another architecture: {theirs} has arrays of {[a.shape for a in found]}; expected are "
                f"{list(expected.values())}."
            )
        weights.update(zip(expected, found, strict=True))
    if remaining:
        raise ModelError(f"{path} is another architecture: it also has {', '.join(remaining)}.")
    return weights

"""Models on disk: a folder with `model.json` and `weights.safetensors`, written whole or not at all.

Nothing in the folder can run code: the network is built from the spec, the weights are plain numbers, and both are
checked before any of them is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as read_safetensors
from safetensors.numpy import save as to_safetensors

from napari_unet3d import atomic
from napari_unet3d.core.unet.costs import n_parameters
from napari_unet3d.core.unet.layers import levels_of
from napari_unet3d.core.unet.spec import MAX_BLOCKS, NetworkSpec
from napari_unet3d.errors import ModelError, OutputError, shown
from napari_unet3d.network.model import Model, ModelCard, check_weights
from napari_unet3d.small_files import read_json, read_small

FORMAT = "napari-unet3d model"
FORMAT_VERSION = 2
SUFFIX = ".unet3d"
# Comes with the package, under `models/`.
DEMO_MODEL = "demo-neuron.unet3d"
CARD_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
MAX_PARAMETERS = 500_000_000
_MAX_HEADER_BYTES = 1 << 20


class _Weights(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    file: str
    sha256: str


class _Folder(BaseModel):
    """What `model.json` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: str
    format_version: int
    model: ModelCard
    software: Mapping[str, str]
    weights: _Weights


def save_model(model: Model, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a model folder, whole or not at all.

    Parameters
    ----------
    model
        What to save.
    path
        The folder, by custom with the suffix `.unet3d`.
    overwrite
        Replace a model that is already there.

    Raises
    ------
    OutputError
        If the folder exists (or, with `overwrite`, is something other than a model), or cannot be written.
    """
    target = Path(path).absolute()
    weights = to_safetensors({name: np.ascontiguousarray(model.weights[name]) for name in model.spec.weight_shapes})
    folder = _Folder(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        model=model.card,
        software=_versions(),
        weights=_Weights(file=WEIGHTS_FILE, sha256=hashlib.sha256(weights).hexdigest()),
    )
    content = (folder.model_dump_json(indent=2) + "\n").encode()
    n_bytes = len(weights) + len(content)
    with atomic.writing(target, n_bytes):
        atomic.tidy(target)
        if target.exists() and not overwrite:
            raise OutputError(atomic.exists_already(target))
        if target.exists() and not (target / CARD_FILE).is_file():
            raise OutputError(f"{shown(target)} is not a model folder, so it is not replaced. Choose another name.")
        begun = atomic.claim_partial(target)
        try:
            begun.mkdir()
            (begun / WEIGHTS_FILE).write_bytes(weights)
            (begun / CARD_FILE).write_bytes(content)
            atomic.sync_tree(begun)
            atomic.put_in_place(begun, target, overwrite=overwrite)
        finally:
            atomic.release_partial(begun)
    return target


def read_card(path: str | os.PathLike[str]) -> tuple[ModelCard, str]:
    """Return what is known of a model in a folder, and the SHA-256 of its weights, which are not read.

    Raises
    ------
    ModelError
        If the folder is not a model, or its description is damaged or of a newer format.
    """
    folder = _read_card(_card_file(Path(path).absolute()))
    _check_size(folder.model.network, Path(path) / CARD_FILE)
    return folder.model, folder.weights.sha256


def load_model(path: str | os.PathLike[str]) -> Model:
    """Read a model folder and check all of it; no code of it is run and no Keras imported.

    Parameters
    ----------
    path
        A folder written by `save_model`.

    Raises
    ------
    ModelError
        If the folder is not one, is damaged, of a newer format, or its weights are not those that were saved.
    """
    target = Path(path).absolute()
    card_file = _card_file(target)
    folder = _read_card(card_file)
    spec = folder.model.network
    _check_size(spec, card_file)
    if folder.weights.file != WEIGHTS_FILE:
        raise ModelError(
            f"{shown(card_file)} names the weights file {folder.weights.file!r}; it must be {WEIGHTS_FILE!r}."
        )
    weights = _read_weights(target / WEIGHTS_FILE, spec, folder.weights.sha256)
    return Model(folder.model, weights)


def _card_file(target: Path) -> Path:
    card_file = target / CARD_FILE
    try:
        if not target.exists() and target.parent.is_dir():
            with contextlib.suppress(OSError):
                atomic.tidy(target)
        if not target.exists():
            raise ModelError(f"There is no model folder {shown(target)}.")
        if not card_file.is_file():
            raise ModelError(f"{shown(target)} is not a model folder: it holds no {CARD_FILE}.")
    except OSError as error:
        raise ModelError(f"{shown(target)} cannot be read: {error.strerror or error}.") from error
    return card_file


def _read_card(path: Path) -> _Folder:
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{shown(path)} cannot be read, it may be cut off or damaged: {error}.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"{shown(path)} does not describe a model of napari-unet3d: its format is not {FORMAT!r}.")
    version = content.get("format_version")
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise ModelError(
            f"{shown(path)} has format version {version}; this program reads up to version {FORMAT_VERSION}. "
            "A newer napari-unet3d reads it."
        )
    for old in range(version, FORMAT_VERSION):
        content = _UPGRADES[old](content)
    try:
        return _Folder.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        reason = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise ModelError(f"{shown(path)} is refused at {where}: {reason}.") from error


def _second_format(content: dict[str, Any]) -> dict[str, Any]:
    """Return a folder of format 1 in format 2.

    Networks say kernel and pooling of every level, where `blocks` stood; a head stands for the bare names of classes.
    """
    model = content.get("model")
    network = model.get("network") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(network, dict) or "levels" in network:
        return content
    blocks = network.get("blocks", 2)
    if type(blocks) is not int or not 0 <= blocks <= MAX_BLOCKS:
        # Refused with its reason where the network is read.
        return content
    levels = [level.model_dump(mode="json") for level in levels_of(blocks)]
    network = {"levels": levels, **{name: value for name, value in network.items() if name != "blocks"}}
    rest = {name: value for name, value in model.items() if name != "class_names"}
    head = {"head": {"kind": "classes", "names": model["class_names"]}} if "class_names" in model else {}
    return {**content, "model": {**head, **rest, "network": network}}


# From each format to the next.
_UPGRADES = {1: _second_format}


def _check_size(spec: NetworkSpec, path: Path) -> None:
    n = n_parameters(spec)
    if n > MAX_PARAMETERS:
        raise ModelError(
            f"{shown(path)} describes a network of {n:,} parameters ({spec.shape_text}, {spec.filters} filters); "
            f"more than {MAX_PARAMETERS:,} are refused."
        )


def _read_weights(path: Path, spec: NetworkSpec, sha256: str) -> dict[str, npt.NDArray[Any]]:
    most = 4 * n_parameters(spec) + _MAX_HEADER_BYTES
    try:
        size = path.stat().st_size
        if size > most:
            raise ModelError(f"{shown(path)} has {size:,} bytes; the weights of this network take at most {most:,}.")
        content = read_small(path, most)
    except FileNotFoundError:
        raise ModelError(f"The weights are missing: there is no file {shown(path)}.") from None
    except OSError as error:
        raise ModelError(f"The weights {shown(path)} cannot be read: {error.strerror or error}.") from error
    header = int.from_bytes(content[:8], "little")
    if header > min(len(content) - 8, _MAX_HEADER_BYTES):
        raise ModelError(f"{shown(path)} declares a header of {header:,} bytes, but has {size:,} bytes in all.")
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ModelError(
            f"{shown(path)} is not what was saved with this model: its SHA-256 differs from the one in {CARD_FILE}."
        )
    try:
        weights = read_safetensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{shown(path)} is damaged: {error}.") from error
    try:
        check_weights(spec, weights)
    except ModelError as error:
        raise ModelError(f"{shown(path)} is refused. {error}") from error
    return {name: weights[name] for name in spec.weight_shapes}


def _versions() -> dict[str, str]:
    versions = {}
    for name in ("napari-unet3d", "keras", "tensorflow", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions

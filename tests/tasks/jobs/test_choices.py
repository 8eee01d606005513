"""Which image, axes, channel and point in time: every command takes the choices, and an advice works when followed."""

from __future__ import annotations

import json
import re

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from napari_unet3d.cli import EXIT_BAD_INPUT, main
from napari_unet3d.cli.reading import read_labels
from napari_unet3d.errors import VolumeError
from napari_unet3d.network.store import save_model
from napari_unet3d.volumes import read_volume
from tests.support.models import random_model

VALUES = np.random.default_rng(0).integers(0, 999, (2, 24, 40, 44)).astype(np.uint16)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(random_model(blocks=0, filters=2), tmp_path_factory.mktemp("model") / "m.unet3d")


def _hyperstack(folder, axes):
    order = {"CZYX": VALUES, "ZCYX": VALUES.transpose(1, 0, 2, 3), "TZYX": VALUES}[axes]
    tifffile.imwrite(
        folder / "a.tif", order, imagej=True, metadata={"axes": axes}
    ) if axes != "CZYX" else tifffile.imwrite(folder / "a.tif", order, ome=True, metadata={"axes": axes})
    return folder / "a.tif"


def _hdf5(folder, *arrays):
    with h5py.File(folder / "a.h5", "w") as file:
        for at, values in enumerate(arrays):
            file[f"array{at}"] = values
    return folder / "a.h5"


def _zarr_of_five(folder):
    axes = [{"name": n, "type": {"t": "time", "c": "channel"}.get(n, "space")} for n in "tczyx"]
    group = zarr.create_group(folder / "a.zarr", zarr_format=2)
    group.create_array("0", data=np.stack([VALUES, VALUES + 1]))
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]
    return folder / "a.zarr"


def _two_stacks(folder):
    for name in ("DAPI", "GFP"):
        for z, plane in enumerate(VALUES[0]):
            tifffile.imwrite(folder / f"{name}_{z:03d}.tif", plane)
    return folder


def _two_channels_by_number(folder):
    for c in (0, 1):
        for z, plane in enumerate(VALUES[c]):
            tifffile.imwrite(folder / f"img_z{z:03d}_c{c}.tif", plane)
    return folder


REFUSED = {
    "ImageJ, channels": lambda d: _hyperstack(d, "ZCYX"),
    "ImageJ, times": lambda d: _hyperstack(d, "TZYX"),
    "OME, channels": lambda d: _hyperstack(d, "CZYX"),
    "HDF5 without names": lambda d: _hdf5(d, VALUES),
    "HDF5 with two arrays": lambda d: _hdf5(d, VALUES[0], VALUES[1]),
    "HDF5 with two arrays, axes and channels": lambda d: _hdf5(d, VALUES, VALUES),
    "OME-Zarr, times and channels": _zarr_of_five,
    "Zarr group": lambda d: zarr.create_group(d / "g.zarr").create_array("raw", data=VALUES[0]).store_path.store.root,
    "slices of two stacks": _two_stacks,
    "slices of two channels": _two_channels_by_number,
    "a photo": lambda d: _hdf5(d, np.zeros((40, 44, 3), np.uint8)),
    "named channels": lambda d: tifffile.imwrite(d / "a.tif", VALUES[0], metadata={"axes": "CYX"}) or d / "a.tif",
}


def _run(capsys, *words):
    code = 0
    try:
        main([str(word) for word in words])
    except SystemExit as ended:
        code = int(ended.code or 0)
    return code, capsys.readouterr().err


def _advised(message):
    """Return what a message says to pass: options with their values, or another path."""
    options = [word for found in re.findall(r"(--(?:axes|channel|timepoint) \w+)", message) for word in found.split()]
    path = re.search(r"(?:Name one: |Choose one: |such as )(/\S+?)(?:, or |\.?$)", message.strip())
    return path[1] if path else None, options


@pytest.mark.parametrize("kind", REFUSED)
def test_an_advice_that_is_followed_leads_to_a_plan(tmp_path, capsys, model, kind):
    path, options = REFUSED[kind](tmp_path), []
    for _ in range(4):
        code, message = _run(capsys, "plan", path, "--model", model, *options)
        if code == 0:
            break
        assert code == EXIT_BAD_INPUT
        other, more = _advised(message)
        assert other or more, message
        path, options = other or path, [*options, *more]
    assert code == 0, message
    assert options or str(path) != str(tmp_path)


@pytest.mark.parametrize("command", ["plan", "predict", "augment", "train"])
def test_every_command_takes_the_same_choices(tmp_path, capsys, model, command):
    path = _zarr_of_five(tmp_path)
    labels = tmp_path / "labels.tif"
    tifffile.imwrite(labels, (VALUES[1] > 500).astype(np.uint8))
    choices = ("--channel", 1, "--timepoint", 1, "--axes", "tczyx")
    words = {
        "plan": (path, "--model", model),
        "predict": (path, "--model", model, "--output", tmp_path / "out.tif"),
        "augment": (path, "--output", tmp_path / "patch.tif", "--input", 20, "--blocks", 0, "--labels", labels),
        "train": (
            *("--image", path, "--labels", labels, "--output", tmp_path / "run", "--steps", 1, "--blocks", 0),
            *("--filters", 2, "--patch", 20, "--validation", "none"),
        ),
    }[command]
    assert _run(capsys, command, *words, *choices)[0] == 0
    code, message = _run(capsys, command, *words, *choices[2:], "--channel", 2)
    assert code == EXIT_BAD_INPUT
    assert "has 2 channels, counted from 0; channel 2 is not there" in message


def test_labels_that_cannot_be_read_at_all_are_not_tried_with_other_axes(tmp_path, monkeypatch):
    tried = []

    def counting(path, **choices):
        tried.append(choices)
        return read_volume(path, **choices)

    monkeypatch.setattr("napari_unet3d.volumes.read_volume", counting)
    (tmp_path / "damaged.tif").write_bytes(b"II*\0")
    with pytest.raises(VolumeError):
        read_labels(str(tmp_path / "damaged.tif"), "tczyx", 1)
    assert len(tried) == 1
    # Those with points in time are read as their image is.
    assert read_labels(str(_zarr_of_five(tmp_path)), None, 1).shape == VALUES[0].shape


def test_what_is_chosen_is_what_is_segmented(tmp_path, capsys, model):
    path = _zarr_of_five(tmp_path)
    tifffile.imwrite(tmp_path / "alone.tif", VALUES[1] + 1)
    for name, words in (("five", (path, "--channel", 1, "--timepoint", 1)), ("alone", (tmp_path / "alone.tif",))):
        assert _run(capsys, "predict", *words, "--model", model, "--output", tmp_path / f"{name}-out.tif")[0] == 0
    five, alone = (read_volume(tmp_path / f"{name}-out.tif").data[...] for name in ("five", "alone"))
    assert np.array_equal(five, alone)


def test_labels_of_64_bits_are_mapped_by_their_meaning(tmp_path, capsys):
    image, labels = tmp_path / "i.tif", tmp_path / "l.h5"
    tifffile.imwrite(image, VALUES[0])
    with h5py.File(labels, "w") as file:
        file["ids"] = np.where(VALUES[0] > 500, np.uint64(2**63 + 5), np.uint64(2**64 - 1))
    meanings = f"{2**64 - 1}=background,*=cell"
    words = ("train", "--image", image, "--labels", labels, "--output", tmp_path / "run", "--classes", meanings)
    code, message = _run(
        capsys, *words, "--steps", 1, "--blocks", 0, "--filters", 2, "--patch", 20, "--validation", "none"
    )
    assert code == 0, message
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert "cell" in json.dumps(record)


@pytest.mark.parametrize("command", ["train", "augment"])
def test_labels_that_lie_elsewhere_are_placed_where_the_user_says(tmp_path, capsys, command):
    image, labels = tmp_path / "i.ome.tif", tmp_path / "l.ome.tif"
    for path, unit, values in ((image, "nm", VALUES[0]), (labels, "µm", (VALUES[0] > 500).astype(np.uint8))):
        sizes = {f"PhysicalSize{axis}": 4.0 for axis in "XYZ"} | {f"PhysicalSize{axis}Unit": unit for axis in "XYZ"}
        tifffile.imwrite(path, values, ome=True, metadata={"axes": "ZYX"} | sizes)
    words = {
        "train": (
            *("--image", image, "--labels", labels, "--output", tmp_path / "run", "--steps", 1, "--blocks", 0),
            *("--filters", 2, "--patch", 20, "--validation", "none"),
        ),
        "augment": (image, "--labels", labels, "--output", tmp_path / "patch.tif", "--input", 20, "--blocks", 0),
    }[command]
    code, message = _run(capsys, command, *words)
    assert "must have the same size" in message
    assert code == (EXIT_BAD_INPUT if command == "train" else 0)
    code, message = _run(capsys, command, *words, "--same-place", *(("--overwrite",) if command == "augment" else ()))
    assert (code, "must have the same size" in message) == (0, False), message

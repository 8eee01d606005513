"""The manifest: valid, found from an editable install, and packaged."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path

import npe2
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGED = ROOT / "src" / "napari_unet3d" / "napari.yaml"


@pytest.fixture(scope="module")
def manifest() -> npe2.PluginManifest:
    return npe2.PluginManifest.from_file(PACKAGED)


def test_npe2_validates_the_manifest_and_everything_that_it_names_can_be_imported():
    validated = subprocess.run(
        [sys.executable, "-m", "npe2", "validate", "--imports", str(PACKAGED)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert validated.returncode == 0, validated.stdout + validated.stderr
    assert "valid" in validated.stdout


def test_the_manifest_at_the_root_is_a_relative_link_to_the_packaged_one():
    link = ROOT / "napari.yaml"
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.resolve() == PACKAGED


def test_the_installed_plugin_names_its_manifest():
    (entry,) = importlib.metadata.entry_points(group="napari.manifest", name="napari-unet3d")
    assert entry.value == "napari_unet3d:napari.yaml"
    found = npe2.PluginManifest.from_distribution("napari-unet3d")
    assert (found.name, found.display_name) == ("napari-unet3d", "3D U-Net")


def test_the_sample_opens_as_an_image_and_its_labels(manifest):
    plugins = npe2.PluginManager()
    plugins.register(manifest)
    plugins.activate(manifest.name)
    (sample,) = manifest.contributions.sample_data
    assert sample.display_name == "Neurons (synthetic)"
    assert [kind for _, _, kind in sample.open(_registry=plugins.commands)] == ["image", "labels"]


def test_every_command_is_named_after_the_plugin(manifest):
    assert all(command.id.startswith("napari-unet3d.") for command in manifest.contributions.commands)


def test_the_wheel_holds_the_manifest_and_every_file_of_the_package(tmp_path):
    sources = ROOT / "src"
    expected = {
        path.relative_to(sources).as_posix()
        for path in (sources / "napari_unet3d").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for needed in ("napari.yaml", "models/demo-neuron.unet3d/weights.safetensors"):
        assert f"napari_unet3d/{needed}" in expected
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert expected <= set(zipfile.ZipFile(wheel).namelist())

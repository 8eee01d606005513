"""The manifest: valid, found from an editable install, and packaged."""

from __future__ import annotations

import importlib.metadata
import os
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


def test_everything_that_is_contributed_names_a_command_that_is_declared(manifest):
    contributions = manifest.contributions
    declared = {command.id for command in contributions.commands}
    contributed = [*contributions.readers, *contributions.writers, *contributions.widgets, *contributions.sample_data]
    contributed += [item for items in contributions.menus.values() for item in items]
    assert {item.command for item in contributed} == declared


def test_the_commands_open_the_widget_of_the_manifest(manifest):
    from napari_unet3d.widgets.plugin import commands

    (widget,) = manifest.contributions.widgets
    assert f"{widget.display_name} ({manifest.display_name})" == commands.DOCK
    (command,) = [command for command in manifest.contributions.commands if command.id == widget.command]
    assert command.python_name == "napari_unet3d.widgets.plugin.workbench:Workbench"


@pytest.mark.parametrize(
    ("menu", "command"),
    [
        ("napari/layers/data", "open_data"),
        ("napari/layers/segment", "open_segment"),
        ("napari/layers/annotate", "annotate"),
    ],
)
def test_each_menu_is_one_that_napari_opens_to_plugins(manifest, menu, command):
    from napari._app_model.constants._menus import MenuId

    assert menu in [str(name) for name in MenuId.contributables()]
    assert [item.command for item in manifest.contributions.menus[menu]] == [f"napari-unet3d.{command}"]


def test_the_readers_and_writers_answer_for_their_files(manifest):
    plugins = npe2.PluginManager()
    plugins.register(manifest)
    for name in ("a.h5", "b.HDF5", "c.unet3d", str(ROOT / "tests")):
        (reader,) = plugins.iter_compatible_readers(name)
        assert reader.command == "napari-unet3d.get_reader"
    assert not list(plugins.iter_compatible_readers("a.tif"))
    for kind in ("image", "labels"):
        for name in ("a.tif", "a.ome.tif", "a.zarr"):
            assert plugins.get_writer(name, [kind])[0].command == f"napari-unet3d.write_{kind}"
        assert plugins.get_writer("a.png", [kind])[0] is None
        assert plugins.get_writer("a.tif", [kind, kind])[0] is None


def test_the_preferences_are_explained_and_their_defaults_are_those_of_the_program(manifest):
    from napari_unet3d.widgets.host.preferences import Preferences

    (category,) = manifest.contributions.configurations.values()
    assert list(manifest.contributions.configurations) == ["workbench"]
    properties = category.properties
    names = ["models_folder", "projects_folder", "cluster", "memory_gib", "warm_start", "idle_minutes"]
    assert list(properties) == names
    for choice in properties.values():
        assert choice.title
        assert choice.description.endswith(".")
        # A number without limits stops at 99.99 in napari's Preferences.
        assert choice.type != "number" or choice.maximum > choice.minimum
    defaults = Preferences(models_folder=Path())
    assert properties["models_folder"].default == properties["projects_folder"].default == ""
    assert defaults.projects_folder is None
    assert (properties["cluster"].default, defaults.cluster) == ("", None)
    assert properties["memory_gib"].default == 0
    assert defaults.memory_bytes is None
    assert properties["warm_start"].default == defaults.warm_start
    assert 60 * properties["idle_minutes"].default == defaults.idle_seconds


def test_importing_all_that_the_manifest_names_imports_no_tensorflow(manifest):
    modules = sorted({command.python_name.partition(":")[0] for command in manifest.contributions.commands})
    code = (
        f"import sys, importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'keras', 'tensorflow'}))"
    )
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


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

"""Preferences from real files, as napari reads and writes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import npe2
import pytest
from napari.settings import get_plugin_settings

from napari_unet3d.widgets.host.preferences import _Workbench, default_models_folder, read_preferences

MANIFEST = Path(__file__).parents[3] / "src" / "napari_unet3d" / "napari.yaml"


@pytest.fixture
def file(plugin_settings, npe2pm, tmp_path) -> Path:
    """Return where napari keeps the preferences of this plugin; there is none yet, and none was read."""
    npe2pm.register(npe2.PluginManifest.from_file(MANIFEST))
    return tmp_path / "napari-unet3d.yaml"


def test_without_a_file_the_preferences_are_the_defaults(file):
    preferences = read_preferences()
    assert preferences.models_folder == default_models_folder()
    assert preferences.memory_bytes is None
    assert preferences.warm_start
    assert preferences.idle_seconds == 15 * 60
    assert preferences.problem == ""


def test_what_is_set_in_napari_is_kept_in_the_file_and_read_from_it(file, tmp_path):
    workbench = get_plugin_settings("napari-unet3d").workbench
    workbench.models_folder = str(tmp_path / "models")
    workbench.memory_gib = 200
    workbench.warm_start = False
    workbench.idle_minutes = 2.5
    assert "memory_gib: 200" in file.read_text()
    preferences = read_preferences()
    assert preferences.models_folder == tmp_path / "models"
    assert preferences.memory_bytes == 200 * 2**30
    assert not preferences.warm_start
    assert preferences.idle_seconds == 150
    assert preferences.problem == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"workbench: [1", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"- a\n- b\n", "holds a list, not settings"),
        (b"workbench: 3\n", "does not understand (workbench)"),
        (b"workbench:\n  idle_minutes: 0\n", "does not understand (idle_minutes)"),
        (b"workbench:\n  idle_minutes: soon\n", "does not understand (idle_minutes)"),
        (b"workbench:\n  memory_gib: .inf\n", "does not understand (memory_gib)"),
        (b"workbench:\n  memory_gib: .nan\n", "does not understand (memory_gib)"),
        (b"workbench:\n  models_folder: [a, b]\n", "does not understand (models_folder)"),
    ],
)
def test_a_damaged_file_gives_the_defaults_a_notice_and_a_copy(file, content, said):
    file.write_bytes(content)
    preferences = read_preferences()
    assert preferences.models_folder == default_models_folder()
    assert preferences.memory_bytes is None
    assert preferences.warm_start
    assert preferences.idle_seconds == 15 * 60
    assert str(file) in preferences.problem
    assert said in preferences.problem
    assert "\n" not in preferences.problem
    assert "napari-unet3d.backup.yaml" in preferences.problem
    assert file.with_name("napari-unet3d.backup.yaml").read_bytes() == content


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"workbench:\n  warm_start: false\n  new_choice: 3\n", "(new_choice)"),
        (b"workbench:\n  warm_start: false\ntraining:\n  recipe: a\n", "(training)"),
    ],
)
def test_of_a_newer_file_what_is_known_is_used_and_the_rest_survives_a_change(file, content, names):
    file.write_bytes(content)
    preferences = read_preferences()
    assert not preferences.warm_start
    assert names in preferences.problem
    get_plugin_settings("napari-unet3d").workbench.idle_minutes = 5
    assert file.read_bytes() != content
    assert file.with_name("napari-unet3d.backup.yaml").read_bytes() == content


def test_what_napari_has_written_over_a_damaged_file_is_no_problem_any_more(file):
    file.write_text("workbench: [1")
    assert read_preferences().problem
    get_plugin_settings("napari-unet3d").workbench.idle_minutes = 5
    preferences = read_preferences()
    assert preferences.idle_seconds == 300
    assert preferences.problem == ""


def test_names_defaults_and_limits_are_those_of_the_manifest():
    declared = npe2.PluginManifest.from_file(MANIFEST).contributions.configurations["workbench"].properties
    fields = _Workbench.model_json_schema()["properties"]
    assert fields.keys() == declared.keys()
    for name, field in fields.items():
        assert field["default"] == declared[name].default
        assert (field.get("minimum"), field.get("maximum")) == (declared[name].minimum, declared[name].maximum)


def test_a_program_of_its_own_finds_the_file_beside_the_settings_of_napari(tmp_path):
    (tmp_path / "napari-unet3d.yaml").write_text("workbench:\n  memory_gib: 4\n  idle_minutes: many\n")
    code = (
        "from napari_unet3d.widgets.host.preferences import read_preferences\n"
        "found = read_preferences()\n"
        "print(found.memory_bytes, found.idle_seconds, found.problem)"
    )
    environment = {**os.environ, "NAPARI_CONFIG": str(tmp_path / "settings.yaml")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.startswith(f"{4 * 2**30} 900.0 {tmp_path / 'napari-unet3d.yaml'} holds settings that")
    assert (tmp_path / "napari-unet3d.backup.yaml").is_file()

"""The rooms of the house: who may import whom, and what must not be imported early."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"keras", "tensorflow", "napari", "qtpy", "PyQt6", "PySide6", "scipy", "numba", "zarr", "h5py"}


def imported_by(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has imported after `code`."""
    code += "\nimport sys, json; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_rooms_import_downwards_only():
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_importing_the_package_imports_nothing_else():
    assert not imported_by("import napari_unet3d") & {*HEAVY, "numpy", "pydantic"}


def test_the_help_of_the_command_imports_nothing_heavy():
    code = "from napari_unet3d.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"
    assert not imported_by(code) & {*HEAVY, "numpy", "pydantic"}


@pytest.mark.parametrize(
    "module",
    [
        "cli",
        "sample_data",
        "tasks.segment.predict",
        "tasks.segment.segmenting",
        "tasks.segment.files",
        "tasks.segment.blocks",
        "engine.cluster.computer",
        "tasks.jobs.kinds",
        "notebook",
        "tasks.demo",
        "volumes",
        "network.store",
        "network.machine.devices",
        "network.predictor",
        "engine",
        "engine.local.remote",
        "widgets.host.preferences",
        "widgets.plugin.readers",
        "widgets.layers.writers",
        "widgets.plugin.commands",
    ],
)
def test_no_module_imports_keras_or_napari_before_it_computes(module):
    assert not imported_by(f"import napari_unet3d.{module}") & {"keras", "tensorflow", "napari", "qtpy"}


def test_the_window_imports_neither_keras_nor_tensorflow_and_compiles_nothing():
    assert not imported_by("import napari_unet3d.widgets.plugin.workbench") & {"keras", "tensorflow", "numba"}


def test_the_pipeline_of_a_segmentation_runs_without_tensorflow():
    done = imported_by("from tests.support.identity import segment_once\nsegment_once()")
    assert not done & {"keras", "tensorflow"}


def test_the_public_names_are_there_and_no_others():
    import napari_unet3d

    for name in napari_unet3d.__all__:
        assert getattr(napari_unet3d, name) is not None
    assert dir(napari_unet3d) == sorted(napari_unet3d.__all__)
    with pytest.raises(AttributeError, match="no attribute 'segmnt'"):
        napari_unet3d.segmnt  # noqa: B018


def test_without_a_qt_binding_the_command_line_works_and_a_window_is_refused_in_one_sentence():
    code = """
import sys
for name in ("qtpy", "PyQt6", "PySide6", "PyQt5", "PySide2"):
    sys.modules[name] = None
from napari_unet3d.errors import DeviceError
from napari_unet3d.widgets.plugin.demo_viewer import show_demo
try:
    show_demo()
except DeviceError as error:
    print(error)
from napari_unet3d.cli import main
main(["sizes", "--max", "92"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "napari cannot open a window here" in done.stdout
    assert "1,192,610 parameters" in done.stdout

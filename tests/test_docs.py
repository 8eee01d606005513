"""What the documentation imports is there."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

import napari_unet3d
from napari_unet3d.network.store import save_model
from tests.support.models import random_model

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    )
]


def test_there_are_examples():
    assert len(EXAMPLES) >= 3


@pytest.mark.parametrize("block", EXAMPLES)
def test_an_example_is_python_and_its_imports_are_there(block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name), f"{node.module} has no {name.name}"
        elif isinstance(node, ast.Import):
            for name in node.names:
                importlib.import_module(name.name)


PYTHON_PAGE = ROOT / "docs" / "reference" / "python.md"


def test_every_name_on_the_python_page_is_a_public_one_and_all_are_there():
    named = re.findall(r"^::: (\S+)\.(\w+)$", PYTHON_PAGE.read_text("utf-8"), re.MULTILINE)
    for module, name in named:
        assert getattr(importlib.import_module(module), name) is getattr(napari_unet3d, name)
    assert {name for _, name in named} == set(napari_unet3d.__all__) - {"__version__"}


def test_the_examples_of_the_python_page_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    spacing = {"axes": "ZYX", "spacing": 0.18, "unit": "um"}
    stack = rng.gamma(2, 300, (48, 56, 56)).astype(np.uint16)
    tifffile.imwrite("stack.ome.tif", stack, metadata={"axes": "ZYX", "PhysicalSizeX": 0.1, "PhysicalSizeXUnit": "um"})
    painted = np.zeros(stack.shape, np.uint8)
    painted[20:28] = rng.integers(1, 3, painted[20:28].shape)
    tifffile.imwrite("painted.tif", painted, imagej=True, metadata=spacing)
    save_model(random_model(blocks=1, filters=2), "neuron.unet3d")
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", PYTHON_PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        # A run that says nothing of its length is long: here its first steps will do.
        exec(block.replace('folder="run", progress=True', 'quick, folder="run", progress=True'), names)
        names["quick"] = napari_unet3d.TrainSpec(
            network=napari_unet3d.NetworkSpec(blocks=0, filters=2),
            patch=(20, 20, 20),
            steps=2,
            class_names=("background", "axon"),
        )
    assert (tmp_path / "axons.unet3d").is_dir()
    assert napari_unet3d.read_volume("labels.ome.tif").shape == stack.shape
    assert "(48, 56, 56)" in capsys.readouterr().out

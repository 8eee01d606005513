from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from napari_unet3d.engine import LocalEngine
from napari_unet3d.network.store import save_model
from tests.support.models import random_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    return save_model(random_model(blocks=1, filters=2), tmp_path_factory.mktemp("models") / "random.unet3d")


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Iterator[LocalEngine]:
    """Return an engine whose worker is shared by the tests of a module: importing TensorFlow takes a while."""
    # At its usual priority: other tests run beside these, and what gives way to them waits for minutes.
    engine = LocalEngine(log=tmp_path_factory.mktemp("log") / "worker.log", gives_way=False)
    yield engine
    engine.end()

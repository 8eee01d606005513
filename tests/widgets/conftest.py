from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

# No window is opened here; on a machine without a screen Qt needs to be told.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from napari.components import ViewerModel

from napari_unet3d.core.normalize import Normalization
from napari_unet3d.engine import LocalEngine
from napari_unet3d.network.store import save_model
from napari_unet3d.widgets.host.preferences import Preferences
from napari_unet3d.widgets.runs.session import Session
from tests.support.models import random_model


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory) -> Path:
    """Return a folder with two small models: `small` for one channel, `two` for two channels and three classes."""
    folder = tmp_path_factory.mktemp("models")
    scaled = Normalization(kind="zscore")
    save_model(random_model(blocks=1, filters=2, normalization=scaled, seed=1), folder / "small.unet3d")
    save_model(random_model(blocks=1, filters=2, channels=2, classes=3), folder / "two.unet3d")
    return folder


@pytest.fixture(scope="package")
def engine(tmp_path_factory) -> Iterator[LocalEngine]:
    """Return an engine that the tests of this room share; its worker starts with the first job."""
    # At its usual priority: other tests run beside these, and what gives way to them waits for minutes.
    engine = LocalEngine(log=tmp_path_factory.mktemp("log") / "worker.log", gives_way=False)
    yield engine
    engine.end()


@pytest.fixture(scope="package")
def previewer(tmp_path_factory) -> Iterator[LocalEngine]:
    """Return the engine for previews that the tests of this room share."""
    engine = LocalEngine(log=tmp_path_factory.mktemp("log") / "preview.log", gives_way=False)
    yield engine
    engine.end()


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def session(viewer, engine, previewer, models_folder, tmp_path, monkeypatch) -> Iterator[Session]:
    # How fast this machine is belongs to its user.
    monkeypatch.setattr("napari_unet3d.tasks.speeds.user_cache_path", lambda *_, **__: tmp_path)
    session = Session(viewer, engine, Preferences(models_folder, warm_start=False), previewer)
    yield session
    session.close()


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """What napari remembers of folders, without the settings of a person."""
    settings = SimpleNamespace(application=SimpleNamespace(save_history=[str(tmp_path)]))
    monkeypatch.setattr("napari.utils.history.get_settings", lambda: settings)
    return settings.application

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from napari_unet3d.engine import LocalEngine
from napari_unet3d.widgets.host.preferences import Preferences
from napari_unet3d.widgets.runs import session as sessions


@pytest.fixture(autouse=True)
def _own_preferences_and_a_worker_that_ends(tmp_path, monkeypatch, make_napari_viewer) -> Iterator[None]:
    """What a person has set, and how fast their machine was, is neither read nor changed."""
    monkeypatch.setattr(sessions, "read_preferences", lambda: Preferences(tmp_path / "models", warm_start=False))
    # At its usual priority: other tests run beside these, and what gives way to them waits for minutes.
    monkeypatch.setattr(sessions, "LocalEngine", partial(LocalEngine, gives_way=False))
    monkeypatch.setattr("napari_unet3d.tasks.speeds.user_cache_path", lambda *_, **__: tmp_path)
    yield
    for viewer in list(sessions._sessions):
        sessions.end_session(viewer)

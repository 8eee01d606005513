"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from napari_unet3d.network.machine.runtime import ENVIRONMENT

# Some tests import Keras themselves, and before any other runs; it computes as it does in the program all the same.
for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

# How long an example takes says how busy the machine is.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Keep what the tests measure of this machine out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real volumes that lies beside the checkout; not part of the project."""
    folder = Path(os.environ.get("NAPARI_UNET3D_TEST_DATA", SHARED))
    if not folder.is_dir():
        pytest.skip(f"the real volumes are not here: {folder} is no folder")
    return folder

"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real volumes that lies beside the checkout; not part of the project."""
    folder = Path(os.environ.get("NAPARI_UNET3D_TEST_DATA", SHARED))
    if not folder.is_dir():
        pytest.skip(f"the real volumes are not here: {folder} is no folder")
    return folder

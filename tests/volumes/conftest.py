"""What the tests of volumes share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def as_nobody(tmp_path: Path) -> Callable[[str, Path], str]:
    """Run code as a user who owns nothing and return what it prints; code of a plain user runs as they are.

    The code calls ``os.setuid`` itself, after its imports: Python's own files may be closed to that user.
    """
    if not hasattr(os, "setuid"):
        pytest.skip("the system has no users in this sense")
    if os.getuid() == 0:
        for folder in [tmp_path, *tmp_path.parents][:3]:
            folder.chmod(0o755)

    def run(code: str, path: Path) -> str:
        if os.getuid() != 0:
            code = code.replace("os.setgid(65534)", "").replace("os.setuid(65534)", "")
        command = [sys.executable, "-c", code, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run

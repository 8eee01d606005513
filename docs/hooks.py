"""Pages that are made from the program: the command line's reference and the changelog."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fill the pages that only say what they are made from."""
    if page.file.src_uri == "reference/cli.md":
        words = ["typer", "napari_unet3d.cli", "utils", "docs", "--name", "napari-unet3d"]
        made = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=True).stdout
        return markdown + "\n" + made.partition("\n")[2]
    if page.file.src_uri == "changelog.md":
        return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return markdown

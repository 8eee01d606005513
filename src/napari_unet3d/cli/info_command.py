"""The command `info`: versions, devices and memory."""

from __future__ import annotations

import json
from pathlib import Path

from napari_unet3d.cli.options import AsJson
from napari_unet3d.cli.report import left_facts
from napari_unet3d.cli.terminal import say


def info(as_json: AsJson = False) -> None:
    """Show versions, devices and memory, and what TensorFlow will use and why."""
    from napari_unet3d.network.machine.environment import describe

    facts = describe() | left_facts(Path.cwd())
    if as_json:
        say(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        lines = value if isinstance(value, list) else [value]
        for i, line in enumerate(lines):
            say(f"{name if not i else '':<16} {line}")

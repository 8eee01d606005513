"""Where a job runs: in a worker process of its own, so that a window never waits and a crash costs nothing; or here.

`LocalEngine` keeps one such process on this machine, `HereEngine` does without. A job does itself, wherever it is:
`Job.perform`.
"""

from __future__ import annotations

from napari_unet3d.engine.base import Engine, Run
from napari_unet3d.engine.here import HereEngine
from napari_unet3d.engine.local.engine import LocalEngine

__all__ = ["Engine", "HereEngine", "LocalEngine", "Run"]

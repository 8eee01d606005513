"""Where a job runs: in a worker process of its own, so that a window never waits and a crash costs nothing.

`LocalEngine` keeps one such process on this machine. The job itself is `tasks.jobs.perform`, wherever it runs.
"""

from __future__ import annotations

from napari_unet3d.engine.local import LocalEngine
from napari_unet3d.engine.runs import Run

__all__ = ["LocalEngine", "Run"]

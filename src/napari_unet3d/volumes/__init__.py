"""Volumes on disk: reading them with their voxel size, and writing results whole or not at all.

The only room that knows file formats. A path becomes a `Volume`, whose voxels are read when they are asked
for; an `Output` takes boxes and appears under its name when it is complete. The libraries behind the formats
are imported with the first file that needs them.
"""

from __future__ import annotations

from napari_unet3d.volumes.outputs.base import Output
from napari_unet3d.volumes.outputs.creating import create_output
from napari_unet3d.volumes.reading import is_sample, list_arrays, read_sample, read_volume
from napari_unet3d.volumes.volume import ArrayInfo, Volume

__all__ = [
    "ArrayInfo",
    "Output",
    "Volume",
    "create_output",
    "is_sample",
    "list_arrays",
    "read_sample",
    "read_volume",
]

"""TIFF, ImageJ TIFF, OME-TIFF in one or several files, and the kinds of some microscopes."""

from __future__ import annotations

from napari_unet3d.volumes.tiff.reading import count_levels, read_tiff

__all__ = ["count_levels", "read_tiff"]

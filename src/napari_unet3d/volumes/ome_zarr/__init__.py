"""Zarr arrays (v2 and v3) and OME-Zarr images, in a folder or in one zip file."""

from __future__ import annotations

from napari_unet3d.volumes.ome_zarr.reading import coarser_arrays, list_zarr, read_zarr

__all__ = ["coarser_arrays", "list_zarr", "read_zarr"]

"""HDF5 files: of ilastik, PlantSeg, CREMI, BigDataViewer, MATLAB and Imaris, and plain ones."""

from __future__ import annotations

from napari_unet3d.volumes.hdf5.reading import coarser_levels, list_hdf5, read_hdf5

__all__ = ["coarser_levels", "list_hdf5", "read_hdf5"]

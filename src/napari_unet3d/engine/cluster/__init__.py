"""Blocks of a segmentation on several processes or machines, by dask.distributed."""

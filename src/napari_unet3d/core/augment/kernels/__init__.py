"""Loops over voxels, compiled by numba."""

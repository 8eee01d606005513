"""Segmentation in tiles, as a task."""

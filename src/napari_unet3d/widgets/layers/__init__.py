"""Layers of napari as volumes, and back."""

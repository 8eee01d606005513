"""napari's own services: notices, activity, preferences."""

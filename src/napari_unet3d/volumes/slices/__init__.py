"""Folders of slices: which files belong together, and in what order."""

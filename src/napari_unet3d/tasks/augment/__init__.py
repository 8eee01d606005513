"""Augmented patches, as a task."""

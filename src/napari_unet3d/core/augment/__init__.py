"""Augmentation: choices, what they draw, and the resampler."""

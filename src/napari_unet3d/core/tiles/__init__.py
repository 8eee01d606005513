"""Tiles: which there are, and which are done."""

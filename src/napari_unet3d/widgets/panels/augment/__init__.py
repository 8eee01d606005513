"""The tab Augment."""

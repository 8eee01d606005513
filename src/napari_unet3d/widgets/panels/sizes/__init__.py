"""The tab Sizes."""

"""The tab Data."""

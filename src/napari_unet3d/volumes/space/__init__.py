"""Where voxels lie: their size and position, how files say it, and whether two volumes share a place."""

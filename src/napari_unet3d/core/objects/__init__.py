"""From scores of voxels to objects."""

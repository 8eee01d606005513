"""Results on disk: boxes come in, a whole file appears under its name at the end."""
